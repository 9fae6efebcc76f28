# `discard`: what memory pressure does to lazyfree pages. A page of the range that was given to FREE and is clean since then
# loses its frame; dirty and pinned ones stay. Then the reclaim policy may look for empty tables, as in any shrinker.
#
# A page is judged after its entry was cleared, so that no further store can reach the frame unseen:
#   a store through the tables finds the entry none, or set D before, and the exchange returned it;
#   a store through a stale TLB entry needs D cached there. FREE cleared D and flushed, so such a translation was
#   filled later, and filling it set D in the entry by compare-exchange while it was present: the exchange returned it.
# That is why the flush may be deferred although the frame is already judged clean: until the flush stale translations
# only read, and the frame is freed behind the flush.
# Source: mm/rmap.c try_to_unmap_one, mm/vmscan.c shrink_folio_list.
# Not modelled: LRU lists and the choice of pages, references seen in A, freezing the reference count. mmap_lock for reading
# stands for the rmap lock: it keeps the upper tables of the VMAs.
from libc.errno cimport EINVAL
from libc.stdint cimport uint64_t
from cy.base.atomics cimport READ_ONCE32, WRITE_ONCE32, plain_load32, smp_store_release, xchg
from cy.base.bugs cimport BUG, BUG_M15_DIRTY, BUG_M15_PIN
from cy.base.build cimport PT_CHECKS
from cy.base.cpu cimport count, cpu, delay_point, pt_report
from cy.base.entry cimport PT_DIRTY, pte_pfn, pte_present, pte_special
from cy.base.geometry cimport PAGE_SHIFT
from cy.base.shm cimport C_LAZYFREED, C_LAZYFREE_KEPT, ORACLE_DATA
from cy.core.scan cimport left_behind
from cy.core.walk cimport walk_tables
from cy.mm.batch cimport (
    set_tlb_ubc_flush_pending, try_to_unmap_flush, unmap_batch, unmap_batch_add, unmap_batch_init)
from cy.mm.cursor cimport cursor_begin, cursor_end
from cy.mm.map cimport ptep_get
from cy.mm.mmu_notifier cimport mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from cy.mm.pin cimport page_is_pinned
from cy.mm.rss cimport mm_add_rss
from cy.mm.tlb cimport flush_tlb_range
from cy.mm.types cimport INTENT_WALK, LAZYFREE_DROPPED, cursor, mm, page
from cy.ops.scan cimport do_scan

# Pages [first, last); what lies in no VMA is passed over. Context: no lock; may sleep. Returns 0 or -EINVAL.
cdef inline int do_discard(cpu *c, mm *m, uint64_t first, uint64_t last) noexcept nogil:
    cdef cursor cur
    cdef unmap_batch batch
    if first > last or last > m.end_page:
        return -EINVAL
    unmap_batch_init(&batch, c, m)
    mmu_notifier_invalidate_range_start(c, m, first << PAGE_SHIFT, last << PAGE_SHIFT)
    cursor_begin(&cur, c, m, first << PAGE_SHIFT, last << PAGE_SHIFT, INTENT_WALK)
    walk_tables(&cur, last << PAGE_SHIFT, _discard_table, &batch)
    cursor_end(&cur)
    mmu_notifier_invalidate_range_end(c, m, first << PAGE_SHIFT, last << PAGE_SHIFT)
    try_to_unmap_flush(&batch)
    do_scan(c, m)
    return 0

# Context: the table at cur.addr is locked.
cdef inline void _discard_table(cursor *cur, void *ctx) noexcept nogil:
    cdef uint64_t addr = cur.addr
    cdef uint64_t *ptep = cur.ptep
    cdef bint dropped = False
    while addr != cur.table_end:
        dropped |= _try_to_unmap_one(cur, <unmap_batch *>ctx, addr, ptep)
        ptep += 1
        addr += <uint64_t>1 << PAGE_SHIFT
    if dropped:
        left_behind(cur.cpu, cur.mm, cur.vma)

# Returns True if the page was dropped.
cdef inline bint _try_to_unmap_one(cursor *cur, unmap_batch *batch, uint64_t addr, uint64_t *ptep) noexcept nogil:
    cdef cpu *c = cur.cpu
    cdef mm *m = cur.mm
    cdef uint64_t seen = ptep_get(c, m, cur.table, ptep), pte
    cdef page *p
    cdef bint pinned = False
    if not pte_present(seen) or pte_special(seen):
        return False
    p = &m.pages[pte_pfn(seen)]
    if not plain_load32(&p.lazyfree):
        return False
    delay_point(c)                      # what was seen may be old by now: only what the exchange returns counts
    if BUG(m.bugs, BUG_M15_PIN):
        pinned = page_is_pinned(p)
        delay_point(c)
    # ptep_get_and_clear. [PT-021] pairs with: the flush, deferred or not. A full barrier: what is looked at below is
    # looked at with the entry gone.
    pte = xchg(ptep, 0)
    if _should_defer_flush(m):
        set_tlb_ubc_flush_pending(batch, addr)
    else:
        flush_tlb_range(c, m, addr, addr + (<uint64_t>1 << PAGE_SHIFT), False)
    if (seen if BUG(m.bugs, BUG_M15_DIRTY) else pte) & PT_DIRTY:
        WRITE_ONCE32(&p.dirty, 1)
    if not BUG(m.bugs, BUG_M15_PIN):
        pinned = page_is_pinned(p)      # [PT-041] who pinned it marks it dirty first and lets it go afterwards
    if not pinned:
        if not READ_ONCE32(&p.dirty):
            if PT_CHECKS and pte & PT_DIRTY:
                pt_report(c, ORACLE_DATA, 40, b"memory pressure drops frame a, which was written since it was free", addr,
                          pte_pfn(pte), 0)
            if PT_CHECKS:
                WRITE_ONCE32(&p.lazyfree, LAZYFREE_DROPPED)
            mm_add_rss(c, m, <uint64_t>-1)
            unmap_batch_add(batch, addr, pte_pfn(pte))
            count(c, C_LAZYFREED)
            return True
    # Written since FREE, which cancels it; or in use by somebody else, then the next pressure may take it.
    if READ_ONCE32(&p.dirty):
        WRITE_ONCE32(&p.lazyfree, 0)
    smp_store_release(ptep, pte)        # [PT-009] pairs with: the hardware walk.
    count(c, C_LAZYFREE_KEPT)
    return False

# With one cpu there is no interrupt to save.
cdef inline bint _should_defer_flush(mm *m) noexcept nogil:
    return m.nr_cpus > 1
