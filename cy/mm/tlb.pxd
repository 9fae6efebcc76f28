# Software TLB: one direct-mapped array per cpu, filled by its owner, flushed by anyone.
#
# An entry caches frame, RW and D. Its tag is a global page number, which tells the mm as a PCID does. It is
# valid while `tag` matches and `gen` is the cpu's current full_flushes of that mm. Flushing does not wait for the owner:
# it bumps flush_gen and clears tags; an access that already holds a translation is covered by the hardware grace period.
#
# [PT-020] store buffering: the filler stores the tag, then loads flush_gen; the flusher bumps
# flush_gen, then loads the tags. One of them sees the other, so no entry outlives a flush that
# began after its walk. Both sides are full barriers.
# [PT-021] pairs with: the flush follows the store that cleared the entry (ptep_get_and_clear, a full
# barrier), so a fill that starts after the bump walks the cleared table.
# The paging-structure cache beside it: cy/mm/pwc.pxd.
# Source: arch/x86/mm/tlb.c. Not modelled: PCIDs that run out, lazy mode;
# every cpu of the machine is in the mm_cpumask of every mm.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport (
    READ_ONCE, WRITE_ONCE, atomic_add_mb, cmpxchg, peek, peek32, smp_load_acquire, smp_rmb, smp_wmb, xchg)
from cy.base.build cimport PT_CHECKS
from cy.base.cpu cimport TLB_ENTRIES, count, cpu, delay_point, pt_report, tlb_entry
from cy.base.entry cimport pte_pfn
from cy.base.geometry cimport MM_SHIFT, PAGE_SHIFT
from cy.base.shm cimport C_FILL_DROPPED, C_FLUSHES, C_FULL_FLUSHES, ORACLE_STALE_TLB
from cy.mm.arena cimport zap_owner
from cy.mm.pwc cimport pwc_flush_range
from cy.mm.types cimport ITEM_FREE, ITEM_ZAPPED, mm

cdef inline tlb_entry *tlb_slot(cpu *c, uint64_t vpn) noexcept nogil:
    return &c.tlb[vpn & (TLB_ENTRIES - 1)]

# The cached translation of `vpn`, or 0. Context: in a hardware section of cpu c.
cdef inline uint64_t tlb_lookup(cpu *c, uint64_t vpn) noexcept nogil:
    cdef tlb_entry *e = tlb_slot(c, vpn)
    if READ_ONCE(&e.tag) == vpn + 1 and READ_ONCE(&e.gen) == READ_ONCE(&c.full_flushes[vpn >> MM_SHIFT]):
        return READ_ONCE(&e.val)
    return 0

# Number to hand to tlb_fill; taken before the walk. [PT-020] pairs with: flush_tlb_range.
cdef inline uint64_t tlb_walk_begin(cpu *c) noexcept nogil:
    return smp_load_acquire(&c.flush_gen)

# Cache a translation, unless a flush came since tlb_walk_begin: then False. Context: own cpu.
cdef inline bint tlb_fill(cpu *c, uint64_t vpn, uint64_t val, uint64_t incarnation, uint64_t walk_gen) noexcept nogil:
    cdef tlb_entry *e = tlb_slot(c, vpn)
    cdef bint kept
    if PT_CHECKS:
        WRITE_ONCE(&e.fills, peek(&e.fills) + 1)
    WRITE_ONCE(&e.tag, 0)
    smp_wmb()                                # before the rest, for oracles. [PT-151] pairs with: _check_entry.
    WRITE_ONCE(&e.val, val)
    if PT_CHECKS:
        WRITE_ONCE(&e.incarnation, incarnation)
    WRITE_ONCE(&e.gen, READ_ONCE(&c.full_flushes[vpn >> MM_SHIFT]))
    xchg(&e.tag, vpn + 1)                    # [PT-020] pairs with: flush_tlb_range.
    kept = READ_ONCE(&c.flush_gen) == walk_gen
    if not kept:
        WRITE_ONCE(&e.tag, 0)
        count(c, C_FILL_DROPPED)
    if PT_CHECKS:
        smp_wmb()                            # behind the rest, for oracles. [PT-151] pairs with: _check_entry.
        WRITE_ONCE(&e.fills, peek(&e.fills) + 1)
    return kept

# No cpu translates [start, end) with what the tables held before the call, once it returns, but for
# accesses in flight. `freed_tables`: nor finds its way there through a table of before. Context: any.
cdef inline void flush_tlb_range(cpu *c, mm *m, uint64_t start, uint64_t end, bint freed_tables) noexcept nogil:
    cdef uint64_t first = start >> PAGE_SHIFT, last = end >> PAGE_SHIFT, vpn
    cdef tlb_entry *e
    cdef cpu *target
    cdef uint32_t i
    delay_point(c)
    if last - first > m.knobs.flush_ceiling or last - first > TLB_ENTRIES:
        flush_tlb_mm(c, m)
        return
    count(c, C_FLUSHES)
    for i in range(m.nr_cpus):
        target = &m.cpus[i]
        atomic_add_mb(&target.flush_gen, 1)          # [PT-020] pairs with: tlb_fill.
        for vpn in range(first, last):
            e = tlb_slot(target, vpn)
            if READ_ONCE(&e.tag) == vpn + 1:
                cmpxchg(&e.tag, vpn + 1, 0)
        if freed_tables:
            pwc_flush_range(target, m, first, last)

