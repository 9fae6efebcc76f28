# Spinlock: test-and-test-and-set, pause, yield after 100 spins. Not fair: with more threads than
# cores fair locks lose 400x, this one nothing.
#
# Context: any; the holder does not sleep. spin_lock is an acquire, spin_unlock a release:
# [PT-001] pairs with: spin_lock of the next holder, which sees everything stored before spin_unlock.
from libc.stdint cimport uint32_t
from cy.base.atomics cimport READ_ONCE32, smp_store_release32, xchg_acquire32
from cy.base.cpu cimport count, cpu, delay_point
from cy.base.shm cimport C_LOCK_CONTENDED
from cy.sync.lockclass cimport lock_check_order, lock_held_pop, lock_held_push
from cy.sync.wait cimport wait_begin, wait_end, wait_turn

cdef struct spinlock_t:
    uint32_t val                # 0 free, else id of the holder's cpu + 1

cdef inline void spin_lock_init(spinlock_t *lock) noexcept nogil:
    lock.val = 0

cdef inline int spin_is_free(const void *lock) noexcept nogil:
    return (<const spinlock_t *>lock).val == 0

cdef inline void spin_lock(cpu *c, spinlock_t *lock, uint32_t lock_class) noexcept nogil:
    delay_point(c)
    lock_check_order(c, lock_class)
    # [PT-001] pairs with: spin_unlock below.
    if xchg_acquire32(&lock.val, c.id + 1) != 0:
        _spin_lock_slow(c, lock, lock_class)
    lock_held_push(c, lock, lock_class)

# Returns True with the lock held, or False at once. Who cares counts the near miss.
cdef inline bint spin_trylock(cpu *c, spinlock_t *lock, uint32_t lock_class) noexcept nogil:
    if READ_ONCE32(&lock.val) != 0 or xchg_acquire32(&lock.val, c.id + 1) != 0:
        return False
    lock_held_push(c, lock, lock_class)
    return True

cdef inline void spin_unlock(cpu *c, spinlock_t *lock) noexcept nogil:
    lock_held_pop(c, lock)
    smp_store_release32(&lock.val, 0)

cdef inline void _spin_lock_slow(cpu *c, spinlock_t *lock, uint32_t lock_class) noexcept nogil:
    cdef uint32_t turns = 0
    count(c, C_LOCK_CONTENDED)
    wait_begin(c, lock, lock_class)
    while True:
        while READ_ONCE32(&lock.val) != 0:
            wait_turn(c, &turns, spin_is_free, lock)
        if xchg_acquire32(&lock.val, c.id + 1) == 0:
            break
    wait_end(c)
