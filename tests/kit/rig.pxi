# A rig: one small machine, a board of shared cells, and the scene that is played on them.
#
# A scene is the same code for the explorer and for real threads. It tells that something wrong was seen by
# flag(); the engine's own reports count too, and end an explored execution at once. `busted` chooses a deliberately
# wrong variant, 0 the right one.

cdef enum:
    NR_CELLS = 16
    NR_PARCELS = 16
    MAX_RIG_CPUS = 8

# An object that RCU frees: its callback writes poison over it.
cdef struct parcel:
    rcu_head head               # first: the callback gets it back by a cast
    uint64_t value

# Everything that a scene shares. Zero at the start of each execution.
cdef struct board:
    uint64_t cell[16]
    uint64_t owner[16]
    parcel parcel[16]
    spinlock_t lock[2]
    rw_semaphore sem[2]
    seqcount_t seq
    uint64_t violations

cdef struct scene:
    uint32_t nr_cpus            # that play; 0: as many as the rig has
    void (*setup)(rig *r) noexcept nogil
    void (*body)(rig *r, cpu *c) noexcept nogil
    bint (*wrong)(rig *r) noexcept nogil        # judges the final state

cdef struct rig:
    explorable face
    machine *x
    mm *m
    board board
    scene scene
    uint32_t busted
    uint32_t repeats
    bint deaf                   # the engine's reports do not count: only what the scene flags
    uint64_t arrived            # of real threads, at their meeting point
    uint64_t stop

cdef inline void flag(rig *r) noexcept nogil:
    r.board.violations += 1

# Wait until ready(r) holds. It reads memory bare.
cdef inline void wait_for(rig *r, int (*ready)(const void *) noexcept nogil) noexcept nogil:
    while not ready(r):
        if not sched_wait(ready, r):
            sched_yield()

# -- explorable ----------------------------------------------------------------------------------

cdef void rig_reset(void *self, uint64_t seed) noexcept nogil:
    cdef rig *r = <rig *>self
    machine_reset(r.x, seed)
    memset(&r.board, 0, sizeof(board))
    seqcount_init(&r.board.seq)
    r.scene.setup(r)


cdef void rig_body(void *self, uint32_t i) noexcept nogil:
    cdef rig *r = <rig *>self
    r.scene.body(r, &r.m.cpus[i])


cdef uint32_t rig_violations(void *self) noexcept nogil:
    cdef rig *r = <rig *>self
    return <uint32_t>(r.board.violations + (0 if r.deaf else r.x.header.nr_reports))


cdef uint32_t rig_finish(void *self) noexcept nogil:
    cdef rig *r = <rig *>self
    if r.scene.wrong(r):
        flag(r)
    return rig_violations(self)


cdef pt_hook *rig_hook(void *self, uint32_t i) noexcept nogil:
    return &(<rig *>self).m.cpus[i].hook


cdef pt_hook **rig_slot() noexcept nogil:
    return pt_current_slot()


cdef void no_setup(rig *r) noexcept nogil:
    pass


cdef void no_body(rig *r, cpu *c) noexcept nogil:
    pass


cdef bint never_wrong(rig *r) noexcept nogil:
    return False


# -- real threads --------------------------------------------------------------------------------

# Returns when all threads have come here `number` times.
cdef void meet(rig *r, uint64_t number) noexcept nogil:
    atomic_add_return(&r.arrived, 1)
    while READ_ONCE(&r.arrived) < number * r.face.nr_fibres:
        sched_yield()


# The part of thread `i` in up to `rounds` rounds. Thread 0 resets and judges; a bad round is the last one.
cdef void play(rig *r, uint32_t i, uint32_t rounds, uint64_t seed) noexcept nogil:
    cdef uint32_t n
    cdef uint64_t met = 0
    for n in range(rounds):
        if i == 0:
            rig_reset(r, seed + n)
        met += 1
        meet(r, met)
        pt_set_current(rig_hook(r, i))
        rig_body(r, i)
        pt_set_current(NULL)
        met += 1
        meet(r, met)
        if i == 0:
            r.stop = rig_finish(r)
        met += 1
        meet(r, met)
        if r.stop:
            return


# -- Python --------------------------------------------------------------------------------------

cdef void release_rig(object capsule) noexcept:
    cdef void *owner = PyCapsule_GetContext(capsule)
    if owner != NULL:
        Py_DECREF(<object>owner)


