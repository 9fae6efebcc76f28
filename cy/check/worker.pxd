# Workers: native threads that wait at a gate, do one job together, and park again.
#
# Jobs: RACE runs each worker's stream until it ends, its ring is full, or the burst ends: because the coordinator
# asks, or because full rings have left fewer workers than there are cores, which would race less and less. CHECK
# runs a share of the data oracle. Parking drains the worker's grace periods, so that the machine is
# quiescent when all are parked. The coordinator waits with a time limit and returns to its caller,
# so signals are seen; it never frees anything while a worker is inside a job.
# Start gate: workers that were woken wait for each other, so that their operations really overlap.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport cpu_relax
from cy.base.clock cimport now_ns, sched_yield
from cy.base.coordination cimport pt_acq, pt_inc, pt_rel
from cy.base.cpu cimport cpu
from cy.base.hook cimport pt_set_current
from cy.base.shm cimport C_PARKED, C_STREAM_DONE, VERB_SYNC, op
from cy.check.execute cimport drain, execute
from cy.check.machine cimport machine
from cy.check.stream cimport STREAM_ARRAY, STREAM_NONE, stream, stream_advance, stream_peek

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_create(pthread_t *t, const void *attr, void *(*f)(void *) noexcept nogil, void *arg) noexcept
    int pthread_join(pthread_t t, void **r) noexcept
    int pthread_mutex_init(pthread_mutex_t *m, const void *attr) noexcept
    int pthread_mutex_lock(pthread_mutex_t *m) noexcept
    int pthread_mutex_unlock(pthread_mutex_t *m) noexcept
    int pthread_cond_init(pthread_cond_t *c, const void *attr) noexcept
    int pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m) noexcept
    int pthread_cond_broadcast(pthread_cond_t *c) noexcept

cdef extern from *:
    """
    static inline int pt_cond_wait_ms(pthread_cond_t *c, pthread_mutex_t *m, int ms) {
        struct timespec t; clock_gettime(CLOCK_REALTIME, &t);
        t.tv_nsec += (long)ms * 1000000L;
        t.tv_sec += t.tv_nsec / 1000000000L; t.tv_nsec %= 1000000000L;
        return pthread_cond_timedwait(c, m, &t);
    }
    """
    int pt_cond_wait_ms(pthread_cond_t *c, pthread_mutex_t *m, int ms) noexcept nogil

cdef enum:
    JOB_RACE = 1
    JOB_CHECK = 2
    JOB_QUIT = 3

ctypedef void (*check_fn)(void *ctx, uint32_t shard, uint32_t nr_shards, cpu *c) noexcept nogil

cdef struct worker:
    cpu *cpu
    crew *crew
    stream stream
    pthread_t thread
    uint64_t finished           # its stream is at the end
    uint64_t pad[8]

cdef struct crew:
    machine *machine
    worker *workers
    uint32_t nr
    pthread_mutex_t lock
    pthread_cond_t gate         # a new job
    pthread_cond_t parked       # a worker parked
    uint64_t job                # kind; lock held
    uint64_t job_number         # lock held
    uint32_t nr_parked          # lock held
    uint64_t arrived            # workers at the start gate of this job
    uint64_t end_burst          # park after the operation in progress
    uint64_t nr_full            # workers whose ring got full in this burst
    uint32_t nr_cores           # that the process may use
    check_fn check
    void *check_ctx

# Do the operations of a stream until it ends or the burst does. Returns True at the end of the stream.
cdef inline bint run_stream(worker *w) noexcept nogil:
    cdef op scratch
    cdef const op *o
    cdef machine *x = w.crew.machine
    while pt_acq(&w.crew.end_burst) == 0 and pt_acq(&x.header.stop) == 0 and pt_acq(&x.header.nr_reports) == 0:
        o = stream_peek(w.cpu, &w.stream, &scratch)
        if o == NULL:
            return True
        if o.verb == VERB_SYNC:
            if not _sync(w, o):
                return False
        elif not execute(w.cpu, x, o):
            _ring_full(w)
            return False
        stream_advance(&w.stream)
    return False

