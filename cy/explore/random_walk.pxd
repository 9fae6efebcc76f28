# Policy `random`: at each choice stay with the running fibre with probability `stickiness`,
# otherwise take any enabled fibre, each with the same chance.
#
# stickiness 0 is the plain random walk. It switches at every other access, so that an operation of
# many accesses hardly ever runs through, and bugs that need one long stretch are missed; a sticky
# walk finds those and misses others. By default each execution draws its stickiness anew.
#
# Source: Thomson, Donaldson, Betts, "Concurrency testing using controlled schedulers: an empirical
# study", ACM TOPC 2016 (the random walk holds its own against cleverer search); Groce et al., "Swarm
# testing", ISSTA 2012 (draw the configuration anew for each run).
# Departs from both: the chance to stay.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.rng cimport rng_below, rng_next, rng_seed
from cy.explore.policy cimport always_more, count_bits, is_in, moment, never_done, nth_fibre, policy_knobs, policy_ops

cdef struct random_walk:
    uint64_t rng
    uint64_t stay               # of 2^32
    bint draw_stay

cdef inline void random_walk_ops(policy_ops *ops) noexcept nogil:
    ops.state_bytes = sizeof(random_walk)
    ops.init = random_walk_init
    ops.begin = random_walk_begin
    ops.choose = random_walk_choose
    ops.more = always_more
    ops.done = never_done
    ops.fini = random_walk_fini

cdef inline uint32_t random_walk_choose(void *state, const moment *now) noexcept nogil:
    cdef random_walk *walk = <random_walk *>state
    if walk.stay != 0 and is_in(now.enabled, now.current):
        if rng_next(&walk.rng) >> 32 < walk.stay:
            return now.current
    return nth_fibre(now.enabled, rng_below(&walk.rng, count_bits(now.enabled)))

cdef inline int random_walk_init(void *state, const policy_knobs *knobs) noexcept nogil:
    cdef random_walk *walk = <random_walk *>state
    walk.draw_stay = knobs.stickiness < 0
    if not walk.draw_stay:
        walk.stay = <uint64_t>(knobs.stickiness * 4294967296.0)
    return 0

cdef inline void random_walk_begin(void *state, uint64_t seed) noexcept nogil:
    cdef random_walk *walk = <random_walk *>state
    rng_seed(&walk.rng, seed, 0x5A1D)
    if walk.draw_stay:          # 0, 1/2, 3/4, 7/8, 15/16 or 31/32
        walk.stay = (<uint64_t>1 << 32) - ((<uint64_t>1 << 32) >> rng_below(&walk.rng, 6))

cdef inline void random_walk_fini(void *state) noexcept nogil:
    pass
