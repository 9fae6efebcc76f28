# The controlled scheduler: one fibre runs at a time, and what runs next is decided here.
#
# Guarantees
#   An execution is a function of (system, seed, choices). A choice is the number of a fibre, made at
#   a point where more than one fibre could run; where only one can, none is recorded.
#   The same choices give the same steps and the same hash on fibres and on OS threads, in any process.
# Protocol
#   A step is one schedule point together with all that its fibre does up to its next one. Points stand
#   before the access, so a choice decides whose access comes next.
#   A fibre starts when it is first chosen and passes its first point without a further choice: what
#   stands before that point touches nothing shared. Two fibres of three accesses have C(6,3) schedules.
#   wait(): the fibre is enabled while ready(arg) is true. Waiting is a step when it ends.
#   A body that returns with buffered stores passes one more point, of kind end, before they drain:
#   otherwise its last access and the drain would be one step.
#   A yield point gives way: its fibre is not enabled there unless it is the only one.
# Outcomes
#   violation  violations was not zero at a point, or finish() found something; abandoned at once
#   deadlock   no fibre is enabled and not all are done
#   livelock   more than max_steps steps
#   diverged   the policy had no right choice
#   cut        the policy knows all that could follow
#   race       ThreadSanitizer reported a data race (race_watch.pxd); told at the end of the execution
#
# Not modelled: a fibre that loops without a schedule point; a fibre that spins on loads, with neither wait()
# nor yield points, while its own stores are late.
#
# Who carries a fibre is not known here: on_fibres.pxd and on_threads.pxd set `transfer`.
from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t
from cy.base.build cimport unlikely
from cy.base.explorable cimport explorable
from cy.base.hash cimport hash_word
from cy.base.hook cimport PT_KIND_TEST, PT_KIND_YIELD, pt_hook, pt_site
from cy.base.rng cimport rng_seed
from cy.base.weak cimport pt_peek, pt_sb_drain
from cy.explore.frames cimport frame, frame_hash, keep_frame
from cy.explore.memory cimport memory, memory_begin, memory_bind, memory_drain_some, memory_unbind
from cy.explore.policy cimport CUT, MAX_FIBRES, NOBODY, access, is_in, lowest_bit, moment, policy_ops
from cy.explore.site_pairs cimport site_pairs, site_pairs_begin, site_pairs_note
from cy.explore.tsan cimport tsan_ignore_begin, tsan_ignore_end

ctypedef int (*ready_t)(const void *) noexcept nogil

cdef extern from *:
    """
    static const struct pt_site pt_end_site = { "cy/explore/scheduler.pxd", "end", 0, PT_KIND_END };
    """
    const pt_site END_SITE "pt_end_site"

cdef enum:
    OUTCOME_PASS = 0
    OUTCOME_VIOLATION = 1
    OUTCOME_DEADLOCK = 2
    OUTCOME_LIVELOCK = 3
    OUTCOME_DIVERGED = 4
    OUTCOME_CUT = 5
    OUTCOME_RACE = 6
    NR_OUTCOMES = 7

# One step of a traced execution.
cdef struct trace_step:
    const pt_site *site
    uint64_t offset             # from explorable.base; 0 if outside
    uint64_t before             # the word there just before the access
    uint64_t after              # the same word as its fibre saw it when the step was over
    uint64_t early              # what a load that was early returned
    uint64_t time               # logical; no stamp of the engine has the same
    uint32_t choices            # made in the execution so far: the last of them led here
    uint8_t fibre
    uint8_t is_early
    uint8_t before_bytes        # 0: no value, before or after

