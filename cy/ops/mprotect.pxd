# `mprotect`: let a range be written, or not.
#
# One hold of mmap_lock for writing; VMA after VMA: merge or split, write-lock, change what it allows, then take the
# write bit from its entries, table by table. The flush comes before the locks are given back: when mprotect returns, no
# cpu translates to a writable entry. Making writable leaves the entries alone: the next write faults and gets its bit.
# Source: mm/mprotect.c do_mprotect_pkey, mprotect_fixup, change_pte_range.
# Not modelled: PROT_NONE and PROT_EXEC, protection keys, NUMA hinting; the entries that 6.x makes writable on the way
# (MM_CP_TRY_CHANGE_WRITABLE). The flush does not wait for accesses in flight: a write that began before mprotect
# returned may be done after it.
from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE32, WRITE_ONCE32, smp_store_release, xchg
from cy.base.bugs cimport BUG, BUG_M10_MPROTECT, BUG_M11_MPROTECT, BUG_P17
from cy.base.cpu cimport cpu, delay_point
from cy.base.entry cimport PT_RW, pte_present, pte_write
from cy.base.geometry cimport PAGE_SHIFT
from cy.core.vma_modify cimport vma_merge, vma_split_edges
from cy.mm.batch cimport flush_tlb_batched_pending
from cy.mm.cursor cimport cursor_begin, cursor_end, cursor_unlock
from cy.mm.gather cimport mmu_gather, tlb_finish_mmu, tlb_flush_range_add, tlb_gather_mmu
from cy.mm.map cimport ptep_get
from cy.mm.mmu_notifier cimport mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from cy.mm.types cimport INTENT_PROTECT, cursor, mm, vma
from cy.mm.vma cimport find_vma, vm_end, vm_start, vma_lookup
from cy.mm.vma_lock cimport mmap_write_lock, mmap_write_unlock, vma_end_write_all, vma_start_write
from cy.sync.seqcount cimport seq_write_begin

# Pages [first, last). Context: no lock; may sleep.
# Returns 0; -ENOMEM if a part has no VMA or a split finds no room: what lies before it is done all the same.
cdef inline int do_mprotect(cpu *c, mm *m, uint64_t first, uint64_t last, uint32_t writable) noexcept nogil:
    cdef mmu_gather tlb
    cdef int rc
    if first == last:
        return 0
    if first > last:
        return -ENOMEM
    mmap_write_lock(c, m)
    tlb_gather_mmu(&tlb, c, m)
    rc = _protect_vmas(&tlb, first, last if last < m.end_page else m.end_page, writable)
    tlb_finish_mmu(&tlb)
    mmap_write_unlock(c, m)
    return rc if last <= m.end_page else -ENOMEM

cdef inline int _protect_vmas(mmu_gather *tlb, uint64_t first, uint64_t last, uint32_t writable) noexcept nogil:
    cdef uint64_t at = first << PAGE_SHIFT, end = last << PAGE_SHIFT, upto
    cdef vma *v
    cdef int rc
    while first < last and at < end:
        v = find_vma(tlb.cpu, tlb.mm, at)
        if v == NULL or vm_start(v) > at:
            return -ENOMEM
        upto = vm_end(v) if vm_end(v) < end else end
        rc = mprotect_fixup(tlb, v, at, upto, writable)
        if rc != 0:
            return rc
        at = upto
    return 0

# [start, end) lies in `v`. Context: mmap_lock for writing. Returns 0 or -ENOMEM.
cdef inline int mprotect_fixup(mmu_gather *tlb, vma *v, uint64_t start, uint64_t end, uint32_t writable) noexcept nogil:
    cdef cpu *c = tlb.cpu
    cdef mm *m = tlb.mm
    cdef vma *merged
    if READ_ONCE32(&v.writable) == writable:
        return 0
    merged = vma_merge(c, m, start, end, writable, v)
    if merged == NULL:
        if vma_split_edges(c, m, start, end) != 0:
            return -ENOMEM
        merged = vma_lookup(c, m, start)
    vma_start_write(c, m, merged)
    if BUG(m.bugs, BUG_P17):
        # The store that unlocks the VMA overtakes the one of its flags.
        vma_end_write_all(c, m)
        delay_point(c)
        WRITE_ONCE32(&merged.writable, writable)
        seq_write_begin(&m.mm_lock_seq)
    WRITE_ONCE32(&merged.writable, writable)
    if not writable:
        _change_protection(tlb, merged, start, end)
    return 0

# Take the write bit from the entries of [start, end). Context: mmap_lock for writing, the VMA write-locked.
cdef inline void _change_protection(mmu_gather *tlb, vma *v, uint64_t start, uint64_t end) noexcept nogil:
    cdef cursor cur
    mmu_notifier_invalidate_range_start(tlb.cpu, tlb.mm, start, end)
    cursor_begin(&cur, tlb.cpu, tlb.mm, start, end, INTENT_PROTECT)
    cur.vma = v
    while cur.ops.next(&cur):
        _change_pte_range(&cur, tlb)
        cursor_unlock(&cur)
        delay_point(tlb.cpu)
    cursor_end(&cur)
    mmu_notifier_invalidate_range_end(tlb.cpu, tlb.mm, start, end)

# Context: the table at cur.addr is locked. Moves cur.addr behind it.
cdef inline void _change_pte_range(cursor *cur, mmu_gather *tlb) noexcept nogil:
    cdef uint64_t *ptep = cur.ptep
    cdef uint64_t addr = cur.addr, pte
    flush_tlb_batched_pending(cur.cpu, cur.mm)      # what reclaim cleared, and this finds none
    while addr != cur.table_end:
        pte = ptep_get(cur.cpu, cur.mm, cur.table, ptep)
        if pte_present(pte) and pte_write(pte):
            # ptep_modify_prot_start and _commit: an exchange, because hardware may set A or D at this moment. Whoever finds
            # none in between faults, and waits for the VMA.
            if not BUG(cur.mm.bugs, BUG_M11_MPROTECT):
                pte = xchg(ptep, 0)
            else:
                delay_point(cur.cpu)
            # [PT-009] pairs with: the hardware walk. [PT-021] pairs with: the flush that follows.
            smp_store_release(ptep, pte & ~PT_RW)
            if not BUG(cur.mm.bugs, BUG_M10_MPROTECT):
                tlb_flush_range_add(tlb, addr, addr + ((<uint64_t>1) << PAGE_SHIFT))
        ptep += 1
        addr += (<uint64_t>1) << PAGE_SHIFT
    cur.addr = addr
