# Waiting for a word to change: pause, then yield. Under a controlled scheduler the waiter is blocked
# on its condition instead, so that a deadlock is seen at once.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport cpu_relax, sched_wait
from cy.base.clock cimport sched_yield
from cy.base.cpu cimport cpu
from cy.base.hook cimport pt_ready_t
from cy.base.shm cimport C_WAIT_ADDR, C_WAIT_CLASS

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

cdef inline void wait_begin(cpu *c, const void *lock, uint32_t lock_class) noexcept nogil:
    c.shared.counter[C_WAIT_ADDR] = <uint64_t>lock
    c.shared.counter[C_WAIT_CLASS] = lock_class

cdef inline void wait_end(cpu *c) noexcept nogil:
    c.shared.counter[C_WAIT_ADDR] = 0
