# Epoch-based RCU.
#
# Guarantees, as the kernel states them for call_rcu: a callback runs after every read section that
# began before call_rcu has ended, and everything such a section did is visible to the callback.
# Sections that begin after the grace period began do not delay it. Read sections nest and never wait.
#
# A reader publishes the number of the grace period that it saw when it entered. A grace period
# takes the next number, makes every cpu pass a full barrier, and is over when no slot holds an
# older number. A callback queued while gp_seq is s waits for grace period s + 2: s itself may have
# begun before the object was unlinked. Nobody drives grace periods but the workers, in rcu_poll.
#
# [PT-010] store buffering: the reader stores its slot, then loads the structure; the updater stores
# to the structure (unlink), then loads the slots. Either side needs a full barrier. The reader's is
# an xchg, or nothing but a compiler barrier where the updater can call membarrier() instead. Explored executions have readers of
# both kinds.
#
# Three domains: RCU_TABLES (software walkers), RCU_HW (hardware accesses in flight), RCU_IRQ (cy/sync/irq.pxd).
# Source: kernel/rcu/tree.c (comment of call_rcu), userspace-rcu src/urcu.c, crossbeam-epoch.
# [PT-011] is argued for multi-copy-atomic machines (x86, aarch64).
# Numbers are odd, step by 2 and start near their wrap, so that 0 means "outside".
# Not modelled: per-cpu quiescent states by context switch, lazy callbacks, offloading.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from cy.base.atomics cimport (
    READ_ONCE, WRITE_ONCE, barrier, membarrier_all_cpus, peek, sched_wait, smp_load_acquire, smp_mb, smp_store_release,
    smp_test_acquire, xchg, xchg_or_membarrier)
from cy.base.build cimport PT_RCU_XCHG, likely
from cy.base.clock cimport lasting_ns, sched_yield
from cy.base.coordination cimport pt_acq
from cy.base.cpu cimport count, count_max, cpu, pt_report, rcu_cblist, rcu_cpu, rcu_head
from cy.base.shm cimport (
    C_GRACE_PERIODS, C_RCU_BACKLOG_MAX, C_RCU_BACKPRESSURE, C_RCU_CALLBACKS, C_RCU_GP_MAX_NS,
    C_RCU_STALL_CPU, C_RCU_STALL_NS, C_RCU_STALL_SITE, C_VERB_NOW, ORACLE_PROGRESS)
from cy.sync.cblist cimport cblist_add, cblist_init, cblist_nr, cblist_run, cblist_wait
from cy.sync.lockclass cimport LOCK_RCU, might_sleep
from cy.sync.spinlock cimport spin_lock_init, spin_trylock, spin_unlock, spinlock_t

cdef extern from *:
    """
    #include <unistd.h>
    #include <sys/syscall.h>
    #define PT_MEMBARRIER_PRIVATE_EXPEDITED 8
    #define PT_MEMBARRIER_REGISTER_PRIVATE_EXPEDITED 16
    #ifdef SYS_membarrier
    static inline int pt_membarrier(int cmd) { return (int)syscall(SYS_membarrier, cmd, 0, 0); }
    #else
    static inline int pt_membarrier(int cmd) { (void)cmd; return -1; }
    #endif
    """
    enum:
        PT_MEMBARRIER_PRIVATE_EXPEDITED
        PT_MEMBARRIER_REGISTER_PRIVATE_EXPEDITED
    int pt_membarrier(int cmd) noexcept nogil

cdef struct rcu_domain:
    # Written: gp_lock held. Read: anyone, acquire.
    uint64_t gp_seq             # newest grace period that began
    uint64_t gp_completed       # newest that ended; equal to gp_seq when idle
    cpu *cpus
    uint32_t nr_cpus
    uint32_t which              # RCU_TABLES, RCU_HW or RCU_IRQ: index of cpu.rcu
    uint32_t membarrier         # readers may do without a full barrier
    uint32_t backlog_max
    spinlock_t gp_lock
    uint64_t gp_start_ns
    uint64_t stall_ns

# Returns True if membarrier() works here; otherwise readers must use xchg.
cdef inline bint rcu_membarrier_available() noexcept nogil:
    return (not PT_RCU_XCHG) and pt_membarrier(PT_MEMBARRIER_REGISTER_PRIVATE_EXPEDITED) == 0

