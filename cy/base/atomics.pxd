# Shared accesses: the only file that knows how an access is made, and the only one that knows
# about schedule points.
#
# Marked accesses, in the kernel's and LKMM's words:
#   READ_ONCE, WRITE_ONCE          relaxed; an intended race on one variable
#   smp_load_acquire               later accesses of this cpu stay behind it
#   smp_store_release              earlier accesses of this cpu stay before it
#   xchg, cmpxchg, atomic_add_return   full barriers, as in the kernel
#   atomic_add_mb                  as atomic_add_return, without its result
#   xchg_acquire                   acquire only: later accesses stay behind it
#   xchg_or_membarrier             as xchg; in some explored executions it orders nothing, and its other half is
#   membarrier_all_cpus            a full barrier on every cpu there: what membarrier() is to who cannot run it
#   atomic_add                     no ordering: a counter
#   smp_mb                         full barrier
# Plain accesses (under a lock, before publication, poison):
#   plain_load, plain_store, plain_zero, plain_fill
#   bare in fast, stress and tsan, so that a race detector sees them. In sched they are schedule
#   points. In tsan_sched both: points, and bare.
# In sched, stores wait in the cpu's buffer, loads may return what a word held a moment ago, and only the
# orderings that are written here keep them in order (cy/base/weak.pxd), so that a missing barrier, an
# unordered initialisation or a non-atomic counter can really go wrong there. A fill of more than PT_SB_MAX
# words is not buffered.
#
# They are macros, so that a schedule point knows its own source line.
# Suffix 32: 32-bit. Suffix _ptr: pointers. No suffix: 64-bit.
#
# Source: Documentation/memory-barriers.txt, tools/memory-model/Documentation/access-marking.txt.
# A read-modify-write is a full barrier on x86; elsewhere gcc's is not, and a fence follows.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.build cimport PT_SCHED
from cy.base.hook cimport pt_hook, pt_ready_t
from cy.base.weak cimport pt_load, pt_sb_drain, pt_store, pt_view_now