cdef struct scheduler:
    # Only the fibre that runs writes, or the caller while none runs. On OS threads the baton
    # orders one holder's accesses before the next one's.
    uint32_t current            # who runs; NOBODY: the caller
    uint32_t steps
    uint64_t runnable           # neither done nor in wait()
    uint64_t waiting            # in wait()
    uint64_t fresh              # not started
    uint64_t hash               # over the steps so far
    uint64_t clock              # what hook.clock points at
    uint64_t switches           # all executions: another fibre took over
    access pending[64]
    moment now                  # what the policy is shown
    ready_t ready[64]
    const void *ready_arg[64]
    const uint64_t *violations  # as the system has them
    uintptr_t base
    uint64_t bytes
    pt_hook *hook[64]
    uint8_t *choices            # made in this execution; room for sched_max_choices()
    uint32_t nr_choices
    uint32_t max_steps
    uint32_t outcome
    memory memory
    trace_step *trace           # NULL: not traced
    uint32_t max_trace
    trace_step *traced[64]      # the last step of each fibre
    site_pairs *noted           # NULL: pairs of this execution are not looked at
    # Set by the caller before the first execution, then only read.
    explorable *system
    frame *frames               # of each fibre; NULL: nobody asks for states
    site_pairs *pairs           # NULL: nobody wants to know
    policy_ops policy
    void *policy_state
    void *carrier
    # Stop here and let `to` run, or the caller if NOBODY. Returns when `frm` runs again.
    void (*transfer)(scheduler *s, uint32_t frm, uint32_t to) noexcept nogil

# Choices fall at steps, at the end of a fibre and at the start.
cdef inline uint32_t sched_max_choices(uint32_t max_steps) noexcept nogil:
    return max_steps + 2 * MAX_FIBRES + 1

# The seed of execution `index` of an exploration.
cdef inline uint64_t execution_seed(uint64_t seed, uint64_t index) noexcept nogil:
    cdef uint64_t state
    rng_seed(&state, seed ^ (index * <uint64_t>0xD1342543DE82EF95ULL), 0xE8EC)
    return state

# Bring the system to its initial state and bind the hooks.
# Context: no fibre exists; `*current_slot()` is NULL.
# Returns: who starts, or NOBODY if the policy has no right choice.
cdef inline uint32_t sched_begin(scheduler *s, uint64_t seed) noexcept nogil:
    cdef explorable *system = s.system
    cdef uint32_t i
    cdef pt_hook *hook
    # What reset() runs is recorded too: its stamps must lie before those of the fibres.
    s.violations = system.violations
    s.base = <uintptr_t>system.base
    s.bytes = system.bytes
    s.clock = 0
    for i in range(system.nr_fibres):
        hook = system.hook(system.self, i)
        hook.clock = &s.clock
        memory_unbind(hook)
    system.reset(system.self, seed)
    s.current = NOBODY
    s.steps = 0
    s.nr_choices = 0
    s.hash = <uint64_t>0x9AE16A3B2F90404FULL
    s.outcome = OUTCOME_PASS
    s.waiting = 0
    s.runnable = ~<uint64_t>0 >> (MAX_FIBRES - system.nr_fibres)
    s.fresh = s.runnable
    memory_begin(&s.memory, system, seed, s.policy.steps_only)
    s.memory.weak.told = __told_early
    s.now.pending = s.pending
    s.now.made.site = NULL
    s.now.state = sched_state
    s.now.ctx = s
    for i in range(system.nr_fibres):
        # reset() may have wiped them.
        hook = system.hook(system.self, i)
        hook.point = sched_point
        hook.wait = sched_wait
        hook.ctx = s
        if s.frames != NULL:
            keep_frame(&s.frames[i], hook)
        hook.clock = &s.clock
        memory_bind(&s.memory, hook, i)
        s.hook[i] = hook
        s.pending[i].site = NULL
        s.pending[i].addr = NULL
        s.traced[i] = NULL
    s.noted = s.pairs if s.pairs != NULL and site_pairs_begin(s.pairs) else NULL
    s.policy.begin(s.policy_state, seed)
    s.current = __next_fibre(s, 0)
    return s.current

# All fibres are done or abandoned: judge the execution.
# Context: `*current_slot()` is NULL.
cdef inline uint32_t sched_end(scheduler *s) noexcept nogil:
    if s.outcome == OUTCOME_PASS and s.system.finish(s.system.self) != 0:
        s.outcome = OUTCOME_VIOLATION
    return s.outcome

# moment.state. Context: whoever runs stands at a point, or its body has returned.
cdef inline uint64_t sched_state(void *ctx) noexcept nogil:
    cdef scheduler *s = <scheduler *>ctx
    cdef uint64_t h = s.system.state(s.system.self), left = s.runnable | s.waiting
    while left:
        h = hash_word(hash_word(h, lowest_bit(left)), frame_hash(&s.frames[lowest_bit(left)]))
        left &= left - 1
    return h

