# How accesses reach memory under a controlled scheduler: buffered stores that overtake each other, and early loads.
#
# Stores that order nothing wait in their cpu's buffer (hook.sb) until its next full barrier at the latest. `hook.weak` is
# NULL while the buffer is all there is: it drains in order, and at each release. Otherwise the execution is weak:
#   stores     reach memory in any order, but for two to one word, for what stands on different sides of an smp_wmb, and for
#              a release store, which waits in the buffer as well and goes when all that is older has gone
#   loads      may return what the word held before it was last overwritten, if this happened after this cpu's *view* and
#              the cpu has not seen what overwrote it. The view moves to now at a full barrier, an smp_rmb, at the beginning
#              and end of an operation, and where the cpu waited or gave way; at an acquire to when that was made
#   membarrier RCU readers leave their full barrier to who waits for them (xchg_or_membarrier), in half of the weak executions
#   weakened   accesses named in weak.weakened do not order anything: `ptstress explore --weaken`
# What is drawn is drawn from weak.rng, whose state an execution's seed determines.
#
# Why that is right: a value that was current at some instant after the view is one that the load could have read if it had
# been made then, and nothing in between orders it. All cpus see one order of the stores to memory: the model is
# multi-copy atomic, as x86, aarch64 and LKMM's strong parts are, so independent readers with barriers agree.
# Too strong (it does not show all that hardware may do): a load is never later than a store behind it, so load buffering
#   is not seen, and control dependencies hold by themselves; a read-modify-write is never early; of each word one older
#   value is known.
# Too weak: an address dependency orders nothing. The engine must not need one: where the kernel relies on it, there
#   stands a load-acquire, and what is left out shows.
# Bare accesses (under locks, own to a cpu, oracles) are no part of this: they see memory as it is.
# Source: Documentation/memory-barriers.txt, tools/memory-model/Documentation/explanation.txt; Kang, Hur, Lahav, Vafeiadis,
# Dreyer, "A promising semantics for relaxed-memory concurrency", POPL 2017, of which the views are (without promises).
from libc.stdint cimport uint32_t, uint64_t
from cy.base.hook cimport pt_hook, pt_site

