# Loops for `ptstress bench`: one kind of work, many times, by one worker on pages of its own, timed by
# the CPU clock of its thread. Nothing is recorded, so nothing is checked: this is what the engine costs.
# Workers may do different work at once; some of them as background, for as long as others have something to do.
#
# Not modelled: cold caches; a loop finds its tables and frames where the one before it left them.
from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from cy.base.build cimport unlikely
from cy.base.clock cimport now_ns, sched_yield, sleep_us, stamp_begin, stamp_end, thread_cpu_ns
from cy.base.coordination cimport pt_acq, pt_inc
from cy.base.cpu cimport RCU_TABLES, cpu
from cy.base.shm cimport VERB_READ, event
from cy.check.execute cimport drain, poll
from cy.check.machine cimport machine, machine_mm
from cy.check.record cimport record_begin, record_end, record_room
from cy.mm.deferred cimport deferred_backpressure
from cy.mm.types cimport mm
from cy.ops.access cimport do_access
from cy.ops.dontneed cimport do_dontneed
from cy.ops.mmap cimport do_mmap
from cy.ops.munmap cimport do_munmap
from cy.ops.walk cimport do_walk
from cy.sync.rcu cimport rcu_read_lock, rcu_read_unlock

cdef enum:
    MEASURE_RCU = 0             # enter and leave a read section of the software walkers
    MEASURE_READ = 1            # load from a page: from the TLB if there are few pages, else by a walk
    MEASURE_WRITE = 2           # store to a page
    MEASURE_CYCLE = 3           # store to each page, then discard them, `unit` at a time; over and over
    MEASURE_RECORD = 4          # record an operation that does nothing
    MEASURE_STAMPS = 5          # the two stamps of a record, and nothing else
    MEASURE_MAP = 6             # map the pages, store to the first one, unmap them
    MEASURE_WALK = 7            # walk the pages and sleep in each table
    MEASURE_STALL = 8           # stay in a read section of the software walkers: for a millisecond each turn
    MEASURE_STRIDE = 40503      # odd: i * stride visits every page of a power of two once

cdef extern from *:
    """
    #define MEASURE_BACKGROUND ((uint64_t)-1)
    """
    uint64_t MEASURE_BACKGROUND # turns: as many as there are while others work

# The share of one worker, alone on its cache lines. `pages` is a power of two for reads.
cdef struct measure_share:
    uint64_t what
    uint64_t first              # a global page: of any mm
    uint64_t pages
    uint64_t turns              # 0: this worker only stands by
    uint64_t ns                 # out: CPU time of the loop; of a cycle: of its discards
    uint64_t fault_ns           # out: of a cycle: of its stores
    uint64_t fault_wall_ns      # out: the same, by the clock on the wall
    uint64_t failed             # out: operations that failed
    uint64_t pad[8]

cdef struct measure:
    machine *machine
    uint32_t unit
    uint32_t pad
    uint64_t nr_working         # shares that are neither background nor empty,
    uint64_t nr_done            # and those of them that are done. Written: marked
    measure_share shares[64]

# Context: own cpu, no lock, no RCU; a check_fn of cy/check/worker.pxd.
cdef inline void measure_run(void *ctx, uint32_t shard, uint32_t nr_shards, cpu *c) noexcept nogil:
    cdef measure *b = <measure *>ctx
    cdef measure_share *s = &b.shares[shard]
    cdef mm *m = machine_mm(b.machine, s.first)
    cdef uint64_t begin = thread_cpu_ns()
    s.failed = 0
    s.fault_ns = 0
    s.fault_wall_ns = 0
    if s.turns == 0:
        pass
    elif s.what == MEASURE_RCU:
        _measure_rcu(c, m, s)
    elif s.what == MEASURE_READ:
        _measure_read(c, m, s)
    elif s.what == MEASURE_WRITE:
        _measure_write(c, m, s)
    elif s.what == MEASURE_CYCLE:
        _measure_cycle(c, m, b, s)
    elif s.what == MEASURE_RECORD:
        _measure_record(c, s)
    elif s.what == MEASURE_STAMPS:
        _measure_stamps(c, s)
    elif s.what == MEASURE_MAP:
        _measure_map(c, m, b, s)
    elif s.what == MEASURE_WALK:
        _measure_walk(c, m, b, s)
    else:
        _measure_stall(c, m, s)
    s.ns = thread_cpu_ns() - begin - s.fault_ns
    if s.turns != 0 and s.turns != MEASURE_BACKGROUND:
        pt_inc(&b.nr_done)

