# Protection policies by number: one line each. The names are in ptstress/schemes.py.
from libc.stdint cimport uint32_t
from cy.mm.types cimport mm, protect_ops
from cy.protect.covering cimport protect_covering
from cy.protect.mmap_lock cimport protect_mmap_lock
from cy.protect.rcu cimport protect_rcu
from cy.protect.vma_lock cimport protect_vma_lock

cdef enum:
    PROTECT_MMAP_LOCK = 0
    PROTECT_VMA_LOCK = 1
    PROTECT_COVERING = 2
    PROTECT_RCU = 3

# Returns 0, or -1 for an unknown number.
cdef inline int protect_fill(mm *m, protect_ops *ops, uint32_t which) noexcept nogil:
    m.lockless = which == PROTECT_RCU
    if which == PROTECT_MMAP_LOCK:
        protect_mmap_lock(ops)
    elif which == PROTECT_VMA_LOCK:
        protect_vma_lock(ops)
    elif which == PROTECT_COVERING:
        protect_covering(ops)
    elif which == PROTECT_RCU:
        protect_rcu(ops)
    else:
        return -1
    return 0
