# rss_anon: entries of an mm that map a frame. Each cpu counts on a cache line of its own, so that faults of
# different cpus share none. A part may be below zero: whoever unmaps need not be who mapped.
# Source: include/linux/mm.h add_mm_counter. Not modelled: percpu_counter's batches.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport atomic_add, peek
from cy.base.cpu cimport cpu
from cy.mm.types cimport mm

# Context: the lock of the entries.
cdef inline void mm_add_rss(cpu *c, mm *m, uint64_t n) noexcept nogil:
    atomic_add(&m.rss_anon[c.id].n, n)

# Exact when nobody maps or unmaps.
cdef inline uint64_t mm_rss(mm *m) noexcept nogil:
    cdef uint64_t n = 0
    cdef uint32_t i
    for i in range(m.nr_cpus):
        n += peek(&m.rss_anon[i].n)
    return n

cdef inline void mm_rss_reset(mm *m) noexcept nogil:
    cdef uint32_t i
    for i in range(m.nr_cpus):
        m.rss_anon[i].n = 0
