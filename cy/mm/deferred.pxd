# Freed data frames on their way through the hardware grace period, and pushing all that waits along.
#
# A frame on its way out goes LIVE -> ZAPPED (entry cleared, under its ptl) -> in the cpu's frame
# chain (after the flush) -> FREE (after a grace period of RCU_HW, so that no access is in flight).
# A frame that is pinned by then goes through another grace period (cy/mm/pin.pxd).
# The chain is linked through the arena items and joins in O(1).
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport peek, plain_store, smp_rmb
from cy.base.bugs cimport BUG, BUG_MX_BACKPRESSURE
from cy.base.build cimport PT_CHECKS
from cy.base.cpu cimport RCU_HW, RCU_TABLES, TLB_ENTRIES, count, cpu, frame_chain, pt_report, tlb_entry
from cy.base.entry cimport PT_POISON
from cy.base.geometry cimport MM_SHIFT
from cy.base.shm cimport C_PINNED_KEPT, ORACLE_STALE_TLB
from cy.mm.arena cimport arena_free
from cy.mm.debt cimport debt_check
from cy.mm.pin cimport page_is_pinned
from cy.mm.types cimport mm, page
from cy.sync.rcu cimport rcu_advance, rcu_backpressure, rcu_barrier, rcu_gp_reached, rcu_gp_target, rcu_poll
from cy.sync.srcu cimport srcu_backpressure, srcu_barrier, srcu_poll

cdef enum:
    DEFERRED_TURNS = 6          # a table goes through three domains, each may first have to end a grace period

# An arena is empty: move on what waits for grace periods, without waiting for readers.
# Context: outside read sections; locks above the arena's may be held.
cdef inline void deferred_poll(cpu *c, mm *m) noexcept nogil:
    cdef uint32_t turn
    for turn in range(<uint32_t>DEFERRED_TURNS):
        deferred_poll_tables(c, m, 0)
        frames_poll(c, m, 0)

# Let tables on their way out go on, if at least `threshold` wait. Context: as deferred_poll.
cdef inline void deferred_poll_tables(cpu *c, mm *m, uint32_t threshold) noexcept nogil:
    rcu_poll(c, &m.rcu[RCU_TABLES], threshold)
    if m.srcu != NULL:
        srcu_poll(c, m.srcu, threshold)
    rcu_poll(c, &m.rcu[RCU_HW], threshold)

# Wait until all of them that this cpu has queued are through, of all mms. Context: may sleep; outside read sections.
cdef inline void deferred_barrier_tables(cpu *c, mm *m) noexcept nogil:
    cdef uint32_t i
    rcu_barrier(c, &m.rcu[RCU_TABLES])
    for i in range(m.nr_srcu):
        srcu_barrier(c, &m.srcus[i])
    rcu_barrier(c, &m.rcu[RCU_HW])

# Wait while too many are queued by this cpu. Context: as deferred_barrier_tables.
cdef inline void deferred_backpressure(cpu *c, mm *m) noexcept nogil:
    if not BUG(m.bugs, BUG_MX_BACKPRESSURE):
        rcu_backpressure(c, &m.rcu[RCU_TABLES])
        if m.srcu != NULL:
            srcu_backpressure(c, m.srcu)
        rcu_backpressure(c, &m.rcu[RCU_HW])
    debt_check(c, m)

# Free a frame that no translation reaches and no access uses.
cdef inline void frame_free(cpu *c, mm *m, uint32_t pfn) noexcept nogil:
    if PT_CHECKS:
        _check_no_translation(c, m, pfn)
        plain_store(&m.pages[pfn].stamp, PT_POISON)
    arena_free(c, m.frames, pfn)

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
            if page_is_pinned(&m.pages[pfn]):
                count(c, C_PINNED_KEPT)
                chain_add(m, &c.frames_next, pfn)
            else:
                frame_free(c, m, pfn)
            pfn = following
            c.frames_wait.nr -= 1
    if c.frames_wait.nr == 0 and c.frames_next.nr:
        chain_splice(m, &c.frames_wait, &c.frames_next)
        c.frames_wait.gp = rcu_gp_target(&m.rcu[RCU_HW])

# A frame of this cpu that waits for nothing but its pins, or NULL. Context: after frames_poll.
cdef inline page *frames_pinned(cpu *c, mm *m) noexcept nogil:
    cdef uint32_t pfn = c.frames_wait.head, n
    for n in range(c.frames_wait.nr):
        if page_is_pinned(&m.pages[pfn]):
            return &m.pages[pfn]
        pfn = m.frames.items[pfn].next
    return NULL

# Oracle stale-tlb at free (I22): no cpu still translates to this frame.
cdef inline void _check_no_translation(cpu *c, mm *m, uint32_t pfn) noexcept nogil:
    cdef page *p = &m.pages[pfn]
    cdef tlb_entry *e
    cdef uint32_t i
    cdef uint64_t fills
    for i in range(m.nr_cpus):
        e = &m.cpus[i].tlb[p.vpn & (TLB_ENTRIES - 1)]
        fills = peek(&e.fills)
        smp_rmb()
        if (fills & 1) == 0 and peek(&e.tag) == p.vpn + 1 and peek(&e.incarnation) == peek(&p.incarnation) \
                and peek(&e.gen) == peek(&m.cpus[i].full_flushes[p.vpn >> MM_SHIFT]) \
                and peek(&e.tag) == p.vpn + 1 and peek(&e.fills) == fills:
            pt_report(c, ORACLE_STALE_TLB, 22, b"frame a is freed while the TLB of cpu b translates to it",
                      p.vpn << 12, pfn, i)
            return
