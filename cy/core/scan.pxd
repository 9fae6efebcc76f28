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
# use; the VMA is stable, or VMAs are not locked at all (mm.lockless); at most a table is locked.
cdef inline void left_behind(cpu *c, mm *m, vma *v) noexcept nogil:
    if m.reclaim != NULL and m.reclaim.left_behind != NULL:
        m.reclaim.left_behind(c, m, v)

# The zero page was mapped in `v`. Context: as left_behind.
cdef inline void zero_mapped(cpu *c, mm *m, vma *v) noexcept nogil:
    if m.reclaim != NULL and m.reclaim.zero_mapped != NULL:
        m.reclaim.zero_mapped(c, m, v)

# Free the empty pte_tables that map a part of [start, end). Returns False if r.left was not enough: cur.addr is the
# first address that was not looked at. Context: between begin and end of the cursor, nothing locked. Where VMAs are locked every
# table of the range maps a part of one.
cdef inline bint scan_range(cursor *cur, mmu_gather *tlb, uint64_t start, uint64_t end, scan_report *r) noexcept nogil:
    cur.addr = start
    cur.end = end
    while cur.addr < end:
        if _next_table_is_empty(cur, r):
            count(cur.cpu, C_SCAN_EMPTY)
            delay_point(cur.cpu)
            if cur.ops.detach(cur, cur.mm.reclaim.scan_mode):
                tables_free_tlb(cur, tlb)
        elif cur.addr < end and r.left == 0:
            return False
        cur.addr = cur.table_end
        cur.ops.sleep(cur)
    return True

# Look at the next table of the range: it maps [cur.addr, cur.table_end). A hint: nothing is locked, and behind the read section
# only a policy that holds upper tables may use cur.pmdp. False: not empty; or there is none, and addr and table_end
# are the end; or r.left is 0, and nothing was looked at.
cdef inline bint _next_table_is_empty(cursor *cur, scan_report *r) noexcept nogil:
    cdef cpu *c = cur.cpu
    cdef mm *m = cur.mm
    cdef ptdesc *table = NULL
    cdef bint empty = False
    rcu_read_lock(c, &m.rcu[RCU_TABLES])
    cur.table_end = cur.addr
    while table == NULL and cur.table_end < cur.end:
        cur.addr = cur.table_end
        cur.pmdp = pmd_offset_next(c, m, &cur.addr, cur.end, &cur.pmd_table)
        cur.table_end = geo_addr_end(&m.geo, PTE_LEVEL, cur.addr, cur.end) if cur.pmdp != NULL else cur.end
        if cur.pmdp != NULL:
            table = pte_offset_map(c, m, cur.pmdp, &cur.pmdval)
    if table == NULL:
        cur.addr = cur.end
    else:
        if r.left != 0:
            _note(cur, r)
            empty = table_looks_empty(c, m, table, m.reclaim.scan_mode)
        pte_unmap(c, m)
    rcu_read_unlock(c, &m.rcu[RCU_TABLES])
    return empty

cdef inline void _note(cursor *cur, scan_report *r) noexcept nogil:
    count(cur.cpu, C_SCANNED)
    r.left -= 1
    if r.start == r.end:
        r.start = cur.addr
    r.end = cur.table_end
