"""Reclaim `lazy`: as `sync`, but without its fast path. What is the trylock under the table's lock worth?"""
from cy.base.cpu cimport count
from cy.base.shm cimport C_SLOW_DETACH
from cy.mm.types cimport DETACH_SCAN, cursor, mm, reclaim_ops

include "cy/face/policy.pxi"

# A zap has emptied a table and dropped its lock. Both locks in order, and every entry again: others may have come.
cdef int lazy_emptied(cursor *cur) noexcept nogil:
    if not cur.ops.detach(cur, DETACH_SCAN):
        return 0
    count(cur.cpu, C_SLOW_DETACH)
    return 1

cdef void lazy_fill(mm *m, reclaim_ops *ops) noexcept nogil:
    ops.emptied = lazy_emptied

policy = policy_capsule(NULL, lazy_fill)
