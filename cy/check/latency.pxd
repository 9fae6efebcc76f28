# How long operations take: a histogram for each worker and verb, in clock ticks, filled from the stamps of the record.
#
# Buckets are log-linear, as HdrHistogram's with two significant digits: up to 256 each value has its own, from there on
# each power of two has 128, so that a bucket is at most 1/128 of its values wide. Constant time: a count of zeros, two
# shifts and one store, to memory that only this worker writes. Off, it costs one branch that always goes the same way.
#
# Not modelled: what a worker waits for between two operations (backpressure of grace periods, a full ring).
# Source: HdrHistogram, AbstractHistogram.java: countsArrayIndex().
from libc.stdint cimport uint32_t, uint64_t

cdef extern from *:
    """
    #define latency_clz(x) ((uint32_t)__builtin_clzll(x))
    """
    uint32_t latency_clz(uint64_t x) noexcept nogil

cdef enum:
    LATENCY_BITS = 7            # log2 of the buckets of a power of two
    LATENCY_BUCKETS = 4352      # (40 - LATENCY_BITS + 1) << LATENCY_BITS: values below 2 ** 40, which is minutes

cdef inline uint32_t latency_bucket(uint64_t ticks) noexcept nogil:
    cdef uint32_t shift
    if ticks >> 40:
        return LATENCY_BUCKETS - 1
    shift = 63 - LATENCY_BITS - latency_clz(ticks | 0xff)
    return (shift << LATENCY_BITS) + <uint32_t>(ticks >> shift)

# Count one operation that lasted from stamp t0 to stamp t1. Context: own cpu; `counts`: NR_VERBS rows of LATENCY_BUCKETS.
cdef inline void latency_count(uint64_t *counts, uint32_t verb, uint64_t t0, uint64_t t1) noexcept nogil:
    counts[<uint64_t>verb * LATENCY_BUCKETS + latency_bucket(t1 - t0 if t1 > t0 else 0)] += 1
