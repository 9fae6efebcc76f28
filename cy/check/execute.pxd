# Execute one operation on behalf of a worker: record it, do it, then let grace periods move.
from libc.errno cimport EINVAL, ESRCH
from libc.signal cimport SIGSEGV, raise_ as c_raise
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport cpu_relax, plain_load, plain_store, sched_wait
from cy.base.build cimport PT_CHECKS, PT_TSAN
from cy.base.clock cimport sched_yield
from cy.base.coordination cimport pt_rel
from cy.base.cpu cimport RCU_HW, cpu, pt_report
from cy.base.geometry cimport PAGE_SHIFT
from cy.base.shm cimport (
    C_STREAM_DONE, ORACLE_PROGRESS, VERB_AGE, VERB_DISCARD, VERB_DONTNEED, VERB_EXIT, VERB_FREE, VERB_GUARD_INSTALL,
    VERB_GUARD_REMOVE, VERB_GUP_FAST, VERB_MMAP, VERB_MPROTECT, VERB_MUNMAP, VERB_POPULATE, VERB_READ, VERB_SCAN, VERB_WALK,
    VERB_WRITE, event, op)
from cy.check.machine cimport machine, machine_mm
from cy.check.record cimport BITS_PER_LINE, record_begin, record_end, record_room, walk_lines
from cy.mm.deferred cimport (
    deferred_backpressure, deferred_barrier_tables, deferred_poll_tables, frames_pinned, frames_poll)
from cy.mm.mm_users cimport mmget_not_zero
from cy.mm.pin cimport page_is_unpinned
from cy.mm.types cimport mm, page, scan_report
from cy.ops.access cimport do_access
from cy.ops.age cimport do_age
from cy.ops.discard cimport do_discard
from cy.ops.dontneed cimport do_dontneed
from cy.ops.exit cimport do_exit, mmput
from cy.ops.free cimport do_free
from cy.ops.guard cimport do_guard_install, do_guard_remove
from cy.ops.gup_fast cimport do_gup_fast
from cy.ops.mmap cimport do_mmap
from cy.ops.mprotect cimport do_mprotect
from cy.ops.munmap cimport do_munmap
from cy.ops.populate cimport do_populate
from cy.ops.scan cimport do_scan
from cy.ops.walk cimport do_walk
from cy.sync.rcu cimport rcu_can_advance

cdef enum:
    FRAMES_PER_CALLBACK = 16    # frames are many and cheap; they move when this many times gp_batch wait

# Values are unique in a run, never 0 and never look like an incarnation. They start near the wrap of
# their 40-bit counter, so that an ordering by value would be caught.
cdef inline uint64_t fresh_value(cpu *c) noexcept nogil:
    c.next_value += 1
    return ((<uint64_t>c.id + 1) << 40) | (c.next_value & <uint64_t>0xffffffffff)

