# Reader-writer semaphore with downgrade: mm.mmap_lock.
#
# Waiting writers hold off new readers, so that a stream of faults cannot starve munmap. Waiters
# yield; nobody is queued. The word: bits 0-15 readers, 16-30 waiting writers, bit 31 a writer.
# [PT-002] pairs with: down_read and down_write of the next holder; up_* and downgrade_write release.
# Source: kernel/locking/rwsem.c. Not modelled: reader optimistic spinning, lock handoff.
from libc.stdint cimport uint32_t
from cy.base.atomics cimport READ_ONCE32, atomic_add_mb32, cmpxchg32
from cy.base.cpu cimport count, cpu, delay_point
from cy.base.hook cimport pt_ready_t
from cy.base.shm cimport C_LOCK_CONTENDED, C_TRYLOCK_FAILED, FLIGHT_LOCK
from cy.sync.lockclass cimport lock_check_order, lock_held_pop, lock_held_push, lock_note, might_sleep
from cy.sync.wait cimport wait_begin, wait_end, wait_turn

cdef enum:
    RWSEM_READERS = 0xffff
    RWSEM_WAITER = 0x10000

cdef extern from *:
    """
    #define RWSEM_WRITER ((uint32_t)0x80000000u)
    """
    uint32_t RWSEM_WRITER

cdef struct rw_semaphore:
    uint32_t count

cdef inline int rwsem_readable(const void *sem) noexcept nogil:
    return ((<const rw_semaphore *>sem).count & ~<uint32_t>RWSEM_READERS) == 0

cdef inline int rwsem_writable(const void *sem) noexcept nogil:
    return ((<const rw_semaphore *>sem).count & (RWSEM_WRITER | RWSEM_READERS)) == 0

# Context: may sleep.
cdef inline void down_read(cpu *c, rw_semaphore *sem, uint32_t lock_class) noexcept nogil:
    might_sleep(c)
    delay_point(c)
    lock_check_order(c, lock_class)
    rwsem_acquire(c, sem, lock_class, ~<uint32_t>RWSEM_READERS, 1, rwsem_readable)

cdef inline bint down_read_trylock(cpu *c, rw_semaphore *sem, uint32_t lock_class) noexcept nogil:
    cdef uint32_t v = READ_ONCE32(&sem.count)
    # [PT-002] pairs with: up_read, up_write and downgrade_write.
    if (v & ~<uint32_t>RWSEM_READERS) != 0 or cmpxchg32(&sem.count, v, v + 1) != v:
        count(c, C_TRYLOCK_FAILED)
        return False
    lock_held_push(c, sem, lock_class)
    return True

# Context: may sleep.
cdef inline void down_write(cpu *c, rw_semaphore *sem, uint32_t lock_class) noexcept nogil:
    might_sleep(c)
    delay_point(c)
    lock_check_order(c, lock_class)
    atomic_add_mb32(&sem.count, RWSEM_WAITER)
    rwsem_acquire(c, sem, lock_class, RWSEM_WRITER | RWSEM_READERS, RWSEM_WRITER - RWSEM_WAITER, rwsem_writable)

# Add `delta` to the word as soon as none of the bits `busy` is set; `ready` says the same. Context: may sleep, the order of
# locks was looked at.
cdef inline void rwsem_acquire(cpu *c, rw_semaphore *sem, uint32_t lock_class, uint32_t busy, uint32_t delta,
                               pt_ready_t ready) noexcept nogil:
    cdef uint32_t v, turns = 0
    cdef bint waiting = False
    while True:
        v = READ_ONCE32(&sem.count)
        if (v & busy) == 0:
            # [PT-002] pairs with: up_read, up_write and downgrade_write.
            if cmpxchg32(&sem.count, v, v + delta) == v:
                break
            continue
        if not waiting:
            waiting = True
            count(c, C_LOCK_CONTENDED)
            wait_begin(c, sem, lock_class)
        wait_turn(c, &turns, ready, sem)
    if waiting:
        wait_end(c)
    lock_held_push(c, sem, lock_class)
    lock_note(c, FLIGHT_LOCK, sem, lock_class)

cdef inline void up_read(cpu *c, rw_semaphore *sem) noexcept nogil:
    lock_held_pop(c, sem)
    atomic_add_mb32(&sem.count, <uint32_t>-1)           # [PT-002] pairs with: down_write.

cdef inline void up_write(cpu *c, rw_semaphore *sem) noexcept nogil:
    lock_held_pop(c, sem)
    atomic_add_mb32(&sem.count, RWSEM_WRITER)           # the bit overflows away. [PT-002] pairs with: rwsem_acquire.

# The writer becomes a reader; no other writer gets in between.
cdef inline void downgrade_write(cpu *c, rw_semaphore *sem) noexcept nogil:
    atomic_add_mb32(&sem.count, RWSEM_WRITER + 1)       # [PT-002] pairs with: rwsem_acquire.
