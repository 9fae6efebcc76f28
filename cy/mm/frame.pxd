# Data frames: allocation with a fresh incarnation stamp. The way out is in cy/mm/deferred.pxd.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport WRITE_ONCE, peek, plain_store
from cy.base.build cimport PT_CHECKS, unlikely
from cy.base.cpu cimport count, cpu, pt_report
from cy.base.entry cimport PT_POISON
from cy.base.rng cimport rng_one_in
from cy.base.shm cimport C_ALLOC_FAILED, ORACLE_UAF
from cy.mm.arena cimport arena_alloc
from cy.mm.deferred cimport deferred_poll
from cy.mm.types cimport ARENA_NONE, mm, page
from cy.sync.lockclass cimport might_sleep

cdef extern from *:
    """
    #define PT_FRESH ((uint64_t)1 << 63)
    """
    uint64_t PT_FRESH       # set in an incarnation stamp, clear in a written value

# Whether a free frame has lost its poison. One that was never in use has none.
cdef inline bint frame_was_written(const page *p) noexcept nogil:
    return p.incarnation != 0 and peek(&p.stamp) != PT_POISON

# Context: may sleep; no table locked. May fail by injection. Returns a frame number or ARENA_NONE.
# The frame holds its incarnation stamp; publish it with a release store.
cdef inline uint32_t frame_alloc(cpu *c, mm *m, uint64_t addr) noexcept nogil:
    cdef uint32_t pfn
    cdef uint64_t incarnation
    cdef page *p
    if rng_one_in(&c.rng, m.knobs.alloc_fail):
        count(c, C_ALLOC_FAILED)
        return ARENA_NONE
    might_sleep(c)
    pfn = arena_alloc(c, m.frames)
    if unlikely(pfn == ARENA_NONE):
        deferred_poll(c, m)
        pfn = arena_alloc(c, m.frames)
        if pfn == ARENA_NONE:
            count(c, C_ALLOC_FAILED)
            return ARENA_NONE
    p = &m.pages[pfn]
    if PT_CHECKS and frame_was_written(p):
        pt_report(c, ORACLE_UAF, 22, b"frame a was written after it was freed; it holds b", addr, pfn, p.stamp)
    c.next_incarnation += 1
    incarnation = PT_FRESH | (<uint64_t>c.id << 40) | (c.next_incarnation & <uint64_t>0xffffffffff)
    p.vpn = addr >> 12
    p.lazyfree = 0
    p.dirty = 0
    WRITE_ONCE(&p.incarnation, incarnation)     # oracles look at it at any time
    plain_store(&p.stamp, incarnation)
    return pfn
