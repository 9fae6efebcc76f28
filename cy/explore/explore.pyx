"""The explorer's Python face: run a system under every schedule that a policy picks, or under one."""

from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_New
from cy.base.clock cimport now_ns
from cy.base.explorable cimport explorable
from cy.base.hook cimport pt_site
from cy.base.weak cimport pt_weak, pt_weakened
from cy.explore.campaign cimport (
    STOP_EXHAUSTED, STOP_FAILURE, STOP_NONE, campaign, campaign_resume, campaign_slice)
from cy.explore.distinct cimport distinct_fini, distinct_init, distinct_set
from cy.explore.dpor cimport MAX_CLOCKS
from cy.explore.fibre cimport FIBRE_KIND
from cy.explore.follow cimport follow as follow_state, follow_ops
from cy.explore.memory cimport draw_stores
from cy.explore.frames cimport FRAMES_KEPT
from cy.explore.litmus cimport litmus as litmus_system, litmus_init
from cy.explore.on_fibres cimport (
    fibre_crew, fibre_crew_enter, fibre_crew_free, fibre_crew_grow, fibre_crew_leave, run_on_fibres)
from cy.explore.on_threads cimport run_on_threads
from cy.explore.pct cimport MAX_DEPTH as PCT_MAX_DEPTH
from cy.explore.policies cimport find_policy, policy_names
from cy.explore.policy cimport MAX_FIBRES, access, policy_knobs
from cy.explore.race_watch cimport race_watch
from cy.explore.replay cimport replay as replay_state, replay_left, replay_ops
from cy.explore.scheduler cimport (
    NR_OUTCOMES, OUTCOME_DIVERGED, OUTCOME_PASS, execution_seed, sched_max_choices, sched_unbind, scheduler,
    trace_step)
from cy.explore.site_pairs cimport site_pairs, site_pairs_enter, site_pairs_fini, site_pairs_init
from cy.explore.tsan cimport file_end

import operator
import os
import re

OUTCOMES = ("pass", "violation", "deadlock", "livelock", "diverged", "cut", "race")
STOP_REASONS = (None, "executions", "seconds", "failure", "exhausted", "stopped")
POLICIES = tuple(policy_names().decode().split())
STORES = ("late", "eager", "weak")
KINDS = ("load", "store", "rmw", "plain_load", "plain_store", "lock", "unlock", "wait", "yield", "op", "end", "fill", "add",
         "test")
LITMUS = (
    "fetch_add_2x3", "fetch_add_3x2", "fetch_add_2x10", "split_increment", "deadlock", "livelock", "store_buffer", "half_update",
    "abandon", "handover", "unsteady", "fetch_add_apart_2x3", "fetch_add_apart_3x2", "readers", "blind_add_2x3", "test_same",
    "test_other", "between_holds")
MAX_STEPS = 10_000_000


