# Data frames: allocation with a fresh incarnation stamp, and free after the hardware grace period.
#
# A frame on its way out goes LIVE -> ZAPPED (entry cleared, under its ptl) -> in the cpu's frame
# chain (after the flush) -> FREE (after a grace period of RCU_HW, so that no access is in flight).
# The chain is linked through the arena items and joins in O(1).
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport WRITE_ONCE, peek, plain_store
from cy.base.build cimport PT_CHECKS
from cy.base.cpu cimport RCU_HW, TLB_ENTRIES, count, cpu, frame_chain, pt_report, tlb_entry
from cy.base.entry cimport PT_POISON
from cy.base.rng cimport rng_one_in
from cy.base.shm cimport C_ALLOC_FAILED, ORACLE_STALE_TLB, ORACLE_UAF
from cy.mm.arena cimport arena_alloc, arena_free
from cy.mm.types cimport ARENA_NONE, mm, page
from cy.sync.rcu cimport rcu_advance, rcu_gp_reached, rcu_gp_target

cdef extern from *:
    """
    #define PT_FRESH ((uint64_t)1 << 63)
    """
    uint64_t PT_FRESH       # set in an incarnation stamp, clear in a written value

# Context: no table locked; may fail by injection. Returns a frame number or ARENA_NONE.
# The frame holds its incarnation stamp; publish it with a release store.
cdef inline uint32_t frame_alloc(cpu *c, mm *m, uint64_t addr) noexcept nogil:
    cdef uint32_t pfn
    cdef uint64_t incarnation
    cdef page *p
    if rng_one_in(&c.rng, m.knobs.alloc_fail):
        count(c, C_ALLOC_FAILED)
        return ARENA_NONE
    pfn = arena_alloc(c, &m.frames)
    if pfn == ARENA_NONE:
        count(c, C_ALLOC_FAILED)
        return ARENA_NONE
    p = &m.pages[pfn]
    if PT_CHECKS and p.incarnation != 0 and peek(&p.stamp) != PT_POISON:
        pt_report(c, ORACLE_UAF, 22, b"frame a was written after it was freed; it holds b", addr, pfn, p.stamp)
    c.next_incarnation += 1
    incarnation = PT_FRESH | (<uint64_t>c.id << 40) | (c.next_incarnation & <uint64_t>0xffffffffff)
    p.vpn = addr >> 12
    WRITE_ONCE(&p.incarnation, incarnation)     # oracles look at it at any time
    plain_store(&p.stamp, incarnation)
    return pfn

# Free a frame that no translation reaches and no access uses.
cdef inline void frame_free(cpu *c, mm *m, uint32_t pfn) noexcept nogil:
    if PT_CHECKS:
        _check_no_translation(c, m, pfn)
        plain_store(&m.pages[pfn].stamp, PT_POISON)
    arena_free(c, &m.frames, pfn)

# Append to a chain. Context: own cpu.
cdef inline void chain_add(mm *m, frame_chain *chain, uint32_t pfn) noexcept nogil:
    m.frames.items[pfn].next = chain.head
    if chain.nr == 0:
        chain.tail = pfn
    chain.head = pfn
    chain.nr += 1

cdef inline void chain_splice(mm *m, frame_chain *into, frame_chain *chain) noexcept nogil:
    if chain.nr == 0:
        return
    if into.nr == 0:
        into.tail = chain.tail
    else:
        m.frames.items[chain.tail].next = into.head
    into.head = chain.head
    into.nr += chain.nr
    chain.nr = 0

# Free what is due; drive a hardware grace period if at least `threshold` frames wait.
# Context: outside hardware sections.
cdef inline void frames_poll(cpu *c, mm *m, uint32_t threshold) noexcept nogil:
    if c.frames_next.nr + c.frames_wait.nr == 0 or c.frames_next.nr + c.frames_wait.nr < threshold:
        return
    _frames_segments(c, m)
    if c.frames_wait.nr:
        rcu_advance(c, &m.rcu[RCU_HW])
        _frames_segments(c, m)

cdef inline void _frames_segments(cpu *c, mm *m) noexcept nogil:
    cdef uint32_t pfn, following
    if c.frames_wait.nr and rcu_gp_reached(&m.rcu[RCU_HW], c.frames_wait.gp):
        pfn = c.frames_wait.head
        while c.frames_wait.nr:
            following = m.frames.items[pfn].next
            frame_free(c, m, pfn)
            pfn = following
            c.frames_wait.nr -= 1
    if c.frames_wait.nr == 0 and c.frames_next.nr:
        chain_splice(m, &c.frames_wait, &c.frames_next)
        c.frames_wait.gp = rcu_gp_target(&m.rcu[RCU_HW])

# Oracle stale-tlb at free (I22): no cpu still translates to this frame.
cdef inline void _check_no_translation(cpu *c, mm *m, uint32_t pfn) noexcept nogil:
    cdef page *p = &m.pages[pfn]
    cdef tlb_entry *e
    cdef uint32_t i
    cdef uint64_t fills
    for i in range(m.nr_cpus):
        e = &m.cpus[i].tlb[p.vpn & (TLB_ENTRIES - 1)]
        fills = peek(&e.fills)
        if (fills & 1) == 0 and peek(&e.tag) == p.vpn + 1 and peek(&e.incarnation) == p.incarnation \
                and peek(&e.gen) == peek(&m.cpus[i].full_flushes) \
                and peek(&e.tag) == p.vpn + 1 and peek(&e.fills) == fills:
            pt_report(c, ORACLE_STALE_TLB, 22, b"frame a is freed while the TLB of cpu b translates to it",
                      p.vpn << 12, pfn, i)
            return
