# `free`: madvise(MADV_FREE). The pages of the range may be dropped by memory pressure (cy/ops/discard.pxd) until they are
# written again; nothing is unmapped and no table goes.
#
# Guarantee: once it returned, a write to a page of the range sets D in its entry. The flush takes every translation that
# has D cached out of the TLBs, so that a later store walks and sets D by compare-exchange on an entry that is present.
# Source: mm/madvise.c madvise_free_single_vma, madvise_free_pte_range.
# Not modelled: large and shared folios, swap entries, LRU lists: a page is lazyfree at once. The flush does not wait for
# a store in flight, which the interrupt of a real flush does: a write that began before FREE returned may be lost.
from libc.stdint cimport uint64_t
from cy.base.atomics cimport WRITE_ONCE32, smp_store_release, xchg
from cy.base.bugs cimport BUG, BUG_M09_FREE
from cy.base.cpu cimport count, cpu, delay_point
from cy.base.entry cimport PT_ACCESSED, PT_DIRTY, pte_pfn, pte_present, pte_special
from cy.base.geometry cimport PAGE_SHIFT
from cy.base.shm cimport C_LAZYFREE
from cy.core.madvise cimport madvise_pages
from cy.core.scan cimport left_behind
from cy.mm.batch cimport flush_tlb_batched_pending
from cy.mm.cursor cimport cursor_unlock
from cy.mm.gather cimport mmu_gather, tlb_flush_range_add
from cy.mm.map cimport ptep_get
from cy.mm.types cimport INTENT_ZAP, LAZYFREE, cursor, mm, page

# Pages [first, last). Context and returns: madvise_pages.
cdef inline int do_free(cpu *c, mm *m, uint64_t first, uint64_t last) noexcept nogil:
    return madvise_pages(c, m, first, last, INTENT_ZAP, _free_vma)

cdef inline int _free_vma(cursor *cur, mmu_gather *tlb, uint64_t start, uint64_t end) noexcept nogil:
    cur.addr = start
    cur.end = end
    while cur.ops.next(cur):
        flush_tlb_batched_pending(cur.cpu, cur.mm)
        while cur.addr != cur.table_end:
            _free_entry(cur, tlb)
            cur.ptep += 1
            cur.addr += <uint64_t>1 << PAGE_SHIFT
        delay_point(cur.cpu)
        cursor_unlock(cur)
    left_behind(cur.cpu, cur.mm, cur.vma)
    return 0

# The entry at cur.addr. Context: its table's lock. None, a marker, the zero page: nothing to do.
cdef inline void _free_entry(cursor *cur, mmu_gather *tlb) noexcept nogil:
    cdef uint64_t pte = ptep_get(cur.cpu, cur.mm, cur.table, cur.ptep)
    cdef page *p
    if not pte_present(pte) or pte_special(pte):
        return
    p = &cur.mm.pages[pte_pfn(pte)]
    WRITE_ONCE32(&p.dirty, 0)
    if pte & (PT_ACCESSED | PT_DIRTY):
        # By exchange, as clear_young_dirty_ptes does: hardware may set A or D at this moment. What it set is cleared
        # too: that access has begun before FREE returned.
        pte = xchg(cur.ptep, 0)
        # [PT-009] pairs with: the hardware walk. W stays: a later write sets D without a fault.
        smp_store_release(cur.ptep, pte & ~(PT_ACCESSED | PT_DIRTY))
        if not BUG(cur.mm.bugs, BUG_M09_FREE):
            tlb_flush_range_add(tlb, cur.addr, cur.addr + (<uint64_t>1 << PAGE_SHIFT))
    WRITE_ONCE32(&p.lazyfree, LAZYFREE)         # an oracle looks at it through a pin, without the lock
    count(cur.cpu, C_LAZYFREE)
