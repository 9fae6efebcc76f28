"""Protection `eager`: mmap_lock whose readers overtake writers that wait. What is it worth to a fault, and who pays?"""
from libc.errno cimport EFAULT
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE32, cmpxchg32
from cy.base.cpu cimport count, cpu, delay_point
from cy.base.shm cimport C_LOCK_CONTENDED
from cy.mm.cursor cimport cursor_set_vma
from cy.mm.types cimport HELD_MMAP, INTENT_FAULT, INTENT_PROTECT, INTENT_SCAN, INTENT_UNMAP, cursor, mm, protect_ops
from cy.mm.vma cimport find_vma
from cy.protect.mmap_lock cimport mmap_lock_begin, mmap_lock_end, protect_mmap_lock
from cy.sync.lockclass cimport LOCK_MMAP, lock_check_order, lock_held_push, might_sleep
from cy.sync.rwsem cimport RWSEM_WRITER, rw_semaphore
from cy.sync.wait cimport wait_begin, wait_end, wait_turn

include "cy/face/policy.pxi"

# As down_read of cy/sync/rwsem.pxd, but only a writer that is inside is waited for: a stream of readers can starve the others.
# Context: may sleep. [PT-002], as there.
cdef void eager_down_read(cpu *c, rw_semaphore *sem) noexcept nogil:
    cdef uint32_t v, turns = 0
    cdef bint waiting = False
    might_sleep(c)
    delay_point(c)
    lock_check_order(c, LOCK_MMAP)
    while True:
        v = READ_ONCE32(&sem.count)
        if (v & RWSEM_WRITER) == 0:
            if cmpxchg32(&sem.count, v, v + 1) == v:
                break
            continue
        if not waiting:
            waiting = True
            count(c, C_LOCK_CONTENDED)
            wait_begin(c, sem, LOCK_MMAP)
        wait_turn(c, &turns, no_writer_inside, sem)
    if waiting:
        wait_end(c)
    lock_held_push(c, sem, LOCK_MMAP)

cdef int no_writer_inside(const void *sem) noexcept nogil:
    return ((<const rw_semaphore *>sem).count & RWSEM_WRITER) == 0

# Guarantee between begin and end: that of mmap_lock for reading.
cdef int eager_begin(cursor *cur, uint64_t start, uint64_t end, uint32_t intent) noexcept nogil:
    if intent == INTENT_UNMAP or intent == INTENT_PROTECT or intent == INTENT_SCAN:
        return mmap_lock_begin(cur, start, end, intent)         # the caller has the lock, or does not wait for it
    eager_down_read(cur.cpu, &cur.mm.mmap_lock)
    cur.held |= HELD_MMAP
    cursor_set_vma(cur, find_vma(cur.mm, start))
    if intent == INTENT_FAULT and (cur.vma == NULL or cur.vma_start > start):
        mmap_lock_end(cur)
        return -EFAULT
    return 0

cdef void eager_fill(mm *m, protect_ops *ops) noexcept nogil:
    protect_mmap_lock(ops)
    ops.begin = eager_begin

policy = policy_capsule(eager_fill, NULL)
