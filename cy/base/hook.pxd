# The seam between the engine and a controlled scheduler (cy/explore).
#
# A scheduler fills a `pt_hook` for each worker and points `pt_current` at it. The sched build calls
# `point` before every shared access and `wait` instead of spinning; other builds never look.
# The hook is the first member of `struct cpu`, so `pt_current` also names the running cpu.
#
# pt_current is the only global: one per OS thread and per extension. It is set at thread start
# and at each fibre switch. The fast build does not read it. A policy of another package (PT_POLICY) runs on the threads of an
# engine and looks at that one's: the engine says where it is before it calls the policy.
from libc.stdint cimport uint32_t, uint64_t

cdef extern from *:
    """
    #ifndef PT_HOOK_H
    #define PT_HOOK_H
    #include <stdint.h>
    #include <stddef.h>

    /* Where in the source an access stands. One static object per access. */
    struct pt_site { const char *file; const char *func; int line; int kind; };

    enum pt_kind {
        PT_KIND_LOAD, PT_KIND_STORE, PT_KIND_RMW, PT_KIND_PLAIN_LOAD, PT_KIND_PLAIN_STORE,
        PT_KIND_LOCK, PT_KIND_UNLOCK, PT_KIND_WAIT, PT_KIND_YIELD, PT_KIND_OP, PT_KIND_END,
        PT_KIND_FILL, PT_KIND_ADD, PT_KIND_TEST
    };

    /* Stores wait here until the next full barrier of their cpu; see cy/base/weak.pxd. */
    #define PT_SB_MAX 64
    struct pt_buffered { void *p; uint64_t v; uint32_t size; uint32_t order; };
    struct pt_weak;

    typedef int (*pt_ready_t)(const void *);

    struct pt_hook {
        void (*point)(void *ctx, const struct pt_site *site, const void *addr);
        void (*wait)(void *ctx, const struct pt_site *site, pt_ready_t ready, const void *arg);
        void *ctx;
        uint64_t *clock;        /* logical time; NULL: the time stamp counter */
        uint64_t tested;        /* of the last point of kind test */
        struct pt_weak *weak;   /* NULL: the buffer drains in order, and loads are not early */
        uint64_t view;          /* no load returns what was overwritten by then */
        uint32_t number;        /* of the cpu */
        uint32_t sb_n;
        struct pt_buffered sb[PT_SB_MAX];
    };

    /* Read before each access: initial-exec, because asking the loader for its address would cost more than the rest of
     * a schedule point. It takes a pointer for each extension from the room that loaders keep for this. */
    static __thread struct pt_hook *pt_current __attribute__((unused, tls_model("initial-exec")));
    static inline void pt_set_current(struct pt_hook *h) { pt_current = h; }
    static inline struct pt_hook **pt_current_slot(void) { return &pt_current; }
    #ifdef PT_POLICY
    static struct pt_hook **(*pt_engine_slot)(void) = pt_current_slot;
    static inline void pt_share_current(struct pt_hook **(*slot)(void)) { pt_engine_slot = slot; }
    #define pt_current (*pt_engine_slot())
    #endif
    #endif
    """
    enum:
        PT_KIND_LOAD
        PT_KIND_STORE
        PT_KIND_RMW
        PT_KIND_PLAIN_LOAD
        PT_KIND_PLAIN_STORE
        PT_KIND_LOCK
        PT_KIND_UNLOCK
        PT_KIND_WAIT
        PT_KIND_YIELD
        PT_KIND_OP
        PT_KIND_END
        PT_KIND_FILL            # a plain store of many words
        PT_KIND_TEST            # a load that tells only whether it found 0 or hook.tested
        PT_KIND_ADD             # a read-modify-write that adds, and nobody looks at what it found
        PT_SB_MAX
    struct pt_site:
        const char *file
        const char *func
        int line
        int kind
    ctypedef int (*pt_ready_t)(const void *) noexcept nogil
    struct pt_weak              # cy/base/weak.pxd
    struct pt_hook:
        void (*point)(void *ctx, const pt_site *site, const void *addr) noexcept nogil
        void (*wait)(void *ctx, const pt_site *site, pt_ready_t ready, const void *arg) noexcept nogil
        void *ctx
        uint64_t *clock
        uint64_t tested
        pt_weak *weak
        uint64_t view
        uint32_t number
        uint32_t sb_n
    void pt_set_current(pt_hook *h) noexcept nogil
    # Where the calling thread's pt_current is.
    pt_hook **pt_current_slot() noexcept nogil
    # Only with PT_POLICY: from now on pt_current is what lies there, of an engine. Context: no policy runs.
    void pt_share_current(pt_hook **(*slot)() noexcept nogil) noexcept nogil
