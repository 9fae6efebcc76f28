# Carry an execution on fibres: everything on the calling OS thread.
#
# Context: the caller holds no lock that a body takes, and nothing in a body takes the GIL or keeps
# an address of thread-local storage of the scheduler. A body that is given up in the middle simply
# never runs again; explorable.reset() copes with what it left.
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset
from cy.base.build cimport unlikely
from cy.base.hook cimport pt_hook
from cy.explore.fibre cimport fibre, fibre_init, fibre_switch, stack_top, stacks_alloc, stacks_free
from cy.explore.frames cimport frame
from cy.explore.policy cimport NOBODY
from cy.explore.race_watch cimport (
    race_watch, race_watch_begin, race_watch_end, race_watch_enter, race_watch_leave, race_watch_raced,
    race_watch_switch)
from cy.explore.scheduler cimport OUTCOME_RACE, sched_begin, sched_done, sched_end, scheduler

# What a fibre's entry is told.
cdef struct seat:
    scheduler *sched
    uint32_t number

cdef enum:
    CLEARED_BYTES = 8192        # of a stack whose frames are kept: more than any fibre uses

cdef struct fibre_crew:
    fibre context[65]           # [NOBODY]: the caller
    frame frames[64]
    seat seats[64]
    char *stacks                # nr_stacks of them, reused by every execution
    uint32_t nr_stacks
    pt_hook **slot              # of the calling thread
    race_watch watch

# Room for `n` fibres. Returns 0, or -1 if there is no memory.
cdef inline int fibre_crew_grow(fibre_crew *crew, uint32_t n) noexcept nogil:
    if n <= crew.nr_stacks:
        return 0
    fibre_crew_free(crew)
    crew.stacks = stacks_alloc(n)
    if crew.stacks == NULL:
        return -1
    crew.nr_stacks = n
    return 0

cdef inline void fibre_crew_free(fibre_crew *crew) noexcept nogil:
    stacks_free(crew.stacks, crew.nr_stacks)
    crew.stacks = NULL
    crew.nr_stacks = 0

# Let `s` carry its executions on `crew`. Context: the thread that will run them. Returns 0, or -1 if there is no memory. Ends
# with fibre_crew_leave.
cdef inline int fibre_crew_enter(fibre_crew *crew, scheduler *s) noexcept nogil:
    cdef uint32_t i
    crew.slot = s.system.current_slot()
    for i in range(s.system.nr_fibres):
        crew.seats[i].sched = s
        crew.seats[i].number = i
        crew.frames[i].top = stack_top(crew.stacks, i)
    s.carrier = crew
    s.transfer = fibre_transfer
    return race_watch_enter(&crew.watch, s.system)

cdef inline void fibre_crew_leave(fibre_crew *crew) noexcept nogil:
    race_watch_leave(&crew.watch)

# One execution. Returns its outcome. No fibre is left when it returns.
cdef inline uint32_t run_on_fibres(scheduler *s, uint64_t seed) noexcept nogil:
    cdef fibre_crew *crew = <fibre_crew *>s.carrier
    cdef uint32_t i, first
    crew.slot[0] = NULL
    first = sched_begin(s, seed)
    if crew.watch.on:
        race_watch_begin(&crew.watch)
    if first != NOBODY:
        for i in range(s.system.nr_fibres):
            if s.frames != NULL:
                memset(stack_top(crew.stacks, i) - CLEARED_BYTES, 0, CLEARED_BYTES)
            fibre_init(&crew.context[i], stack_top(crew.stacks, i), fibre_entry, &crew.seats[i])
        fibre_transfer(s, NOBODY, first)
    if not crew.watch.on:
        return sched_end(s)
    race_watch_end(&crew.watch, s)
    sched_end(s)
    if race_watch_raced(&crew.watch):
        s.outcome = OUTCOME_RACE
    return s.outcome

cdef inline void fibre_entry(void *arg) noexcept nogil:
    cdef seat *me = <seat *>arg
    cdef scheduler *s = me.sched
    s.system.body(s.system.self, me.number)
    fibre_transfer(s, me.number, sched_done(s))

cdef inline void fibre_transfer(scheduler *s, uint32_t frm, uint32_t to) noexcept nogil:
    cdef fibre_crew *crew = <fibre_crew *>s.carrier
    crew.slot[0] = s.hook[to] if to != NOBODY else NULL
    if unlikely(crew.watch.on):
        race_watch_switch(&crew.watch, to)
    fibre_switch(&crew.context[frm], &crew.context[to])
