# Cursor: how operations reach tables. The protection policy owns the locks behind it.
#
# Guarantee: between begin and end the VMA at cur.addr is stable and no table above the pte_table goes
# away; while a table is locked (next or lock returned 1, until cursor_unlock) it is attached and
# nobody else stores into it but hardware A and D bits. At most one indirect call per table, none per
# entry. An operation never takes a table lock itself.
#
#     begin -> { next | lock -> (entries) -> [detach TRY] -> cursor_unlock -> [detach SCAN] -> [sleep] } -> end
#
# The functions are described in cy/mm/types.pxd (struct protect_ops).
from libc.stdint cimport uint32_t, uint64_t
from cy.base.cpu cimport RCU_TABLES, cpu
from cy.base.geometry cimport PMD_LEVEL, PTE_LEVEL, geo_addr_end
from cy.mm.map cimport entry_offset, pte_index, pte_offset_map, pte_unmap, ptep_get_lockless
from cy.mm.types cimport (
    HELD_RCU, HELD_TABLE, cursor, mm, ptdesc)
from cy.sync.rcu cimport rcu_read_unlock
from cy.sync.spinlock cimport spin_unlock

cdef enum:
    NOWHERE = 1                 # no address that a cursor stands at

cdef inline int cursor_begin(cursor *cur, cpu *c, mm *m, uint64_t start, uint64_t end, uint32_t intent) noexcept nogil:
    cur.mm = m
    cur.cpu = c
    cur.ops = m.protect
    cur.vma = NULL
    cur.addr = start
    cur.end = end
    cur.intent = intent
    cur.held = 0
    cur.table = NULL
    cur.detached = NULL
    cur.peeked = NULL
    cur.found_addr = NOWHERE
    return cur.ops.begin(cur, start, end, intent)

cdef inline void cursor_end(cursor *cur) noexcept nogil:
    cur.ops.end(cur)

# Leave the locked table. A policy whose lock covers several tables keeps it.
cdef inline void cursor_unlock(cursor *cur) noexcept nogil:
    if cur.held & HELD_TABLE:
        spin_unlock(cur.cpu, &cur.table.lock)
    if cur.held & HELD_RCU:
        rcu_read_unlock(cur.cpu, &cur.mm.rcu[RCU_TABLES])
    cur.held &= ~<uint32_t>(HELD_TABLE | HELD_RCU)
    cur.table = NULL

# A policy found and locked `table` for cur.addr.
cdef inline void cursor_set_table(cursor *cur, ptdesc *table, uint64_t *pmdp, uint64_t pmdval, ptdesc *pmd_table,
                                  uint32_t held) noexcept nogil:
    cur.table = table
    cur.pmdp = pmdp
    cur.pmdval = pmdval
    cur.pmd_table = pmd_table
    cur.ptep = pte_index(cur.mm, table, cur.addr)
    cur.table_end = geo_addr_end(&cur.mm.geo, PTE_LEVEL, cur.addr, cur.end)
    cur.held |= held

# The pmd entry that covers cur.addr, and the table that holds it; NULL if an upper table is missing. The walk is done once for
# an address: what it went through stays until the end of the cursor. Context: between begin and end.
# Source: mm/memory.c __handle_mm_fault, which leaves it in vmf->pmd.
cdef inline uint64_t *cursor_pmd(cursor *cur, ptdesc **pmd_table) noexcept nogil:
    cdef uint32_t missing
    if cur.found_addr != cur.addr:
        cur.found_pmdp = entry_offset(cur.cpu, cur.mm, cur.addr, PMD_LEVEL, &cur.found_table, &missing)
        if cur.found_pmdp == NULL:
            return NULL
        cur.found_addr = cur.addr
    pmd_table[0] = cur.found_table
    return cur.found_pmdp

# The entry at cur.addr, read without a lock: a hint, to be checked again under the lock.
# Returns False if no table maps the address. Context: between begin and end, no table locked.
cdef inline bint cursor_peek(cursor *cur, uint64_t *pte) noexcept nogil:
    cdef ptdesc *pmd_table
    cdef ptdesc *table
    cdef uint64_t pmdval
    cdef uint64_t *pmdp = cursor_pmd(cur, &pmd_table)
    if pmdp == NULL:
        return False
    table = pte_offset_map(cur.cpu, cur.mm, pmdp, &pmdval)
    if table == NULL:
        return False
    pte[0] = ptep_get_lockless(cur.cpu, cur.mm, table, pte_index(cur.mm, table, cur.addr))
    pte_unmap(cur.cpu, cur.mm)
    cur.peeked = table
    return True
