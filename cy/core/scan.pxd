# Tables that operations leave behind empty: telling so, and scanning for them.
#
# Whether a table is empty is seen twice: without a lock, which rules most tables out, and under the locks of the
# detach, which decides (I50). What the table belonged to when it was marked does not matter: only emptiness does, so a
# table that two VMAs share goes too.
# Source: the asynchronous series of 2024 (mm/pt_reclaim.c of its third version), mm/khugepaged.c retract_page_tables.
from libc.stdint cimport uint64_t
from cy.base.cpu cimport RCU_TABLES, count, cpu, delay_point
from cy.base.geometry cimport PTE_LEVEL, geo_addr_end
from cy.base.shm cimport C_SCANNED, C_SCAN_EMPTY
from cy.core.table_empty cimport table_looks_empty
from cy.core.zap cimport tables_free_tlb
from cy.mm.gather cimport mmu_gather
from cy.mm.map cimport pmd_offset_next, pte_offset_map, pte_unmap
from cy.mm.types cimport cursor, mm, ptdesc, scan_report, vma
from cy.sync.rcu cimport rcu_read_lock, rcu_read_unlock

# An operation leaves tables of `v` behind that may be empty, or pages that memory pressure may take. Context: the mm is in
# use, the VMA is stable; at most a table is locked.
cdef inline void left_behind(cpu *c, mm *m, vma *v) noexcept nogil:
    if m.reclaim != NULL and m.reclaim.left_behind != NULL:
        m.reclaim.left_behind(c, m, v)

# The zero page was mapped in `v`. Context: as left_behind.
cdef inline void zero_mapped(cpu *c, mm *m, vma *v) noexcept nogil:
    if m.reclaim != NULL and m.reclaim.zero_mapped != NULL:
        m.reclaim.zero_mapped(c, m, v)

# Free the empty pte_tables that map a part of [start, end). Returns False if r.left was not enough: cur.addr is the
# first address that was not looked at. Context: between begin and end of the cursor, nothing locked; every table of the range
# maps a part of a VMA of this mm.
cdef inline bint scan_range(cursor *cur, mmu_gather *tlb, uint64_t start, uint64_t end, scan_report *r) noexcept nogil:
    cdef mm *m = cur.mm
    cur.addr = start
    cur.end = end
    while _next_table(cur):
        if r.left == 0:
            return False
        r.left -= 1
        if r.start == r.end:
            r.start = cur.addr
        r.end = geo_addr_end(&m.geo, PTE_LEVEL, cur.addr, end)
        count(cur.cpu, C_SCANNED)
        if _looks_empty(cur):
            count(cur.cpu, C_SCAN_EMPTY)
            delay_point(cur.cpu)
            if cur.ops.detach(cur, m.reclaim.scan_mode):
                tables_free_tlb(cur, tlb)
        cur.addr = r.end
        cur.ops.sleep(cur)
    return True

# Move to the next pmd entry of the range that refers to a table. A hint: nothing is locked.
cdef inline bint _next_table(cursor *cur) noexcept nogil:
    cdef cpu *c = cur.cpu
    cdef mm *m = cur.mm
    rcu_read_lock(c, &m.rcu[RCU_TABLES])
    while cur.addr < cur.end:
        cur.pmdp = pmd_offset_next(c, m, &cur.addr, cur.end, &cur.pmd_table)
        if cur.pmdp == NULL:
            break
        if pte_offset_map(c, m, cur.pmdp, &cur.pmdval) != NULL:
            pte_unmap(c, m)
            rcu_read_unlock(c, &m.rcu[RCU_TABLES])
            return True
        cur.addr = geo_addr_end(&m.geo, PTE_LEVEL, cur.addr, cur.end)
    rcu_read_unlock(c, &m.rcu[RCU_TABLES])
    return False

cdef inline bint _looks_empty(cursor *cur) noexcept nogil:
    cdef uint64_t pmdval
    cdef bint empty
    cdef ptdesc *table = pte_offset_map(cur.cpu, cur.mm, cur.pmdp, &pmdval)
    if table == NULL:
        return False
    empty = table_looks_empty(cur.cpu, cur.mm, table, cur.mm.reclaim.scan_mode)
    pte_unmap(cur.cpu, cur.mm)
    return empty
