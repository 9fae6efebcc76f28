# Flushes that reclaim defers: entries are cleared under their ptl, one flush for all of them comes later.
#
# Meanwhile an entry is none although TLBs still translate it. Whoever takes such an entry for unmapped must first
# drain: flush_tlb_batched_pending, under the ptl of the entry.
#   mm.tlb_flush_batched   low half: how many flushes were deferred; high half: how many of these a drain has covered
#   unmap_batch            one reclaimer's deferred flush, and the frames that wait for it (current->tlb_ubc)
# The count goes up under the ptl that the entry was cleared under, so that who holds that lock later sees it ([PT-001]).
# Source: mm/rmap.c set_tlb_ubc_flush_pending, flush_tlb_batched_pending, try_to_unmap_flush.
# Not modelled: flushing only what was dirty before writeback (try_to_unmap_flush_dirty).
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE32, atomic_add_mb32, cmpxchg32, smp_load_acquire32
from cy.base.build cimport PT_CHECKS, PT_SCHED
from cy.base.bugs cimport BUG, BUG_M10_DISCARD, BUG_P13_LOCAL
from cy.base.clock cimport sched_yield
from cy.base.cpu cimport count, cpu, delay_point, frame_chain
from cy.base.geometry cimport PAGE_SHIFT
from cy.base.rng cimport rng_one_in
from cy.base.shm cimport C_BATCHED_DRAINS, C_BATCHED_FLUSHES
from cy.mm.arena cimport arena_zapped
from cy.mm.deferred cimport chain_add, chain_splice, frame_free
from cy.mm.mmu_notifier cimport check_stale_secondary
from cy.mm.tlb cimport check_stale_tlb, flush_tlb_cpu, flush_tlb_mm
from cy.mm.types cimport ARENA_NONE, mm

cdef enum:
    BATCH_FLUSHED_SHIFT = 16
    BATCH_PENDING_MASK = 0xffff
    BATCH_PENDING_LARGE = 0x7fff
    BATCH_START = 0x7ffc7ffc    # nothing is pending, and the counts are near the end of their range

cdef struct unmap_batch:
    mm *mm
    cpu *cpu
    uint64_t start          # what was unmapped, for the oracle
    uint64_t end
    uint32_t flush_required
    frame_chain frames

cdef inline void unmap_batch_init(unmap_batch *b, cpu *c, mm *m) noexcept nogil:
    b.mm = m
    b.cpu = c
    b.start = <uint64_t>-1
    b.end = 0
    b.flush_required = 0
    b.frames.head = ARENA_NONE
    b.frames.tail = ARENA_NONE
    b.frames.nr = 0

# The entry of `addr` was cleared and TLBs are not flushed. Context: its ptl.
cdef inline void set_tlb_ubc_flush_pending(unmap_batch *b, uint64_t addr) noexcept nogil:
    cdef uint32_t *batched = &b.mm.tlb_flush_batched
    cdef uint32_t seen = READ_ONCE32(batched), found
    b.flush_required = 1
    while seen & BATCH_PENDING_MASK > BATCH_PENDING_LARGE:
        # Before the counts can catch up with each other: 1 deferred, 0 covered.
        found = cmpxchg32(batched, seen, 1)
        if found == seen:
            return
        seen = found
    atomic_add_mb32(batched, 1)

# Queue the frame that `addr` mapped: it is freed after the flush. Context: its ptl.
cdef inline void unmap_batch_add(unmap_batch *b, uint64_t addr, uint32_t pfn) noexcept nogil:
    if addr < b.start:
        b.start = addr
    if addr >= b.end:
        b.end = addr + (<uint64_t>1 << PAGE_SHIFT)
    if not arena_zapped(b.cpu, b.mm.frames, pfn):
        return
    if BUG(b.mm.bugs, BUG_M10_DISCARD):
        frame_free(b.cpu, b.mm, pfn)
        return
    chain_add(b.mm, &b.frames, pfn)

# Make up for the deferred flush, then hand the frames to the grace period. Context: no ptl. The counts of the mm stay:
# the next drain flushes once more than it has to, as in the kernel.
cdef inline void try_to_unmap_flush(unmap_batch *b) noexcept nogil:
    delay_point(b.cpu)
    if b.flush_required:
        # Under a controlled scheduler any point is a pause that it may choose.
        if not PT_SCHED and rng_one_in(&b.cpu.rng, b.mm.knobs.flush_delay):
            sched_yield()
        count(b.cpu, C_BATCHED_FLUSHES)
        flush_tlb_mm(b.cpu, b.mm)
        b.flush_required = 0
    if PT_CHECKS:
        check_stale_tlb(b.cpu, b.mm, b.start, b.end)
        check_stale_secondary(b.cpu, b.mm, b.start, b.end)
    chain_splice(b.mm, &b.cpu.frames_next, &b.frames)

# No TLB translates what reclaim has cleared under the ptl that the caller holds, once this returns.
# Context: that ptl. One load if nothing is pending.
cdef inline void flush_tlb_batched_pending(cpu *c, mm *m) noexcept nogil:
    # [PT-040] pairs with: the exchange below, of another cpu. Who sees that all is covered comes after that flush.
    cdef uint32_t seen = smp_load_acquire32(&m.tlb_flush_batched), pending = seen & BATCH_PENDING_MASK
    if pending == seen >> BATCH_FLUSHED_SHIFT:
        return
    count(c, C_BATCHED_DRAINS)
    if BUG(m.bugs, BUG_P13_LOCAL):
        flush_tlb_cpu(m, c)
    else:
        flush_tlb_mm(c, m)
    # [PT-040] pairs with: the load above. If more was deferred meanwhile, somebody has to flush again.
    cmpxchg32(&m.tlb_flush_batched, seen, pending | pending << BATCH_FLUSHED_SHIFT)
