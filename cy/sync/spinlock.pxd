# Spinlock: test-and-test-and-set, pause, yield after 100 spins. Not fair: with more threads than
# cores fair locks lose 400x, this one nothing.
#
# Context: any; the holder does not sleep. spin_lock is an acquire, spin_unlock a release:
# [PT-001] pairs with: spin_lock of the next holder, which sees everything stored before spin_unlock.
# A lock that lives in freed memory is destroyed first; checking builds report whoever uses it after that.
from libc.stdint cimport uint32_t
from cy.base.atomics cimport READ_ONCE32, peek32, plain_store32, smp_store_release32, xchg_acquire32
from cy.base.build cimport PT_CHECKS
from cy.base.cpu cimport count, cpu, delay_point, pt_report
from cy.base.shm cimport C_LOCK_CONTENDED, FLIGHT_LOCK, FLIGHT_TRYLOCK, ORACLE_UAF
from cy.sync.lockclass cimport lock_check_order, lock_held_pop, lock_held_push, lock_note
from cy.sync.wait cimport wait_begin, wait_end, wait_turn

cdef enum:
    LOCK_DESTROYED = 0x6b6b6b6b     # no cpu has this number

cdef struct spinlock_t:
    uint32_t val                # 0 free, else number + 1 of the cpu that was the last to try: the holder, or who waits for it

cdef inline void spin_lock_init(spinlock_t *lock) noexcept nogil:
    lock.val = 0

# Context: nobody may use it any more.
cdef inline void spin_lock_destroy(spinlock_t *lock) noexcept nogil:
    if PT_CHECKS:
        plain_store32(&lock.val, LOCK_DESTROYED)

# Free, or never to be free again: waiting is over.
cdef inline int spin_is_free(const void *lock) noexcept nogil:
    return _wait_is_over((<const spinlock_t *>lock).val)

cdef inline bint _wait_is_over(uint32_t val) noexcept nogil:
    return val == 0 or (PT_CHECKS and val == LOCK_DESTROYED)

# Oracle use-after-free: the lock that was found at `val` is alive (I09). Returns False after a report.
cdef inline bint _check_alive(cpu *c, uint32_t val, uint32_t lock_class) noexcept nogil:
    if PT_CHECKS and val == LOCK_DESTROYED:
        pt_report(c, ORACLE_UAF, 9, b"a lock of class a is used after it was destroyed", 0, lock_class, 0)
        return False
    return True

cdef inline void spin_lock(cpu *c, spinlock_t *lock, uint32_t lock_class) noexcept nogil:
    cdef uint32_t found
    delay_point(c)
    lock_check_order(c, lock_class)
    # [PT-001] pairs with: spin_unlock below.
    found = xchg_acquire32(&lock.val, c.id + 1)
    if found != 0:
        _spin_lock_slow(c, lock, lock_class, found)
    lock_held_push(c, lock, lock_class)
    lock_note(c, FLIGHT_LOCK, lock, lock_class)

# Returns True with the lock held, or False at once. Who cares counts the near miss.
cdef inline bint spin_trylock(cpu *c, spinlock_t *lock, uint32_t lock_class) noexcept nogil:
    cdef uint32_t found = READ_ONCE32(&lock.val)
    if found != 0 or xchg_acquire32(&lock.val, c.id + 1) != 0:      # [PT-001] pairs with: spin_unlock.
        _check_alive(c, found, lock_class)
        return False
    lock_held_push(c, lock, lock_class)
    lock_note(c, FLIGHT_TRYLOCK, lock, lock_class)
    return True

cdef inline void spin_unlock(cpu *c, spinlock_t *lock) noexcept nogil:
    cdef bint held = lock_held_pop(c, lock)
    if PT_CHECKS and _check_alive(c, peek32(&lock.val), 0) and held and peek32(&lock.val) == 0:
        pt_report(c, ORACLE_UAF, 9, b"a lock is released that somebody else has released meanwhile", 0, 0, 0)
    smp_store_release32(&lock.val, 0)       # [PT-001] pairs with: spin_lock.

# `found`: what the lock held; whoever meets a destroyed lock gets it, so that what follows stays memory-safe.
cdef inline void _spin_lock_slow(cpu *c, spinlock_t *lock, uint32_t lock_class, uint32_t found) noexcept nogil:
    cdef uint32_t turns = 0
    count(c, C_LOCK_CONTENDED)
    wait_begin(c, lock, lock_class)
    while found != 0 and _check_alive(c, found, lock_class):
        while not _wait_is_over(READ_ONCE32(&lock.val)):
            wait_turn(c, &turns, spin_is_free, lock)
        found = xchg_acquire32(&lock.val, c.id + 1)     # [PT-001] pairs with: spin_unlock.
    wait_end(c)
