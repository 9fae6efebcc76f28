# How memory behaves in an execution (cy/base/weak.pxd): drawn from its seed, so a replay needs no record of it.
#   eager  a store is in memory at its cpu's next point: sequential consistency
#   late   not before its cpu's next release or full barrier: total store order at its worst
#   weak   stores overtake each other and loads are early, each as often as drawn, wherever nothing orders them
# Late alone would hide every half-done update that a reader without the lock sees.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.explorable cimport explorable
from cy.base.hook cimport PT_KIND_YIELD, pt_hook, pt_site
from cy.base.rng cimport rng_below, rng_next, rng_seed
from cy.base.weak cimport pt_sb_drain, pt_sb_let_go, pt_weak

cdef enum:
    STORES_LATE = 0
    STORES_EAGER = 1
    STORES_WEAK = 2
    NR_STORES = 3
    MAX_LAG = 4                 # weak: at a point a cpu's buffer moves once in 1, 2, 4, 8 points
    MAX_EARLY = 4               # weak: loads are early never, once in 2, 4, 8 times

cdef struct memory:
    pt_weak *weak               # kept from one exploration to the next
    uint32_t stores             # STORES_...
    uint32_t lag
    uint64_t rng

# How memory behaves in an execution with this seed, STORES_...; `rng` draws the rest.
cdef inline uint32_t draw_stores(uint64_t *rng, uint64_t seed) noexcept nogil:
    rng_seed(rng, seed, 0x5B)
    return rng_below(rng, NR_STORES)

# An execution with this seed begins. `steps_only`: as policy_ops has it.
cdef inline void memory_begin(memory *m, const explorable *system, uint64_t seed, bint steps_only) noexcept nogil:
    cdef pt_weak *weak = m.weak
    m.stores = draw_stores(&m.rng, seed)
    if steps_only:
        m.stores = STORES_EAGER
    elif weak.nr_weakened != 0:
        m.stores = STORES_WEAK          # elsewhere there is not much to see of an ordering that is left out
    weak.overtake = m.stores == STORES_WEAK
    weak.early = 0
    weak.membarrier = False
    weak.nr_cpus = 0
    if m.stores == STORES_WEAK:
        weak.base = <const char *>system.base
        weak.bytes = system.bytes
        weak.early = rng_below(&m.rng, MAX_EARLY)
        m.lag = rng_below(&m.rng, MAX_LAG)
        weak.rng = rng_next(&m.rng)
        weak.membarrier = weak.rng >> 63

# The accesses of cpu `number`, with this hook, go by it from here on.
cdef inline void memory_bind(memory *m, pt_hook *hook, uint32_t number) noexcept nogil:
    hook.sb_n = 0
    hook.number = number
    hook.weak = m.weak if m.stores == STORES_WEAK or m.weak.nr_weakened != 0 else NULL
    hook.view = m.weak.time
    m.weak.cpus[number] = hook
    m.weak.nr_cpus = number + 1

cdef inline void memory_unbind(pt_hook *hook) noexcept nogil:
    hook.sb_n = 0
    hook.weak = NULL

# A cpu has stopped at a point: let some of its stores go, or all.
cdef inline void memory_drain_some(memory *m, pt_hook *hook, const pt_site *site) noexcept nogil:
    cdef uint32_t n
    if m.stores == STORES_EAGER or site.kind == PT_KIND_YIELD:
        pt_sb_drain(hook)
    elif m.stores == STORES_WEAK and rng_below(&m.rng, 1 << m.lag) == 0:
        for n in range(rng_below(&m.rng, hook.sb_n) + 1):
            pt_sb_let_go(hook, rng_below(&m.rng, hook.sb_n))
