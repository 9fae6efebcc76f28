# Stamps around an operation, ordered against its shared accesses.
#
# stamp_begin: no access of the operation happens before the stamp.
# stamp_end:   every store of the operation is visible before the stamp. Without the full barrier
#              14-52 % of the reads on another cpu were older than a store already "completed".
# Under a controlled scheduler both are logical time.
# Source: Intel SDM 3B 18.17 (invariant TSC); measured cost 16 ns and 24 ns.
from libc.stdint cimport uint64_t
from cy.base.build cimport PT_SCHED
from cy.base.hook cimport pt_hook
from cy.base.weak cimport pt_operation_edge

cdef extern from *:
    """
    #include <time.h>
    #include <sched.h>
    #include <unistd.h>
    #if defined(__x86_64__)
    static inline uint64_t pt_clock_begin(void) {
        uint64_t t = __builtin_ia32_rdtsc();
        __builtin_ia32_lfence();
        return t;
    }
    static inline uint64_t pt_clock_now(void) {
        unsigned aux;
        return __builtin_ia32_rdtscp(&aux);
    }
    static inline uint64_t pt_clock_end(void) {
        unsigned aux; uint32_t w = 0;
        (void)__atomic_exchange_n(&w, 1, __ATOMIC_SEQ_CST);
        return __builtin_ia32_rdtscp(&aux);
    }
    #else
    static inline uint64_t pt_clock_now(void) {
        struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }
    static inline uint64_t pt_clock_begin(void) {
        struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }
    static inline uint64_t pt_clock_end(void) {
        struct timespec t; __atomic_thread_fence(__ATOMIC_SEQ_CST);
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }
    #endif
    static inline uint64_t pt_now_ns(void) {
        struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }
    static inline uint64_t pt_thread_cpu_ns(void) {
        struct timespec t; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }
    /* Logical time is the scheduler's, and orders nothing of what its fibres do: relaxed, so that no race is seen in it. */
    static inline uint64_t pt_logical(const uint64_t *t) { return __atomic_load_n(t, __ATOMIC_RELAXED); }
    static inline uint64_t pt_logical_next(uint64_t *t) {
        uint64_t next = pt_logical(t) + 1;
        __atomic_store_n(t, next, __ATOMIC_RELAXED);
        return next;
    }
    static inline void pt_sleep_us(uint32_t us) { usleep(us); }
    """
    uint64_t pt_clock_begin() noexcept nogil
    uint64_t pt_clock_end() noexcept nogil
    # The same clock as stamps have, behind all that was done before, and ordered with nothing that others do.
    uint64_t stamp_now "pt_clock_now"() noexcept nogil
    uint64_t now_ns "pt_now_ns"() noexcept nogil
    # CPU time of the calling thread: what others on the machine do shows in it only through the caches.
    uint64_t thread_cpu_ns "pt_thread_cpu_ns"() noexcept nogil
    uint64_t pt_logical(const uint64_t *t) noexcept nogil
    uint64_t pt_logical_next(uint64_t *t) noexcept nogil
    void sleep_us "pt_sleep_us"(unsigned int us) noexcept nogil
    int sched_yield() noexcept nogil

# Now, for figures that nothing is decided by: nanoseconds, or logical time, which it leaves where it is. No schedule point.
cdef inline uint64_t figure_ns(const pt_hook *h) noexcept nogil:
    if PT_SCHED and h.clock != NULL:
        return pt_logical(h.clock)
    return now_ns()

# Now, to see how long something lasts. Under a controlled scheduler nothing lasts, so that no fibre has a time in hand that
# another execution would not find.
cdef inline uint64_t lasting_ns(const pt_hook *h) noexcept nogil:
    return 0 if PT_SCHED and h.clock != NULL else now_ns()

cdef inline uint64_t stamp_begin(pt_hook *h) noexcept nogil:
    if PT_SCHED and h.clock != NULL:
        pt_operation_edge(h)
        return pt_logical_next(h.clock)
    return pt_clock_begin()

cdef inline uint64_t stamp_end(pt_hook *h) noexcept nogil:
    if PT_SCHED and h.clock != NULL:
        pt_operation_edge(h)
        return pt_logical_next(h.clock)
    return pt_clock_end()
