# Build constants. Each extension sets them with -D; everything else reads them here.
#
# fast    nothing is set: hooks, checks and bugs leave no code behind.
# stress  PT_CHECKS (poison, generations, lock order, bugs), PT_DELAY (delay points) and PT_FLIGHT (flight recorder).
# sched   PT_CHECKS and PT_SCHED (every shared access is a schedule point).
# tsan    as stress, compiled with -fsanitize=thread, RCU readers with xchg.
# tsan_sched  as sched, compiled with -fsanitize=thread: without store buffers, which would hide what is plain.
#
# They are C constants, so the compiler removes the branches that a build does not have.

cdef extern from *:
    """
    #ifndef PT_CHECKS
    #define PT_CHECKS 0
    #endif
    #ifndef PT_DELAY
    #define PT_DELAY 0
    #endif
    #ifndef PT_FLIGHT
    #define PT_FLIGHT 0
    #endif
    #ifndef PT_SCHED
    #define PT_SCHED 0
    #endif
    #ifndef PT_RCU_XCHG
    #define PT_RCU_XCHG 0
    #endif
    #ifdef __SANITIZE_THREAD__
    #define PT_TSAN 1
    #else
    #define PT_TSAN 0
    #endif
    #define PT_STORE_BUFFER (PT_SCHED && !PT_TSAN)
    #ifndef PT_BUILD_NAME
    #define PT_BUILD_NAME "unnamed"
    #endif
    #ifndef PT_ABI
    #define PT_ABI "unknown"
    #endif
    #define pt_likely(x) __builtin_expect(!!(x), 1)
    #define pt_unlikely(x) __builtin_expect(!!(x), 0)
    """
    enum:
        PT_CHECKS
        PT_DELAY
        PT_FLIGHT
        PT_SCHED
        PT_RCU_XCHG
        PT_TSAN
    const char *PT_BUILD_NAME
    # Hash of headers, build and macros (ptstress/builds.py). Modules with the same one may share structures and functions.
    const char *PT_ABI
    bint likely "pt_likely"(bint x) noexcept nogil
    bint unlikely "pt_unlikely"(bint x) noexcept nogil
