# Machine: a space with workers, and with a program to explore.


cdef enum:
    PARK_LIMIT_MS = 20000       # a worker that does not park for so long is stuck
    LATENCY_ROWS = NR_VERBS * LATENCY_BUCKETS
    SAMPLE_MS = 5               # between two looks at the table bytes of a measured burst
    MAX_SAMPLES = 64            # of a burst, the last one at its end included


cdef class Machine(Space):
    """An address space with worker threads, or with a program to explore.

    ``config`` and ``shared``: see ``Space``. ``start``, ``burst``, ``stop`` run endless streams and check
    after each burst; ``race`` runs one short program per worker; ``program`` and ``explorable`` hand a
    program to a controlled scheduler. With the config key ``measure`` the workers count how long the operations of
    their streams take, and ``burst`` looks at the table bytes every few milliseconds.
    """

    cdef crew crew
    cdef worker *workers
    cdef object kept            # arrays that streams and branches point into
    cdef explore_ctx explore
    cdef bint measured
    cdef _Region latency        # measured: histograms of all workers, one after the other
    cdef uint64_t samples[2 * MAX_SAMPLES]      # of a measured burst: time since its begin in ns, table bytes
    cdef uint32_t nr_samples

    def __init__(self, config, shared=None):
        super().__init__(config, shared)
        self.measured = bool(self.config["measure"])
        if self.measured:
            self.latency = _Region(self.x.nr_workers * LATENCY_ROWS * sizeof(uint64_t))
        self.workers = <worker *>calloc(self.x.nr_workers, sizeof(worker))
        if self.workers == NULL:
            raise MemoryError("cannot allocate the workers")

    def __dealloc__(self):
        if self.broken:
            if self.measured:
                self.latency.base = NULL        # the stuck worker may still count
            return
        if self.started:
            with nogil:
                crew_stop(&self.crew, self.started)
        free(self.workers)
        free(self.explore.branches)
        outcome_table_fini(&self.explore.allowed)

    # ---- many threads ----------------------------------------------------------------------

    def start(self, streams) -> None:
        """Start one native thread per worker; ``streams``: one of ("ops", array), ("mix", dict), None each."""
        if self.started:
            raise RuntimeError("already started")
        if len(streams) != self.x.nr_workers:
            raise ValueError(f"{len(streams)} streams for {self.x.nr_workers} workers")
        self._set_streams(streams)
        # Streams wait for each other by operations of the stream: what came before does not count.
        for i in range(self.x.nr_workers):
            self.x.shared[i].counter[C_STREAM_DONE] = 0
        self._count_latency(True)
        self._start_crew()

    cdef int _start_crew(self) except -1:
        self.crew.machine = self.x
        self.crew.workers = self.workers
        self.crew.nr = self.x.nr_workers
        self.crew.nr_cores = usable_cores()
        with nogil:
            self.started = crew_start(&self.crew)
        if self.started != self.x.nr_workers:
            self.broken = True
            raise MemoryError(f"could start {self.started} of {self.x.nr_workers} threads")
        return 0

    cdef int _set_streams(self, streams) except -1:
        cdef const op[::1] given
        cdef worker *w
        kept = []
        for i, spec in enumerate(streams):
            w = &self.workers[<int>i]
            w.finished = 0
            memset(&w.stream, 0, sizeof(stream))
            if spec is None:
                continue
            kind, what = spec
            if kind == "mix":
                w.stream.kind = STREAM_MIX
                fill_mix(&w.stream.mix, what, kept)
            else:
                array = checked_ops(what, self.x.nr_workers, True)
                kept.append(array)
                w.stream.kind = STREAM_ARRAY
                w.stream.nr_ops = len(array)
                if len(array):
                    given = array
                    w.stream.ops = &given[0]
        self.kept = kept
        return 0

    def burst(self, int max_ms) -> dict:
        """Let all workers race for at most ``max_ms``, then check everything on all of them.

        Returns {"finished": all arrays are at their end (and there is one), "race_ns", "check_ns", "stuck":
        workers that did not park within 20 s, "table_bytes": of a measured burst, (ns since its begin, bytes) while the
        workers raced and last when they had parked}. After a stuck burst the machine cannot be used any more.
        """
        cdef uint64_t t0 = now_ns(), t1, t2
        cdef uint32_t i
        cdef bint parked
        if not self.started or self.broken:
            raise RuntimeError("not started" if not self.broken else "a worker is stuck")
        self.x.header.burst += 1
        for i in range(self.x.nr_workers):
            # A worker that gets no cpu in this burst records nothing, and what was checked before is no part of it. (What was
            # done serially, and is still to be checked, is.)
            if self.x.shared[i].nr_events == 0:
                self.x.cpus[i].events[0].verb = 0
        pt_rel(&self.x.header.phase, 1)
        with nogil:
            crew_post(&self.crew, JOB_RACE)
            parked = self._wait(max_ms, t0)
            if not parked:
                pt_rel(&self.crew.end_burst, 1)
                parked = crew_wait(&self.crew, PARK_LIMIT_MS)
        t1 = now_ns()
        if not parked:
            self.broken = True
            return {"finished": False, "race_ns": t1 - t0, "check_ns": 0, "table_bytes": [],
                    "stuck": [i for i in range(self.x.nr_workers) if not self.x.shared[i].counter[C_PARKED]]}
        pt_rel(&self.x.header.phase, 2)
        self._sample(t1 - t0)
        check_quiescent(&self.x.cpus[0], self.x)
        self._consume_on_threads()
        self.x.header.table_bytes = machine_table_bytes(self.x)
        pt_rel(&self.x.header.phase, 0)
        t2 = now_ns()
        return {"finished": self._arrays_done(),
                "race_ns": t1 - t0, "check_ns": t2 - t1, "stuck": [],
                "table_bytes": [(self.samples[2 * i], self.samples[2 * i + 1]) for i in range(self.nr_samples)]}

    cdef bint _wait(self, int max_ms, uint64_t begin) noexcept nogil:
        """Wait for the workers, at most ``max_ms``; look at the table bytes meanwhile if that is measured."""
        self.nr_samples = 0
        while self.measured and max_ms > SAMPLE_MS and self.nr_samples < MAX_SAMPLES - 1:
            if crew_wait(&self.crew, SAMPLE_MS):
                return True
            self._sample(now_ns() - begin)
            max_ms -= SAMPLE_MS
        return crew_wait(&self.crew, max_ms)

    cdef void _sample(self, uint64_t ns) noexcept nogil:
        """Note the table bytes of a measured burst. Context: a look from outside while workers run."""
        if self.measured:
            self.samples[2 * self.nr_samples] = ns
            self.samples[2 * self.nr_samples + 1] = machine_table_bytes(self.x)
            self.nr_samples += 1

    cdef bint _arrays_done(self):
        cdef uint32_t i, arrays = 0
        for i in range(self.x.nr_workers):
            if self.workers[i].stream.kind == STREAM_ARRAY:
                arrays += 1
                if not self.workers[i].finished:
                    return False
        return arrays != 0

    cdef int _consume_on_threads(self) except -1:
        """As ``_consume``, with a share of the pages for each worker."""
        self.crew.check = judge_share
        self.crew.check_ctx = <void *>&self.judge
        with nogil:
            crew_post(&self.crew, JOB_CHECK)
            while not crew_wait(&self.crew, PARK_LIMIT_MS):
                pass
        self._empty_rings()
        return 0

    def stop(self) -> None:
        """Join the threads. Nothing to do if a worker is stuck."""
        if self.started and not self.broken:
            with nogil:
                crew_stop(&self.crew, self.started)
            self.started = 0
            self._count_latency(False)

    cdef int _count_latency(self, bint on) except -1:
        """Let the workers count, or what this thread does from now on not be counted. Context: no worker runs."""
        cdef uint32_t i
        for i in range(self.x.nr_workers if self.measured else 0):
            self.x.cpus[i].latency = <uint64_t *>self.latency.base + <uint64_t>i * LATENCY_ROWS if on else NULL
        return 0

    def latencies(self):
        """How many operations of the streams took how long: array NR_VERBS x LATENCY_BUCKETS, see cy/check/latency.pxd.

        Of all streams since the machine was made. Context: no worker runs. ValueError without the config key ``measure``.
        """
        cdef const uint64_t *counts
        cdef uint32_t i
        cdef uint64_t k
        cdef uint64_t[::1] total
        if not self.measured:
            raise ValueError("nothing was counted: expected a machine with measure=True")
        out = np.zeros((NR_VERBS, LATENCY_BUCKETS), np.uint64)
        total = out.reshape(-1)
        for i in range(self.x.nr_workers):
            counts = <const uint64_t *>self.latency.base + <uint64_t>i * LATENCY_ROWS
            for k in range(LATENCY_ROWS):
                total[k] += counts[k]
        return out

    def race(self, branches, seed=0) -> list:
        """Run one short program per worker, all at once, from the present state; then check.

        Returns the events of each. Threads are started by the first call and kept.
        """
        if len(branches) > self.x.nr_workers:
            raise ValueError(f"{len(branches)} branches for {self.x.nr_workers} workers")
        self._set_streams([("ops", b) for b in branches] + [None] * (self.x.nr_workers - len(branches)))
        if not self.started:
            self._start_crew()
        first = [self.x.shared[i].nr_events for i in range(self.x.nr_workers)]
        with nogil:
            crew_post(&self.crew, JOB_RACE)
            parked = crew_wait(&self.crew, PARK_LIMIT_MS)
        if not parked:
            self.broken = True
            raise RuntimeError("a worker is stuck")
        out = [self._events_from(i, first[i]) for i in range(len(branches))]
        check_quiescent(&self.x.cpus[0], self.x)
        self._consume()
        return out

    # ---- exploration -------------------------------------------------------------------------

    def program(self, prefix, branches, allowed=None) -> None:
        """Set what ``explorable()`` runs: ``prefix`` alone, then one fibre per branch (OP arrays).

        ``overlaps()`` then counts over all executions of this program. ``allowed``: (rows, pages), two uint64 arrays: outcomes
        as words, all different, and the pages that they end with, see ``ptstress.model.outcome_words``; an execution that comes
        to none of them is a violation. None: any outcome will do.
        """
        cdef const op[::1] given
        if self.started:
            raise RuntimeError("workers are running; call stop() first")
        if not 1 <= len(branches) <= self.x.nr_workers:
            raise ValueError(f"{len(branches)} branches for {self.x.nr_workers} workers")
        free(self.explore.branches)
        self.explore.branches = <branch *>calloc(len(branches), sizeof(branch))
        if self.explore.branches == NULL:
            raise MemoryError("cannot allocate the program")
        self.explore.x = self.x
        self.explore.judge = &self.judge
        self.explore.nr = len(branches)
        judge_forget_overlaps(&self.judge)
        kept = [checked_ops(p, self.x.nr_workers, False) for p in [prefix, *branches]]
        for i, array in enumerate(kept):
            given = array
            target = <branch *>&self.explore.prefix if i == 0 else &self.explore.branches[<int>i - 1]
            target.nr_ops = len(array)
            target.ops = &given[0] if len(array) else NULL
        self.kept = kept
        self._allow(allowed)

    cdef int _allow(self, allowed) except -1:
        cdef outcome_table *t = &self.explore.allowed
        cdef const uint64_t[:, ::1] rows
        cdef const uint64_t[::1] pages
        cdef uint32_t i
        outcome_table_fini(t)
        if allowed is None:
            return 0
        rows, pages = allowed
        if rows.shape[0] == 0 or rows.shape[1] == 0:
            raise ValueError("expected at least one outcome, of at least one word")
        t.rows, t.nr_rows, t.width = &rows[0, 0], rows.shape[0], rows.shape[1]
        t.pages, t.nr_pages = &pages[0] if pages.shape[0] else NULL, pages.shape[0]
        t.nr_prefix = self.explore.prefix.nr_ops
        t.max_stamps = 2 * (t.nr_prefix + t.nr_pages)
        for i in range(self.explore.nr):
            t.max_stamps += 2 * self.explore.branches[i].nr_ops
        self.kept.append(allowed)
        if not outcome_table_init(t):
            raise MemoryError(f"cannot allocate a table of {t.nr_rows} outcomes")
        return 0

    def outcomes_seen(self):
        """Of each outcome that the program may come to: whether an execution came to it."""
        cdef uint32_t i
        return [bool(self.explore.allowed.seen[i]) for i in range(self.explore.allowed.nr_rows)]

    def outcome(self) -> list:
        """What the last execution came to, as words. Needs outcomes that are allowed, and an execution that ended."""
        cdef outcome_table *t = &self.explore.allowed
        cdef uint32_t i
        if t.nr_rows == 0 or not outcome_read(t, self.x, self.explore.nr):
            raise RuntimeError("there is no outcome of this program")
        return [t.words[i] for i in range(t.width)]

    def look_up(self, uint64_t times) -> int:
        """Read what the last execution came to and look it up, so often. Returns how often it was allowed; for measurements."""
        cdef outcome_table *t = &self.explore.allowed
        cdef uint64_t n, found = 0
        if t.nr_rows == 0:
            raise RuntimeError("there are no outcomes of this program")
        with nogil:
            for n in range(times):
                found += outcome_read(t, self.x, self.explore.nr) and outcome_find(t) >= 0
        return found

    def explorable(self):
        """Capsule for ``_explore.Explorer``; it keeps the machine alive.

        Only in the sched build: elsewhere there are no schedule points.
        """
        if not PT_SCHED:
            raise ValueError(f"the build {PT_BUILD_NAME.decode()} has no schedule points; use sched")
        if self.explore.branches == NULL:
            raise RuntimeError("call program() first")
        self.explore.face.self = &self.explore
        self.explore.face.nr_fibres = self.explore.nr
        self.explore.face.base = self.x.region
        self.explore.face.bytes = self.x.region_bytes
        self.explore.face.tables = self.x.entries
        self.explore.face.tables_bytes = <uint64_t>self.x.tables.nr * self.x.mms[0].geo.max_fanout * sizeof(uint64_t)
        while <uint64_t>1 << self.explore.face.table_shift < self.x.mms[0].geo.max_fanout * sizeof(uint64_t):
            self.explore.face.table_shift += 1
        self.explore.face.instrumented = PT_TSAN
        self.explore.face.reset = explore_reset
        self.explore.face.body = explore_body
        self.explore.face.finish = explore_finish
        self.explore.face.state = explore_state
        self.explore.face.violations = &self.x.header.nr_reports
        self.explore.face.hook = explore_hook
        self.explore.face.current_slot = explore_slot
        capsule = PyCapsule_New(&self.explore.face, "ptstress.explorable", release_machine)
        PyCapsule_SetContext(capsule, <void *>self)
        Py_INCREF(self)
        return capsule
