# Sleepable RCU: read sections that may sleep.
#
# Guarantees: those of cy/sync/rcu.pxd, for sections of one srcu_struct; who sleeps in one delays nobody but who waits for that
# srcu_struct. srcu_read_lock returns an index, which srcu_read_unlock must get back: sections are counted in two halves, and a
# section must leave the half that it entered.
#
# Each cpu counts sections begun and sections ended, by halves. A half is empty if the sums over all cpus are equal, ended ones
# added up first, so that a section that comes or goes meanwhile makes begun the larger sum. A grace period:
#   SCAN1  waits until the half that readers do not use is empty. A reader may have read `idx` before the last flip and counted
#          itself since: without this scan nobody would wait for it
#   flip   readers count themselves in the other half
#   SCAN2  waits until the half that they have left is empty; new readers do not delay it
# Nobody drives grace periods but the workers, in srcu_poll.
#
#   [PT-030] B of srcu_read_lock, A of a scan: the scan sees the section begun, or the section sees the unlink
#   [PT-031] C of srcu_read_unlock, A of a scan: a section's accesses come before the callbacks
#   [PT-032] D and E of the flip, C and B: a reader that a scan has missed counts itself in the new half next time, and one that
#            uses the new half has not been looked for there
#   [PT-033] the end of a grace period before its callbacks
# Source: kernel/rcu/srcutree.c (__srcu_read_lock, srcu_readers_active_idx_check, srcu_flip, srcu_advance_state; the letters are
# its), kernel/rcu/srcutiny.c; McKenney, "Sleepable RCU", LWN 202847 (2006); Alglave, Maranget, McKenney, Parri, Stern,
# "Frightening Small Children and Disconcerting Grown-ups: Concurrency in the Linux Kernel", ASPLOS 2018, whose model
# (tools/memory-model) treats SRCU since 5.1.
# Counts and numbers start near their wrap. Not modelled: sections that end on another cpu, NMI-safe and fast readers (the
# latter wait for an RCU grace period instead of B and C), expedited and polled grace periods, cleanup_srcu_struct.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from cy.base.atomics cimport (
    READ_ONCE, WRITE_ONCE, peek, sched_wait, smp_load_acquire, smp_mb, smp_store_release, xchg, yield_point)
from cy.base.bugs cimport BUG, BUG_M08_SRCU_SCAN
from cy.base.build cimport PT_CHECKS, likely
from cy.base.clock cimport lasting_ns, sched_yield
from cy.base.cpu cimport count, count_max, cpu, delay_point, pt_report, rcu_cblist, rcu_head
from cy.base.shm cimport (
    C_RCU_BACKPRESSURE, C_SRCU_BACKLOG_MAX, C_SRCU_GP_MAX_NS, C_SRCU_PERIODS, ORACLE_COUNTERS, ORACLE_PROGRESS)
from cy.sync.cblist cimport cblist_add, cblist_init, cblist_nr, cblist_run, cblist_wait
from cy.sync.lockclass cimport LOCK_RCU, might_sleep
from cy.sync.spinlock cimport spin_lock_init, spin_trylock, spin_unlock, spinlock_t

cdef enum:
    SRCU_IDLE = 0
    SRCU_SCAN1 = 1
    SRCU_SCAN2 = 2

# A cpu's part: its sections, and its callbacks.
cdef struct srcu_data:
    # Written: own cpu. Read: scans.
    uint64_t locks[2]           # sections begun, by halves
    uint64_t unlocks[2]         # sections ended
    rcu_cblist callbacks        # own cpu only
    uint64_t pad[7]             # 128 bytes

cdef struct srcu_struct:
    # Written: gp_lock held. Read: anyone, marked.
    uint64_t idx                # low bit: the half in which readers count themselves
    uint64_t gp_seq             # newest grace period that began
    uint64_t gp_completed       # newest that ended; equal to gp_seq when idle
    spinlock_t gp_lock
    uint32_t state              # SRCU_*. Written and read: gp_lock held
    uint64_t gp_start_ns
    uint64_t bugs
    uint32_t nr_cpus
    uint32_t backlog_max
    srcu_data data[64]

