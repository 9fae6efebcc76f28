# `age`: which pages of a range were accessed since they were aged last, as MGLRU and DAMON ask.
#
# mmap_lock for reading; per table under its lock the A bits are cleared. Nothing is flushed: an access through a TLB that
# still translates the page leaves no trace until that translation goes.
# Source: mm/vmscan.c walk_pte_range, mm/damon/vaddr.c, arch/x86/mm/pgtable.c ptep_clear_flush_young.
from libc.errno cimport EINVAL
from libc.stdint cimport uint64_t
from cy.base.cpu cimport cpu
from cy.base.geometry cimport PAGE_SHIFT
from cy.core.walk cimport age_page_range
from cy.mm.cursor cimport cursor_begin, cursor_end
from cy.mm.types cimport INTENT_WALK, cursor, mm

# Pages [first, last). Context: no lock; may sleep. Returns 0 or -EINVAL; *young and `bits` as age_page_range sets them.
cdef inline int do_age(cpu *c, mm *m, uint64_t first, uint64_t last, uint64_t *bits, uint64_t nr_bits,
                       uint64_t *young) noexcept nogil:
    cdef cursor cur
    if first > last or last > m.end_page:
        return -EINVAL
    cursor_begin(&cur, c, m, first << PAGE_SHIFT, last << PAGE_SHIFT, INTENT_WALK)
    young[0] = age_page_range(&cur, first << PAGE_SHIFT, last << PAGE_SHIFT, bits, nr_bits)
    cursor_end(&cur)
    return 0
