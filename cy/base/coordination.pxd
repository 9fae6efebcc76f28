# Coordination of the threads of a run, and with its parent process. No part of the model: these accesses
# make no schedule points and are buffered nowhere.
from libc.stdint cimport uint64_t

cdef extern from *:
    """
    static inline uint64_t pt_acq(uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void pt_rel(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline uint64_t pt_inc(uint64_t *p) { return __atomic_add_fetch(p, 1, __ATOMIC_ACQ_REL); }
    static inline uint64_t pt_dec(uint64_t *p) { return __atomic_sub_fetch(p, 1, __ATOMIC_ACQ_REL); }
    """
    uint64_t pt_acq(uint64_t *p) noexcept nogil
    void pt_rel(uint64_t *p, uint64_t v) noexcept nogil
    uint64_t pt_inc(uint64_t *p) noexcept nogil
    uint64_t pt_dec(uint64_t *p) noexcept nogil