# Context: nobody uses it. Makes no schedule points.
cdef inline void srcu_struct_init(srcu_struct *s, uint32_t nr_cpus) noexcept nogil:
    cdef uint32_t i, half
    s.idx = 0
    s.gp_seq = <uint64_t>-5
    s.gp_completed = s.gp_seq
    s.state = SRCU_IDLE
    s.nr_cpus = nr_cpus
    spin_lock_init(&s.gp_lock)
    for i in range(nr_cpus):
        cblist_init(&s.data[i].callbacks)
        for half in range(2):
            s.data[i].locks[half] = <uint64_t>-3
            s.data[i].unlocks[half] = <uint64_t>-3

# Enter a section, and get the index to leave it with. Context: any. Never waits. Nests.
cdef inline uint32_t srcu_read_lock(cpu *c, srcu_struct *s) noexcept nogil:
    cdef uint32_t half = <uint32_t>READ_ONCE(&s.idx) & 1
    delay_point(c)
    yield_point()               # who is preempted here is why a grace period scans twice: an explored reader is
    WRITE_ONCE(&s.data[c.id].locks[half], s.data[c.id].locks[half] + 1)
    smp_mb()                    # B. [PT-030] pairs with: A.
    return half

# Leave it. Context: the cpu that entered.
cdef inline void srcu_read_unlock(cpu *c, srcu_struct *s, uint32_t half) noexcept nogil:
    if PT_CHECKS and peek(&s.data[c.id].locks[half]) == peek(&s.data[c.id].unlocks[half]):
        pt_report(c, ORACLE_COUNTERS, 13, b"leaves SRCU by half a, in which it is in no section", 0, half, 0)
        half ^= 1               # or no grace period would ever end
    smp_mb()                    # C. [PT-031] pairs with: A.
    WRITE_ONCE(&s.data[c.id].unlocks[half], s.data[c.id].unlocks[half] + 1)

# Sections that this cpu is in. Context: own cpu, or nobody runs.
cdef inline uint64_t srcu_sections(srcu_struct *s, uint32_t id) noexcept nogil:
    cdef srcu_data *d = &s.data[id]
    return peek(&d.locks[0]) - peek(&d.unlocks[0]) + peek(&d.locks[1]) - peek(&d.unlocks[1])

# Run func(c, head) on this cpu after a grace period. As call_rcu.
cdef inline void call_srcu(cpu *c, srcu_struct *s, rcu_head *head,
                           void (*func)(cpu *c, rcu_head *head) noexcept nogil) noexcept nogil:
    cblist_add(&s.data[c.id].callbacks, head, func)
    count_max(c, C_SRCU_BACKLOG_MAX, cblist_nr(&s.data[c.id].callbacks))

# The grace period that must end before an object unlinked by now may be freed.
cdef inline uint64_t srcu_gp_target(srcu_struct *s) noexcept nogil:
    smp_mb()                    # [PT-030] the unlink comes before this load, and the load before the scans of that period
    return READ_ONCE(&s.gp_seq) + 2

cdef inline bint srcu_gp_reached(srcu_struct *s, uint64_t target) noexcept nogil:
    # [PT-033] pairs with: the release of gp_completed in srcu_advance.
    return <int64_t>(smp_load_acquire(&s.gp_completed) - target) >= 0

# Move a grace period on as far as it goes, and begin one if none runs. Never waits. Context: any.
cdef inline void srcu_advance(cpu *c, srcu_struct *s) noexcept nogil:
    if not spin_trylock(c, &s.gp_lock, LOCK_RCU):
        return
    if s.state == SRCU_IDLE:
        s.gp_start_ns = lasting_ns(&c.hook)
        xchg(&s.gp_seq, s.gp_seq + 2)        # a full barrier before the scans. [PT-030] pairs with: srcu_gp_target.
        s.state = SRCU_SCAN1
    if s.state == SRCU_SCAN1 and (BUG(s.bugs, BUG_M08_SRCU_SCAN) or _half_is_empty(s, (s.idx & 1) ^ 1)):
        _flip(s)
        s.state = SRCU_SCAN2
    if s.state == SRCU_SCAN2 and _half_is_empty(s, (s.idx & 1) ^ 1):
        count(c, C_SRCU_PERIODS)
        count_max(c, C_SRCU_GP_MAX_NS, lasting_ns(&c.hook) - s.gp_start_ns)
        s.state = SRCU_IDLE
        smp_store_release(&s.gp_completed, s.gp_seq)     # [PT-033] pairs with: srcu_gp_reached.
    spin_unlock(c, &s.gp_lock)

