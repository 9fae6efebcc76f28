# Reclaim policies by number: one line each. The names are in ptstress/schemes.py.
# `never` has no file: a policy that is interested in no event is no policy.
from libc.stdint cimport uint32_t
from cy.mm.types cimport mm, reclaim_ops
from cy.reclaim.sync cimport reclaim_sync

cdef enum:
    RECLAIM_NEVER = 0
    RECLAIM_SYNC = 1

# Returns 0, or -1 for an unknown number.
cdef inline int reclaim_fill(mm *m, reclaim_ops *ops, uint32_t which) noexcept nogil:
    m.reclaim = ops
    if which == RECLAIM_NEVER:
        m.reclaim = NULL
    elif which == RECLAIM_SYNC:
        reclaim_sync(ops)
    else:
        return -1
    return 0