cdef inline void rcu_domain_init(rcu_domain *d, uint32_t which, cpu *cpus, uint32_t nr_cpus) noexcept nogil:
    d.gp_seq = <uint64_t>-9          # wraps within the first five grace periods
    d.gp_completed = d.gp_seq
    d.cpus = cpus
    d.nr_cpus = nr_cpus
    d.which = which
    d.gp_start_ns = 0
    spin_lock_init(&d.gp_lock)

cdef inline void rcu_cpu_init(rcu_cpu *r) noexcept nogil:
    r.slot = 0
    r.nested = 0
    cblist_init(&r.callbacks)

# Enter a read section. Context: any. Never waits. Nests.
cdef inline void rcu_read_lock(cpu *c, rcu_domain *d) noexcept nogil:
    cdef rcu_cpu *r = &c.rcu[d.which]
    cdef uint64_t seq
    # The slot says whether this is the outermost section; the common case stores nothing else.
    if likely(peek(&r.slot) == 0):
        # [PT-011] pairs with: the release of gp_seq in _rcu_gp_start. A reader that saw number s
        # also sees every unlink made before s began.
        seq = smp_load_acquire(&d.gp_seq)
        if PT_RCU_XCHG or not d.membarrier:
            xchg_or_membarrier(&r.slot, seq)         # [PT-010] pairs with: _rcu_gp_start.
        else:
            WRITE_ONCE(&r.slot, seq)
            barrier()                        # [PT-010] pairs with: membarrier() in _rcu_gp_start.
    else:
        r.nested += 1

# Leave it. Everything done inside is visible to callbacks that waited for it.
cdef inline void rcu_read_unlock(cpu *c, rcu_domain *d) noexcept nogil:
    cdef rcu_cpu *r = &c.rcu[d.which]
    if likely(r.nested == 0):
        smp_store_release(&r.slot, 0)        # [PT-012] pairs with: the acquire load in _rcu_gp_done.
    else:
        r.nested -= 1

# Run func(c, head) on this cpu after a grace period. Context: any, also inside a read section.
# The object must already be unlinked. Does not wait; see rcu_backpressure.
cdef inline void call_rcu(cpu *c, rcu_domain *d, rcu_head *head,
                          void (*func)(cpu *c, rcu_head *head) noexcept nogil) noexcept nogil:
    cdef rcu_cblist *l = &c.rcu[d.which].callbacks
    cblist_add(l, head, func)
    count_max(c, C_RCU_BACKLOG_MAX, cblist_nr(l))

# The grace period that must end before an object unlinked by now may be freed.
cdef inline uint64_t rcu_gp_target(rcu_domain *d) noexcept nogil:
    smp_mb()                                 # [PT-010] pairs with: the unlink is before this load.
    return READ_ONCE(&d.gp_seq) + 2

cdef inline bint rcu_gp_reached(rcu_domain *d, uint64_t target) noexcept nogil:
    # [PT-013] pairs with: the release of gp_completed in rcu_advance.
    return <int64_t>(smp_load_acquire(&d.gp_completed) - target) >= 0

# Begin a grace period if none runs, and end it if no older reader is left. Never waits.
# Context: outside a read section of this domain.
cdef inline void rcu_advance(cpu *c, rcu_domain *d) noexcept nogil:
    if not spin_trylock(c, &d.gp_lock, LOCK_RCU):
        return
    if d.gp_seq == d.gp_completed:
        _rcu_gp_start(c, d)
    if _rcu_gp_done(c, d):
        count(c, C_GRACE_PERIODS)
        count_max(c, C_RCU_GP_MAX_NS, lasting_ns(&c.hook) - d.gp_start_ns)
        smp_store_release(&d.gp_completed, d.gp_seq)     # [PT-013] pairs with: rcu_gp_reached.
    spin_unlock(c, &d.gp_lock)

cdef inline void _rcu_gp_start(cpu *c, rcu_domain *d) noexcept nogil:
    d.gp_start_ns = lasting_ns(&c.hook)
    xchg(&d.gp_seq, d.gp_seq + 2)            # [PT-011] pairs with: rcu_read_lock.
    membarrier_all_cpus()                    # [PT-010] pairs with: rcu_read_lock.
    if d.membarrier:
        # [PT-010] pairs with: rcu_read_lock.
        if pt_membarrier(PT_MEMBARRIER_PRIVATE_EXPEDITED) != 0:
            pt_report(c, ORACLE_PROGRESS, 10, b"membarrier() failed: grace periods prove nothing", 0, 0, 0)

