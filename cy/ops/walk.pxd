# `walk`: which pages of a range are present. Holds mmap_lock under every policy so far, as smaps does.
from libc.stdint cimport uint64_t
from cy.base.cpu cimport cpu
from cy.core.walk cimport report_table, walk_pages
from cy.mm.types cimport mm

# Pages [first, last). Context: no lock; may sleep. Returns 0 or -EINVAL; *present and `bits` as walk_pages sets them.
cdef inline int do_walk(cpu *c, mm *m, uint64_t first, uint64_t last, uint64_t *bits, uint64_t nr_bits,
                        uint64_t *present) noexcept nogil:
    return walk_pages(c, m, first, last, report_table, bits, nr_bits, present)
