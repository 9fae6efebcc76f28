# Policy `replay`: make exactly the given choices.
#
# A choice that is not enabled, a list that ends too early and a list that is too long all mean that
# the system is not the one that was recorded. The execution is then `diverged`; nothing is guessed.
from libc.stdint cimport uint32_t, uint64_t
from cy.explore.policy cimport NOBODY, moment, never_done, policy_knobs, policy_ops

cdef struct replay:
    const unsigned char *choices
    uint32_t nr_choices
    uint32_t next

cdef inline void replay_ops(policy_ops *ops) noexcept nogil:
    ops.state_bytes = sizeof(replay)
    ops.one_seed = True
    ops.init = replay_init
    ops.begin = replay_begin
    ops.choose = replay_choose
    ops.more = replay_more
    ops.done = never_done
    ops.fini = replay_fini

cdef inline uint32_t replay_choose(void *state, const moment *now) noexcept nogil:
    cdef replay *r = <replay *>state
    if r.next == r.nr_choices:
        return NOBODY
    r.next += 1
    return r.choices[r.next - 1]

# Choices that the execution did not come to.
cdef inline uint32_t replay_left(const replay *r) noexcept nogil:
    return r.nr_choices - r.next

cdef inline int replay_init(void *state, const policy_knobs *knobs) noexcept nogil:
    cdef replay *r = <replay *>state
    r.choices = knobs.choices
    r.nr_choices = knobs.nr_choices
    return 0

cdef inline void replay_begin(void *state, uint64_t seed) noexcept nogil:
    (<replay *>state).next = 0

cdef inline bint replay_more(void *state, const moment *now) noexcept nogil:
    return False

cdef inline void replay_fini(void *state) noexcept nogil:
    pass
