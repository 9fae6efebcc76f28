# Waiting for a word to change: pause, then yield. Under a controlled scheduler the waiter is blocked
# on its condition instead, so that a deadlock is seen at once.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport cpu_relax, sched_wait
from cy.base.clock cimport lasting_ns, sched_yield
from cy.base.cpu cimport count, count_max, cpu
from cy.base.hook cimport pt_ready_t
from cy.base.shm cimport C_MM_WAIT_MAX_NS, C_MM_WAITS, C_WAIT_ADDR, C_WAIT_CLASS, C_WAIT_SINCE
from cy.sync.lockclass cimport LOCK_VMA

cdef enum:
    SPINS_BEFORE_YIELD = 100     # measured: more gains nothing, none loses 2x with 8 threads on 2 cores

# One turn of a wait loop. The caller tests its condition again after each turn.
cdef inline void wait_turn(cpu *c, uint32_t *turns, pt_ready_t ready, const void *arg) noexcept nogil:
    if sched_wait(ready, arg):
        return
    turns[0] += 1
    if turns[0] < SPINS_BEFORE_YIELD:
        cpu_relax()
    else:
        sched_yield()

# Context: the caller is about to wait for a lock of the class. Waits for mmap_lock and for VMAs, whose holders may sleep, are
# timed: how long one lasts tells how much of it there is in the way of a fault.
cdef inline void wait_begin(cpu *c, const void *lock, uint32_t lock_class) noexcept nogil:
    c.shared.counter[C_WAIT_ADDR] = <uint64_t>lock
    c.shared.counter[C_WAIT_CLASS] = lock_class
    if lock_class <= LOCK_VMA:
        c.shared.counter[C_WAIT_SINCE] = lasting_ns(&c.hook)

cdef inline void wait_end(cpu *c) noexcept nogil:
    c.shared.counter[C_WAIT_ADDR] = 0
    if c.shared.counter[C_WAIT_CLASS] <= LOCK_VMA:
        count(c, C_MM_WAITS)
        count_max(c, C_MM_WAIT_MAX_NS, lasting_ns(&c.hook) - c.shared.counter[C_WAIT_SINCE])
