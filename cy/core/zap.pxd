# Unmapping a range: zap_page_range and zap_pte_range.
#
# Guarantee: every entry of the range is visited once, ascending; an entry that was present at its visit
# is cleared, its TLB entries are flushed before the gather finishes, and its frame is queued. Entries
# installed before their visit are dropped, later ones survive. A table is detached only if it is empty. Guard markers stay
# unless the caller drops them, and a table in which one was passed over is not detached, even if it goes meanwhile.
#
# Steps Z1..Z8 of zap_pte_range, as mm/memory.c and mm/pt_reclaim.c of 6.18 have them:
#   Z1 map and lock; no table: the caller looks at the pmd again     Z5 flush if forced, drop the lock
#   Z2 drain flushes deferred by reclaim
#   Z3 clear entries; stop early on need_resched or a full batch     Z6 not at the end: again from Z1
#   Z4 whole table, one hold of the lock: fast detach                Z7 whole table, several holds: slow
#   Z8 queue the detached table
# Not modelled: huge entries, markers other than guards.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from cy.base.atomics cimport WRITE_ONCE, plain_load32, xchg
from cy.base.bugs cimport (
    BUG, BUG_M03_NOTIFIER, BUG_MX_DROP_MARKERS, BUG_MX_QUEUED_TWICE, BUG_MX_ZAP_AGAIN, BUG_P01, BUG_P13)
from cy.base.build cimport PT_CHECKS
from cy.base.cpu cimport count, cpu, delay_point, pt_report
from cy.base.entry cimport is_guard_pte_marker, pte_none, pte_pfn, pte_special
from cy.base.geometry cimport PAGE_SHIFT, PTE_LEVEL, geo_table_span
from cy.base.rng cimport rng_one_in
from cy.base.shm cimport C_GUARDS_KEPT, C_ZAP_BREAK, ORACLE_DATA
from cy.core.unlink cimport table_free_tlb
from cy.mm.batch cimport flush_tlb_batched_pending
from cy.mm.cursor cimport cursor_unlock
from cy.mm.gather cimport (
    mmu_gather, tlb_flush_mmu, tlb_flush_mmu_tlbonly, tlb_flush_range_add, tlb_remove_page)
from cy.mm.map cimport ptep_get
from cy.mm.mmu_notifier cimport mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from cy.mm.rss cimport mm_add_rss
from cy.mm.types cimport cursor, mm

# What an operation lets a zap do besides.
cdef enum:
    ZAP_RECLAIM = 1         # free the tables that it empties: DONTNEED; munmap frees them itself
    ZAP_DROP_MARKERS = 2    # clear guard markers too: what ends the mapping

# Why a pass over a table ended.
cdef enum:
    ZAP_DONE = 0        # at the end of the range
    ZAP_RESCHED = 1     # need_resched: drop the lock for a moment
    ZAP_FLUSH = 2       # the batch is full: flush before the lock is dropped

# Zap [start, end), which lies in one VMA. Context: between begin and end of the cursor.
# `flags`: ZAP_*. Returns True if a table that was zapped is still there, as far as is known.
cdef inline bint zap_page_range(cursor *cur, mmu_gather *tlb, uint64_t start, uint64_t end, uint32_t flags) noexcept nogil:
    cdef bint left = False
    if cur.mm.secondary.present:
        cur.ops.sleep(cur)              # a policy that holds on to tables must let go
    mmu_notifier_invalidate_range_start(cur.cpu, cur.mm, start, end)
    if BUG(cur.mm.bugs, BUG_M03_NOTIFIER):
        mmu_notifier_invalidate_range_end(cur.cpu, cur.mm, start, end)
    cur.addr = start
    cur.end = end
    while cur.ops.next(cur):
        left |= zap_pte_range(cur, tlb, flags)
    if not BUG(cur.mm.bugs, BUG_M03_NOTIFIER):
        mmu_notifier_invalidate_range_end(cur.cpu, cur.mm, start, end)
    return left