cdef extern from *:
    """
    #ifndef PT_WEAK_H
    #define PT_WEAK_H
    #include <string.h>
    #define PT_PAST 256                 /* slots for overwritten words */
    #define PT_WEAK_CPUS 64            /* as many as fibres */

    /* An access whose ordering is left out: a line of a module, of which the names of functions tell. `times` it was made. */
    struct pt_weakened { const char *module; int line; uint64_t times; };

    /* What a word held until the store number `time`. */
    struct pt_overwritten { const void *p; uint64_t old; uint64_t time; };

    /* Shared by the cpus of an execution. Kept from one execution to the next: times only grow, and a view begins now. */
    struct pt_weak {
        const char *base;               /* words of [base, base + bytes) may be loaded early */
        uint64_t bytes;
        uint64_t time;                  /* stores that reached memory */
        uint64_t rng;
        uint32_t overtake;              /* stores overtake each other, releases wait */
        uint32_t early;                 /* a load that may be early is, once in 1 << early; 0: never */
        uint32_t membarrier;            /* membarrier_all_cpus() stands in for the barriers of xchg_or_membarrier() */
        uint32_t nr_weakened;
        uint32_t weakened_orders;       /* nothing is left out, accesses are counted only */
        uint32_t nr_cpus;
        struct pt_weakened *weakened;
        struct pt_hook *cpus[PT_WEAK_CPUS];     /* those of the execution */
        void (*told)(void *ctx, uint64_t value);        /* an early load has returned `value` */
        struct pt_overwritten past[PT_PAST];
        uint64_t seen[PT_WEAK_CPUS][PT_PAST];           /* each cpu's: no value that was overwritten by then any more */
    };

    #define PT_APART static __attribute__((noinline, unused))

    static inline uint64_t pt_memory(const void *p, uint32_t size) {
        return size == 4 ? __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED)
                         : __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
    }
    static inline void pt_set_memory(void *p, uint64_t v, uint32_t size) {
        if (size == 4) __atomic_store_n((uint32_t *)p, (uint32_t)v, __ATOMIC_RELEASE);
        else __atomic_store_n((uint64_t *)p, v, __ATOMIC_RELEASE);
    }
    /* The slot of a word by its offset, which is the same in every process; PT_PAST if it has none. */
    static inline uint32_t pt_past_slot(const struct pt_weak *w, const void *p) {
        uint64_t offset = (uint64_t)((const char *)p - w->base);
        return offset < w->bytes ? (uint32_t)(offset >> 2) * 0x9E3779B1u >> 24 : PT_PAST;
    }
    static inline uint32_t pt_draw(struct pt_weak *w, uint32_t bits) {
        w->rng = w->rng * 6364136223846793005u + 1442695040888963407u;
        return (uint32_t)(w->rng >> 40) & ((1u << bits) - 1);
    }
    PT_APART int pt_is_weakened(struct pt_weak *w, const struct pt_site *site) {
        for (uint32_t i = 0; i < w->nr_weakened; i++)
            if (w->weakened[i].line == site->line
                && strncmp(w->weakened[i].module, site->func, strlen(w->weakened[i].module)) == 0) {
                w->weakened[i].times++;
                return !w->weakened_orders;
            }
        return 0;
    }

    /* -- what is overwritten, and who may still read it */

    /* This cpu has overwritten `old` at p, in memory. */
    static inline void pt_overwrote(struct pt_hook *h, const void *p, uint64_t old) {
        struct pt_weak *w = h->weak;
        uint32_t slot = pt_past_slot(w, p);
        if (slot == PT_PAST) return;
        w->past[slot].p = p; w->past[slot].old = old; w->past[slot].time = ++w->time;
        w->seen[h->number][slot] = w->time;
    }
    /* This cpu has read what memory holds at p. */
    static inline void pt_saw(struct pt_hook *h, const void *p) {
        struct pt_weak *w = h->weak;
        uint32_t slot = pt_past_slot(w, p);
        if (slot != PT_PAST) w->seen[h->number][slot] = w->past[slot].time;
    }
    static inline void pt_write(struct pt_hook *h, void *p, uint64_t v, uint32_t size) {
        uint64_t old;
        if (__builtin_expect(h->weak != NULL, 0) && h->weak->early && (old = pt_memory(p, size)) != v)
            pt_overwrote(h, p, old);
        pt_set_memory(p, v, size);
    }
    /* Later loads of this cpu return nothing older than what is in memory now. */
    static inline void pt_view_now(struct pt_hook *h) {
        if (__builtin_expect(h->weak != NULL, 0)) h->view = h->weak->time;
    }
    /* A load that nothing before it orders. *when: the instant at which it was made, which orders others only behind an acquire.
     * What memory holds now it has held since the other value was overwritten, so such a load may be early as well. */
    PT_APART uint64_t pt_load_early(struct pt_hook *h, const void *p, uint32_t size, uint64_t *when) {
        struct pt_weak *w = h->weak;
        uint32_t slot = pt_past_slot(w, p);
        struct pt_overwritten *was = &w->past[slot];
        *when = w->time;
        if (slot == PT_PAST) return pt_memory(p, size);
        if (pt_draw(w, w->early) == 0) {
            if (was->p == p && was->time > h->view && was->time > w->seen[h->number][slot]) {
                *when = was->time - 1;
                w->told(h->ctx, was->old);
                return was->old;
            }
            *when = was->time > h->view ? was->time : h->view;
        }
        w->seen[h->number][slot] = was->time;
        return pt_memory(p, size);
    }

    /* -- the buffer */

    enum { PT_SB_STORE, PT_SB_RELEASE, PT_SB_WMB };

    static inline void pt_sb_drain(struct pt_hook *h) {
        for (uint32_t i = 0; i < h->sb_n; i++)
            if (h->sb[i].order != PT_SB_WMB) pt_write(h, h->sb[i].p, h->sb[i].v, h->sb[i].size);
        h->sb_n = 0;
    }
    static inline void pt_sb_push(struct pt_hook *h, void *p, uint64_t v, uint32_t size, uint32_t order) {
        if (h->sb_n == PT_SB_MAX) pt_sb_drain(h);
        h->sb[h->sb_n].p = p; h->sb[h->sb_n].v = v; h->sb[h->sb_n].size = size; h->sb[h->sb_n].order = order; h->sb_n++;
    }
    /* The entry that entry i has to wait for, or i if it need not. */
    PT_APART uint32_t pt_sb_before(const struct pt_hook *h, uint32_t i) {
        if (h->sb[i].order != PT_SB_STORE) return 0;
        for (uint32_t j = i; j-- > 0; )
            if (h->sb[j].order == PT_SB_WMB || h->sb[j].p == h->sb[i].p) return j;
        return i;
    }
    /* Let one entry go: entry i, or what it waits for. */
    PT_APART void pt_sb_let_go(struct pt_hook *h, uint32_t i) {
        for (uint32_t j; (j = pt_sb_before(h, i)) != i; i = j) { }
        if (h->sb[i].order != PT_SB_WMB) pt_write(h, h->sb[i].p, h->sb[i].v, h->sb[i].size);
        h->sb_n--;
        memmove(&h->sb[i], &h->sb[i + 1], (h->sb_n - i) * sizeof(h->sb[0]));
    }
    /* An access that is not buffered may not be overtaken by an older buffered one to the same place. */
    static inline void pt_sb_order(struct pt_hook *h, const void *p) {
        for (uint32_t i = 0; i < h->sb_n; i++)
            if (h->sb[i].p == p) {
                if (h->weak == NULL || !h->weak->overtake) { pt_sb_drain(h); return; }
                pt_sb_let_go(h, i);
                i = (uint32_t)-1;
            }
    }

    /* -- accesses; h: the running cpu's, or NULL */

    static inline uint64_t pt_peek(const struct pt_hook *h, const void *p, uint32_t size) {
        if (h)
            for (uint32_t i = h->sb_n; i-- > 0; )
                if (h->sb[i].p == p && h->sb[i].size == size) return h->sb[i].v;
        return pt_memory(p, size);
    }
    static inline uint64_t pt_load(struct pt_hook *h, const void *p, uint32_t size) {
        uint64_t when;
        if (!h || __builtin_expect(h->weak == NULL, 1) || !h->weak->early) return pt_peek(h, p, size);
        for (uint32_t i = h->sb_n; i-- > 0; )
            if (h->sb[i].p == p && h->sb[i].size == size) return h->sb[i].v;
        return pt_load_early(h, p, size, &when);
    }
    /* Acquire orders what comes after the load. What came before may still be made later: so this one may be early, too, and
     * what this cpu has stored itself it may find in its buffer, where others do not see it yet. */
    static inline uint64_t pt_load_acquire(struct pt_hook *h, const struct pt_site *site, const void *p, uint32_t size) {
        uint64_t v, when;
        if (!h) return pt_memory(p, size);
        if (__builtin_expect(h->weak != NULL, 0) && pt_is_weakened(h->weak, site)) return pt_load(h, p, size);
        for (uint32_t i = h->sb_n; i-- > 0; )
            if (h->sb[i].p == p && h->sb[i].size == size) { pt_view_now(h); return h->sb[i].v; }
        pt_sb_order(h, p);
        if (__builtin_expect(h->weak == NULL, 1) || !h->weak->early) return pt_memory(p, size);
        v = pt_load_early(h, p, size, &when);
        h->view = when;
        return v;
    }
    static inline void pt_store(struct pt_hook *h, void *p, uint64_t v, uint32_t size) {
        if (!h || !h->point) { pt_set_memory(p, v, size); return; }
        pt_sb_push(h, p, v, size, PT_SB_STORE);
    }
    PT_APART int pt_store_release_weak(struct pt_hook *h, const struct pt_site *site, void *p, uint64_t v, uint32_t size) {
        int weakened = pt_is_weakened(h->weak, site);
        if (!weakened && !h->weak->overtake) return 0;
        pt_sb_push(h, p, v, size, weakened ? PT_SB_STORE : PT_SB_RELEASE);
        return 1;
    }
    static inline void pt_store_release(struct pt_hook *h, const struct pt_site *site, void *p, uint64_t v, uint32_t size) {
        if (h && h->point) {
            if (__builtin_expect(h->weak != NULL, 0) && pt_store_release_weak(h, site, p, v, size)) return;
            pt_sb_drain(h);
        }
        pt_set_memory(p, v, size);
    }
    /* Before a read-modify-write of p; pt_rmw_done follows with what it found. A full barrier, unless it is weakened, or
     * acquires only, or orders nothing. */
    enum { PT_ORDERS_NOTHING, PT_ACQUIRES, PT_FULL };
    static inline void pt_rmw(struct pt_hook *h, const struct pt_site *site, const void *p, int order) {
        if (!h || h->sb_n == 0) return;
        if (order == PT_FULL && (__builtin_expect(h->weak == NULL, 1) || !pt_is_weakened(h->weak, site))) pt_sb_drain(h);
        else pt_sb_order(h, p);
    }
    PT_APART void pt_rmw_done_weak(struct pt_hook *h, const struct pt_site *site, const void *p, uint64_t old, uint32_t size,
                                  int order) {
        if (h->weak->early && pt_memory(p, size) != old) pt_overwrote(h, p, old);
        else pt_saw(h, p);
        if (order != PT_ORDERS_NOTHING && !pt_is_weakened(h->weak, site)) h->view = h->weak->time;
    }
    static inline void pt_rmw_done(struct pt_hook *h, const struct pt_site *site, const void *p, uint64_t old, uint32_t size,
                                   int order) {
        if (h && __builtin_expect(h->weak != NULL, 0)) pt_rmw_done_weak(h, site, p, old, size, order);
    }
    /* A full barrier that is no access: smp_mb (site), or the end of an operation (NULL). */
    static inline void pt_full_barrier(struct pt_hook *h, const struct pt_site *site) {
        if (!h || (__builtin_expect(h->weak != NULL, 0) && site && pt_is_weakened(h->weak, site))) return;
        pt_sb_drain(h);
        pt_view_now(h);
    }
    static inline int pt_has_membarrier(const struct pt_hook *h) {
        return h && __builtin_expect(h->weak != NULL, 0) && h->weak->membarrier;
    }
    /* What membarrier() does: every cpu passes a full barrier, wherever it is. Context: pt_has_membarrier. */
    PT_APART void pt_membarrier_all(struct pt_hook *h, const struct pt_site *site) {
        struct pt_weak *w = h->weak;
        if (pt_is_weakened(w, site)) return;
        for (uint32_t i = 0; i < w->nr_cpus; i++) pt_sb_drain(w->cpus[i]);
        for (uint32_t i = 0; i < w->nr_cpus; i++) w->cpus[i]->view = w->time;
    }
    static inline void pt_read_barrier(struct pt_hook *h, const struct pt_site *site) {
        if (h && __builtin_expect(h->weak != NULL, 0) && !pt_is_weakened(h->weak, site)) h->view = h->weak->time;
    }
    static inline void pt_write_barrier(struct pt_hook *h, const struct pt_site *site) {
        if (h && __builtin_expect(h->weak != NULL, 0) && h->weak->overtake && h->sb_n && !pt_is_weakened(h->weak, site))
            pt_sb_push(h, NULL, 0, 0, PT_SB_WMB);
    }
    /* An operation of this cpu begins or ends: what others see of it lies between. Where nothing is weak, its last release or
     * full barrier has seen to that. */
    static inline void pt_operation_edge(struct pt_hook *h) {
        if (__builtin_expect(h->weak != NULL, 0)) pt_full_barrier(h, NULL);
    }
    #endif
    """
    struct pt_weakened:
        const char *module
        int line
        uint64_t times
    struct pt_weak:
        const char *base
        uint64_t bytes
        uint64_t time
        uint64_t rng
        uint32_t overtake
        uint32_t early
        uint32_t membarrier
        uint32_t nr_weakened
        uint32_t weakened_orders
        uint32_t nr_cpus
        pt_weakened *weakened
        pt_hook *cpus[64]
        void (*told)(void *ctx, uint64_t value) noexcept nogil
    # What a cpu would read at p if it looked now: its own buffered store, or else what is in memory.
    uint64_t pt_peek(const pt_hook *h, const void *p, uint32_t size) noexcept nogil
    void pt_sb_drain(pt_hook *h) noexcept nogil
    void pt_sb_let_go(pt_hook *h, uint32_t i) noexcept nogil
    void pt_view_now(pt_hook *h) noexcept nogil
    void pt_operation_edge(pt_hook *h) noexcept nogil
    # For systems that have no use of cy/base/atomics.pxd: the accesses themselves. `h`: the running cpu's.
    uint64_t pt_load(pt_hook *h, const void *p, uint32_t size) noexcept nogil
    void pt_store(pt_hook *h, void *p, uint64_t v, uint32_t size) noexcept nogil