cdef inline bint _rcu_gp_done(cpu *c, rcu_domain *d) noexcept nogil:
    cdef uint32_t i
    cdef uint64_t age
    for i in range(d.nr_cpus):
        # [PT-012] pairs with: rcu_read_unlock.
        if not smp_test_acquire(&d.cpus[i].rcu[d.which].slot, d.gp_seq):
            age = lasting_ns(&c.hook) - d.gp_start_ns
            if age > d.stall_ns and age > c.shared.counter[C_RCU_STALL_NS]:
                c.shared.counter[C_RCU_STALL_NS] = age
                c.shared.counter[C_RCU_STALL_CPU] = i
                c.shared.counter[C_RCU_STALL_SITE] = pt_acq(&d.cpus[i].shared.counter[C_VERB_NOW])
            return False
    return True

# Bare reading, for the controlled scheduler: can a grace period begin or end now?
cdef inline int rcu_can_advance(const void *arg) noexcept nogil:
    cdef const rcu_domain *d = <const rcu_domain *>arg
    cdef uint32_t i
    if d.gp_lock.val != 0:
        return 0
    if d.gp_seq == d.gp_completed:
        return 1
    for i in range(d.nr_cpus):
        if d.cpus[i].rcu[d.which].slot != 0 and d.cpus[i].rcu[d.which].slot != d.gp_seq:
            return 0
    return 1

# Invoke what is due; drive a grace period if at least `threshold` callbacks wait.
# Context: outside read sections. Callbacks run here and must not sleep.
cdef inline void rcu_poll(cpu *c, rcu_domain *d, uint32_t threshold) noexcept nogil:
    cdef rcu_cblist *l = &c.rcu[d.which].callbacks
    if cblist_nr(l) == 0 or cblist_nr(l) < threshold:
        return
    _rcu_segments(c, d, l)
    if l.nr_wait:
        rcu_advance(c, d)
        _rcu_segments(c, d, l)

# Invoke the waiting segment if its grace period is over; then let the next one wait.
cdef inline void _rcu_segments(cpu *c, rcu_domain *d, rcu_cblist *l) noexcept nogil:
    if l.nr_wait and rcu_gp_reached(d, l.wait_gp):
        c.shared.counter[C_RCU_CALLBACKS] += cblist_run(c, l)
    if l.nr_wait == 0 and l.nr_next:
        cblist_wait(l, rcu_gp_target(d))

# Wait for a full grace period. Context: may sleep; outside read sections of this domain.
cdef inline void synchronize_rcu(cpu *c, rcu_domain *d) noexcept nogil:
    cdef uint64_t target
    might_sleep(c)
    target = rcu_gp_target(d)
    while not rcu_gp_reached(d, target):
        rcu_advance(c, d)
        if not rcu_gp_reached(d, target):
            _rcu_wait(d)

# Wait until every callback that this cpu queued has run. Context: as synchronize_rcu.
# The kernel's waits for all cpus; here each worker calls it for itself before it parks.
cdef inline void rcu_barrier(cpu *c, rcu_domain *d) noexcept nogil:
    cdef rcu_cblist *l = &c.rcu[d.which].callbacks
    might_sleep(c)
    while cblist_nr(l):
        rcu_poll(c, d, 0)
        if cblist_nr(l):
            _rcu_wait(d)

# Wait while more than backlog_max callbacks of this cpu are queued, so that one preempted reader
# cannot let the backlog grow without bound. Context: as synchronize_rcu.
cdef inline void rcu_backpressure(cpu *c, rcu_domain *d) noexcept nogil:
    cdef rcu_cblist *l = &c.rcu[d.which].callbacks
    might_sleep(c)
    if likely(cblist_nr(l) <= d.backlog_max):
        return
    count(c, C_RCU_BACKPRESSURE)
    while cblist_nr(l) > d.backlog_max:
        rcu_poll(c, d, 0)
        if cblist_nr(l) > d.backlog_max:
            _rcu_wait(d)

cdef inline void _rcu_wait(rcu_domain *d) noexcept nogil:
    if not sched_wait(rcu_can_advance, d):
        sched_yield()