cdef class Rig:
    """A small machine that plays ``scene``, or its wrong variant ``busted``.

    ``cpus`` take part. ``fifo``: arenas reuse what was freed longest ago. ``membarrier``: RCU readers do without
    a full barrier where the system can. ``delay_interval``: mean delay points between delays of real threads.
    """

    cdef rig *r

    def __cinit__(self, scene="", busted="", *, cpus=2, frames=16, tables=16, vmas=8, fifo=False, membarrier=False,
                  backlog_max=4, stall_ns=1 << 60, flush_ceiling=33, delay_interval=0, repeats=1, deaf=False):
        cdef machine_layout layout
        cdef char *region
        cdef uint32_t[3] bits = [2, 1, 1]
        cdef uint32_t domain
        if not 1 <= cpus <= MAX_RIG_CPUS:
            raise ValueError(f"cpus is {cpus}; expected 1 to {MAX_RIG_CPUS}")
        machine_layout_fill(&layout, 1, cpus, frames, tables, vmas, 4)
        region = <char *>calloc(1, layout.total + sizeof(rig) + sizeof(shm_header) + MAX_RIG_CPUS * sizeof(shm_worker))
        if region == NULL:
            raise MemoryError("no memory for a rig")
        self.r = <rig *>(region + layout.total)
        self.r.x = <machine *>region
        self.r.m = &self.r.x.mms[0]
        self.r.x.header = <shm_header *>(self.r + 1)
        self.r.x.shared = <shm_worker *>(self.r.x.header + 1)
        self.r.x.nr_mms = 1
        self.r.x.nr_workers = cpus
        self.r.x.delay_interval = delay_interval
        geo_init(&self.r.m.geo, bits, 3)
        machine_wire(self.r.x, &layout, frames, tables, vmas)
        self.r.m.frames.fifo = self.r.m.tables.fifo = self.r.m.vmas.fifo = fifo
        self.r.m.knobs.flush_ceiling = flush_ceiling
        for domain in range(3):
            self.r.m.rcu[domain].membarrier = membarrier and rcu_membarrier_available()
            self.r.m.rcu[domain].backlog_max = backlog_max
            self.r.m.rcu[domain].stall_ns = stall_ns
        self.r.repeats = repeats
        self.r.deaf = deaf
        self.r.scene.setup = no_setup
        self.r.scene.body = no_body
        self.r.scene.wrong = never_wrong
        if scene:
            choose_scene(self.r, scene, busted)
        self.r.face.self = self.r
        self.r.face.nr_fibres = self.r.scene.nr_cpus or cpus
        self.r.face.base = region
        self.r.face.bytes = layout.total + sizeof(rig)
        self.r.face.reset = rig_reset
        self.r.face.body = rig_body
        self.r.face.finish = rig_finish
        self.r.face.violations = &self.r.board.violations if deaf else &self.r.x.header.nr_reports
        self.r.face.hook = rig_hook
        self.r.face.current_slot = rig_slot
        if self.r.face.nr_fibres > cpus:
            raise ValueError(f"{scene!r} needs {self.r.face.nr_fibres} cpus")
        rig_reset(self.r, 0)

    def __dealloc__(self):
        if self.r != NULL:
            free(self.r.x)

    @property
    def players(self) -> int:
        """How many cpus take part."""
        return self.r.face.nr_fibres

    @property
    def membarrier(self) -> bool:
        """Whether RCU readers do without a full barrier."""
        return bool(self.r.m.rcu[RCU_TABLES].membarrier)

    def explorable(self):
        """The scene, for ``ptstress._explore.Explorer``."""
        capsule = PyCapsule_New(&self.r.face, b"ptstress.explorable", release_rig)
        PyCapsule_SetContext(capsule, <void *>self)
        Py_INCREF(self)
        return capsule

    def begin(self) -> None:
        """Before the threads of one game call ``play``."""
        self.r.arrived = 0
        self.r.stop = 0

    def play(self, i: int, rounds: int, seed: int = 0) -> None:
        """Thread ``i``'s part; all threads must call it. See ``violations`` afterwards."""
        cdef uint32_t number = i, n = rounds
        cdef uint64_t first = seed
        with nogil:
            play(self.r, number, n, first)

    @property
    def violations(self) -> int:
        """Of the last round or execution."""
        return rig_violations(self.r)

    def counter(self, cpu: int, number: int) -> int:
        """A counter of one cpu; the numbers are ``ptstress.layout.Counter``."""
        return self.r.x.shared[self.at(cpu).id].counter[<uint32_t>number % NR_COUNTERS]

    def reports(self) -> list:
        """The engine's reports as (oracle, invariant, cpu, a, b, what)."""
        cdef report *p
        found = []
        for i in range(min(self.r.x.header.nr_reports, MAX_REPORTS)):
            p = &self.r.x.header.reports[<uint32_t>i]
            found.append((p.oracle, p.invariant, p.cpu, p.a, p.b, p.what.decode()))
        return found

    cdef cpu *at(self, uint32_t i) except NULL:
        if i >= self.r.m.nr_cpus:
            raise IndexError(f"cpu {i}: there are {self.r.m.nr_cpus}")
        return &self.r.m.cpus[i]