cdef extern from *:
    """
    #if defined(__x86_64__)
    #define pt_cpu_relax() __builtin_ia32_pause()
    #elif defined(__aarch64__)
    #define pt_cpu_relax() __asm__ __volatile__("yield" ::: "memory")
    #else
    #define pt_cpu_relax() __asm__ __volatile__("" ::: "memory")
    #endif

    #if defined(__x86_64__) || defined(__SANITIZE_THREAD__)
    #define pt_after_rmw() ((void)0)
    #else
    #define pt_after_rmw() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #endif
    #define pt_barrier() __asm__ __volatile__("" ::: "memory")
    #define PT_SITE(k) static const struct pt_site pt_site_ __attribute__((unused)) = { __FILE__, __func__, __LINE__, (k) }
    #if PT_STORE_BUFFER
    #define pt_smp_rmb() do { PT_SITE(PT_KIND_LOAD); pt_read_barrier(pt_current, &pt_site_); } while (0)
    #define pt_smp_wmb() do { PT_SITE(PT_KIND_STORE); pt_write_barrier(pt_current, &pt_site_); } while (0)
    #elif defined(__x86_64__) || defined(__SANITIZE_THREAD__)
    #define pt_smp_rmb() pt_barrier()
    #define pt_smp_wmb() pt_barrier()
    #else
    #define pt_smp_rmb() __atomic_thread_fence(__ATOMIC_ACQUIRE)
    #define pt_smp_wmb() __atomic_thread_fence(__ATOMIC_RELEASE)
    #endif

    #if PT_SCHED
    /* Declares where the access stands (pt_site_) and the running cpu's hook (pt_h_). */
    #define PT_POINT(k, p) \\
        PT_SITE(k); struct pt_hook *pt_h_ __attribute__((unused)) = pt_current; \\
        if (pt_h_ && pt_h_->point) pt_h_->point(pt_h_->ctx, &pt_site_, (const void *)(p))
    #define PT_TEST_POINT(p, v) if (pt_current) pt_current->tested = (v); PT_POINT(PT_KIND_TEST, (p))
    #else
    #define PT_TEST_POINT(p, v) ((void)0)
    #define PT_POINT(k, p) ((void)0)
    #endif

    #if PT_STORE_BUFFER
    #define PT_AS(p, v) ((__typeof__(*(p)))(v))
    #define PT_LOAD_RELAXED(p) PT_AS(p, pt_load(pt_h_, (p), sizeof(*(p))))
    #define PT_LOAD_ORDERED(p) PT_AS(p, pt_load_acquire(pt_h_, &pt_site_, (p), sizeof(*(p))))
    #define PT_PLAIN_LOAD(p) PT_LOAD_RELAXED(p)
    #define PT_PLAIN_STORE(p, v) pt_store(pt_h_, (void *)(p), (uint64_t)(v), sizeof(*(p)))
    #define PT_STORE_RELAXED(p, v) PT_PLAIN_STORE(p, v)
    #define PT_STORE_ORDERED(p, v) pt_store_release(pt_h_, &pt_site_, (void *)(p), (uint64_t)(v), sizeof(*(p)))
    #define PT_RMW(p, order) pt_rmw(pt_h_, &pt_site_, (p), (order))
    #define PT_RMW_DONE(p, found, order) pt_rmw_done(pt_h_, &pt_site_, (p), (uint64_t)(found), sizeof(*(p)), (order))
    #define PT_PEEK(p) PT_AS(p, pt_peek(pt_current, (p), sizeof(*(p))))
    #define PT_FULL_BARRIER() pt_full_barrier(pt_h_, &pt_site_)
    #define PT_UNLESS_MEMBARRIER() (pt_has_membarrier(pt_h_) ? PT_ORDERS_NOTHING : PT_FULL)
    #define PT_MEMBARRIER_ALL_CPUS() do { \\
        if (pt_has_membarrier(pt_current)) { PT_POINT(PT_KIND_RMW, NULL); pt_membarrier_all(pt_h_, &pt_site_); } } while (0)
    #define PT_BEFORE_WAIT() pt_sb_drain(pt_h_)
    #define PT_AFTER_WAIT() pt_view_now(pt_h_)
    #else
    #define PT_LOAD_RELAXED(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define PT_LOAD_ORDERED(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define PT_PLAIN_LOAD(p) (*(p))
    #define PT_PLAIN_STORE(p, v) (*(p) = (v))
    #define PT_STORE_RELAXED(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
    #define PT_STORE_ORDERED(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define PT_RMW(p, order) ((void)0)
    #define PT_RMW_DONE(p, found, order) ((void)0)
    #define PT_PEEK(p) PT_LOAD_RELAXED(p)
    #define PT_FULL_BARRIER() ((void)0)
    #define PT_UNLESS_MEMBARRIER() PT_FULL
    #define PT_MEMBARRIER_ALL_CPUS() ((void)0)
    #define PT_BEFORE_WAIT() ((void)0)
    #define PT_AFTER_WAIT() ((void)0)
    #endif

    /* Arguments are evaluated before the schedule point: in plain_store(p, plain_load(p) + 1) others
     * may run between the load and the store. */
    #define PT_READ_ONCE(p) ({ __typeof__(p) p_ = (p); PT_POINT(PT_KIND_LOAD, p_); PT_LOAD_RELAXED(p_); })
    #define PT_WRITE_ONCE(p, v) do { __typeof__(p) p_ = (p); __typeof__(*(p)) v_ = (v); \\
        PT_POINT(PT_KIND_STORE, p_); PT_STORE_RELAXED(p_, v_); } while (0)
    #define PT_LOAD_ACQUIRE(p) ({ __typeof__(p) p_ = (p); PT_POINT(PT_KIND_LOAD, p_); PT_LOAD_ORDERED(p_); })
    #define PT_TEST_ACQUIRE(p, v) ({ __typeof__(p) p_ = (p); __typeof__(*(p)) v_ = (v), w_; \\
        PT_TEST_POINT(p_, v_); w_ = PT_LOAD_ORDERED(p_); w_ == 0 || w_ == v_; })
    #define PT_STORE_RELEASE(p, v) do { __typeof__(p) p_ = (p); __typeof__(*(p)) v_ = (v); \\
        PT_POINT(PT_KIND_STORE, p_); PT_STORE_ORDERED(p_, v_); } while (0)
    #define PT_XCHG(p, v) PT_XCHG_ORDERED(p, v, PT_FULL)
    #define PT_XCHG_OR_MEMBARRIER(p, v) PT_XCHG_ORDERED(p, v, PT_UNLESS_MEMBARRIER())
    #define PT_XCHG_ORDERED(p, v, order) ({ __typeof__(p) p_ = (p); __typeof__(*(p)) v_ = (v); \\
        PT_POINT(PT_KIND_RMW, p_); PT_RMW(p_, order); \\
        v_ = __atomic_exchange_n(p_, v_, __ATOMIC_SEQ_CST); pt_after_rmw(); PT_RMW_DONE(p_, v_, order); v_; })
    #define PT_XCHG_ACQUIRE(p, v) ({ __typeof__(p) p_ = (p); __typeof__(*(p)) v_ = (v); \\
        PT_POINT(PT_KIND_RMW, p_); PT_RMW(p_, PT_ACQUIRES); \\
        v_ = __atomic_exchange_n(p_, v_, __ATOMIC_ACQUIRE); PT_RMW_DONE(p_, v_, PT_ACQUIRES); v_; })
    #define PT_CMPXCHG(p, o, n) ({ __typeof__(p) p_ = (p); __typeof__(*(p)) o_ = (o), n_ = (n); \\
        PT_POINT(PT_KIND_RMW, p_); PT_RMW(p_, PT_FULL); \\
        __atomic_compare_exchange_n(p_, &o_, n_, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED); pt_after_rmw(); \\
        PT_RMW_DONE(p_, o_, PT_FULL); o_; })
    #define PT_ADD_RETURN(p, v) ({ __typeof__(p) p_ = (p); __typeof__(*(p)) v_ = (v), n_; \\
        PT_POINT(PT_KIND_RMW, p_); PT_RMW(p_, PT_FULL); \\
        n_ = __atomic_add_fetch(p_, v_, __ATOMIC_SEQ_CST); pt_after_rmw(); \\
        PT_RMW_DONE(p_, (__typeof__(n_))(n_ - v_), PT_FULL); n_; })
    #define PT_ADD_MB(p, v) do { __typeof__(p) p_ = (p); __typeof__(*(p)) v_ = (v), n_ __attribute__((unused)); \\
        PT_POINT(PT_KIND_ADD, p_); PT_RMW(p_, PT_FULL); \\
        n_ = __atomic_add_fetch(p_, v_, __ATOMIC_SEQ_CST); pt_after_rmw(); \\
        PT_RMW_DONE(p_, (__typeof__(n_))(n_ - v_), PT_FULL); } while (0)
    #define PT_ADD(p, v) ({ __typeof__(p) p_ = (p); __typeof__(*(p)) v_ = (v), n_; \\
        PT_POINT(PT_KIND_RMW, p_); PT_RMW(p_, PT_ORDERS_NOTHING); n_ = __atomic_add_fetch(p_, v_, __ATOMIC_RELAXED); \\
        PT_RMW_DONE(p_, (__typeof__(n_))(n_ - v_), PT_ORDERS_NOTHING); n_; })
    #define PT_PLAIN_LOAD_AT(p) ({ __typeof__(p) p_ = (p); PT_POINT(PT_KIND_PLAIN_LOAD, p_); PT_PLAIN_LOAD(p_); })
    #define PT_PLAIN_STORE_AT(p, v) do { __typeof__(p) p_ = (p); __typeof__(*(p)) v_ = (v); \\
        PT_POINT(PT_KIND_PLAIN_STORE, p_); PT_PLAIN_STORE(p_, v_); } while (0)
    #define PT_OP_POINT(p) do { PT_POINT(PT_KIND_OP, (p)); } while (0)

    #if PT_SCHED
    #define PT_YIELD_POINT() do { PT_POINT(PT_KIND_YIELD, NULL); if (pt_h_) PT_AFTER_WAIT(); } while (0)
    #else
    #define PT_YIELD_POINT() ((void)0)
    #endif

    /* A fence as `lock or (%rsp)` stalls on a live spill: exchange a word of the own stack instead. Nothing
     * plain is ordered by it alone, so ThreadSanitizer, which does not model fences, need not see it. */
    #if PT_SCHED
    #define PT_SMP_MB() do { PT_POINT(PT_KIND_RMW, NULL); PT_FULL_BARRIER(); } while (0)
    #elif defined(__x86_64__)
    static inline void pt_smp_mb(void) {
        uint32_t w = 0;
        (void)__atomic_exchange_n(&w, 1, __ATOMIC_SEQ_CST);
    }
    #define PT_SMP_MB() pt_smp_mb()
    #else
    #define PT_SMP_MB() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #endif

    /* On x86 the exchange that took the lock is a full barrier, so only the compiler has to be told. */
    #if defined(__x86_64__) && !PT_SCHED
    #define PT_SMP_MB_AFTER_SPINLOCK() pt_barrier()
    #else
    #define PT_SMP_MB_AFTER_SPINLOCK() PT_SMP_MB()
    #endif

    /* Ask for a cache line that will be written. A hint: it touches nothing and orders nothing. */
    #if defined(__x86_64__)
    #define pt_prefetchw(p) __asm__ __volatile__("prefetchw %0" :: "m"(*(const char *)(p)))
    #else
    #define pt_prefetchw(p) __builtin_prefetch((p), 1)
    #endif

    static inline void pt_plain_fill(uint64_t *p, uint64_t v, uint32_t n) {
    #if PT_STORE_BUFFER
        struct pt_hook *h = pt_current;
        if (h && h->point && n <= PT_SB_MAX) {
            if (h->sb_n + n > PT_SB_MAX) pt_sb_drain(h);
            for (uint32_t i = 0; i < n; i++) pt_store(h, p + i, v, 8);
            return;
        }
        if (h) {
            pt_sb_drain(h);
            for (uint32_t i = 0; i < n; i++) pt_write(h, p + i, v, 8);
            return;
        }
    #endif
        for (uint32_t i = 0; i < n; i++) p[i] = v;
    }
    #define PT_PLAIN_FILL(p, v, n) do { PT_POINT(PT_KIND_FILL, (p)); pt_plain_fill((p), (v), (n)); } while (0)

    #if PT_SCHED
    #define PT_WAIT(ready, arg) ({ \\
        PT_SITE(PT_KIND_WAIT); struct pt_hook *pt_h_ = pt_current; int w_ = 0; \\
        if (pt_h_ && pt_h_->wait) { \\
            PT_BEFORE_WAIT(); pt_h_->wait(pt_h_->ctx, &pt_site_, (ready), (arg)); PT_AFTER_WAIT(); w_ = 1; } w_; })
    #else
    #define PT_WAIT(ready, arg) (0)
    #endif
    """
    uint64_t READ_ONCE "PT_READ_ONCE"(uint64_t *p) noexcept nogil
    uint32_t READ_ONCE32 "PT_READ_ONCE"(uint32_t *p) noexcept nogil
    void WRITE_ONCE "PT_WRITE_ONCE"(uint64_t *p, uint64_t v) noexcept nogil
    void WRITE_ONCE32 "PT_WRITE_ONCE"(uint32_t *p, uint32_t v) noexcept nogil
    uint64_t smp_load_acquire "PT_LOAD_ACQUIRE"(uint64_t *p) noexcept nogil
    uint32_t smp_load_acquire32 "PT_LOAD_ACQUIRE"(uint32_t *p) noexcept nogil
    # As smp_load_acquire, for who wants to know no more than whether it is 0 or `v`.
    bint smp_test_acquire "PT_TEST_ACQUIRE"(uint64_t *p, uint64_t v) noexcept nogil
    void smp_store_release "PT_STORE_RELEASE"(uint64_t *p, uint64_t v) noexcept nogil
    void smp_store_release32 "PT_STORE_RELEASE"(uint32_t *p, uint32_t v) noexcept nogil
    uint64_t xchg "PT_XCHG"(uint64_t *p, uint64_t v) noexcept nogil
    uint32_t xchg32 "PT_XCHG"(uint32_t *p, uint32_t v) noexcept nogil
    uint32_t xchg_acquire32 "PT_XCHG_ACQUIRE"(uint32_t *p, uint32_t v) noexcept nogil
    uint64_t xchg_or_membarrier "PT_XCHG_OR_MEMBARRIER"(uint64_t *p, uint64_t v) noexcept nogil
    # Returns the value found; equal to `old` exactly if the exchange was made.
    uint64_t cmpxchg "PT_CMPXCHG"(uint64_t *p, uint64_t old, uint64_t new) noexcept nogil
    uint32_t cmpxchg32 "PT_CMPXCHG"(uint32_t *p, uint32_t old, uint32_t new) noexcept nogil
    uint64_t atomic_add_return "PT_ADD_RETURN"(uint64_t *p, uint64_t v) noexcept nogil
    uint32_t atomic_add_return32 "PT_ADD_RETURN"(uint32_t *p, uint32_t v) noexcept nogil
    # As atomic_add_return, for who does not look at the result: the order of two of them on one word does not matter.
    void atomic_add_mb "PT_ADD_MB"(uint64_t *p, uint64_t v) noexcept nogil
    void atomic_add_mb32 "PT_ADD_MB"(uint32_t *p, uint32_t v) noexcept nogil
    uint64_t atomic_add "PT_ADD"(uint64_t *p, uint64_t v) noexcept nogil
    void smp_mb "PT_SMP_MB"() noexcept nogil
    # Under a controlled scheduler: the other half of xchg_or_membarrier. Elsewhere nothing.
    void membarrier_all_cpus "PT_MEMBARRIER_ALL_CPUS"() noexcept nogil
    # As smp_mb, directly behind a spin_lock.
    void smp_mb__after_spinlock "PT_SMP_MB_AFTER_SPINLOCK"() noexcept nogil
    # Earlier loads stay before later loads.
    void smp_rmb "pt_smp_rmb"() noexcept nogil
    # Earlier stores stay before later stores.
    void smp_wmb "pt_smp_wmb"() noexcept nogil
    uint64_t plain_load "PT_PLAIN_LOAD_AT"(uint64_t *p) noexcept nogil
    uint32_t plain_load32 "PT_PLAIN_LOAD_AT"(uint32_t *p) noexcept nogil
    void plain_store "PT_PLAIN_STORE_AT"(uint64_t *p, uint64_t v) noexcept nogil
    void plain_store32 "PT_PLAIN_STORE_AT"(uint32_t *p, uint32_t v) noexcept nogil
    # `n` is a number of 64-bit words.
    void plain_fill "PT_PLAIN_FILL"(uint64_t *p, uint64_t v, uint32_t n) noexcept nogil
    # The boundary before an operation: a schedule point that touches nothing.
    void op_point "PT_OP_POINT"(const void *p) noexcept nogil
    # A place where the kernel reschedules: others run here if they can.
    void yield_point "PT_YIELD_POINT"() noexcept nogil
    # An oracle's look: bare, no schedule point, sees the own cpu's buffered stores.
    uint64_t peek "PT_PEEK"(uint64_t *p) noexcept nogil
    uint32_t peek32 "PT_PEEK"(uint32_t *p) noexcept nogil
    # Ask for a cache line that will be written; makes no schedule point.
    void prefetchw "pt_prefetchw"(const void *p) noexcept nogil
    void cpu_relax "pt_cpu_relax"() noexcept nogil
    # Stops the compiler only; the other half is a membarrier() of the waiting side.
    void barrier "pt_barrier"() noexcept nogil
    # Under a controlled scheduler: block until ready(arg), return 1. Elsewhere: return 0 at once,
    # and the caller spins or yields itself. `ready` must read memory bare and change nothing.
    bint sched_wait "PT_WAIT"(pt_ready_t ready, const void *arg) noexcept nogil

cdef inline void plain_zero(uint64_t *p, uint32_t n) noexcept nogil:
    plain_fill(p, 0, n)
