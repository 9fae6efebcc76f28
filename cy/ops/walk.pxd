# `walk`: which pages of a range are present. A walk may sleep in its tables; then the scheme's sleep mode says how
# (cy/protect/sleep.pxd). What it reads goes to the device, if the mm has one, as hmm_range_fault() does for drivers.
from libc.stdint cimport uint64_t
from cy.base.cpu cimport cpu
from cy.core.walk cimport report_table, walk_pages
from cy.mm.types cimport mm

# Pages [first, last); `sleeps`: in each table. Context: no lock; may sleep. Returns 0 or -EINVAL; *present and `bits` as
# walk_pages sets them.
cdef inline int do_walk(cpu *c, mm *m, uint64_t first, uint64_t last, bint sleeps, uint64_t *bits, uint64_t nr_bits,
                        uint64_t *present) noexcept nogil:
    return walk_pages(c, m, first, last, 1 if sleeps else m.knobs.walk_sleep, report_table, bits, nr_bits, present)