# Take the hooks off again, so that the system can be used without a scheduler.
cdef inline void sched_unbind(scheduler *s) noexcept nogil:
    cdef explorable *system = s.system
    cdef pt_hook *hook
    cdef uint32_t i
    for i in range(system.nr_fibres):
        hook = system.hook(system.self, i)
        hook.point = NULL
        hook.wait = NULL
        hook.ctx = NULL
        hook.clock = NULL
        memory_unbind(hook)

# The body of the running fibre returned. Returns: who runs next, or NOBODY.
cdef inline uint32_t sched_done(scheduler *s) noexcept nogil:
    cdef uint32_t me = s.current
    cdef uint64_t bit = <uint64_t>1 << me
    if unlikely(s.trace != NULL):
        __record_after(s, me)
    if s.hook[me].sb_n != 0:
        # Not where stores are in memory with their step: that point would lie outside of what frames.pxd keeps.
        if not s.policy.steps_only:
            sched_point(s, &END_SITE, NULL)
        pt_sb_drain(s.hook[me])
    s.runnable &= ~bit
    __start(s, bit)
    s.current = __next_fibre(s, 0)
    s.switches += s.current != NOBODY
    return s.current

# pt_hook.point
cdef inline void sched_point(void *ctx, const pt_site *site, const void *addr) noexcept nogil:
    cdef scheduler *s = <scheduler *>ctx
    cdef uint32_t me = s.current
    cdef uint32_t next
    if unlikely(s.trace != NULL):
        __record_after(s, me)
    s.pending[me].site = site
    s.pending[me].addr = addr
    if unlikely(site.kind == PT_KIND_TEST):
        s.pending[me].tested = s.hook[me].tested
    if unlikely((s.fresh >> me) & 1 != 0):
        s.fresh ^= <uint64_t>1 << me
        __account(s, me, site, addr)
        return
    if s.hook[me].sb_n != 0:
        memory_drain_some(&s.memory, s.hook[me], site)
    next = __next_fibre(s, <uint64_t>1 << me if unlikely(site.kind == PT_KIND_YIELD) and not s.policy.steps_only else 0)
    if next != me:
        __transfer(s, me, next)
    __account(s, me, site, addr)

# pt_hook.wait
cdef inline void sched_wait(void *ctx, const pt_site *site, ready_t ready, const void *arg) noexcept nogil:
    cdef scheduler *s = <scheduler *>ctx
    cdef uint32_t me = s.current
    cdef uint64_t bit = <uint64_t>1 << me
    cdef uint32_t next
    if unlikely(s.trace != NULL):
        __record_after(s, me)
    s.pending[me].site = site
    s.pending[me].addr = arg
    s.ready[me] = ready
    s.ready_arg[me] = arg
    __start(s, bit)
    s.runnable &= ~bit
    s.waiting |= bit
    # As at a yield point: what a waiter has buffered would stay unseen for as long as it waits.
    pt_sb_drain(s.hook[me])
    next = __next_fibre(s, 0)
    if next != me:
        __transfer(s, me, next)
    s.waiting &= ~bit
    s.runnable |= bit
    __account(s, me, site, arg)

# A fibre that has passed no point waits or ends: it was chosen and made no step.
cdef inline void __start(scheduler *s, uint64_t bit) noexcept nogil:
    if s.fresh & bit:
        s.fresh &= ~bit
        s.now.made.site = NULL

cdef inline void __transfer(scheduler *s, uint32_t me, uint32_t next) noexcept nogil:
    s.switches += next != NOBODY
    s.current = next
    s.transfer(s, me, next)

# `giving_way`: the bit of a fibre at a yield point, or 0.
cdef inline uint32_t __next_fibre(scheduler *s, uint64_t giving_way) noexcept nogil:
    cdef uint64_t enabled = s.runnable
    cdef bint alone
    cdef uint32_t i
    if unlikely(s.violations[0] != 0):
        s.outcome = OUTCOME_VIOLATION
        return NOBODY
    if unlikely(s.waiting != 0):
        enabled |= __ready(s, s.waiting)
    if enabled & ~giving_way:
        enabled &= ~giving_way
    if unlikely(enabled == 0):
        s.now.live = s.waiting
        s.now.current = s.current
        s.now.time = s.clock
        if s.waiting != 0:
            s.outcome = OUTCOME_DEADLOCK
        return NOBODY
    if unlikely(s.steps >= s.max_steps):
        s.outcome = OUTCOME_LIVELOCK
        return NOBODY
    alone = enabled & (enabled - 1) == 0
    if alone and not s.policy.every_step:
        return lowest_bit(enabled)
    s.now.enabled = enabled
    s.now.live = s.runnable | s.waiting
    s.now.past = s.hash
    s.now.time = s.clock
    s.now.current = s.current
    i = s.policy.choose(s.policy_state, &s.now)
    if unlikely(not is_in(enabled, i)):
        s.outcome = OUTCOME_CUT if i == CUT else OUTCOME_DIVERGED
        return NOBODY
    if not alone:
        s.choices[s.nr_choices] = <uint8_t>i
        s.nr_choices += 1
    return i

