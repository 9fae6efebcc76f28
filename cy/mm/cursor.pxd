# Cursor: how operations reach tables. The protection policy owns the locks behind it.
#
# Guarantee: between begin and end the VMA at cur.addr stays as the cursor says, or next and lock find out (vma_stale); no
# operation relies on an upper table by itself; while a table is locked (next or lock returned 1, until
# cursor_unlock) it is attached and nobody else stores into it but hardware A and D bits. At most one indirect call per
# table, none per entry. An operation never takes a table lock itself.
#
#     begin -> { next | lock -> (entries) -> [detach TRY] -> cursor_unlock -> [detach SCAN] -> [sleep] } -> end
#
# The functions are described in cy/mm/types.pxd (struct protect_ops).
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE, READ_ONCE32, smp_load_acquire
from cy.base.cpu cimport RCU_TABLES, cpu, delay_point
from cy.base.geometry cimport PMD_LEVEL, PTE_LEVEL, geo_addr_end
from cy.mm.map cimport entry_offset, pte_index, pte_unmap, ptep_get_lockless
from cy.mm.table cimport table_of
from cy.mm.types cimport (
    HELD_RCU, HELD_TABLE, cursor, mm, ptdesc, vma)
from cy.sync.rcu cimport rcu_read_lock, rcu_read_unlock
from cy.sync.spinlock cimport spin_unlock

cdef enum:
    NOWHERE = 1                 # no address that a cursor stands at

cdef inline int cursor_begin(cursor *cur, cpu *c, mm *m, uint64_t start, uint64_t end, uint32_t intent) noexcept nogil:
    cur.mm = m
    cur.cpu = c
    cur.ops = m.protect
    cur.vma = NULL
    cur.vma_stale = False
    cur.addr = start
    cur.end = end
    cur.intent = intent
    cur.held = 0
    cur.table = NULL
    cur.detached = NULL
    cur.peeked = NULL
    cur.found_addr = NOWHERE
    cur.installed = 0
    cur.sleep_one_in = 0
    return cur.ops.begin(cur, start, end, intent)

cdef inline void cursor_end(cursor *cur) noexcept nogil:
    cur.ops.end(cur)

# A policy found `v`, or NULL, under a lock that keeps it as it is.
cdef inline void cursor_set_vma(cursor *cur, vma *v) noexcept nogil:
    cur.vma = v
    if v != NULL:
        cur.vma_start = READ_ONCE(&v.vm_start)
        cur.vma_end = READ_ONCE(&v.vm_end)
        cur.vma_writable = READ_ONCE32(&v.writable)

# Go on to the part of [cur.addr, end) that the VMA at or behind cur.addr covers: sets addr and end of the cursor.
# False: there is none left. Context: the VMA is the one that begin or next_vma found for cur.addr.
cdef inline bint cursor_enter_vma(cursor *cur, uint64_t end) noexcept nogil:
    if cur.addr >= end or cur.vma == NULL or cur.vma_start >= end:
        return False
    if cur.addr < cur.vma_start:
        cur.addr = cur.vma_start
    cur.end = cur.vma_end if cur.vma_end < end else end
    return True

# Done with what cursor_enter_vma gave, or given up on it because the VMA has changed: [cur.addr, end) is left.
cdef inline void cursor_next_vma(cursor *cur, uint64_t end) noexcept nogil:
    if cur.addr < end:
        cur.ops.next_vma(cur)

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
# an address: what it went through stays until the end of the cursor. Context: between begin and end; if nothing keeps
# upper tables (mm.lockless), in the RCU section alone.
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
    cdef ptdesc *table = NULL
    cdef uint64_t *pmdp
    rcu_read_lock(cur.cpu, &cur.mm.rcu[RCU_TABLES])
    pmdp = cursor_pmd(cur, &pmd_table)
    if pmdp != NULL:
        table = table_of(cur.cpu, cur.mm, smp_load_acquire(pmdp))     # [PT-005] pairs with: pmd_install.
        delay_point(cur.cpu)
        if table != NULL:
            pte[0] = ptep_get_lockless(cur.cpu, cur.mm, table, pte_index(cur.mm, table, cur.addr))
    if cur.mm.lockless:
        cur.found_addr = NOWHERE            # nothing keeps the upper tables but this section
    pte_unmap(cur.cpu, cur.mm)
    cur.peeked = table
    return table != NULL
