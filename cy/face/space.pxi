# Space: one address space in its own memory, used by one thread at a time; checks and looks at it.

cdef enum:
    MAX_SHARES = 4              # more threads would read every ring more often


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


cdef class Space:
    """An address space under test: tables, frames, VMAs and cpus. See ``Machine`` for threads.

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
    cdef uint32_t started       # worker threads that exist
    cdef bint broken            # a worker is stuck in a job: its memory must stay
    cdef judge judge
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
        scratch.nr_mms = _count_in(self.config, "mms", 1, MAX_MMS)
        tables = _count_in(self.config, "tables", 2 if scratch.nr_mms == 1 else scratch.nr_mms + 2, 1 << 28)
        frames = _count_in(self.config, "frames", 2, 1 << 31)
        vmas = _count_in(self.config, "vmas", 2, 1 << 24)
        ring = _count_in(self.config, "ring_events", 4, 1 << 24)
        machine_layout_fill(&self.where, scratch.nr_mms, workers, frames, tables, vmas, scratch.mms[0].geo.max_fanout)
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
        machine_wire(self.x, &self.where, frames, tables, vmas)
        self.x.header.magic = SHM_MAGIC
        self.x.header.nr_workers = workers
        self.x.header.ring_events = ring
        if not judge_init(&self.judge, self.x, 1 if PT_SCHED else min(workers, MAX_SHARES, usable_cores())):
            raise MemoryError("cannot allocate the data oracle")
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
        if self.broken:
            # The process is about to end; give nothing back that the stuck worker may touch.
            self.region.base = NULL
            if self.own_shared is not None:
                self.own_shared.base = NULL
            return
        judge_destroy(&self.judge)
        if self.has_view:
            PyBuffer_Release(&self.view)

    # ---- one thread ------------------------------------------------------------------------

    def reset(self, seed) -> None:
        """Empty the address space; all counters and reports start again."""
        cdef uint32_t i
        machine_reset(self.x, <uint64_t>(seed & 0xffffffffffffffff))
        judge_reset(&self.judge)
        judge_forget_overlaps(&self.judge)
        for i in range(self.x.nr_workers):
            self.x.cpus[i].hook.clock = &self.x.clock if PT_SCHED else NULL
            self.x.cpus[i].hook.point = NULL
            self.x.cpus[i].hook.wait = NULL

    def serial(self, ops, worker=None):
        """Do ``ops`` in order on this thread, each as its ``worker`` or all as ``worker``.

        Returns the events (EVENT_DTYPE, walk lines included) and the table bytes after each op.
        """
        cdef const op[::1] given = checked_ops(ops, self.x.nr_workers, True)
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
                bytes_after[i] = machine_table_bytes(self.x)
                continue
            c = &self.x.cpus[who]
            pt_set_current(&c.hook)
            before = c.shared.nr_events
            if not execute(c, self.x, &given[i]):
                self._consume()
                before = 0
                if not execute(c, self.x, &given[i]):
                    raise ValueError(f"operation {i} needs more than ring_events={self.x.ring_events} lines")
            drain(c, &self.x.mms[0])
            parts.append(self._events_from(who, before))
            bytes_after[i] = machine_table_bytes(self.x)
        pt_set_current(NULL)
        events = np.concatenate(parts) if parts else np.zeros(0, EVENT_DTYPE_C)
        return events, np.asarray(bytes_after)

    def replay_serial(self, ops):
        """As ``serial``, native and without keeping events; returns (status, table bytes) per op.

        For long recordings: every operation is still checked by the oracles.
        """
        cdef const op[::1] given = checked_ops(ops, self.x.nr_workers, True)
        cdef int32_t[::1] status = np.zeros(len(ops), np.int32)
        cdef uint64_t[::1] bytes_after = np.zeros(len(ops), np.uint64)
        cdef uint64_t i, before, n = given.shape[0]
        cdef cpu *c = &self.x.cpus[0]
        pt_set_current(&c.hook)
        for i in range(n):
            if given[i].verb == VERB_SYNC:
                bytes_after[i] = machine_table_bytes(self.x)
                continue
            before = c.shared.nr_events
            if not execute(c, self.x, &given[i]):
                self._consume()
                before = 0
                if not execute(c, self.x, &given[i]):
                    raise ValueError(f"operation {i} needs more than ring_events={self.x.ring_events} lines")
            status[i] = c.events[before].status
            bytes_after[i] = machine_table_bytes(self.x)
        drain(c, &self.x.mms[0])
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

    # ---- checks and what they found ----------------------------------------------------------

    cdef int _consume(self) except -1:
        """Run the data oracle over all recorded events, then empty the rings."""
        with nogil:
            judge_all(&self.judge)
        self._empty_rings()
        return 0

    cdef int _empty_rings(self) except -1:
        cdef uint32_t i
        for i in range(self.x.nr_workers):
            self.x.shared[i].nr_events = 0
        return 0

    def check(self) -> int:
        """Check invariants and recorded operations now; returns the number of reports so far."""
        check_quiescent(&self.x.cpus[0], self.x)
        self._consume()
        return self.x.header.nr_reports

    def checked(self) -> tuple:
        """(operations checked, operations without a rule) by the data oracle since reset."""
        checked = unchecked = 0
        for i in range(self.judge.nr_shares):
            checked += self.judge.shares[i].oracle.checked
            unchecked += self.judge.shares[i].oracle.unchecked
        return checked, unchecked

    def overlaps(self):
        """How often two operations met on one table, by pair of verbs (array NR_VERBS x NR_VERBS)."""
        out = np.zeros((NR_VERBS, NR_VERBS), np.uint64)
        for i in range(self.judge.nr_shares):
            out += np.frombuffer(<uint8_t[:sizeof(self.judge.shares[i].overlaps)]><uint8_t *>self.judge.shares[i].overlaps,
                                 np.uint64).reshape(NR_VERBS, NR_VERBS)
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
        return machine_table_bytes(self.x)

    @property
    def nr_reports(self) -> int:
        """Violations found since reset."""
        return self.x.header.nr_reports

    # ---- looking at the state ----------------------------------------------------------------

    def state(self) -> tuple:
        """What the history of the quiescent machine goes on with: (maps, pages), uint64 rows of three.

        maps: start, end, 2 if read-only or 4 if writable, plus 16 if guards lie on its pages; pages: page, incarnation (0: the
        zero page), value. Page numbers are global; both ascend.
        """
        return state_of(self.x)

    def snapshot(self) -> dict:
        """Pages, tables, VMAs, table bytes and rss of all mms of the quiescent machine; page numbers are global."""
        cdef uint32_t i, k
        cdef uint64_t rss = 0
        cdef mm *m
        cdef vma *v
        pages = []
        tables = []
        vmas = []
        for i in range(self.x.nr_mms):
            m = &self.x.mms[i]
            self._snapshot_table(m.pgd, pages, tables)
            for k in range(m.set.nr):
                v = vma_at(&m.set, k)
                vmas.append((v.vm_start >> PAGE_SHIFT, v.vm_end >> PAGE_SHIFT, v.writable, v.anon_vma))
            rss += mm_rss(m)
        return {
            "pages": np.array(pages, dtype=[("page", "u8"), ("state", "u1"), ("incarnation", "u8"), ("value", "u8")]),
            "tables": np.array(tables, dtype=[("level", "u1"), ("page", "u8"), ("present", "u4")]),
            "vmas": np.array(vmas, dtype=[("start", "u8"), ("end", "u8"), ("writable", "u1"), ("anon_vma", "u4")]),
            "table_bytes": machine_table_bytes(self.x),
            "rss": rss,
        }

    cdef int _snapshot_table(self, ptdesc *t, list pages, list tables) except -1:
        cdef mm *m = &self.x.mms[0]
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
            elif is_guard_pte_marker(entry):
                pages.append(((t.addr >> PAGE_SHIFT) + i, 3, 0, 0))
            elif pte_special(entry):
                pages.append(((t.addr >> PAGE_SHIFT) + i, 1, 0, 0))
            else:
                pages.append(((t.addr >> PAGE_SHIFT) + i, 2, m.pages[pte_pfn(entry)].incarnation,
                              m.pages[pte_pfn(entry)].stamp))
        if t.level != m.geo.levels - 1:
            tables.append((t.level, t.addr >> PAGE_SHIFT, present))
        return 0

    def describe(self, uint64_t offset) -> str:
        """Name of the thing at ``offset`` from the start of the machine's memory, for stories."""
        cdef mm *m = &self.x.mms[0]
        cdef uint64_t i, word
        if offset >= self.where.entries:
            word = (offset - self.where.entries) // 8
            i = word // m.geo.max_fanout
            return f"{_table_name(m, i)}[{word % m.geo.max_fanout}]"
        if offset >= self.where.slots:
            return "vma set"
        if offset >= self.where.vmas:
            i = (offset - self.where.vmas) // sizeof(vma)
            return f"vma {i}.{_vma_field(offset - self.where.vmas - i * sizeof(vma))}"
        if offset >= self.where.ptdescs:
            i = (offset - self.where.ptdescs) // sizeof(ptdesc)
            return f"{_ptdesc_field(m, i, offset - self.where.ptdescs - i * sizeof(ptdesc))} of {_table_name(m, i)}"
        if offset >= self.where.pages:
            i = (offset - self.where.pages) // sizeof(page)
            return f"{_frame_field(offset - self.where.pages - i * sizeof(page))} of frame {i}"
        if offset >= self.where.frame_items:
            return _item_name(&self.where, offset)
        if offset >= self.where.cpus:
            i = (offset - self.where.cpus) // sizeof(cpu)
            return f"cpu {i}.{_cpu_field(offset - self.where.cpus - i * sizeof(cpu))}"
        return _machine_field(self.x, offset)