# Context: the table at cur.addr is locked. Returns with it unlocked and cur.addr behind what was done.
# Oracle data: no page is visited twice (I35). Returns True if the table is still there.
cdef inline bint zap_pte_range(cursor *cur, mmu_gather *tlb, uint32_t flags) noexcept nogil:
    cdef cpu *c = cur.cpu
    cdef mm *m = cur.mm
    cdef uint64_t start = cur.addr, visited = cur.addr, table_end = cur.table_end
    cdef bint whole = table_end - start == geo_table_span(&m.geo, PTE_LEVEL)
    cdef bint can_reclaim = flags & ZAP_RECLAIM and m.reclaim != NULL and whole
    cdef bint direct = True, any_skipped = False
    cdef int why
    cur.detached = NULL
    while True:
        # Reclaim may have cleared entries that TLBs still translate; we find them none and flush nothing.
        if not BUG(m.bugs, BUG_P13):
            flush_tlb_batched_pending(c, m)                      # Z2
        if PT_CHECKS and cur.addr < visited:
            pt_report(c, ORACLE_DATA, 35, b"a zap visits pages up to a for the second time", cur.addr, visited, 0)
        why = _zap_entries(cur, tlb, table_end, flags, &any_skipped)
        visited = cur.addr
        can_reclaim = can_reclaim and not any_skipped
        if why != ZAP_DONE:
            count(c, C_ZAP_BREAK)
            # From here on the table may be filled again behind us.
            direct = direct and BUG(m.bugs, BUG_P01)
        if can_reclaim and direct and cur.addr == table_end:
            direct = m.reclaim.emptied_locked != NULL and m.reclaim.emptied_locked(cur)      # Z4
        if why == ZAP_FLUSH:
            tlb_flush_mmu_tlbonly(tlb)                           # Z5
        cursor_unlock(cur)
        if why == ZAP_FLUSH:
            tlb_flush_mmu(tlb)
        if cur.addr == table_end:
            break
        if BUG(m.bugs, BUG_MX_ZAP_AGAIN):
            cur.addr = start
        cur.ops.sleep(cur)                                       # Z6
        if not cur.ops.lock(cur, 0):
            return False                                         # Z1
    if can_reclaim and not direct and m.reclaim.emptied != NULL:
        m.reclaim.emptied(cur)                                   # Z7
    if cur.detached == NULL:
        return True
    tables_free_tlb(cur, tlb)                                    # Z8
    return False

# Z3: one pass under the lock. Moves cur.addr; sets *any_skipped if it leaves a marker behind.
cdef inline int _zap_entries(cursor *cur, mmu_gather *tlb, uint64_t table_end, uint32_t flags, bint *any_skipped) noexcept nogil:
    cdef cpu *c = cur.cpu
    cdef mm *m = cur.mm
    cdef uint64_t start = cur.addr, addr = cur.addr, pte
    cdef uint64_t *ptep = cur.ptep
    cdef int why = ZAP_DONE
    cdef int64_t rss = 0
    while addr != table_end:
        if rng_one_in(&c.rng, m.knobs.need_resched) and addr != start:
            why = ZAP_RESCHED
            break
        pte = ptep_get(c, m, cur.table, ptep)
        if is_guard_pte_marker(pte):
            if flags & ZAP_DROP_MARKERS or BUG(m.bugs, BUG_MX_DROP_MARKERS):
                WRITE_ONCE(ptep, 0)          # no TLB has it
            else:
                any_skipped[0] = True
                count(c, C_GUARDS_KEPT)
        elif not pte_none(pte):
            # ptep_get_and_clear: an exchange, because hardware may set A or D at this moment.
            # [PT-021] pairs with: the flush that follows; a later walk finds the entry none.
            pte = xchg(ptep, 0)
            tlb_flush_range_add(tlb, addr, addr + ((<uint64_t>1) << PAGE_SHIFT))
            if not pte_special(pte):
                rss += 1
                if tlb_remove_page(tlb, pte_pfn(pte)):
                    why = ZAP_FLUSH
                    if BUG(m.bugs, BUG_MX_QUEUED_TWICE):
                        tlb_remove_page(tlb, pte_pfn(pte))
        ptep += 1
        addr += (<uint64_t>1) << PAGE_SHIFT
        if why == ZAP_FLUSH:
            break
    cur.addr = addr
    cur.ptep = ptep
    if rss:
        mm_add_rss(c, m, <uint64_t>-rss)
    delay_point(c)
    return why

# Queue cur.detached, then lower the count; and the tables above it, as far as a policy unlinks them. Context: between begin
# and end of the cursor, nothing locked.
cdef inline void tables_free_tlb(cursor *cur, mmu_gather *tlb) noexcept nogil:
    cdef mm *m = cur.mm
    cdef uint64_t addr
    cdef uint32_t level
    while cur.detached != NULL:
        addr = cur.detached.addr
        level = plain_load32(&cur.detached.level)
        table_free_tlb(tlb, cur.detached, level, addr)
        cur.detached = NULL
        if m.reclaim.unlinked != NULL:
            m.reclaim.unlinked(cur, addr, level)
