# `age`: which pages of a range were accessed since they were aged last, as MGLRU and DAMON ask.
#
# mmap_lock for reading; per table under its lock the A bits are cleared. Nothing is flushed: an access through a TLB that
# still translates the page leaves no trace until that translation goes.
# Source: mm/vmscan.c walk_pte_range, mm/damon/vaddr.c, arch/x86/mm/pgtable.c ptep_clear_flush_young.
from libc.stdint cimport uint64_t
from cy.base.cpu cimport cpu
from cy.core.walk cimport age_table, walk_pages
from cy.mm.types cimport mm

# Pages [first, last). Context: no lock; may sleep. Returns 0 or -EINVAL; *young and `bits` as walk_pages sets them.
cdef inline int do_age(cpu *c, mm *m, uint64_t first, uint64_t last, uint64_t *bits, uint64_t nr_bits,
                       uint64_t *young) noexcept nogil:
    return walk_pages(c, m, first, last, 0, age_table, bits, nr_bits, young)
