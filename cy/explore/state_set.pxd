# Which states have been seen, by their hash, and who slept there: open addressing in a table that grows.
#
# Two states with one hash count as one; with 64 bits that is rarer than one in 10^5 at 10^7 states.
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef struct seen_state:
    uint64_t hash               # 0: free
    uint64_t slept

cdef struct state_set:
    seen_state *slots
    uint64_t mask
    uint64_t nr

# Returns 0, or -1 if there is no memory.
cdef inline int state_set_init(state_set *s) noexcept nogil:
    s.mask = (1 << 14) - 1
    s.slots = <seen_state *>calloc(s.mask + 1, sizeof(seen_state))
    return 0 if s.slots != NULL else -1

cdef inline void state_set_fini(state_set *s) noexcept nogil:
    free(s.slots)

cdef inline void state_set_clear(state_set *s) noexcept nogil:
    memset(s.slots, 0, (s.mask + 1) * sizeof(seen_state))
    s.nr = 0

# The slot of a state; its hash is 0 if it has none yet. Context: state_set_room.
cdef inline seen_state *state_set_find(state_set *s, uint64_t hash) noexcept nogil:
    cdef uint64_t i = (hash ^ (hash >> 32)) & s.mask
    while s.slots[i].hash != 0 and s.slots[i].hash != hash:
        i = (i + 1) & s.mask
    return &s.slots[i]

# Make room for `n` more. Slots move. Returns 0, or -1 if there is no memory.
cdef inline int state_set_room(state_set *s, uint64_t n) noexcept nogil:
    cdef state_set larger
    cdef uint64_t i
    if s.nr + n <= s.mask - (s.mask >> 2):
        return 0
    larger.mask = 2 * s.mask + 1
    while s.nr + n > larger.mask - (larger.mask >> 2):
        larger.mask = 2 * larger.mask + 1
    larger.nr = s.nr
    larger.slots = <seen_state *>calloc(larger.mask + 1, sizeof(seen_state))
    if larger.slots == NULL:
        return -1
    for i in range(s.mask + 1):
        if s.slots[i].hash != 0:
            state_set_find(&larger, s.slots[i].hash)[0] = s.slots[i]
    free(s.slots)
    s[0] = larger
    return 0
