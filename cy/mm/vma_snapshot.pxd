# What a VMA covers and allows at one instant, for who holds no lock: a snapshot, and the sequence that tells when it is old.
#
# vma.vm_seq moves on each time that the VMA is write-locked, before anything of it changes, and never goes back: VMA objects are
# type-stable, and what became another VMA has another sequence. [PT-062] says what a sequence that has not moved proves.
# A snapshot is never taken of a write-locked VMA: mprotect, mmap and munmap are instants to who asks. Nor is a hole
# believed in while mmap_lock is held for writing: mmap over something leaves one for a moment.
# Where there is a writer in the way the asker waits until it is gone, as it would for mmap_lock. A writer elsewhere is not: what
# a VMA that covers the address says of itself is enough.
# Source: nowhere yet; after lock_vma_under_rcu in mm/mmap_lock.c.
from libc.stdint cimport uint32_t
from cy.base.atomics cimport READ_ONCE, READ_ONCE32, smp_load_acquire32
from cy.base.build cimport likely, unlikely
from cy.base.cpu cimport RCU_TABLES, count, cpu, delay_point
from cy.base.shm cimport C_VMA_LOCK_FALLBACK
from cy.mm.types cimport cursor, mm, vma
from cy.mm.vma cimport LOOKUP_TURNS, find_mergeable_anon_vma, vma_at, vma_index_after, vma_mm
from cy.sync.lockclass cimport LOCK_MMAP, lock_check_order, might_sleep
from cy.sync.rcu cimport rcu_read_lock, rcu_read_unlock
from cy.sync.seqcount cimport seq_begin, seq_retry
from cy.sync.wait cimport wait_begin, wait_end, wait_turn

cdef enum:
    SNAPSHOT_TAKEN = 0
    SNAPSHOT_TORN = 1       # a writer came in between: again
    SNAPSHOT_BUSY = 2       # a writer is in the way: wait
    SNAPSHOT_MOVING = 3     # a writer moves VMAs in the set, perhaps this one: again, but not for long

# A word that moves when a writer is done, and what it was.
cdef struct seq_wait:
    const uint32_t *word
    uint32_t seen

# Find the first VMA that ends behind cur.addr. Context: no lock, no RCU; may sleep.
# Sets vma (NULL: none), vma_start, vma_end, vma_writable and vma_seq of the cursor, all of one instant of the call.
cdef inline void vma_snapshot(cursor *cur) noexcept nogil:
    cdef cpu *c = cur.cpu
    cdef mm *m = cur.mm
    cdef uint32_t seen, moves = 0
    cdef int result = SNAPSHOT_TORN
    might_sleep(c)
    while result != SNAPSHOT_TAKEN:
        seen = smp_load_acquire32(&m.mm_lock_seq.sequence)      # [PT-006] pairs with: vma_end_write_all.
        rcu_read_lock(c, &m.rcu[RCU_TABLES])
        result = _take(cur, seen)
        rcu_read_unlock(c, &m.rcu[RCU_TABLES])
        if unlikely(result == SNAPSHOT_MOVING):
            moves += 1
            if moves == LOOKUP_TURNS:
                moves = 0
                result = SNAPSHOT_BUSY
        if unlikely(result == SNAPSHOT_BUSY):
            count(c, C_VMA_LOCK_FALLBACK)
            _wait_for_writer(c, m, &m.mm_lock_seq.sequence, seen)

# `seen`: mm_lock_seq before. Context: RCU.
cdef inline int _take(cursor *cur, uint32_t seen) noexcept nogil:
    cdef mm *m = cur.mm
    cdef uint32_t seq = seq_begin(&m.set.seq), i = vma_index_after(&m.set, cur.addr)
    cdef bint locked = False
    cur.vma = vma_at(&m.set, i) if i < READ_ONCE32(&m.set.nr) else NULL
    if cur.vma != NULL:
        # [PT-150] pairs with: _vma_set_locked. [PT-062] before the fields.
        cur.vma_seq = smp_load_acquire32(&cur.vma.vm_seq)
        locked = READ_ONCE32(&cur.vma.vm_lock_seq) == smp_load_acquire32(&m.mm_lock_seq.sequence)    # [PT-006]
        delay_point(cur.cpu)
        cur.vma_start = READ_ONCE(&cur.vma.vm_start)
        cur.vma_end = READ_ONCE(&cur.vma.vm_end)
        cur.vma_writable = READ_ONCE32(&cur.vma.writable)
        if likely(not locked and cur.vma_start <= cur.addr < cur.vma_end and _was_attached(cur)):
            return SNAPSHOT_TAKEN
    if seq_retry(&m.set.seq, seq):
        # Odd: a writer is inside, and mmap_lock is its.
        return SNAPSHOT_MOVING if seq & seen & 1 else SNAPSHOT_TORN
    if cur.vma != NULL:
        if locked:
            return SNAPSHOT_BUSY if seen & 1 else SNAPSHOT_TORN
        if cur.vma_start <= cur.addr or READ_ONCE32(&cur.vma.vm_seq) != cur.vma_seq:
            return SNAPSHOT_TORN
    if seen & 1:
        return SNAPSHOT_BUSY
    return SNAPSHOT_TAKEN if READ_ONCE32(&m.mm_lock_seq.sequence) == seen else SNAPSHOT_TORN

# Were the fields that were just read those of a VMA of this mm? It is not on its way in or out, which it could be only
# write-locked, or with a count of 0 and before its sequence moves: so the order of the two looks. [PT-007] pairs with:
# vma_mark_attached. [PT-062]
cdef inline bint _was_attached(cursor *cur) noexcept nogil:
    # [PT-007] pairs with: vma_mark_attached.
    return (smp_load_acquire32(&cur.vma.vm_refcnt) != 0 and vma_mm(cur.vma) == cur.mm
            and READ_ONCE32(&cur.vma.vm_seq) == cur.vma_seq)

# The anon_vma that the neighbours of cur.vma have to share, all of one instant; 0: none. Context: no RCU; may sleep.
cdef inline uint32_t mergeable_anon_vma_lockless(cursor *cur) noexcept nogil:
    cdef mm *m = cur.mm
    cdef uint32_t seq, id
    while True:
        rcu_read_lock(cur.cpu, &m.rcu[RCU_TABLES])
        seq = seq_begin(&m.set.seq)
        id = find_mergeable_anon_vma(m, cur.vma)
        if not seq_retry(&m.set.seq, seq):
            rcu_read_unlock(cur.cpu, &m.rcu[RCU_TABLES])
            return id
        rcu_read_unlock(cur.cpu, &m.rcu[RCU_TABLES])
        if seq & 1:
            _wait_for_writer(cur.cpu, m, &m.set.seq.sequence, seq)

# Wait until *word is no longer `seen`. Context: nothing is held that the holder of mmap_lock may wait for.
cdef inline void _wait_for_writer(cpu *c, mm *m, uint32_t *word, uint32_t seen) noexcept nogil:
    cdef seq_wait w
    cdef uint32_t turns = 0
    w.word = word
    w.seen = seen
    lock_check_order(c, LOCK_MMAP)
    wait_begin(c, &m.mmap_lock, LOCK_MMAP)
    while smp_load_acquire32(word) == seen:
        wait_turn(c, &turns, seq_has_moved, &w)
    wait_end(c)

cdef inline int seq_has_moved(const void *arg) noexcept nogil:
    return (<const seq_wait *>arg).word[0] != (<const seq_wait *>arg).seen