# The workers of a recorded trace wait for each other: one that cannot go on stops all. Others park and leave the burst
# to the rest, or else the first to get a long time slice would end it before the others have begun.
cdef inline void _ring_full(worker *w) noexcept nogil:
    cdef crew *g = w.crew
    if w.stream.kind == STREAM_ARRAY or pt_inc(&g.nr_full) + g.nr_cores > g.nr:
        pt_rel(&g.end_burst, 1)

# Wait until another worker has done its share. False: the burst ended meanwhile; try again in the next.
cdef inline bint _sync(worker *w, const op *o) noexcept nogil:
    cdef uint64_t *done = &w.crew.machine.shared[o.start].counter[C_STREAM_DONE]
    while pt_acq(done) < o.end:
        if pt_acq(&w.crew.end_burst) or pt_acq(&w.crew.machine.header.stop) or pt_acq(&w.crew.machine.header.nr_reports):
            return False
        sched_yield()
    return True

cdef inline void *worker_main(void *arg) noexcept nogil:
    cdef worker *w = <worker *>arg
    cdef crew *g = w.crew
    cdef uint64_t seen = 0, job
    cdef uint32_t spins
    pt_set_current(&w.cpu.hook)
    while True:
        pthread_mutex_lock(&g.lock)
        while g.job_number == seen:
            pthread_cond_wait(&g.gate, &g.lock)
        seen = g.job_number
        job = g.job
        pthread_mutex_unlock(&g.lock)
        if job == JOB_QUIT:
            return NULL
        pt_inc(&g.arrived)
        spins = 0
        while pt_acq(&g.arrived) < g.nr:
            spins += 1
            if spins < 1000:
                cpu_relax()
            else:
                sched_yield()
        if job == JOB_RACE:
            w.cpu.shared.counter[C_PARKED] = 0
            if w.stream.kind == STREAM_NONE or run_stream(w):
                pt_rel(&w.finished, 1)
            drain(w.cpu, &g.machine.mms[0])
            w.cpu.shared.counter[C_PARKED] = 1
        else:
            g.check(g.check_ctx, w.cpu.id, g.nr, w.cpu)
        pthread_mutex_lock(&g.lock)
        g.nr_parked += 1
        pthread_cond_broadcast(&g.parked)
        pthread_mutex_unlock(&g.lock)

# Start the threads. Returns how many were started; fewer than asked: out of threads.
cdef inline uint32_t crew_start(crew *g) noexcept nogil:
    cdef uint32_t i
    pthread_mutex_init(&g.lock, NULL)
    pthread_cond_init(&g.gate, NULL)
    pthread_cond_init(&g.parked, NULL)
    g.job_number = 0
    g.nr_parked = g.nr
    for i in range(g.nr):
        g.workers[i].crew = g
        g.workers[i].cpu = &g.machine.cpus[i]
        if pthread_create(&g.workers[i].thread, NULL, worker_main, &g.workers[i]) != 0:
            return i
    return g.nr

# Give all workers a job. Context: all are parked.
cdef inline void crew_post(crew *g, uint64_t job) noexcept nogil:
    pthread_mutex_lock(&g.lock)
    g.job = job
    g.job_number += 1
    g.nr_parked = 0
    g.arrived = 0
    pt_rel(&g.end_burst, 0)
    g.nr_full = 0
    pthread_cond_broadcast(&g.gate)
    pthread_mutex_unlock(&g.lock)

# Wait until all are parked, at most `ms`. Returns True if they are.
cdef inline bint crew_wait(crew *g, int ms) noexcept nogil:
    cdef uint64_t deadline = now_ns() + <uint64_t>ms * 1000000
    cdef uint64_t now
    cdef bint done
    pthread_mutex_lock(&g.lock)
    while g.nr_parked != g.nr:
        now = now_ns()
        if now >= deadline:
            break
        pt_cond_wait_ms(&g.parked, &g.lock, <int>((deadline - now) // 1000000 + 1))
    done = g.nr_parked == g.nr
    pthread_mutex_unlock(&g.lock)
    return done

# End the threads. Context: all are parked.
cdef inline void crew_stop(crew *g, uint32_t started) noexcept nogil:
    cdef uint32_t i
    crew_post(g, JOB_QUIT)
    for i in range(started):
        pthread_join(g.workers[i].thread, NULL)