# A scan. Context: gp_lock.
cdef inline bint _half_is_empty(srcu_struct *s, uint64_t half) noexcept nogil:
    cdef uint64_t unlocks = 0, locks = 0
    cdef uint32_t i
    for i in range(s.nr_cpus):
        unlocks += READ_ONCE(&s.data[i].unlocks[half])
    smp_mb()                    # A. [PT-030] pairs with: B. [PT-031] pairs with: C.
    for i in range(s.nr_cpus):
        locks += READ_ONCE(&s.data[i].locks[half])
    return locks == unlocks

# Context: gp_lock.
cdef inline void _flip(srcu_struct *s) noexcept nogil:
    smp_mb()                    # E. [PT-032] pairs with: B. The scan before the flip
    WRITE_ONCE(&s.idx, s.idx + 1)
    smp_mb()                    # D. [PT-032] pairs with: C. The flip before the scan

# Bare reading, for the controlled scheduler: can srcu_advance do anything now?
cdef inline int srcu_can_advance(const void *arg) noexcept nogil:
    cdef const srcu_struct *s = <const srcu_struct *>arg
    cdef uint64_t half = (s.idx & 1) ^ 1, sections = 0
    cdef uint32_t i
    if s.gp_lock.val != 0:
        return 0
    for i in range(s.nr_cpus):
        sections += s.data[i].locks[half] - s.data[i].unlocks[half]
    return s.state == SRCU_IDLE or sections == 0

# Invoke what is due; drive a grace period if at least `threshold` callbacks wait. As rcu_poll.
cdef inline void srcu_poll(cpu *c, srcu_struct *s, uint32_t threshold) noexcept nogil:
    cdef rcu_cblist *l = &s.data[c.id].callbacks
    if cblist_nr(l) == 0 or cblist_nr(l) < threshold:
        return
    _srcu_segments(c, s, l)
    if l.nr_wait:
        srcu_advance(c, s)
        _srcu_segments(c, s, l)

cdef inline void _srcu_segments(cpu *c, srcu_struct *s, rcu_cblist *l) noexcept nogil:
    if l.nr_wait and srcu_gp_reached(s, l.wait_gp):
        cblist_run(c, l)
    if l.nr_wait == 0 and l.nr_next:
        cblist_wait(l, srcu_gp_target(s))

# Wait for a full grace period. Context: may sleep; outside sections of this srcu_struct.
cdef inline void synchronize_srcu(cpu *c, srcu_struct *s) noexcept nogil:
    cdef uint64_t target
    _may_wait(c, s)
    target = srcu_gp_target(s)
    while not srcu_gp_reached(s, target):
        srcu_advance(c, s)
        if not srcu_gp_reached(s, target):
            _srcu_wait(s)

# Wait until every callback that this cpu queued has run. Context: as synchronize_srcu.
cdef inline void srcu_barrier(cpu *c, srcu_struct *s) noexcept nogil:
    _may_wait(c, s)
    while cblist_nr(&s.data[c.id].callbacks):
        srcu_poll(c, s, 0)
        if cblist_nr(&s.data[c.id].callbacks):
            _srcu_wait(s)

# Wait while too many callbacks of this cpu are queued: readers sleep for as long as they like, memory does not last so long.
# Context: as synchronize_srcu.
cdef inline void srcu_backpressure(cpu *c, srcu_struct *s) noexcept nogil:
    cdef rcu_cblist *l = &s.data[c.id].callbacks
    _may_wait(c, s)
    if likely(cblist_nr(l) <= s.backlog_max):
        return
    count(c, C_RCU_BACKPRESSURE)
    while cblist_nr(l) > s.backlog_max:
        srcu_poll(c, s, 0)
        if cblist_nr(l) > s.backlog_max:
            _srcu_wait(s)

cdef inline void _may_wait(cpu *c, srcu_struct *s) noexcept nogil:
    might_sleep(c)
    if PT_CHECKS and srcu_sections(s, c.id) != 0:
        pt_report(c, ORACLE_PROGRESS, 55, b"waits for a grace period of SRCU inside a of its sections", 0,
                  srcu_sections(s, c.id), 0)

cdef inline void _srcu_wait(srcu_struct *s) noexcept nogil:
    if not sched_wait(srcu_can_advance, s):
        sched_yield()