cdef class Explorer:
    """Explores one system, given as the capsule ``ptstress.explorable`` that an engine hands out.

    One thread at a time may use an Explorer, and nobody may use its system meanwhile.
    """

    cdef object capsule         # keeps the system alive
    cdef explorable *system
    cdef scheduler *sched
    cdef readonly Memory memory
    cdef fibre_crew *crew
    cdef bint busy
    # What ThreadSanitizer reported in the last call: "" if nothing, or if it is not loaded.
    cdef readonly str races

    def __cinit__(self, capsule):
        if not PyCapsule_IsValid(capsule, b"ptstress.explorable"):
            raise TypeError(f"Explorer needs a capsule 'ptstress.explorable', not {type(capsule).__name__}")
        self.capsule = capsule
        self.system = <explorable *>PyCapsule_GetPointer(capsule, b"ptstress.explorable")
        self.sched = <scheduler *>calloc(1, sizeof(scheduler))
        self.memory = Memory()
        self.crew = <fibre_crew *>calloc(1, sizeof(fibre_crew))
        if self.sched == NULL or self.crew == NULL:
            raise MemoryError("no memory for an Explorer")

    def __dealloc__(self):
        if self.crew != NULL:
            fibre_crew_free(self.crew)
        free(self.crew)
        free(self.sched)

    def explore(self, policy: str = "random", seed: int = 0, executions: int | None = 1000,
                seconds: float | None = None, max_steps: int = 20000, stickiness: float | None = None,
                preemption_bound: int | None = 2, depth: int | None = None, stop_on_failure: bool = True, progress=None,
                pairs: SitePairs | None = None, wanted=None, exact_seed: bool = False, steps_only: bool = False,
                order: bytes = b"", ends: bool = False) -> dict:
        """Run many executions and return what was seen.

        ``executions`` and ``seconds`` limit the exploration (None: no limit), ``max_steps`` one execution.
        ``stickiness``: chance in [0, 1) that "random" stays on the running fibre; None draws it anew for
        each execution. ``preemption_bound``: of "dfs"; None: all schedules. ``depth`` in 1 to 8: of "pct"; None: 1 to 4 in
        turns. ``progress`` is called about
        every 50 ms with the result so far; a true answer ends the exploration ("stopped"). ``pairs`` collects
        which accesses of different fibres followed each other. ``order``: marks for the policy "recorded"; see ``recorded.pxd``.
        ``wanted`` is called with each outcome that is a failure, while the system is as that execution left it; where it
        says no, the exploration goes on as if nothing had been found. ``exact_seed``: ``seed`` is that of each execution, as
        a failure has it, not of the exploration; of policies that walk a tree. ``steps_only``: as in ``replay``.

        ``ends``: the result has, under that name, the set of the states in which executions that passed have left the system;
        up to 2^20, as numbers that mean nothing in another process. Of the policy "states": those of the pass that counts.

        ``failure["seed"]``, ``["choices"]`` and ``["max_steps"]`` are what replay() needs.
        """
        cdef campaign c
        cdef policy_knobs knobs
        cdef distinct_set end_states
        memset(&c, 0, sizeof(c))
        memset(&end_states, 0, sizeof(end_states))
        memset(&knobs, 0, sizeof(knobs))
        c.seed = _seed(seed)
        c.exact_seed = exact_seed
        knobs.stickiness = _stickiness(stickiness)
        knobs.preemption_bound = 0xFFFFFFFE if preemption_bound is None else _count(
            "preemption_bound", preemption_bound, 0, 0xFFFFFFFE)
        knobs.choices = order
        knobs.nr_choices = len(order)
        knobs.depth = 0 if depth is None else _count("depth", depth, 1, PCT_MAX_DEPTH)
        if policy in ("dpor", "states") and self.system.nr_fibres > MAX_CLOCKS:
            raise ValueError(f"policy {policy!r} takes up to {MAX_CLOCKS} fibres, and the system has {self.system.nr_fibres}")
        c.max_executions = 0 if executions is None else _count("executions", executions, 1, 1 << 62)
        if seconds is not None and not 0 <= seconds <= 1e9:
            raise ValueError(f"seconds: expected a number from 0 to 1e9, not {seconds}")
        c.stop_on_failure = stop_on_failure
        self._enter(max_steps)
        try:
            if not find_policy(policy.encode(), &self.sched.policy):
                raise ValueError(f"unknown policy {policy!r}: expected one of {', '.join(POLICIES)}")
            if executions is None and seconds is None and not self.sched.policy.one_seed:
                raise ValueError(f"policy {policy!r} never ends by itself: give executions or seconds")
            if exact_seed and not self.sched.policy.one_seed:
                raise ValueError(f"policy {policy!r} draws its choices from the seed: all executions would be the same")
            self.sched.policy.steps_only |= steps_only
            if pairs is not None:
                site_pairs_enter(&pairs.set, self.system)
                self.sched.pairs = &pairs.set
            if self.sched.policy.keeps_frames and not (FRAMES_KEPT and self.system.state != NULL):
                raise ValueError(f"policy {policy!r} does not know the states of this system, or not on this processor")
            if ends:
                if self.system.state == NULL:
                    raise ValueError("ends: nobody knows the states of this system")
                if distinct_init(&end_states, 1 << 20) != 0:
                    raise MemoryError("no memory for the states at the end")
                c.ends = &end_states
            self._start_policy(&knobs)
            result = self._campaign(&c, policy, seconds, progress, wanted)
            if ends:
                result["ends"] = {end_states.slots[i] for i in range(end_states.mask + 1) if end_states.slots[i]}
            return result
        finally:
            distinct_fini(&end_states)
            self._leave()

    def follow(self, choices, seed: int, executions: int = 1, walk: bool = False, stickiness: float | None = None,
               max_steps: int = 20000, steps_only: bool = False) -> dict:
        """Make these choices where they can be made, then stay with the running fibre, or ``walk`` at random.

        ``seed``: of each execution, as a failure has it; walks differ all the same. ``stickiness``: of the walk, as in
        ``explore``. Returns what ``explore`` returns, of all executions, with the first failure, and ``preemptions``: how
        often the last execution took the processor from a fibre that could have gone on.
        """
        cdef campaign c
        cdef policy_knobs knobs
        cdef bytes given = _choices(choices)
        memset(&c, 0, sizeof(c))
        memset(&knobs, 0, sizeof(knobs))
        c.seed = _seed(seed)
        c.exact_seed = True
        c.max_executions = _count("executions", executions, 1, 1 << 62)
        knobs.stickiness = _stickiness(stickiness)
        knobs.choices = given
        knobs.nr_choices = len(given)
        knobs.walks = walk
        self._enter(max_steps)
        try:
            follow_ops(&self.sched.policy)
            self.sched.policy.steps_only = steps_only
            self._start_policy(&knobs)
            result = self._campaign(&c, "follow", None, None, None)
            result["preemptions"] = (<follow_state *>self.sched.policy_state).preemptions
            return result
        finally:
            self._leave()

    def replay(self, choices, seed: int, trace: bool = True, max_steps: int = 20000, steps_only: bool = False) -> dict:
        """Run one execution on fibres with exactly these choices.

        ``steps_only``: as ``explore`` said in ``failure``: stores are not buffered and nobody gives way, as "dpor" has it.

        Returns ``outcome``, ``hash``, ``points``, ``pending``: what each fibre that did not end was about to do, as ``fibre``,
        ``kind``, ``file``, ``line``, ``func`` and ``offset``; and ``trace``: a list of steps, each with ``fibre``, ``kind``,
        ``file``, ``line``, ``func``, ``offset`` (from the system's memory; None outside), ``before`` (the
        8-byte word there just before the access, 4 bytes where the address is no multiple of 8), ``after`` (the same
        word when the step was over, as its fibre saw it: others may see what it stored later), ``early`` (what a load
        returned that was early: an older value; None: it was not), ``time`` (logical, the clock of the engine's events;
        no two are equal) and ``choices`` (how many had been made: the last of them led to this step).
        """
        cdef trace_step *steps = NULL
        cdef uint64_t first_hash
        cdef bytes given = _choices(choices)
        cdef uint64_t exec_seed = _seed(seed)
        self._enter(max_steps)
        try:
            self._start_replay(given, steps_only)
            outcome = self._finish_replay(run_on_fibres(self.sched, exec_seed))
            if not trace:
                return self._replayed(outcome, None)
            # A second run with as much room as the first one needed: no allocation on a fibre.
            first_hash = self.sched.hash
            self.sched.max_trace = self.sched.steps
            steps = <trace_step *>malloc((self.sched.max_trace + 1) * sizeof(trace_step))
            if steps == NULL:
                raise MemoryError(f"no memory for a trace of {self.sched.max_trace} steps")
            self.sched.trace = steps
            again = self._finish_replay(run_on_fibres(self.sched, exec_seed))
            if again != outcome or self.sched.hash != first_hash:
                again = "diverged"
            return self._replayed(again, [
                _step(&steps[i], self.system) for i in range(min(self.sched.steps, self.sched.max_trace))])
        finally:
            free(steps)
            self._leave()

    def replay_threads(self, choices, seed: int, max_steps: int = 20000, steps_only: bool = False) -> dict:
        """Run one execution with exactly these choices on true OS threads, one per fibre.

        Returns ``outcome``, ``hash`` and ``points``; they equal those of replay().
        """
        cdef bytes given = _choices(choices)
        cdef uint64_t exec_seed = _seed(seed)
        cdef int outcome
        self._enter(max_steps)
        try:
            self._start_replay(given, steps_only)
            with nogil:
                outcome = run_on_threads(self.sched, exec_seed)
            if outcome < 0:
                raise OSError(-outcome, f"cannot start {self.system.nr_fibres} threads: {os.strerror(-outcome)}")
            return self._replayed(self._finish_replay(outcome), None)
        finally:
            self._leave()

    def offset_of(self, address: int) -> int | None:
        """Of an address in the system's memory; None outside."""
        cdef uint64_t offset = <uint64_t>address - <uint64_t><uintptr_t>self.system.base
        return offset if offset < self.system.bytes else None

    cdef _enter(self, max_steps):
        cdef scheduler *s = self.sched
        cdef uint32_t bound = _count("max_steps", max_steps, 1, MAX_STEPS)
        if self.busy:
            raise RuntimeError("this Explorer is in use by another thread")
        if not 1 <= self.system.nr_fibres <= MAX_FIBRES:
            raise ValueError(f"the system has {self.system.nr_fibres} fibres: expected 1 to {MAX_FIBRES}")
        self.busy = self.memory.busy = True
        memset(s, 0, sizeof(scheduler))
        s.system = self.system
        s.memory.weak = self.memory.weak
        s.max_steps = bound
        s.choices = <unsigned char *>malloc(sched_max_choices(bound))
        if s.choices == NULL or fibre_crew_grow(self.crew, self.system.nr_fibres) != 0:
            self._leave()
            raise MemoryError(f"no memory for {self.system.nr_fibres} stacks of 64 KiB")
        if fibre_crew_enter(self.crew, s) != 0:
            self._leave()
            raise MemoryError("no memory for the reports of ThreadSanitizer")

    cdef _leave(self):
        cdef scheduler *s = self.sched
        self.races = _reports(&self.crew.watch)
        fibre_crew_leave(self.crew)
        s.system.current_slot()[0] = NULL
        sched_unbind(s)
        if s.policy_state != NULL:
            s.policy.fini(s.policy_state)
        free(s.policy_state)
        s.policy_state = NULL
        free(s.choices)
        s.choices = NULL
        self.busy = self.memory.busy = False

    cdef _campaign(self, campaign *c, policy, seconds, progress, wanted):
        cdef uint64_t begun_ns, spent_ns = 0
        try:
            c.failure.choices = <unsigned char *>malloc(sched_max_choices(self.sched.max_steps))
            if c.failure.choices == NULL or distinct_init(&c.distinct, c.max_executions or 1 << 20) != 0:
                raise MemoryError("no memory for an exploration")
            begun_ns = now_ns()
            if seconds is not None:
                c.deadline_ns = begun_ns + <uint64_t>(<double>seconds * 1e9)
            while c.stop == STOP_NONE:
                with nogil:
                    campaign_slice(c, self.sched)
                    spent_ns = now_ns() - begun_ns
                PyErr_CheckSignals()
                if wanted is not None and c.stop == STOP_FAILURE and not wanted(OUTCOMES[c.failure.outcome]):
                    campaign_resume(c, self.sched)
                if progress is not None and c.stop == STOP_NONE:
                    if progress(self._result(c, policy, spent_ns, None)):
                        return self._result(c, policy, spent_ns, "stopped")
            return self._result(c, policy, spent_ns, STOP_REASONS[c.stop])
        finally:
            free(c.failure.choices)
            distinct_fini(&c.distinct)

    cdef _start_policy(self, policy_knobs *knobs):
        cdef scheduler *s = self.sched
        knobs.max_choices = sched_max_choices(s.max_steps)
        knobs.system = s.system
        s.frames = self.crew.frames if s.policy.keeps_frames else NULL
        s.policy_state = calloc(1, s.policy.state_bytes)
        if s.policy_state == NULL or s.policy.init(s.policy_state, knobs) != 0:
            raise MemoryError("no memory for the policy's state")

    cdef _start_replay(self, bytes choices, bint steps_only):
        cdef policy_knobs knobs
        memset(&knobs, 0, sizeof(knobs))
        knobs.choices = choices
        knobs.nr_choices = len(choices)
        replay_ops(&self.sched.policy)
        self.sched.policy.steps_only = steps_only
        self._start_policy(&knobs)

    cdef _finish_replay(self, int outcome):
        if replay_left(<replay_state *>self.sched.policy_state) != 0:
            outcome = OUTCOME_DIVERGED
        return OUTCOMES[outcome]

    cdef _replayed(self, outcome, trace):
        result = {"outcome": outcome, "hash": self.sched.hash, "points": self.sched.steps}
        if trace is not None:
            result["trace"] = trace
            result["pending"] = [
                _pending(i, &self.sched.pending[i], self.system) for i in range(self.system.nr_fibres)
                if (self.sched.runnable | self.sched.waiting) >> i & 1 and self.sched.pending[i].site != NULL]
        return result

    cdef _result(self, campaign *c, policy, uint64_t spent_ns, stop_reason):
        failure = None
        if c.failure.outcome != OUTCOME_PASS:
            failure = {
                "index": c.failure.index, "outcome": OUTCOMES[c.failure.outcome], "seed": c.failure.seed,
                "choices": PyBytes_FromStringAndSize(<char *>c.failure.choices, c.failure.nr_choices),
                "hash": c.failure.hash, "points": c.failure.steps, "max_steps": self.sched.max_steps,
                "steps_only": bool(self.sched.policy.steps_only),
            }
        return {
            "policy": policy, "seed": c.seed, "executions": c.executions, "seconds": spent_ns / 1e9,
            "executions_per_second": c.executions * 1e9 / (spent_ns or 1),
            "points": c.steps, "points_mean": c.steps / (c.executions or 1), "switches": self.sched.switches,
            "distinct": c.distinct.count, "distinct_saturated": bool(c.distinct.saturated),
            "outcomes": {OUTCOMES[i]: c.outcomes[i] for i in range(NR_OUTCOMES)},
            "done": self.sched.policy.done(self.sched.policy_state), "exhausted": c.stop == STOP_EXHAUSTED,
            "stop_reason": stop_reason, "failure": failure,
            "states": self.sched.policy.states(self.sched.policy_state) if self.sched.policy.states != NULL else None,
        }


