# Sets of states of a page: an array and a hash table over it.
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp
from cy.history.types cimport MAX_STALE, config, config_set

cdef enum:
    SET_FIRST = 64          # items at the start; a power of two

cdef inline void configs_clear(config_set *s) noexcept nogil:
    s.n = 0
    s.epoch += 1
    if s.epoch == 0 and s.table != NULL:
        # Old numbers would count again.
        free(s.table)
        s.table = NULL

# Returns 1 if the state is new, 0 if it was there, -1 without memory.
cdef inline int configs_add(config_set *s, const config *c) noexcept nogil:
    cdef uint64_t h
    if (s.table == NULL or s.n == s.cap) and not _grow(s):
        return -1
    h = _hash(c) & s.mask
    while s.table[h] >> 32 == s.epoch:
        if memcmp(&s.items[<uint32_t>s.table[h]], c, sizeof(config)) == 0:
            return 0
        h = (h + 1) & s.mask
    s.table[h] = (<uint64_t>s.epoch << 32) | s.n
    s.items[s.n] = c[0]
    s.n += 1
    return 1

cdef inline uint64_t _hash(const config *c) noexcept nogil:
    cdef uint64_t h = c.done * <uint64_t>0x9E3779B97F4A7C15ULL
    cdef uint32_t i
    h = (h ^ c.zero_until ^ (h >> 29)) * <uint64_t>0xD6E8FEB86659FD93ULL
    h = (h ^ c.write_until ^ (h >> 29)) * <uint64_t>0xD6E8FEB86659FD93ULL
    h = (h ^ c.freed ^ (h >> 29)) * <uint64_t>0x9E3779B97F4A7C15ULL
    h = (h ^ (<uint64_t>c.entry << 8 | c.map) ^ (h >> 29)) * <uint64_t>0x9E3779B97F4A7C15ULL
    for i in range(MAX_STALE):
        h = (h ^ c.stale[i]) * <uint64_t>0xD6E8FEB86659FD93ULL
    return h >> 32

cdef inline bint _grow(config_set *s) noexcept nogil:
    cdef uint64_t cap = s.cap * 2 if s.cap else SET_FIRST, i, h
    cdef config *items = <config *>realloc(s.items, cap * sizeof(config))
    cdef uint64_t *table
    if items == NULL:
        return False
    s.items = items
    s.cap = cap
    table = <uint64_t *>calloc(cap * 2, sizeof(uint64_t))
    if table == NULL:
        return False
    free(s.table)
    s.table = table
    s.mask = cap * 2 - 1
    s.epoch = 1
    for i in range(s.n):
        h = _hash(&s.items[i]) & s.mask
        while s.table[h] != 0:
            h = (h + 1) & s.mask
        s.table[h] = (<uint64_t>1 << 32) | i
    return True
