# Reclaim `sync`: free a pte_table that one DONTNEED emptied. Seed step 1, Linux 6.14 and later.
#
# Fast: still under the ptl of the one pass that emptied it, pml by trylock. Slow: the ptl was dropped
# midway or the trylock failed, so both locks are taken in order and every entry is looked at.
# Source: mm/pt_reclaim.c (6.14, 6.18), mm/memory.c zap_pte_range.
# Registered in cy/reclaim/registry.pxd.
from cy.base.cpu cimport count
from cy.base.shm cimport C_FAST_DETACH, C_SLOW_DETACH
from cy.mm.types cimport DETACH_SCAN, DETACH_TRY, cursor, reclaim_ops

cdef inline int sync_emptied_locked(cursor *cur) noexcept nogil:
    if not cur.ops.detach(cur, DETACH_TRY):
        return 0
    count(cur.cpu, C_FAST_DETACH)
    return 1

cdef inline int sync_emptied(cursor *cur) noexcept nogil:
    if not cur.ops.detach(cur, DETACH_SCAN):
        return 0
    count(cur.cpu, C_SLOW_DETACH)
    return 1

cdef inline void reclaim_sync(reclaim_ops *ops) noexcept nogil:
    ops.emptied_locked = sync_emptied_locked
    ops.emptied = sync_emptied
