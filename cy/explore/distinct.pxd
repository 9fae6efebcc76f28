# How many different hashes were seen: open addressing in a table of fixed size.
#
# At three quarters full it is saturated: it stops counting, and the count is then a lower bound.
# Two schedules with one hash count as one; with 64 bits that is rarer than one in 10^7 at 10^6 hashes.
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef struct distinct_set:
    uint64_t *slots             # 0: free
    uint64_t mask
    uint64_t count
    bint saturated

# Room for `expected` hashes, but not less than 2^10 slots and not more than 2^20.
# Returns 0, or -1 if there is no memory.
cdef inline int distinct_init(distinct_set *d, uint64_t expected) noexcept nogil:
    cdef uint64_t n = 1 << 10
    while n < 1 << 20 and n < 2 * expected:
        n <<= 1
    d.slots = <uint64_t *>calloc(n, sizeof(uint64_t))
    d.mask = n - 1
    d.count = 0
    d.saturated = False
    return 0 if d.slots != NULL else -1

cdef inline void distinct_fini(distinct_set *d) noexcept nogil:
    free(d.slots)
    d.slots = NULL

cdef inline void distinct_clear(distinct_set *d) noexcept nogil:
    memset(d.slots, 0, (d.mask + 1) * sizeof(uint64_t))
    d.count = 0
    d.saturated = False

cdef inline void distinct_add(distinct_set *d, uint64_t hash) noexcept nogil:
    cdef uint64_t i
    if hash == 0:
        hash = 1
    i = (hash ^ (hash >> 32)) & d.mask
    while d.slots[i] != 0:
        if d.slots[i] == hash:
            return
        i = (i + 1) & d.mask
    if d.count >= d.mask - (d.mask >> 2):
        d.saturated = True
        return
    d.slots[i] = hash
    d.count += 1
