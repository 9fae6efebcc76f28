# Policy `follow`: make the given choices where they can be made, then go on alone.
#
# Two ways to go on: stay with the running fibre as long as it can, which adds no preemption; or walk at random, each
# execution another way, which tells how often an execution that began so ends badly.
#
# Given all choices of a recorded execution, it repeats that one. Given the first n of them, it comes to the same place,
# because an execution is a function of system, seed and choices. Given others, it is lenient where `replay` is strict: a
# choice that cannot be made is passed over, so that an altered schedule is still one. What was made in the end is in the
# scheduler's own list.
#
# All executions share one seed: ages of stores and rare paths go on as in the recorded execution; only the walk is drawn anew.
from libc.stdint cimport uint32_t, uint64_t
from cy.explore.policy cimport (
    always_more, is_in, is_preemption, lowest_bit, moment, never_done, policy_knobs, policy_ops)
from cy.explore.random_walk cimport random_walk, random_walk_begin, random_walk_choose, random_walk_init

cdef struct follow:
    random_walk walk
    bint walks
    uint64_t executions         # begun: tells their walks apart
    const unsigned char *choices
    uint32_t nr_choices
    uint32_t next
    uint32_t preemptions        # of this execution

cdef inline void follow_ops(policy_ops *ops) noexcept nogil:
    ops.state_bytes = sizeof(follow)
    ops.one_seed = True
    ops.init = follow_init
    ops.begin = follow_begin
    ops.choose = follow_choose
    ops.more = always_more
    ops.done = never_done
    ops.fini = follow_fini

cdef inline uint32_t follow_choose(void *state, const moment *now) noexcept nogil:
    cdef follow *f = <follow *>state
    cdef uint32_t chosen = __next_choice(f, now)
    f.preemptions += is_preemption(now.enabled, now.current, chosen)
    return chosen

cdef inline uint32_t __next_choice(follow *f, const moment *now) noexcept nogil:
    while f.next < f.nr_choices:
        f.next += 1
        if is_in(now.enabled, f.choices[f.next - 1]):
            return f.choices[f.next - 1]
    if f.walks:
        return random_walk_choose(&f.walk, now)
    return now.current if is_in(now.enabled, now.current) else lowest_bit(now.enabled)

cdef inline int follow_init(void *state, const policy_knobs *knobs) noexcept nogil:
    cdef follow *f = <follow *>state
    f.choices = knobs.choices
    f.nr_choices = knobs.nr_choices
    f.walks = knobs.walks
    return random_walk_init(&f.walk, knobs)

cdef inline void follow_begin(void *state, uint64_t seed) noexcept nogil:
    cdef follow *f = <follow *>state
    f.next = 0
    f.preemptions = 0
    random_walk_begin(&f.walk, seed ^ (f.executions * <uint64_t>0xD1342543DE82EF95ULL))
    f.executions += 1

cdef inline void follow_fini(void *state) noexcept nogil:
    pass