# The same for the whole address space; translations of other mms stay.
cdef inline void flush_tlb_mm(cpu *c, mm *m) noexcept nogil:
    cdef uint32_t i
    count(c, C_FULL_FLUSHES)
    for i in range(m.nr_cpus):
        flush_tlb_cpu(m, &m.cpus[i])

# What the TLB of one cpu holds of it. Context: any.
cdef inline void flush_tlb_cpu(mm *m, cpu *target) noexcept nogil:
    # In this order: a fill that takes the new full_flushes also sees the new flush_gen. The other
    # way round it could take the new one with an old entry, and stay valid after the flush.
    atomic_add_mb(&target.flush_gen, 1)              # [PT-020] pairs with: tlb_fill.
    atomic_add_mb(&target.full_flushes[m.index], 1)  # entries filled before are invalid now

# Oracle stale-tlb at operation return (I22, I32): no TLB reaches what this operation of cpu c
# unmapped in [start, end), nor a frame that is free. Checking builds only.
cdef inline void check_stale_tlb(cpu *c, mm *m, uint64_t start, uint64_t end) noexcept nogil:
    cdef uint64_t first = start >> PAGE_SHIFT, last = end >> PAGE_SHIFT
    cdef uint32_t i, slot
    cdef uint64_t vpn
    if start >= end:
        return
    for i in range(m.nr_cpus):
        if last - first >= TLB_ENTRIES:
            for slot in range(TLB_ENTRIES):
                _check_entry(c, m, &m.cpus[i], &m.cpus[i].tlb[slot], first, last)
        else:
            for vpn in range(first, last):
                _check_entry(c, m, &m.cpus[i], tlb_slot(&m.cpus[i], vpn), first, last)

# A frame that was translated to, of that incarnation, is free, or unmapped by this operation of cpu c. Context: oracles.
cdef inline bint frame_is_gone(cpu *c, mm *m, uint32_t pfn, uint64_t incarnation) noexcept nogil:
    cdef uint32_t state = peek32(&m.frames.items[pfn].state)
    return state == ITEM_FREE or peek(&m.pages[pfn].incarnation) != incarnation \
        or (state == ITEM_ZAPPED and peek32(&m.frames.items[pfn].owner) == zap_owner(c))

cdef inline void _check_entry(cpu *c, mm *m, cpu *target, tlb_entry *e, uint64_t first, uint64_t last) noexcept nogil:
    cdef uint64_t fills = peek(&e.fills), tag = peek(&e.tag), incarnation, val
    cdef uint32_t pfn
    cdef bint stale
    if (fills & 1) != 0 or tag == 0 or tag - 1 < first or tag - 1 >= last:
        return
    val = peek(&e.val)
    incarnation = peek(&e.incarnation)
    pfn = pte_pfn(val)
    if pfn == 0:
        return              # the zero page is never freed
    smp_rmb()
    stale = frame_is_gone(c, m, pfn, incarnation)
    smp_rmb()
    if stale and peek(&e.gen) == peek(&target.full_flushes[m.index]) \
            and peek(&e.tag) == tag and peek(&e.fills) == fills:
        pt_report(c, ORACLE_STALE_TLB, 32, b"after the flush the TLB of cpu b still translates to frame a",
                  (tag - 1) << PAGE_SHIFT, pfn, target.id)

# Oracle stale-tlb where the zero page was taken from [start, end), by a write (I42) or by reclaim (I51): no TLB translates to it
# there, or a read would miss what is written next. Context: the locks under which the entries were cleared, after the flush.
cdef inline void check_no_zero_page(cpu *c, mm *m, uint64_t start, uint64_t end, uint32_t invariant) noexcept nogil:
    cdef uint32_t i, slot
    for i in range(m.nr_cpus):
        for slot in range(TLB_ENTRIES):
            if _has_zero_page(m, &m.cpus[i], &m.cpus[i].tlb[slot], start >> PAGE_SHIFT, end >> PAGE_SHIFT):
                pt_report(c, ORACLE_STALE_TLB, invariant, b"the zero page was unmapped, and the TLB of cpu a has it still", start,
                          i, 0)
                return

cdef inline bint _has_zero_page(mm *m, cpu *target, tlb_entry *e, uint64_t first, uint64_t last) noexcept nogil:
    cdef uint64_t fills = peek(&e.fills), tag = peek(&e.tag)
    cdef bint zero
    if (fills & 1) != 0 or tag == 0 or tag - 1 < first or tag - 1 >= last:
        return False
    zero = pte_pfn(peek(&e.val)) == 0 and peek(&e.gen) == peek(&target.full_flushes[m.index])
    smp_rmb()
    return zero and peek(&e.tag) == tag and peek(&e.fills) == fills
