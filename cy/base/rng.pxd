# One random stream per cpu: xorshift64*, seeded through splitmix64. Streams of different cpus of
# one seed are unrelated. Source: Vigna, "An experimental exploration of Marsaglia's xorshift
# generators, scrambled", ACM TOMS 42 (2016).
from libc.stdint cimport uint32_t, uint64_t

cdef inline uint64_t splitmix64(uint64_t x) noexcept nogil:
    x += <uint64_t>0x9E3779B97F4A7C15ULL
    x = (x ^ (x >> 30)) * <uint64_t>0xBF58476D1CE4E5B9ULL
    x = (x ^ (x >> 27)) * <uint64_t>0x94D049BB133111EBULL
    return x ^ (x >> 31)

cdef inline void rng_seed(uint64_t *state, uint64_t seed, uint32_t stream) noexcept nogil:
    state[0] = splitmix64(seed ^ splitmix64(<uint64_t>stream + 1)) | 1

cdef inline uint64_t rng_next(uint64_t *state) noexcept nogil:
    cdef uint64_t x = state[0]
    x ^= x >> 12
    x ^= x << 25
    x ^= x >> 27
    state[0] = x
    return x * <uint64_t>0x2545F4914F6CDD1DULL

# A number in [0, n), n >= 1; bias below n / 2^32.
cdef inline uint32_t rng_below(uint64_t *state, uint32_t n) noexcept nogil:
    return <uint32_t>(((rng_next(state) >> 32) * n) >> 32)

# True once in `n` on average; never if n is 0.
cdef inline bint rng_one_in(uint64_t *state, uint32_t n) noexcept nogil:
    return n != 0 and rng_below(state, n) == 0
