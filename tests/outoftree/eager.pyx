"""Protection `eager`: mmap_lock whose readers overtake writers that wait. What is it worth to a fault, and who pays?"""
from libc.stdint cimport uint32_t, uint64_t
from cy.base.cpu cimport cpu, delay_point
from cy.mm.types cimport INTENT_PROTECT, INTENT_SCAN, INTENT_UNMAP, cursor, mm, protect_ops
from cy.protect.mmap_lock cimport mmap_lock_begin, mmap_locked_begin, protect_mmap_lock
from cy.sync.lockclass cimport LOCK_MMAP, lock_check_order, might_sleep
from cy.sync.rwsem cimport RWSEM_WRITER, rw_semaphore, rwsem_acquire

include "cy/face/policy.pxi"

# As down_read of cy/sync/rwsem.pxd, but only a writer that is inside is waited for: a stream of readers can starve the others.
# Context: may sleep. [PT-002], as there.
cdef void eager_down_read(cpu *c, rw_semaphore *sem) noexcept nogil:
    might_sleep(c)
    delay_point(c)
    lock_check_order(c, LOCK_MMAP)
    rwsem_acquire(c, sem, LOCK_MMAP, RWSEM_WRITER, 1, no_writer_inside)

cdef int no_writer_inside(const void *sem) noexcept nogil:
    return ((<const rw_semaphore *>sem).count & RWSEM_WRITER) == 0

# Guarantee between begin and end: that of mmap_lock for reading.
cdef int eager_begin(cursor *cur, uint64_t start, uint64_t end, uint32_t intent) noexcept nogil:
    if intent == INTENT_UNMAP or intent == INTENT_PROTECT or intent == INTENT_SCAN:
        return mmap_lock_begin(cur, start, end, intent)         # the caller has the lock, or does not wait for it
    eager_down_read(cur.cpu, &cur.mm.mmap_lock)
    return mmap_locked_begin(cur, start, intent)

cdef void eager_fill(mm *m, protect_ops *ops) noexcept nogil:
    protect_mmap_lock(ops)
    ops.begin = eager_begin

policy = policy_capsule(eager_fill, NULL)
