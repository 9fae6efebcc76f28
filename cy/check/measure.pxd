# Loops for `ptstress bench`: one kind of work, many times, by one worker on pages of its own, timed by
# the CPU clock of its thread. Nothing is recorded, so nothing is checked: this is what the engine costs.
#
# Not modelled: cold caches; a loop finds its tables and frames where the one before it left them.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.clock cimport stamp_begin, stamp_end, thread_cpu_ns
from cy.base.cpu cimport RCU_TABLES, cpu
from cy.base.shm cimport VERB_READ, event
from cy.check.execute cimport drain, poll
from cy.check.record cimport record_begin, record_end, record_room
from cy.mm.types cimport mm
from cy.ops.access cimport do_access
from cy.ops.dontneed cimport do_dontneed
from cy.sync.rcu cimport rcu_read_lock, rcu_read_unlock

cdef enum:
    MEASURE_RCU = 0             # enter and leave a read section of the software walkers
    MEASURE_READ = 1            # load from a page: from the TLB if there are few pages, else by a walk
    MEASURE_WRITE = 2           # store to a page
    MEASURE_CYCLE = 3           # store to each page, then discard them, `unit` at a time; over and over
    MEASURE_RECORD = 4          # record an operation that does nothing
    MEASURE_STAMPS = 5          # the two stamps of a record, and nothing else
    MEASURE_STRIDE = 40503      # odd: i * stride visits every page of a power of two once

# The share of one worker, alone on its cache lines. `pages` is a power of two for reads.
cdef struct measure_share:
    uint64_t first
    uint64_t pages
    uint64_t turns              # 0: this worker only stands by
    uint64_t ns                 # out: CPU time of the loop; of a cycle: of its discards
    uint64_t fault_ns           # out: of a cycle: of its stores
    uint64_t failed             # out: operations that failed
    uint64_t pad[10]

cdef struct measure:
    mm *mm
    uint32_t what
    uint32_t unit
    measure_share shares[64]

# Context: own cpu, no lock, no RCU; a check_fn of cy/check/worker.pxd.
cdef inline void measure_run(void *ctx, uint32_t shard, uint32_t nr_shards, cpu *c) noexcept nogil:
    cdef measure *b = <measure *>ctx
    cdef measure_share *s = &b.shares[shard]
    cdef uint64_t begin = thread_cpu_ns()
    s.failed = 0
    s.fault_ns = 0
    if s.turns == 0:
        pass
    elif b.what == MEASURE_RCU:
        _measure_rcu(c, b.mm, s)
    elif b.what == MEASURE_READ:
        _measure_read(c, b.mm, s)
    elif b.what == MEASURE_WRITE:
        _measure_write(c, b.mm, s)
    elif b.what == MEASURE_CYCLE:
        _measure_cycle(c, b.mm, s, b.unit)
    elif b.what == MEASURE_RECORD:
        _measure_record(c, s)
    else:
        _measure_stamps(c, s)
    s.ns = thread_cpu_ns() - begin - s.fault_ns

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

# Discards free the frames and tables of earlier ones as they go, and at the end all that are left.
cdef inline void _measure_cycle(cpu *c, mm *m, measure_share *s, uint32_t unit) noexcept nogil:
    cdef uint64_t i, at, value = 1, incarnation = 0, failed = 0, begin
    for i in range(s.turns):
        begin = thread_cpu_ns()
        for at in range(s.first, s.first + s.pages):
            failed += do_access(c, m, at, True, &value, &incarnation) != 0
        s.fault_ns += thread_cpu_ns() - begin
        at = s.first
        while at < s.first + s.pages:
            failed += do_dontneed(c, m, at, at + unit) != 0
            poll(c, m)
            at += unit
    s.failed = failed
    drain(c, m)

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