# Is there a turn `i`?
cdef inline bint _goes_on(measure *b, measure_share *s, uint64_t i) noexcept nogil:
    return pt_acq(&b.nr_done) < b.nr_working if s.turns == MEASURE_BACKGROUND else i < s.turns

cdef inline void _measure_rcu(cpu *c, mm *m, measure_share *s) noexcept nogil:
    cdef uint64_t i
    for i in range(s.turns):
        rcu_read_lock(c, &m.rcu[RCU_TABLES])
        rcu_read_unlock(c, &m.rcu[RCU_TABLES])

cdef inline void _measure_read(cpu *c, mm *m, measure_share *s) noexcept nogil:
    cdef uint64_t i, value = 0, incarnation = 0, failed = 0
    for i in range(s.turns):
        failed += do_access(c, m, s.first + ((i * MEASURE_STRIDE) & (s.pages - 1)), False, &value, &incarnation) != 0
    s.failed = failed

cdef inline void _measure_write(cpu *c, mm *m, measure_share *s) noexcept nogil:
    cdef uint64_t i, value = 1, incarnation = 0, failed = 0
    for i in range(s.turns):
        failed += do_access(c, m, s.first + i, True, &value, &incarnation) != 0
    s.failed = failed

# Store to a page. Frames may be short while a reader that has lost its core keeps a grace period from ending: that is no failure,
# but what waits for it is waited for. Returns whether the store failed.
cdef inline bint _touch(cpu *c, mm *m, uint64_t page) noexcept nogil:
    cdef uint64_t value = 1, incarnation = 0
    cdef int rc = do_access(c, m, page, True, &value, &incarnation)
    while unlikely(rc == -ENOMEM):
        drain(c, m)
        sched_yield()
        rc = do_access(c, m, page, True, &value, &incarnation)
    return rc != 0

# Discards free the frames and tables of earlier ones as they go, and at the end all that are left.
cdef inline void _measure_cycle(cpu *c, mm *m, measure *b, measure_share *s) noexcept nogil:
    cdef uint64_t i = 0, at, failed = 0, begin, wall
    while _goes_on(b, s, i):
        wall = now_ns()
        begin = thread_cpu_ns()
        for at in range(s.first, s.first + s.pages):
            failed += _touch(c, m, at)
        s.fault_ns += thread_cpu_ns() - begin
        s.fault_wall_ns += now_ns() - wall
        at = s.first
        while at < s.first + s.pages:
            deferred_backpressure(c, m)
            failed += do_dontneed(c, m, at, at + b.unit) != 0
            poll(c, m)
            at += b.unit
        i += 1
    s.failed = failed
    drain(c, m)

cdef inline void _measure_map(cpu *c, mm *m, measure *b, measure_share *s) noexcept nogil:
    cdef uint64_t i = 0, failed = 0
    while _goes_on(b, s, i):
        deferred_backpressure(c, m)
        failed += do_mmap(c, m, s.first, s.first + s.pages, 1) != 0
        failed += _touch(c, m, s.first)
        failed += do_munmap(c, m, s.first, s.first + s.pages) != 0
        poll(c, m)
        i += 1
    s.failed = failed
    drain(c, m)

cdef inline void _measure_walk(cpu *c, mm *m, measure *b, measure_share *s) noexcept nogil:
    cdef uint64_t i = 0, present = 0, failed = 0
    while _goes_on(b, s, i):
        failed += do_walk(c, m, s.first, s.first + s.pages, True, NULL, 0, &present) != 0
        i += 1
    s.failed = failed

cdef inline void _measure_stall(cpu *c, mm *m, measure_share *s) noexcept nogil:
    cdef uint64_t i
    rcu_read_lock(c, &m.rcu[RCU_TABLES])
    for i in range(s.turns):
        sleep_us(1000)
    rcu_read_unlock(c, &m.rcu[RCU_TABLES])

cdef inline void _measure_record(cpu *c, measure_share *s) noexcept nogil:
    cdef uint64_t i
    cdef event *e
    for i in range(s.turns):
        if not record_room(c, 0):
            c.shared.nr_events = 0
        e = record_begin(c, VERB_READ, i, i + 1, 0, 0)
        record_end(c, e, 0)
    c.shared.nr_events = 0

cdef inline void _measure_stamps(cpu *c, measure_share *s) noexcept nogil:
    cdef uint64_t i
    cdef event *e = c.events
    for i in range(s.turns):
        e.t0 = stamp_begin(&c.hook)
        e.t1 = stamp_end(&c.hook)
