# `walk`: which pages of a range are present. Holds mmap_lock under every policy so far, as smaps does.
from libc.errno cimport EINVAL
from libc.stdint cimport uint64_t
from cy.base.cpu cimport cpu
from cy.base.geometry cimport PAGE_SHIFT
from cy.core.walk cimport walk_page_range
from cy.mm.cursor cimport cursor_begin, cursor_end
from cy.mm.types cimport INTENT_WALK, cursor, mm

# Pages [first, last). Context: no lock; may sleep. Returns 0 or -EINVAL; *present and `bits` as
# walk_page_range sets them.
cdef inline int do_walk(cpu *c, mm *m, uint64_t first, uint64_t last, uint64_t *bits, uint64_t nr_bits,
                        uint64_t *present) noexcept nogil:
    cdef cursor cur
    if first > last or last > m.end_page:
        return -EINVAL
    cursor_begin(&cur, c, m, first << PAGE_SHIFT, last << PAGE_SHIFT, INTENT_WALK)
    present[0] = walk_page_range(&cur, first << PAGE_SHIFT, last << PAGE_SHIFT, bits, nr_bits)
    cursor_end(&cur)
    return 0
