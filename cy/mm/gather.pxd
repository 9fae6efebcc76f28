# mmu_gather: what one operation unmapped, on its way to be freed.
#
# Order that must hold (I10, I22): clear the entry -> flush the TLBs -> grace periods -> reuse. A gather
# that meets another one of the same mm (tlb_flush_pending > 1) flushes everything: the other may
# have cleared entries that this one found none, and not flushed yet.
# Tables need no batch to be listed here; the knob gather_alloc_fail stands for the kernel's batch that cannot be had:
# a full page batch then forces a flush, and a table is flushed for and freed alone.
# Source: mm/mmu_gather.c, include/asm-generic/tlb.h. Not modelled: several page batches, lazy TLBs.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE, atomic_add_mb
from cy.base.bugs cimport BUG, BUG_M08_IPI, BUG_M10_FRAME, BUG_P02, BUG_P24, BUG_P24_BATCH
from cy.base.build cimport PT_CHECKS, PT_SCHED
from cy.base.clock cimport sched_yield
from cy.base.cpu cimport count, cpu, delay_point, frame_chain
from cy.base.rng cimport rng_one_in
from cy.base.shm cimport C_GATHER_FALLBACK
from cy.mm.arena cimport arena_zapped
from cy.mm.deferred cimport chain_add, chain_splice, frame_free
from cy.mm.mmu_notifier cimport check_stale_secondary
from cy.mm.pwc cimport check_stale_pwc
from cy.mm.table cimport pagetable_dtor, table_free_rcu, table_free_sync
from cy.mm.tlb cimport check_stale_tlb, flush_tlb_mm, flush_tlb_range
from cy.mm.types cimport ARENA_NONE, mm, ptdesc

cdef struct mmu_gather:
    mm *mm
    cpu *cpu
    uint64_t start          # to flush; start >= end: nothing
    uint64_t end
    bint freed_tables       # of that range: the paging-structure caches too
    uint64_t all_start      # everything this operation unmapped, for the oracle
    uint64_t all_end
    bint all_tables         # it unlinked tables
    uint32_t tables         # list of unlinked tables through ptdesc.next
    frame_chain frames

cdef enum:
    GATHER_BUNDLE = 8           # pages that a gather has room for without an allocation (MMU_GATHER_BUNDLE)

cdef inline void tlb_gather_mmu(mmu_gather *tlb, cpu *c, mm *m) noexcept nogil:
    tlb.mm = m
    tlb.cpu = c
    tlb.all_start = <uint64_t>-1
    tlb.all_end = 0
    tlb.all_tables = False
    tlb.tables = ARENA_NONE
    tlb.frames.nr = 0
    _tlb_reset_range(tlb)
    # [PT-022] pairs with: the read in tlb_finish_mmu of a concurrent gather. A gather that found an
    # entry none because another had cleared it sees the count that the other raised before: the
    # clearing and this increment are full barriers, and the finder held the table's lock later.
    atomic_add_mb(&m.tlb_flush_pending, 1)

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
    if tlb.mm.knobs.gather_batch != 0 and tlb.frames.nr >= tlb.mm.knobs.gather_batch:
        return True
    # tlb_next_batch: the batch is full and there is no other.
    return (tlb.frames.nr & (GATHER_BUNDLE - 1)) == 0 and rng_one_in(&tlb.cpu.rng, tlb.mm.knobs.gather_alloc_fail)

# Queue an unlinked table (pte_free_tlb, pmd_free_tlb, ...). Context: may sleep; no table locked. [start, end) is
# what it mapped.
cdef inline void tlb_remove_table(mmu_gather *tlb, ptdesc *table, uint64_t start, uint64_t end) noexcept nogil:
    tlb.all_tables = True
    if BUG(tlb.mm.bugs, BUG_P02):
        pagetable_dtor(table)
    if not BUG(tlb.mm.bugs, BUG_P24):
        tlb_flush_range_add(tlb, start, end)
        tlb.freed_tables = True
    if tlb.tables == ARENA_NONE and rng_one_in(&tlb.cpu.rng, tlb.mm.knobs.gather_alloc_fail):
        _tlb_remove_table_one(tlb, table)
        return
    table.next = tlb.tables
    tlb.tables = table.index

# No batch for tables: flush now (tlb_table_invalidate), then free this one by itself: after a grace period
# where page tables are reclaimed (PT_RECLAIM) or walked without locks, else after an IPI to all cpus.
# Context: as tlb_remove_table.
cdef inline void _tlb_remove_table_one(mmu_gather *tlb, ptdesc *table) noexcept nogil:
    count(tlb.cpu, C_GATHER_FALLBACK)
    if not BUG(tlb.mm.bugs, BUG_P24_BATCH):
        tlb_flush_mmu_tlbonly(tlb)
    if tlb.mm.reclaim != NULL or tlb.mm.lockless:
        _table_free(tlb, table)
    else:
        table_free_sync(tlb.cpu, tlb.mm, table)

# After a grace period, or, with knobs.table_free_ipi, after an IPI ("semi-RCU", as before page tables were reclaimed): that waits
# for who walks with interrupts off, and not for who walks under RCU. It is enough where only munmap frees tables, for it has
# shut out all others.
cdef inline void _table_free(mmu_gather *tlb, ptdesc *table) noexcept nogil:
    if tlb.mm.knobs.table_free_ipi or BUG(tlb.mm.bugs, BUG_M08_IPI):
        table_free_sync(tlb.cpu, tlb.mm, table)
    else:
        table_free_rcu(tlb.cpu, tlb.mm, table)

# Flush, free nothing. Context: any, also under a ptl.
cdef inline void tlb_flush_mmu_tlbonly(mmu_gather *tlb) noexcept nogil:
    if tlb.start >= tlb.end:
        return
    # Under a controlled scheduler any point is a pause that it may choose.
    if not PT_SCHED and rng_one_in(&tlb.cpu.rng, tlb.mm.knobs.flush_delay):
        sched_yield()
    flush_tlb_range(tlb.cpu, tlb.mm, tlb.start, tlb.end, tlb.freed_tables)
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
        _table_free(tlb, table)

# End of the operation's unmapping. Context: none, or any lock above the page_table_lock.
# After it no TLB holds what the operation unmapped.
cdef inline void tlb_finish_mmu(mmu_gather *tlb) noexcept nogil:
    delay_point(tlb.cpu)
    if READ_ONCE(&tlb.mm.tlb_flush_pending) > 1:         # [PT-022] pairs with: tlb_gather_mmu.
        flush_tlb_mm(tlb.cpu, tlb.mm)
    tlb_flush_mmu(tlb)
    if PT_CHECKS:
        check_stale_tlb(tlb.cpu, tlb.mm, tlb.all_start, tlb.all_end)
        check_stale_secondary(tlb.cpu, tlb.mm, tlb.all_start, tlb.all_end)
        if tlb.all_tables:
            check_stale_pwc(tlb.cpu, tlb.mm)
    atomic_add_mb(&tlb.mm.tlb_flush_pending, <uint64_t>-1)

cdef inline void _tlb_reset_range(mmu_gather *tlb) noexcept nogil:
    tlb.start = <uint64_t>-1
    tlb.end = 0
    tlb.freed_tables = False
