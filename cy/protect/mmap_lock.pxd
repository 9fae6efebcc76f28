# Protection `mmap_lock`: every operation holds mmap_lock for reading. Kernels before 6.4.
# Source: Documentation/mm/process_addrs.rst. Registered in cy/protect/registry.pxd.
from libc.errno cimport EAGAIN, EFAULT
from libc.stdint cimport uint32_t, uint64_t
from cy.mm.cursor cimport cursor_set_vma
from cy.mm.types cimport HELD_MMAP, INTENT_FAULT, INTENT_PROTECT, INTENT_SCAN, INTENT_UNMAP, cursor, protect_ops
from cy.mm.vma cimport find_vma
from cy.mm.vma_lock cimport mmap_read_lock, mmap_read_trylock, mmap_read_unlock
from cy.protect.split cimport split_detach, split_install, split_lock, split_next, split_relock, split_sleep

cdef inline int mmap_lock_begin(cursor *cur, uint64_t start, uint64_t end, uint32_t intent) noexcept nogil:
    if intent == INTENT_UNMAP or intent == INTENT_PROTECT:
        return 0
    if intent != INTENT_SCAN:
        mmap_read_lock(cur.cpu, cur.mm)
    elif not mmap_read_trylock(cur.cpu, cur.mm):
        return -EAGAIN
    return mmap_locked_begin(cur, start, intent)

# The rest of it, for a policy that takes mmap_lock in its own way. Context: mmap_lock held for reading, which is the cursor's.
cdef inline int mmap_locked_begin(cursor *cur, uint64_t start, uint32_t intent) noexcept nogil:
    cur.held |= HELD_MMAP
    cursor_set_vma(cur, find_vma(cur.cpu, cur.mm, start))
    if intent == INTENT_FAULT and (cur.vma == NULL or cur.vma_start > start):
        mmap_lock_end(cur)
        return -EFAULT
    return 0

cdef inline void mmap_lock_next_vma(cursor *cur) noexcept nogil:
    cursor_set_vma(cur, find_vma(cur.cpu, cur.mm, cur.addr))

cdef inline void mmap_lock_end(cursor *cur) noexcept nogil:
    if cur.held & HELD_MMAP:
        mmap_read_unlock(cur.cpu, cur.mm)
    cur.held = 0

cdef inline void protect_mmap_lock(protect_ops *ops) noexcept nogil:
    ops.begin = mmap_lock_begin
    ops.next_vma = mmap_lock_next_vma
    ops.next = split_next
    ops.lock = split_lock
    ops.relock = split_relock
    ops.install = split_install
    ops.detach = split_detach
    ops.sleep = split_sleep
    ops.end = mmap_lock_end
