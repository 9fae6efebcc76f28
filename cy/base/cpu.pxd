# One worker = one `struct cpu`: an OS thread or a fibre.
#
# Everything that a worker owns hangs here: its schedule hook, random stream, RCU slots, TLB,
# held-lock stack and recorder. The functions that use a part live on the floor of that part.
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport strncpy
from cy.base.atomics cimport atomic_add_return, cpu_relax, peek
from cy.base.build cimport PT_DELAY
from cy.base.clock cimport sched_yield, stamp_end
from cy.base.hook cimport pt_hook
from cy.base.rng cimport rng_below
from cy.base.shm cimport (
    MAX_REPORTS, WHAT_BYTES, event, report, shm_header, shm_worker)

cdef enum:
    RCU_TABLES = 0      # the scheme's own domain: software walkers
    RCU_HW = 1          # hardware accesses in flight
    RCU_IRQ = 2         # sections with interrupts off
    NR_RCU = 3
    TLB_ENTRIES = 64
    PWC_ENTRIES = 32
    MAX_HELD = 16

# Stands at the head of an object that RCU frees.
cdef struct rcu_head:
    rcu_head *next
    void (*func)(cpu *c, rcu_head *head) noexcept nogil

# Callbacks that a cpu has queued: see cy/sync/cblist.pxd.
cdef struct rcu_cblist:
    rcu_head *next_head
    rcu_head **next_tail
    rcu_head *wait_head
    uint64_t wait_gp
    uint32_t nr_next
    uint32_t nr_wait

# A cpu's part of one RCU domain.
cdef struct rcu_cpu:
    # Written: own cpu. Read: grace periods. 0 outside; else the grace-period number at entry.
    uint64_t slot
    uint64_t nested             # sections inside the outermost; own cpu only
    rcu_cblist callbacks        # own cpu only
    uint64_t pad[9]             # 128 bytes: found by a shift

cdef struct tlb_entry:
    # Written: own cpu fills; any cpu may clear `tag`. Read: own cpu; others as a hint (oracles).
    uint64_t tag                # page number + 1; 0: invalid
    uint64_t val                # leaf entry as cached: frame, RW, D
    uint64_t gen                # cpu.full_flushes of its mm when it was filled
    uint64_t incarnation        # of the frame when it was filled
    uint64_t fills              # even; odd while the owner rewrites the entry
    uint64_t pad[3]             # a cache line

# Paging-structure cache: a pmd entry that a walk met. See cy/mm/pwc.pxd.
cdef struct pwc_entry:
    # Written: own cpu fills; any cpu may clear `tag`. Read: own cpu; others as a hint (oracles).
    uint64_t tag                # region of a pte_table + 1; 0: invalid
    uint64_t pmd                # the entry
    uint64_t gen                # cpu.full_flushes of its mm when it was filled
    uint64_t fills              # even; odd while the owner rewrites the entry

cdef struct held_lock:
    const void *lock
    uint32_t lock_class

# Freed data frames on their way through the hardware domain's grace period: chains through
# page.next, own cpu only.
cdef struct frame_chain:
    uint32_t head
    uint32_t tail
    uint32_t nr
    uint64_t gp                 # grace period to wait for

cdef struct cpu:
    pt_hook hook                # first: pt_current points at it
    uint32_t id
    uint32_t nr_held
    uint64_t rng
    uint32_t delay_left         # delay points until the next delay
    uint32_t delay_interval     # mean; 0: never
    uint64_t next_incarnation
    uint64_t next_value
    shm_header *header
    shm_worker *shared          # counters and ring, mapped by the parent too
    event *events
    uint64_t ring_events
    uint64_t *latency           # histograms of how long its operations take; NULL: nobody asked. See cy/check/latency.pxd
    uint32_t verb               # in progress
    uint32_t seq                # operations begun; wraps
    uint32_t task_work          # something to do on the way out of the operation
    uint64_t nr_pins            # frames that it holds pinned
    uint64_t debt               # tables that it has unlinked, or let go of last, and nobody has freed; see cy/mm/debt.pxd
    uint64_t gp_over_ns         # when the grace period was over of what it frees
    frame_chain frames_next     # freed frames: waiting for a grace period to be chosen,
    frame_chain frames_wait     # and for frames_wait.gp
    held_lock held[16]
    # Written: any cpu that flushes. Read: own cpu, when a fill begins and ends.
    uint64_t flush_gen
    uint64_t full_flushes[8]    # of each mm: a flush of one leaves the translations of the others
    uint64_t pad0[7]
    rcu_cpu rcu[3]
    tlb_entry tlb[64]
    pwc_entry pwc[32]
    uint64_t pad1[8]

# Read sections of one domain that this cpu is in, nested ones counted. Context: own cpu, or nobody runs.
cdef inline uint64_t rcu_sections(cpu *c, uint32_t which) noexcept nogil:
    return c.rcu[which].nested + 1 if peek(&c.rcu[which].slot) != 0 else 0

cdef inline void count(cpu *c, int counter) noexcept nogil:
    c.shared.counter[counter] += 1

cdef inline void count_max(cpu *c, int counter, uint64_t value) noexcept nogil:
    if value > c.shared.counter[counter]:
        c.shared.counter[counter] = value

# Report a violation. Context: any. The run stops at the next operation; what follows in this one
# must stay memory-safe. `what` is a static string; a and b are explained by it.
cdef inline void pt_report(cpu *c, uint32_t oracle, uint32_t invariant, const char *what,
                           uint64_t addr, uint64_t a, uint64_t b) noexcept nogil:
    cdef uint64_t n = atomic_add_return(&c.header.nr_reports, 1)
    cdef report *r
    if n > MAX_REPORTS:
        return
    r = &c.header.reports[n - 1]
    r.invariant = invariant
    r.cpu = c.id
    r.verb = c.verb
    r.seq = c.seq
    r.addr = addr
    r.a = a
    r.b = b
    r.stamp = stamp_end(&c.hook)
    strncpy(r.what, what, WHAT_BYTES - 1)
    r.oracle = oracle

# A place where a rare interleaving opens: sometimes stay here for a while.
# Context: any that may be preempted, locks included. Nothing in builds without PT_DELAY.
cdef inline void delay_point(cpu *c) noexcept nogil:
    if PT_DELAY:
        if c.delay_interval == 0:
            return
        if c.delay_left != 0:
            c.delay_left -= 1
            return
        _delay(c)

cdef inline void _delay(cpu *c) noexcept nogil:
    cdef uint32_t spins
    c.delay_left = rng_below(&c.rng, 2 * c.delay_interval)
    if rng_below(&c.rng, 4) == 0:
        sched_yield()
        return
    spins = rng_below(&c.rng, 400)
    while spins:
        cpu_relax()
        spins -= 1