# Returns False if the ring has no room for it; nothing was done then.
# Context: own cpu, no lock, no RCU.
cdef inline bint execute(cpu *c, machine *x, const op *o) noexcept nogil:
    cdef mm *m = machine_mm(x, o.start)
    cdef event *e
    cdef uint32_t verb = o.verb
    cdef bint refcounted = x.nr_mms > 1 and verb != VERB_EXIT     # an only mm never exits
    cdef uint32_t lines = 0
    cdef uint64_t value = 0, incarnation = 0
    cdef scan_report seen
    cdef int status
    # A walk past the end of the address space fails and reports no pages.
    if (verb == VERB_WALK or verb == VERB_AGE) and o.start < o.end and o.end <= m.end_page:
        lines = walk_lines(o.end - o.start)
    if not record_room(c, lines):
        return False
    deferred_backpressure(c, m)
    if verb == VERB_WRITE or (verb == VERB_GUP_FAST and o.arg & 1):
        value = fresh_value(c)
    e = record_begin(c, verb, o.start, m.end_page if verb == VERB_EXIT else o.end, lines, value)
    if refcounted and not mmget_not_zero(m):
        refcounted = False
        status = -ESRCH
    elif verb == VERB_READ:
        status = do_access(c, m, o.start, False, &value, &incarnation)
    elif verb == VERB_WRITE:
        status = do_access(c, m, o.start, True, &value, &incarnation)
    elif verb == VERB_GUP_FAST:
        e.aux = <uint32_t>(o.arg & 1)
        status = do_gup_fast(c, m, o.start, e.aux != 0, &value, &incarnation)
    elif verb == VERB_DONTNEED:
        status = do_dontneed(c, m, o.start, o.end)
    elif verb == VERB_GUARD_INSTALL:
        status = do_guard_install(c, m, o.start, o.end)
    elif verb == VERB_GUARD_REMOVE:
        status = do_guard_remove(c, m, o.start, o.end)
    elif verb == VERB_FREE:
        status = do_free(c, m, o.start, o.end)
    elif verb == VERB_DISCARD:
        status = do_discard(c, m, o.start, o.end)
    elif verb == VERB_SCAN:
        seen = do_scan(c, m)
        e.start = seen.start >> PAGE_SHIFT
        e.end = seen.end >> PAGE_SHIFT
        status = 0
    elif verb == VERB_WALK:
        status = do_walk(c, m, o.start, o.end, (o.arg & 1) != 0, <uint64_t *>(e + 1), <uint64_t>lines * BITS_PER_LINE, &value)
        e.aux = <uint32_t>value
    elif verb == VERB_AGE:
        status = do_age(c, m, o.start, o.end, <uint64_t *>(e + 1), <uint64_t>lines * BITS_PER_LINE, &value)
        e.aux = <uint32_t>value
    elif verb == VERB_POPULATE:
        e.aux = <uint32_t>(o.arg & 1)
        status = do_populate(c, m, o.start, o.end, (o.arg & 1) != 0, &value)
    elif verb == VERB_MMAP:
        e.aux = <uint32_t>(o.arg & 1)
        status = do_mmap(c, m, o.start, o.end, <uint32_t>(o.arg & 1))
    elif verb == VERB_MUNMAP:
        status = do_munmap(c, m, o.start, o.end)
    elif verb == VERB_EXIT:
        status = do_exit(c, m) if x.nr_mms > 1 and o.start == m.first_page else -EINVAL
    elif verb == VERB_MPROTECT:
        e.aux = <uint32_t>(o.arg & 1)
        status = do_mprotect(c, m, o.start, o.end, <uint32_t>(o.arg & 1))
    else:
        pt_report(c, ORACLE_PROGRESS, 0, b"there is no operation a", 0, verb, 0)
        status = -EINVAL
    if c.task_work:
        c.task_work = 0
        do_scan(c, m)
    e.value = value if status == 0 or verb == VERB_POPULATE else 0
    e.incarnation = incarnation if status == 0 else 0
    if refcounted:
        mmput(c, m)
    record_end(c, e, status)
    if PT_TSAN and m.knobs.tsan_plant:
        plain_store(&m.planted, plain_load(&m.planted) + 1)      # BUSTED: must be found by the race detector
    if PT_CHECKS:
        _planted_failure(m, verb)
    # Release: who waits for this operation (VERB_SYNC) sees what it did.
    pt_rel(&c.shared.counter[C_STREAM_DONE], c.shared.counter[C_STREAM_DONE] + 1)
    poll(c, m)
    return True

# BUSTED: who contains crashes and hangs must be seen to do so. Numbers of verbs, 0 is none of them.
cdef inline void _planted_failure(mm *m, uint32_t verb) noexcept nogil:
    if m.knobs.crash_plant == verb:
        c_raise(SIGSEGV)
    while m.knobs.hang_plant == verb:
        cpu_relax()

# Let what waits for grace periods move on. Context: between operations.
cdef inline void poll(cpu *c, mm *m) noexcept nogil:
    deferred_poll_tables(c, m, m.knobs.gp_batch)
    frames_poll(c, m, m.knobs.gp_batch * FRAMES_PER_CALLBACK)

# Wait until nothing of this cpu waits for a grace period any more. Context: as poll; may sleep.
cdef inline void drain(cpu *c, mm *m) noexcept nogil:
    cdef page *pinned
    deferred_barrier_tables(c, m)
    while c.frames_next.nr + c.frames_wait.nr:
        frames_poll(c, m, 0)
        if c.frames_next.nr + c.frames_wait.nr:
            pinned = frames_pinned(c, m)
            if not (sched_wait(page_is_unpinned, pinned) if pinned != NULL else sched_wait(rcu_can_advance, &m.rcu[RCU_HW])):
                sched_yield()