# Those of the `waiting` that can go on. What is looked at for them is no access of the fibre that runs.
cdef inline uint64_t __ready(scheduler *s, uint64_t waiting) noexcept nogil:
    cdef uint64_t ready = 0
    cdef uint32_t i
    if s.system.instrumented:
        tsan_ignore_begin()
    while waiting:
        i = lowest_bit(waiting)
        waiting &= waiting - 1
        if s.ready[i](s.ready_arg[i]):
            ready |= <uint64_t>1 << i
    if s.system.instrumented:
        tsan_ignore_end()
    return ready

# Fibre `me` makes its pending access now. The caller still has it at hand: what was just written to `pending` piece by piece
# would be read as a whole, and late.
cdef inline void __account(scheduler *s, uint32_t me, const pt_site *site, const void *addr) noexcept nogil:
    cdef uint64_t offset = <uintptr_t>addr - s.base
    cdef uint64_t h
    if offset >= s.bytes:
        offset = 0
    elif s.noted != NULL:
        site_pairs_note(s.noted, me, site, offset)
    h = s.hash ^ (<uint64_t>me | (<uint64_t>site.kind << 6) | (<uint64_t>site.line << 10) | (offset << 30))
    h *= <uint64_t>0x9FB21C651E98DF25ULL
    s.hash = h ^ (h >> 29)
    s.clock += 1
    if s.policy.every_step:
        s.now.made.site = site
        s.now.made.addr = addr
        s.now.made.tested = s.pending[me].tested
    if unlikely(s.trace != NULL):
        __record(s, me, offset)
    s.steps += 1

cdef inline void __record(scheduler *s, uint32_t me, uint64_t offset) noexcept nogil:
    cdef trace_step *step
    cdef uintptr_t addr = <uintptr_t>s.pending[me].addr
    cdef uint64_t at = addr - <uintptr_t>s.system.base
    cdef uint32_t word = 4 if addr & 7 else 8
    if s.steps >= s.max_trace:
        return
    step = &s.trace[s.steps]
    step.site = s.pending[me].site
    step.offset = offset
    step.time = s.clock
    step.choices = s.nr_choices
    step.fibre = <uint8_t>me
    step.before = 0
    step.after = 0
    step.is_early = False
    step.before_bytes = 0
    s.traced[me] = step
    if at < s.system.bytes and s.system.bytes - at >= word and addr & 3 == 0:
        step.before_bytes = <uint8_t>word
        step.before = pt_peek(NULL, <const void *>addr, word)

# pt_weak.told: the load that is just being made was early.
cdef inline void __told_early(void *ctx, uint64_t value) noexcept nogil:
    cdef trace_step *step = (<scheduler *>ctx).traced[(<scheduler *>ctx).current]
    if step != NULL:
        step.is_early = True
        step.early = value

# What the last traced step of fibre `me` left in its word. Context: `me` has stopped at its next point: it ran alone since.
cdef inline void __record_after(scheduler *s, uint32_t me) noexcept nogil:
    cdef trace_step *step = s.traced[me]
    cdef const char *addr = <const char *>s.system.base
    cdef uint64_t half
    if step == NULL or step.before_bytes == 0:
        return
    addr += step.offset
    step.after = pt_peek(s.hook[me], addr, step.before_bytes)
    if step.before_bytes == 8:
        # What was stored may be the lower half of the word only, and still in the buffer.
        half = pt_peek(s.hook[me], addr, 4)
        if half != pt_peek(NULL, addr, 4):
            step.after = (step.after & ~<uint64_t>0xFFFFFFFF) | half
