# Machine: one address space with its workers.

cdef enum:
    PARK_LIMIT_MS = 20000       # a worker that does not park for so long is stuck


cdef class _Region:
    """Zeroed memory of its own, given back when the last user is gone."""

    cdef void *base
    cdef size_t size

    def __cinit__(self, size_t size):
        self.base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if <intptr_t>self.base == -1:
            self.base = NULL
            raise MemoryError(f"cannot map {size} bytes for the machine")
        self.size = size

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.size)


cdef class Machine:
    """An address space under test: tables, frames, VMAs, cpus and worker threads.

    ``config``: see ``CONFIG_DEFAULTS`` and ``KNOB_DEFAULTS``; sizes are counts, seeds any integer.
    ``shared``: a writable buffer of ``shared_bytes()`` that others may watch; private if None.
    Raises ValueError for a bad configuration, MemoryError if the machine cannot be had.
    Not to be used by two Python threads at once.
    """

    cdef machine *x
    cdef _Region region
    cdef _Region own_shared
    cdef Py_buffer view
    cdef bint has_view
    cdef crew crew
    cdef worker *workers
    cdef uint32_t started
    cdef bint broken
    cdef object kept
    cdef data_oracle oracle
    cdef bint has_oracle
    cdef explore_ctx explore
    cdef machine_layout where
    cdef readonly dict config

    def __init__(self, config, shared=None):
        cdef machine scratch
        cdef uint32_t workers, tables, frames, vmas
        cdef uint64_t ring
        if self.x != NULL:
            raise RuntimeError("a Machine is made once")
        self.config = _complete(dict(config), CONFIG_DEFAULTS, "config key")
        memset(&scratch, 0, sizeof(scratch))
        fill_mm(&scratch, self.config)
        workers = _count_in(self.config, "workers", 1, MAX_CPUS)
        tables = _count_in(self.config, "tables", 2, 1 << 28)
        frames = _count_in(self.config, "frames", 2, 1 << 31)
        vmas = _count_in(self.config, "vmas", 2, 1 << 24)
        ring = _count_in(self.config, "ring_events", 4, 1 << 24)
        machine_layout_fill(&self.where, workers, frames, tables, vmas, scratch.mm.geo.max_fanout)
        self.region = _Region(self.where.total)
        self._map_shared(shared, workers, ring)
        self.x = <machine *>self.region.base
        # The configuration was made in a scratch machine; its inner pointers are set by machine_wire.
        memcpy(self.x, &scratch, sizeof(machine))
        self.x.nr_workers = workers
        self.x.ring_events = ring
        self.x.header = <shm_header *>self._shared_base()
        self.x.shared = <shm_worker *>(self.x.header + 1)
        self.x.rings = <event *>(self.x.shared + workers)
        reclaim_fill(&self.x.mm, &self.x.reclaim, RECLAIMS[self.config["reclaim"]])
        machine_wire(self.x, &self.where, frames, tables, vmas)
        self.x.header.magic = SHM_MAGIC
        self.x.header.nr_workers = workers
        self.x.header.ring_events = ring
        if data_oracle_init(&self.oracle, workers, self.x.mm.geo.bits[PTE_LEVEL]) != 0:
            raise MemoryError("cannot allocate the data oracle")
        self.has_oracle = True
        self.workers = <worker *>calloc(workers, sizeof(worker))
        if self.workers == NULL:
            raise MemoryError("cannot allocate the workers")
        self.reset(self.config["seed"])

    cdef int _map_shared(self, shared, uint32_t workers, uint64_t ring) except -1:
        need = shared_bytes(workers, ring)
        if shared is None:
            self.own_shared = _Region(need)
            return 0
        PyObject_GetBuffer(shared, &self.view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self.has_view = True
        if self.view.len < <Py_ssize_t>need:
            raise ValueError(f"the shared region has {self.view.len} bytes; expected {need}")
        return 0

    cdef void *_shared_base(self):
        return self.view.buf if self.has_view else self.own_shared.base

    def __dealloc__(self):
        if self.started and not self.broken:
            with nogil:
                crew_stop(&self.crew, self.started)
        if self.has_oracle and not self.broken:
            data_oracle_destroy(&self.oracle)
        # A worker that is stuck in a job still uses its memory: keep it, the process is about to end.
        if self.broken:
            self.region.base = NULL
            if self.own_shared is not None:
                self.own_shared.base = NULL
            return
        free(self.workers)
        free(self.explore.branches)
        if self.has_view:
            PyBuffer_Release(&self.view)

    # ---- one thread ------------------------------------------------------------------------

    def reset(self, seed) -> None:
        """Empty the address space; all counters and reports start again."""
        cdef uint32_t i
        machine_reset(self.x, <uint64_t>(seed & 0xffffffffffffffff))
        data_oracle_reset(&self.oracle)
        for i in range(self.x.nr_workers):
            self.x.mm.cpus[i].hook.clock = &self.x.clock if PT_SCHED else NULL
            self.x.mm.cpus[i].hook.point = NULL
            self.x.mm.cpus[i].hook.wait = NULL

    def serial(self, ops, worker=None):
        """Do ``ops`` in order on this thread, each as its ``worker`` or all as ``worker``.

        Returns the events (EVENT_DTYPE, walk lines included) and the table bytes after each op.
        """
        cdef const op[::1] given = np.ascontiguousarray(ops).view(OP_DTYPE_C)
        cdef uint64_t[::1] bytes_after = np.zeros(len(ops), np.uint64)
        cdef uint64_t i, before
        cdef uint32_t who
        cdef cpu *c
        if self.started:
            raise RuntimeError("workers are running; call stop() first")
        parts = []
        for i in range(given.shape[0]):
            who = given[i].worker if worker is None else worker
            if who >= self.x.nr_workers:
                raise ValueError(f"operation {i} is for worker {who}; there are {self.x.nr_workers}")
            if given[i].verb == VERB_SYNC:
                bytes_after[i] = self.x.mm.pgtables_bytes
                continue
            c = &self.x.mm.cpus[who]
            pt_set_current(&c.hook)
            before = c.shared.nr_events
            if not execute(c, &self.x.mm, &given[i]):
                self._consume(False)
                before = 0
                if not execute(c, &self.x.mm, &given[i]):
                    raise ValueError(f"operation {i} needs more than ring_events={self.x.ring_events} lines")
            drain(c, &self.x.mm)
            parts.append(self._events_from(who, before))
            bytes_after[i] = self.x.mm.pgtables_bytes
        pt_set_current(NULL)
        events = np.concatenate(parts) if parts else np.zeros(0, EVENT_DTYPE_C)
        return events, np.asarray(bytes_after)

    def replay_serial(self, ops):
        """As ``serial``, native and without keeping events; returns (status, table bytes) per op.

        For long recordings: every operation is still checked by the oracles.
        """
        cdef const op[::1] given = np.ascontiguousarray(ops).view(OP_DTYPE_C)
        cdef int32_t[::1] status = np.zeros(len(ops), np.int32)
        cdef uint64_t[::1] bytes_after = np.zeros(len(ops), np.uint64)
        cdef uint64_t i, before, n = given.shape[0]
        cdef cpu *c = &self.x.mm.cpus[0]
        cdef mm *m = &self.x.mm
        pt_set_current(&c.hook)
        for i in range(n):
            if given[i].verb == VERB_SYNC:
                bytes_after[i] = m.pgtables_bytes
                continue
            before = c.shared.nr_events
            if not execute(c, m, &given[i]):
                self._consume(False)
                before = 0
                if not execute(c, m, &given[i]):
                    raise ValueError(f"operation {i} needs more than ring_events={self.x.ring_events} lines")
            status[i] = c.events[before].status
            bytes_after[i] = m.pgtables_bytes
        drain(c, m)
        pt_set_current(NULL)
        return np.asarray(status), np.asarray(bytes_after)

    cdef object _events_from(self, uint32_t who, uint64_t first):
        cdef uint64_t n = self.x.shared[who].nr_events - first
        cdef uint8_t[::1] raw
        out = np.zeros(n, EVENT_DTYPE_C)
        if n:
            raw = out.view(np.uint8)
            memcpy(&raw[0], self.x.rings + who * self.x.ring_events + first, n * sizeof(event))
        return out

    def events(self, uint32_t who):
        """The events of one worker since the last check (EVENT_DTYPE)."""
        return self._events_from(who, 0)

    # ---- many threads ----------------------------------------------------------------------

    def start(self, streams) -> None:
        """Start one native thread per worker; ``streams``: one of ("ops", array), ("mix", dict), None each."""
        if self.started:
            raise RuntimeError("already started")
        if len(streams) != self.x.nr_workers:
            raise ValueError(f"{len(streams)} streams for {self.x.nr_workers} workers")
        self._set_streams(streams)
        self._start_crew()

    cdef int _start_crew(self) except -1:
        self.crew.machine = self.x
        self.crew.workers = self.workers
        self.crew.nr = self.x.nr_workers
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
                fill_mix(&w.stream.mix, what)
            else:
                array = np.ascontiguousarray(what).view(OP_DTYPE_C)
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

        Returns {"finished": all streams are at their end, "race_ns", "check_ns", "stuck": workers that did
        not park within 20 s}. After a stuck burst the machine cannot be used any more.
        """
        cdef uint64_t t0 = now_ns(), t1, t2
        cdef bint parked
        if not self.started or self.broken:
            raise RuntimeError("not started" if not self.broken else "a worker is stuck")
        self.x.header.burst += 1
        pt_rel(&self.x.header.phase, 1)
        with nogil:
            crew_post(&self.crew, JOB_RACE)
            parked = crew_wait(&self.crew, max_ms)
            if not parked:
                pt_rel(&self.crew.end_burst, 1)
                parked = crew_wait(&self.crew, PARK_LIMIT_MS)
        t1 = now_ns()
        if not parked:
            self.broken = True
            return {"finished": False, "race_ns": t1 - t0, "check_ns": 0,
                    "stuck": [i for i in range(self.x.nr_workers) if not self.x.shared[i].counter[C_PARKED]]}
        pt_rel(&self.x.header.phase, 2)
        check_quiescent(&self.x.mm.cpus[0], self.x)
        self._consume(True)
        self.x.header.table_bytes = self.x.mm.pgtables_bytes
        pt_rel(&self.x.header.phase, 0)
        t2 = now_ns()
        return {"finished": all(self.workers[i].finished for i in range(self.x.nr_workers)),
                "race_ns": t1 - t0, "check_ns": t2 - t1, "stuck": []}

    def stop(self) -> None:
        """Join the threads. Nothing to do if a worker is stuck."""
        if self.started and not self.broken:
            with nogil:
                crew_stop(&self.crew, self.started)
            self.started = 0

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
        check_quiescent(&self.x.mm.cpus[0], self.x)
        self._consume(False)
        return out

    # ---- checks and what they found ----------------------------------------------------------

    cdef int _consume(self, bint on_threads) except -1:
        """Run the data oracle over all recorded events, then empty the rings."""
        cdef uint32_t i
        if on_threads:
            self.crew.check = consume_shard
            self.crew.check_ctx = <void *>&self.oracle
            data_oracle_begin(&self.oracle, self.x.rings, self.x.shared, self.x.ring_events, self.x.nr_workers,
                              observe_page, <void *>&self.x.mm)
            with nogil:
                crew_post(&self.crew, JOB_CHECK)
                while not crew_wait(&self.crew, PARK_LIMIT_MS):
                    pass
            data_oracle_end(&self.oracle)
        else:
            consume_all(&self.oracle, self.x)
        for i in range(self.x.nr_workers):
            self.x.shared[i].nr_events = 0
        return 0

    def check(self) -> int:
        """Check invariants and recorded operations now; returns the number of reports so far."""
        check_quiescent(&self.x.mm.cpus[0], self.x)
        self._consume(False)
        return self.x.header.nr_reports

    def checked(self) -> tuple:
        """(operations checked, operations without a rule) by the data oracle since reset."""
        return self.oracle.checked, self.oracle.unchecked

    def overlaps(self):
        """How often two operations met on one table, by pair of verbs (array NR_VERBS x NR_VERBS)."""
        out = np.zeros((NR_VERBS, NR_VERBS), np.uint64)
        cdef uint64_t[:, ::1] view = out
        memcpy(&view[0, 0], &self.oracle.overlaps[0][0], sizeof(self.oracle.overlaps))
        return out

    def reports(self) -> list:
        """The violations found since reset; the first MAX_REPORTS are kept."""
        cdef uint64_t i, n = self.x.header.nr_reports
        cdef report *r
        out = []
        for i in range(min(n, MAX_REPORTS)):
            r = &self.x.header.reports[i]
            out.append({"oracle": r.oracle, "invariant": r.invariant, "cpu": r.cpu, "verb": r.verb, "seq": r.seq,
                        "addr": r.addr, "a": r.a, "b": r.b, "stamp": r.stamp, "what": r.what.decode()})
        return out

    def counters(self):
        """Counters of all workers (array workers x NR_COUNTERS); see cy/base/shm.pxd."""
        out = np.zeros((self.x.nr_workers, NR_COUNTERS), np.uint64)
        cdef uint64_t[:, ::1] view = out
        cdef uint32_t i
        for i in range(self.x.nr_workers):
            memcpy(&view[i, 0], &self.x.shared[i].counter[0], NR_COUNTERS * 8)
        return out

    @property
    def table_bytes(self) -> int:
        """Bytes of pte, pmd and pud tables now."""
        return self.x.mm.pgtables_bytes

    @property
    def nr_reports(self) -> int:
        """Violations found since reset."""
        return self.x.header.nr_reports

    # ---- exploration -------------------------------------------------------------------------

    def program(self, prefix, branches) -> None:
        """Set what ``explorable()`` runs: ``prefix`` alone, then one fibre per branch (OP arrays)."""
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
        self.explore.oracle = &self.oracle
        self.explore.nr = len(branches)
        kept = [np.ascontiguousarray(p).view(OP_DTYPE_C) for p in [prefix, *branches]]
        for i, array in enumerate(kept):
            given = array
            target = <branch *>&self.explore.prefix if i == 0 else &self.explore.branches[<int>i - 1]
            target.nr_ops = len(array)
            target.ops = &given[0] if len(array) else NULL
        self.kept = kept

    def explorable(self):
        """Capsule for ``_explore.Explorer``; keeps no reference: the machine must outlive it.

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
        self.explore.face.reset = explore_reset
        self.explore.face.body = explore_body
        self.explore.face.finish = explore_finish
        self.explore.face.violations = explore_violations
        self.explore.face.hook = explore_hook
        self.explore.face.current_slot = explore_slot
        return PyCapsule_New(&self.explore.face, "ptstress.explorable", NULL)

    # ---- looking at the state ----------------------------------------------------------------

    def snapshot(self) -> dict:
        """Pages, tables, VMAs, table bytes and rss of the quiescent machine; see ptstress/machines.py."""
        cdef mm *m = &self.x.mm
        cdef uint32_t i
        cdef vma *v
        pages = []
        tables = []
        self._snapshot_table(m.pgd, pages, tables)
        vmas = []
        for i in range(m.set.nr):
            v = vma_at(&m.set, i)
            vmas.append((v.vm_start >> PAGE_SHIFT, v.vm_end >> PAGE_SHIFT, v.writable, v.anon_vma))
        return {
            "pages": np.array(pages, dtype=[("page", "u8"), ("state", "u1"), ("incarnation", "u8"), ("value", "u8")]),
            "tables": np.array(tables, dtype=[("level", "u1"), ("page", "u8"), ("present", "u4")]),
            "vmas": np.array(vmas, dtype=[("start", "u8"), ("end", "u8"), ("writable", "u1"), ("anon_vma", "u4")]),
            "table_bytes": m.pgtables_bytes,
            "rss": m.rss_anon,
        }

    cdef int _snapshot_table(self, ptdesc *t, list pages, list tables) except -1:
        cdef mm *m = &self.x.mm
        cdef uint32_t i, present = 0
        cdef uint64_t entry
        for i in range(geo_fanout(&m.geo, t.level)):
            entry = t.entries[i]
            if pte_none(entry):
                continue
            present += 1
            if t.level != PTE_LEVEL:
                if pmd_is_table(entry) and pte_pfn(entry) < m.tables.nr:
                    self._snapshot_table(&m.ptdescs[pte_pfn(entry)], pages, tables)
            elif pte_special(entry):
                pages.append(((t.addr >> PAGE_SHIFT) + i, 1, 0, 0))
            else:
                pages.append(((t.addr >> PAGE_SHIFT) + i, 2, m.pages[pte_pfn(entry)].incarnation,
                              m.pages[pte_pfn(entry)].stamp))
        if t != m.pgd:
            tables.append((t.level, t.addr >> PAGE_SHIFT, present))
        return 0

    def describe(self, uint64_t offset) -> str:
        """Name of the thing at ``offset`` from the start of the machine's memory, for stories."""
        cdef mm *m = &self.x.mm
        cdef uint64_t i, word
        if offset >= self.where.entries:
            word = (offset - self.where.entries) // 8
            i = word // m.geo.max_fanout
            return f"{_table_name(m, i)}[{word % m.geo.max_fanout}]"
        if offset >= self.where.vmas and offset < self.where.slots:
            i = (offset - self.where.vmas) // sizeof(vma)
            return f"vma {i}.{_vma_field(offset - self.where.vmas - i * sizeof(vma))}"
        if offset >= self.where.ptdescs and offset < self.where.vmas:
            i = (offset - self.where.ptdescs) // sizeof(ptdesc)
            return f"{'ptl' if m.ptdescs[i].level == 0 else 'pml'} of {_table_name(m, i)}"
        if offset >= self.where.pages and offset < self.where.ptdescs:
            return f"frame {(offset - self.where.pages) // sizeof(page)}"
        if offset >= self.where.frame_items and offset < self.where.pages:
            return "arena"
        if offset >= self.where.cpus:
            i = (offset - self.where.cpus) // sizeof(cpu)
            return f"cpu {i}.{_cpu_field(offset - self.where.cpus - i * sizeof(cpu))}"
        return _mm_field(offset)


cdef str _table_name(mm *m, uint64_t i):
    if i >= m.tables.nr:
        return f"table {i}"
    if i == 0:
        return "pgd"
    return f"{('pte_table', 'pmd_table', 'pud_table', 'p4d_table')[m.ptdescs[i].level]} {i}"


cdef str _field(uint64_t offset, list fields):
    name = fields[0][1]
    for start, label in fields:
        if offset >= start:
            name = label
    return name


cdef str _mm_field(uint64_t offset):
    cdef machine *x = NULL
    return _field(offset, sorted([
        (0, "mm"), (<uint64_t><uintptr_t>&x.mm.page_table_lock, "page_table_lock"),
        (<uint64_t><uintptr_t>&x.mm.mmap_lock, "mmap_lock"),
        (<uint64_t><uintptr_t>&x.mm.mm_lock_seq, "mm_lock_seq"),
        (<uint64_t><uintptr_t>&x.mm.set, "vma set"),
        (<uint64_t><uintptr_t>&x.mm.next_anon_vma, "next_anon_vma"),
        (<uint64_t><uintptr_t>&x.mm.pgtables_bytes, "pgtables_bytes"),
        (<uint64_t><uintptr_t>&x.mm.rss_anon, "rss_anon"),
        (<uint64_t><uintptr_t>&x.mm.tlb_flush_pending, "tlb_flush_pending"),
        (<uint64_t><uintptr_t>&x.mm.frames, "arena"),
        (<uint64_t><uintptr_t>&x.mm.pages, "mm"),
        (<uint64_t><uintptr_t>&x.mm.rcu[0], "rcu_domain tables"),
        (<uint64_t><uintptr_t>&x.mm.rcu[1], "rcu_domain hardware"),
        (<uint64_t><uintptr_t>&x.mm.cpus, "machine"),
    ]))


cdef str _cpu_field(uint64_t offset):
    cdef cpu *c = NULL
    return _field(offset, sorted([
        (0, "private"), (<uint64_t><uintptr_t>&c.flush_gen, "flush_gen"),
        (<uint64_t><uintptr_t>&c.full_flushes, "full_flushes"), (<uint64_t><uintptr_t>&c.rcu[0], "rcu tables"),
        (<uint64_t><uintptr_t>&c.rcu[1], "rcu hardware"), (<uint64_t><uintptr_t>&c.tlb[0], "tlb"),
    ]))


cdef str _vma_field(uint64_t offset):
    cdef vma *v = NULL
    return _field(offset, sorted([
        (0, "rcu"), (<uint64_t><uintptr_t>&v.vm_start, "vm_start"), (<uint64_t><uintptr_t>&v.vm_end, "vm_end"),
        (<uint64_t><uintptr_t>&v.writable, "flags"), (<uint64_t><uintptr_t>&v.anon_vma, "anon_vma"),
        (<uint64_t><uintptr_t>&v.vm_refcnt, "vm_refcnt"), (<uint64_t><uintptr_t>&v.vm_lock_seq, "vm_lock_seq"),
        (<uint64_t><uintptr_t>&v.index, "index"),
    ]))


cdef int observe_page(void *ctx, uint64_t vpn, uint64_t *incarnation, uint64_t *value) noexcept nogil:
    """What the tables say about a page: 0 not present, 1 zero page, 2 a frame."""
    cdef mm *m = <mm *>ctx
    cdef uint64_t pte = quiescent_pte(m, vpn)
    incarnation[0] = 0
    value[0] = 0
    if not pte_present(pte):
        return 0
    if pte_special(pte) or pte_pfn(pte) >= m.frames.nr:
        return 1
    incarnation[0] = m.pages[pte_pfn(pte)].incarnation
    value[0] = m.pages[pte_pfn(pte)].stamp
    return 2
