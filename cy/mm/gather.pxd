# mmu_gather: what one operation unmapped, on its way to be freed.
#
# Order that must hold (I10, I22): clear the entry -> flush the TLBs -> grace periods -> reuse. A gather
# that meets another one of the same mm (tlb_flush_pending > 1) flushes everything: the other may
# have cleared entries that this one found none, and not flushed yet.
# Source: mm/mmu_gather.c, include/asm-generic/tlb.h. Not modelled: several page batches, lazy TLBs, freeing single tables
# after an IPI instead of a grace period.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE, atomic_add_return
from cy.base.bugs cimport BUG, BUG_M10_FRAME
from cy.base.build cimport PT_CHECKS, PT_SCHED
from cy.base.clock cimport sched_yield
from cy.base.cpu cimport cpu, delay_point, frame_chain
from cy.base.rng cimport rng_one_in
from cy.mm.arena cimport arena_zapped
from cy.mm.deferred cimport chain_add, chain_splice, frame_free
from cy.mm.table cimport table_free_rcu
from cy.mm.tlb cimport check_stale_tlb, flush_tlb_mm, flush_tlb_range
from cy.mm.types cimport ARENA_NONE, mm, ptdesc

cdef struct mmu_gather:
    mm *mm
    cpu *cpu
    uint64_t start          # to flush; start >= end: nothing
    uint64_t end
    uint64_t all_start      # everything this operation unmapped, for the oracle
    uint64_t all_end
    uint32_t tables         # list of unlinked tables through ptdesc.next
    frame_chain frames

cdef inline void tlb_gather_mmu(mmu_gather *tlb, cpu *c, mm *m) noexcept nogil:
    tlb.mm = m
    tlb.cpu = c
    tlb.all_start = <uint64_t>-1
    tlb.all_end = 0
    tlb.tables = ARENA_NONE
    tlb.frames.nr = 0
    _tlb_reset_range(tlb)
    # [PT-022] pairs with: the read in tlb_finish_mmu of a concurrent gather. A gather that found an
    # entry none because another had cleared it sees the count that the other raised before: the
    # clearing and this increment are full barriers, and the finder held the table's lock later.
    atomic_add_return(&m.tlb_flush_pending, 1)

# The entries of [start, end) were present and are cleared. Context: their lock.
cdef inline void tlb_flush_range_add(mmu_gather *tlb, uint64_t start, uint64_t end) noexcept nogil:
    if start < tlb.start:
        tlb.start = start
    if end > tlb.end:
        tlb.end = end

# Queue a frame whose entry was cleared. Context: its ptl. True: the batch is full, flush soon.
cdef inline bint tlb_remove_page(mmu_gather *tlb, uint32_t pfn) noexcept nogil:
    if not arena_zapped(tlb.cpu, tlb.mm.frames, pfn):
        return False
    if BUG(tlb.mm.bugs, BUG_M10_FRAME):
        frame_free(tlb.cpu, tlb.mm, pfn)
        return False
    chain_add(tlb.mm, &tlb.frames, pfn)
    return tlb.mm.knobs.gather_batch != 0 and tlb.frames.nr >= tlb.mm.knobs.gather_batch

# Queue an unlinked table (pte_free_tlb, pmd_free_tlb, ...). Context: any; [start, end) is what it mapped.
cdef inline void tlb_remove_table(mmu_gather *tlb, ptdesc *table, uint64_t start, uint64_t end) noexcept nogil:
    tlb_flush_range_add(tlb, start, end)
    table.next = tlb.tables
    tlb.tables = table.index

# Flush, free nothing. Context: any, also under a ptl.
cdef inline void tlb_flush_mmu_tlbonly(mmu_gather *tlb) noexcept nogil:
    if tlb.start >= tlb.end:
        return
    # Under a controlled scheduler any point is a pause that it may choose.
    if not PT_SCHED and rng_one_in(&tlb.cpu.rng, tlb.mm.knobs.flush_delay):
        sched_yield()
    flush_tlb_range(tlb.cpu, tlb.mm, tlb.start, tlb.end)
    if tlb.start < tlb.all_start:
        tlb.all_start = tlb.start
    if tlb.end > tlb.all_end:
        tlb.all_end = tlb.end
    _tlb_reset_range(tlb)

# Flush, then hand everything to the grace periods. Context: no ptl.
cdef inline void tlb_flush_mmu(mmu_gather *tlb) noexcept nogil:
    cdef ptdesc *table
    tlb_flush_mmu_tlbonly(tlb)
    chain_splice(tlb.mm, &tlb.cpu.frames_next, &tlb.frames)
    while tlb.tables != ARENA_NONE:
        table = &tlb.mm.ptdescs[tlb.tables]
        tlb.tables = table.next
        table_free_rcu(tlb.cpu, tlb.mm, table)

# End of the operation's unmapping. Context: none, or any lock above the page_table_lock.
# After it no TLB holds what the operation unmapped.
cdef inline void tlb_finish_mmu(mmu_gather *tlb) noexcept nogil:
    delay_point(tlb.cpu)
    if READ_ONCE(&tlb.mm.tlb_flush_pending) > 1:         # [PT-022] pairs with: tlb_gather_mmu.
        flush_tlb_mm(tlb.cpu, tlb.mm)
    tlb_flush_mmu(tlb)
    if PT_CHECKS:
        check_stale_tlb(tlb.cpu, tlb.mm, tlb.all_start, tlb.all_end)
    atomic_add_return(&tlb.mm.tlb_flush_pending, <uint64_t>-1)

cdef inline void _tlb_reset_range(mmu_gather *tlb) noexcept nogil:
    tlb.start = <uint64_t>-1
    tlb.end = 0
