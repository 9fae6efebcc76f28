# Policy `pos`: every access that is about to be made has a random priority, and the highest is made next. Whoever was about to
# make an access that depends on it draws anew.
#
# A walk that chooses a fibre at each step makes orders that hardly differ again and again; here each order of dependent
# accesses has a fair chance, however many steps that depend on nothing lie between them.
#
# Source: Yuan, Yang, Gu, "Partial order aware concurrency sampling", CAV 2018.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.explorable cimport explorable
from cy.base.rng cimport rng_next, rng_seed
from cy.explore.dependence cimport depend
from cy.explore.policy cimport (
    MAX_FIBRES, always_more, lowest_bit, moment, never_done, policy_knobs, policy_ops)

cdef struct pos:
    const explorable *system
    uint64_t rng
    uint64_t priority[64]       # of the access that the fibre is about to make; 0: to be drawn

cdef inline void pos_ops(policy_ops *ops) noexcept nogil:
    ops.state_bytes = sizeof(pos)
    ops.every_step = True
    ops.init = pos_init
    ops.begin = pos_begin
    ops.choose = pos_choose
    ops.more = always_more
    ops.done = never_done
    ops.fini = pos_fini

cdef inline uint32_t pos_choose(void *state, const moment *now) noexcept nogil:
    cdef pos *p = <pos *>state
    cdef uint64_t left = now.enabled
    cdef uint32_t i, best = lowest_bit(left)
    if now.current < MAX_FIBRES:
        p.priority[now.current] = 0
    while left:
        i = lowest_bit(left)
        left &= left - 1
        if p.priority[i] == 0 or depend(p.system, &now.made, &now.pending[i]):
            p.priority[i] = rng_next(&p.rng) | 1
        if p.priority[i] > p.priority[best]:
            best = i
    return best

cdef inline int pos_init(void *state, const policy_knobs *knobs) noexcept nogil:
    (<pos *>state).system = knobs.system
    return 0

cdef inline void pos_begin(void *state, uint64_t seed) noexcept nogil:
    cdef pos *p = <pos *>state
    cdef uint32_t i
    rng_seed(&p.rng, seed, 0x905)
    for i in range(<uint32_t>MAX_FIBRES):
        p.priority[i] = 0

cdef inline void pos_fini(void *state) noexcept nogil:
    pass
