# Policy `pct`: the fibre of highest priority runs; at d - 1 chosen points the one that runs falls below all others.
#
# A bug that needs d orderings between its steps is found by one execution with a chance of at least 1 / (n k^(d-1)), for n
# fibres and k choices. Executions take d = 1, 2, 3, 4 in turns, since nobody knows the d of a bug; `depth` fixes it.
#
# Source: Burckhardt, Kothari, Musuvathi, Nagarakatte, "A randomized scheduler with probabilistic guarantees of finding
# bugs", ASPLOS 2010.
# Departs from it: k is the most choices of an execution so far; the points are choices and not steps; a fibre that waits or
# gives way is passed over without losing its priority.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.rng cimport rng_below, rng_seed
from cy.explore.policy cimport (
    MAX_FIBRES, always_more, is_in, lowest_bit, moment, never_done, policy_knobs, policy_ops)

cdef enum:
    DEPTHS = 4
    MAX_DEPTH = 8
    FIRST_LENGTH = 64           # before anything is known of k

cdef struct pct:
    uint64_t rng
    uint32_t priority[64]       # no two are equal; those of fibres that fell are below MAX_DEPTH
    uint32_t points[8]
    uint32_t nr_points
    uint32_t fallen
    uint32_t at                 # choices so far in this execution
    uint32_t longest            # most choices of an execution so far
    uint32_t depth              # 0: in turns
    uint32_t turn

cdef inline void pct_ops(policy_ops *ops) noexcept nogil:
    ops.state_bytes = sizeof(pct)
    ops.init = pct_init
    ops.begin = pct_begin
    ops.choose = pct_choose
    ops.more = always_more
    ops.done = never_done
    ops.fini = pct_fini

cdef inline uint32_t pct_choose(void *state, const moment *now) noexcept nogil:
    cdef pct *p = <pct *>state
    cdef uint32_t i
    for i in range(p.nr_points):
        if p.points[i] == p.at and is_in(now.enabled, now.current):
            p.fallen += 1
            p.priority[now.current] = MAX_DEPTH - p.fallen
    p.at += 1
    if p.at > p.longest:
        p.longest = p.at
    return _highest(p, now.enabled)

cdef inline uint32_t _highest(const pct *p, uint64_t enabled) noexcept nogil:
    cdef uint32_t best = lowest_bit(enabled), i
    enabled &= enabled - 1
    while enabled:
        i = lowest_bit(enabled)
        enabled &= enabled - 1
        if p.priority[i] > p.priority[best]:
            best = i
    return best

cdef inline int pct_init(void *state, const policy_knobs *knobs) noexcept nogil:
    cdef pct *p = <pct *>state
    p.longest = FIRST_LENGTH
    p.depth = knobs.depth if knobs.depth < MAX_DEPTH else MAX_DEPTH
    return 0

cdef inline void pct_begin(void *state, uint64_t seed) noexcept nogil:
    cdef pct *p = <pct *>state
    cdef uint32_t i, other
    rng_seed(&p.rng, seed, 0x9C7)
    for i in range(<uint32_t>MAX_FIBRES):
        other = rng_below(&p.rng, i + 1)
        p.priority[i] = p.priority[other]
        p.priority[other] = MAX_DEPTH + i
    p.nr_points = (p.depth if p.depth else 1 + p.turn) - 1
    p.turn = (p.turn + 1) & (DEPTHS - 1)
    for i in range(p.nr_points):
        p.points[i] = rng_below(&p.rng, p.longest)
    p.fallen = 0
    p.at = 0

cdef inline void pct_fini(void *state) noexcept nogil:
    pass
