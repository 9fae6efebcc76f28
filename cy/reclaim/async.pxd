# Reclaim `async`: free the empty pte_tables that step 1 leaves behind. Seed step 2; no kernel has it.
#
# Whoever may leave an empty table behind marks the VMA and puts its mm on a list, once. Scans take mms from the list: a scanner
# thread, or memory pressure. What leaves tables behind:
#   FREE, and the discard that follows                       guard_remove
#   DONTNEED of a part of a table, or of all of it in parts  DONTNEED that lost the race for the locks
#   DONTNEED of a table that two VMAs share                  munmap of one of two VMAs that share a table
# Where VMAs are not locked (mm.lockless) the mark is the mm's, and a scan looks at all of its tables.
# Guarantee: an empty table of a marked VMA goes, unless it is filled again first; what is not empty stays (I50).
# [PT-061] pairs with: async_left_behind and _take_mark. The one has cleared entries and looks at the mark, the other clears the
# mark and looks at entries, with a full barrier between: if the mark that was seen is taken, so are the cleared entries.
# Source: the mail's second step; the list and the lock that is only tried are khugepaged's (mm/khugepaged.c).
# Registered in cy/reclaim/registry.pxd. Not modelled: filters for hugetlb and userfaultfd; how much is worth a scan.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE32, cmpxchg32, smp_mb
from cy.base.cpu cimport count, cpu
from cy.base.geometry cimport PAGE_SHIFT, PTE_LEVEL, geo_table_span
from cy.base.shm cimport C_SCAN_BUSY, C_VMAS_MARKED
from cy.core.scan cimport scan_range
from cy.mm.cursor cimport cursor_begin, cursor_end
from cy.mm.gather cimport mmu_gather, tlb_finish_mmu, tlb_gather_mmu
from cy.mm.mm_list cimport mm_list_add
from cy.mm.types cimport DETACH_SCAN, INTENT_SCAN, cursor, mm, reclaim_ops, scan_report, vma
from cy.mm.vma cimport find_vma, vm_end, vm_start

cdef inline void async_left_behind(cpu *c, mm *m, vma *v) noexcept nogil:
    cdef uint32_t *mark = &m.marked if m.lockless else &v.marked
    smp_mb()                                        # [PT-061] pairs with: _take_mark.
    if READ_ONCE32(mark):
        return                                      # whoever set it sees to the list
    if cmpxchg32(mark, 0, 1) == 0:
        count(c, C_VMAS_MARKED)
        mm_list_add(c, m)
        c.task_work = m.reclaim.task_work

# Was it set? It no longer is.
cdef inline bint _take_mark(uint32_t *mark) noexcept nogil:
    # [PT-061] pairs with: async_left_behind.
    return READ_ONCE32(mark) != 0 and cmpxchg32(mark, 1, 0) == 1

# One pass goes on where the last one had to stop, and takes each VMA whose start it passes and that is marked. It ends
# at the end of the mm; a mark that was set behind it is for the next pass.
cdef inline bint async_scan(cpu *c, mm *m, scan_report *r) noexcept nogil:
    cdef cursor cur
    cdef mmu_gather tlb
    cdef bint again
    if cursor_begin(&cur, c, m, m.scan_at, m.end_page << PAGE_SHIFT, INTENT_SCAN) != 0:
        count(c, C_SCAN_BUSY)
        return True
    tlb_gather_mmu(&tlb, c, m)
    if _scan_mm(&cur, &tlb, r) if m.lockless else _scan_vmas(&cur, &tlb, r):
        m.scan_at = m.first_page << PAGE_SHIFT
        m.scan_until = m.scan_at
        again = _any_mark(c, m)
    else:
        again = True
    tlb_finish_mmu(&tlb)
    cursor_end(&cur)
    return again

cdef inline bint _scan_mm(cursor *cur, mmu_gather *tlb, scan_report *r) noexcept nogil:
    cdef mm *m = cur.mm
    if m.scan_at == m.first_page << PAGE_SHIFT:
        _take_mark(&m.marked)
    if scan_range(cur, tlb, m.scan_at, m.end_page << PAGE_SHIFT, r):
        return True
    m.scan_at = cur.addr
    return False

cdef inline bint _scan_vmas(cursor *cur, mmu_gather *tlb, scan_report *r) noexcept nogil:
    cdef mm *m = cur.mm
    cdef vma *v = cur.vma
    cdef uint64_t start, end
    while v != NULL:
        start, end = vm_start(v), vm_end(v)
        if start < m.scan_at or not _take_mark(&v.marked):
            start = m.scan_at if start < m.scan_at else start
            end = m.scan_until if m.scan_until < end else end
        cur.vma = v
        if start < end and not _scan_vma(cur, tlb, start, end, r):
            m.scan_at = cur.addr
            m.scan_until = end
            return False
        v = find_vma(cur.cpu, m, vm_end(v))
    return True

# With the tables at the edges, which others may share. No munmap is at them: it takes only what lies between VMAs.
cdef inline bint _scan_vma(cursor *cur, mmu_gather *tlb, uint64_t start, uint64_t end, scan_report *r) noexcept nogil:
    cdef uint64_t span = geo_table_span(&cur.mm.geo, PTE_LEVEL)
    return scan_range(cur, tlb, start & ~(span - 1), (end + span - 1) & ~(span - 1), r)

# Context: between begin and end of a cursor.
cdef inline bint _any_mark(cpu *c, mm *m) noexcept nogil:
    cdef vma *v
    if m.lockless:
        return READ_ONCE32(&m.marked) != 0
    v = find_vma(c, m, m.first_page << PAGE_SHIFT)
    while v != NULL:
        if READ_ONCE32(&v.marked):
            return True
        v = find_vma(c, m, vm_end(v))
    return False

cdef inline void reclaim_async(reclaim_ops *ops) noexcept nogil:
    ops.left_behind = async_left_behind
    ops.scan = async_scan
    ops.scan_mode = DETACH_SCAN
