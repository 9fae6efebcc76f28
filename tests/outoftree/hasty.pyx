"""Reclaim `hasty`, which is wrong: it unlinks a table that looked empty, without the table's lock."""
from libc.stdint cimport uint64_t
from cy.base.cpu cimport delay_point
from cy.core.table_empty cimport pmd_clear_table, table_looks_empty
from cy.mm.map cimport pte_offset_map, pte_unmap
from cy.mm.types cimport DETACH_SCAN, cursor, mm, ptdesc, reclaim_ops
from cy.sync.lockclass cimport LOCK_PML
from cy.sync.spinlock cimport spin_lock, spin_unlock

include "cy/face/policy.pxi"

cdef int hasty_emptied(cursor *cur) noexcept nogil:
    cdef uint64_t pmdval
    cdef ptdesc *table
    spin_lock(cur.cpu, &cur.pmd_table.lock, LOCK_PML)
    table = pte_offset_map(cur.cpu, cur.mm, cur.pmdp, &pmdval)
    if table != NULL:
        if table_looks_empty(cur.cpu, cur.mm, table, DETACH_SCAN):
            delay_point(cur.cpu)            # somebody may fill it now
            pmd_clear_table(cur.cpu, cur.mm, cur.pmdp, table)
            cur.detached = table
        pte_unmap(cur.cpu, cur.mm)
    spin_unlock(cur.cpu, &cur.pmd_table.lock)
    return cur.detached != NULL

cdef void hasty_fill(mm *m, reclaim_ops *ops) noexcept nogil:
    ops.emptied = hasty_emptied

policy = policy_capsule(NULL, hasty_fill)
