# Reclaim policies: one bit and one line each. The names are in ptstress/schemes.py.
#
# A scheme has any set of them, and each fills in the events that it wants. `never` is the empty set.
from libc.stdint cimport uint32_t
from libc.string cimport memset
from cy.mm.types cimport mm, reclaim_ops
from cy.reclaim.async cimport reclaim_async
from cy.reclaim.sync cimport reclaim_sync
from cy.reclaim.taskwork cimport reclaim_taskwork
from cy.reclaim.upper cimport reclaim_upper
from cy.reclaim.zero cimport reclaim_zero

cdef enum:
    RECLAIM_SYNC = 1
    RECLAIM_ASYNC = 2
    RECLAIM_UPPER = 16
    RECLAIM_TASKWORK = 4
    RECLAIM_ZERO = 8

cdef inline void reclaim_fill(mm *m, reclaim_ops *ops, uint32_t policies) noexcept nogil:
    memset(ops, 0, sizeof(reclaim_ops))
    m.reclaim = ops if policies else NULL
    if policies & RECLAIM_SYNC:
        reclaim_sync(ops)
    if policies & RECLAIM_ASYNC:
        reclaim_async(ops)
    if policies & RECLAIM_UPPER:
        reclaim_upper(ops)
    if policies & RECLAIM_TASKWORK:
        reclaim_taskwork(ops)
    if policies & RECLAIM_ZERO:              # after those that scan too: it takes more
        reclaim_zero(ops)
