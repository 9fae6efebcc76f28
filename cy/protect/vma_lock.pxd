# Protection `vma_lock`: faults hold the lock of one VMA and fall back to mmap_lock; DONTNEED does so
# from 6.17 on if its range lies in one VMA (mm.dontneed_vma_lock); walks hold mmap_lock, but those that keep the VMA lock
# while they sleep do as DONTNEED does.
# Source: arch/x86/mm/fault.c, mm/memory.c lock_vma_under_rcu, mm/madvise.c madvise_lock.
# Registered in cy/protect/registry.pxd.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.cpu cimport count
from cy.base.shm cimport C_VMA_LOCK_FALLBACK
from cy.mm.cursor cimport cursor_set_vma
from cy.mm.types cimport HELD_VMA, INTENT_FAULT, INTENT_SLEEP, INTENT_ZAP, cursor, protect_ops, vma
from cy.mm.vma cimport vm_end
from cy.mm.vma_lock cimport lock_vma_under_rcu, vma_end_read
from cy.protect.mmap_lock cimport mmap_lock_begin, mmap_lock_end, mmap_lock_next_vma
from cy.protect.split cimport split_detach, split_install, split_lock, split_next, split_relock, split_sleep

cdef inline int vma_lock_begin(cursor *cur, uint64_t start, uint64_t end, uint32_t intent) noexcept nogil:
    cdef vma *v
    if intent == INTENT_FAULT or intent == INTENT_SLEEP or (intent == INTENT_ZAP and cur.mm.dontneed_vma_lock):
        v = lock_vma_under_rcu(cur.cpu, cur.mm, start)
        if v != NULL:
            # A fault concerns one page, and the lookup has proved that it covers that.
            if intent == INTENT_FAULT or end <= vm_end(v):
                cursor_set_vma(cur, v)
                cur.held |= HELD_VMA
                return 0
            vma_end_read(cur.cpu, v)
        count(cur.cpu, C_VMA_LOCK_FALLBACK)
    return mmap_lock_begin(cur, start, end, intent)

cdef inline void vma_lock_end(cursor *cur) noexcept nogil:
    if cur.held & HELD_VMA:
        vma_end_read(cur.cpu, cur.vma)
        cur.held = 0
        return
    mmap_lock_end(cur)

cdef inline void protect_vma_lock(protect_ops *ops) noexcept nogil:
    ops.begin = vma_lock_begin
    ops.next_vma = mmap_lock_next_vma
    ops.next = split_next
    ops.lock = split_lock
    ops.relock = split_relock
    ops.install = split_install
    ops.detach = split_detach
    ops.sleep = split_sleep
    ops.end = vma_lock_end