cdef str _reports(const race_watch *watch):
    """What ThreadSanitizer has written since the exploration began."""
    return os.pread(watch.file, file_end(watch.file), 0).decode(errors="replace") if watch.on else ""


include "arguments.pxi"
include "weakened.pxi"
include "places.pxi"


def stores_of(seed: int) -> str:
    """How stores wait in every execution of an exploration by "dfs" with this seed: an item of ``STORES``."""
    cdef uint64_t rng
    return STORES[draw_stores(&rng, execution_seed(_seed(seed), 0))]


def carrier() -> str:
    """How fibres are switched here: "x86-64" or "ucontext"."""
    return FIBRE_KIND.decode()


def litmus(name: str):
    """A tiny system with known schedules, as a capsule for Explorer; names are in ``LITMUS``."""
    cdef litmus_system *l = <litmus_system *>malloc(sizeof(litmus_system))
    if l == NULL:
        raise MemoryError("no memory for a litmus system")
    if not litmus_init(l, name.encode()):
        free(l)
        raise ValueError(f"unknown litmus system {name!r}: expected one of {', '.join(LITMUS)}")
    return PyCapsule_New(&l.face, b"ptstress.explorable", _free_litmus)


cdef void _free_litmus(object capsule) noexcept:
    free((<explorable *>PyCapsule_GetPointer(capsule, b"ptstress.explorable")).self)
