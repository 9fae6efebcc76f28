# Many executions in a row without Python, in slices short enough for Ctrl-C.
#
# Guarantee: a slice ends between two executions, never inside one, and at most one execution (which
# max_steps bounds) after its time is up. No fibre and no thread exists between slices.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from cy.base.clock cimport now_ns
from cy.explore.distinct cimport distinct_add, distinct_clear, distinct_set
from cy.explore.on_fibres cimport run_on_fibres
from cy.explore.scheduler cimport OUTCOME_CUT, OUTCOME_PASS, execution_seed, scheduler

cdef enum:
    STOP_NONE = 0
    STOP_EXECUTIONS = 1
    STOP_SECONDS = 2
    STOP_FAILURE = 3
    STOP_EXHAUSTED = 4

cdef enum:
    SLICE_NS = 50000000
    # Looking at the clock costs as much as many steps where it is virtual: do it once per this many.
    STEPS_PER_LOOK = 16384

# The first execution that did not pass.
cdef struct failed_execution:
    uint64_t index
    uint64_t seed
    uint64_t hash
    uint32_t outcome            # OUTCOME_PASS: there is none
    uint32_t steps
    uint32_t nr_choices
    uint8_t *choices            # room for sched_max_choices()

cdef struct campaign:
    uint64_t seed
    bint exact_seed             # it is that of every execution; otherwise theirs are drawn from it
    uint64_t max_executions     # 0: no limit
    uint64_t deadline_ns        # 0: none
    bint stop_on_failure
    uint32_t stop               # STOP_...
    uint64_t executions
    uint64_t steps
    uint64_t outcomes[7]
    distinct_set distinct
    distinct_set *ends          # states in which executions ended that passed, in the last pass; NULL: nobody wants to know
    uint64_t passes             # that the policy has begun
    failed_execution failure

# Go on for one slice. Sets c.stop if the campaign is over.
# Context: fibre_crew_enter() was called on this thread.
cdef inline void campaign_slice(campaign *c, scheduler *s) noexcept nogil:
    cdef uint64_t slice_end = now_ns() + SLICE_NS
    cdef uint64_t look = c.steps + c.executions + STEPS_PER_LOOK
    cdef uint64_t now
    while c.stop == STOP_NONE:
        __one_execution(c, s)
        if c.steps + c.executions >= look:
            look = c.steps + c.executions + STEPS_PER_LOOK
            now = now_ns()
            if c.stop == STOP_NONE and c.deadline_ns != 0 and now >= c.deadline_ns:
                c.stop = STOP_SECONDS
            if now >= slice_end:
                return

cdef inline void __one_execution(campaign *c, scheduler *s) noexcept nogil:
    cdef uint64_t seed = c.seed if c.exact_seed else execution_seed(c.seed, 0 if s.policy.one_seed else c.executions)
    cdef uint32_t outcome = run_on_fibres(s, seed)
    cdef bint failed = outcome != OUTCOME_PASS and outcome != OUTCOME_CUT
    c.executions += 1
    c.steps += s.steps
    c.outcomes[outcome] += 1
    if outcome != OUTCOME_CUT:
        distinct_add(&c.distinct, s.hash)
    if c.ends != NULL and outcome == OUTCOME_PASS:
        distinct_add(c.ends, s.system.state(s.system.self))
    if failed and c.failure.outcome == OUTCOME_PASS:
        __keep(c, s, seed)
    if failed and c.stop_on_failure:
        c.stop = STOP_FAILURE
    else:
        __prepare_next(c, s)

# The failure that a campaign stopped at is none that is looked for: forget it and go on.
cdef inline void campaign_resume(campaign *c, scheduler *s) noexcept nogil:
    c.failure.outcome = OUTCOME_PASS
    c.stop = STOP_NONE
    __prepare_next(c, s)
    # Where failures follow each other closely, no slice is long enough to look.
    if c.stop == STOP_NONE and c.deadline_ns != 0 and now_ns() >= c.deadline_ns:
        c.stop = STOP_SECONDS

cdef inline void __prepare_next(campaign *c, scheduler *s) noexcept nogil:
    if not s.policy.more(s.policy_state, &s.now):
        c.stop = STOP_EXHAUSTED
    elif c.executions == c.max_executions:
        c.stop = STOP_EXECUTIONS
    if c.ends != NULL and s.policy.passes != NULL and s.policy.passes(s.policy_state) != c.passes:
        c.passes = s.policy.passes(s.policy_state)
        distinct_clear(c.ends)

cdef inline void __keep(campaign *c, scheduler *s, uint64_t seed) noexcept nogil:
    c.failure.index = c.executions - 1
    c.failure.seed = seed
    c.failure.hash = s.hash
    c.failure.outcome = s.outcome
    c.failure.steps = s.steps
    c.failure.nr_choices = s.nr_choices
    memcpy(c.failure.choices, s.choices, s.nr_choices)
