# mmap_lock and the per-VMA lock in the counter form of 6.18.
#
# vm_refcnt: 0 detached; 1 attached; 1 + n with n readers; VMA_EXCLUDE_READERS added while a writer
# waits for them. A VMA is write-locked exactly while vm_lock_seq == mm_lock_seq; releasing or
# downgrading mmap_lock moves mm_lock_seq on and so unlocks all VMAs at once.
# A reader may be told "locked" when it is not; it is never told "unlocked" when it is.
# [PT-006] pairs with: vma_start_read's acquire load of mm_lock_seq and vma_end_write_all's release.
# A reader that finds the VMA unlocked sees every change made while it was locked.
# [PT-007] pairs with: the acquire increment in vma_start_read and the release in vma_mark_attached.
# A reader may hold the pointer of a VMA that was freed and has become another one meanwhile. Its count is then that of the
# other VMA, so vma_start_read looks whose it is, and lock_vma_under_rcu what it covers, once it is counted.
# Source: include/linux/mmap_lock.h, mm/mmap_lock.c. Not modelled: the pin of the other mm while its writer is woken; here
# an mm is memory for ever and waiters look at the count.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport (
    READ_ONCE, READ_ONCE32, WRITE_ONCE32, atomic_add_mb32, atomic_add_return32, cmpxchg32, peek, peek32, smp_load_acquire32,
    smp_mb, smp_store_release32)
from cy.base.bugs cimport BUG, BUG_M01_RECYCLED, BUG_MX_VMA_PUT, BUG_P18
from cy.base.build cimport PT_CHECKS
from cy.base.cpu cimport RCU_TABLES, count, cpu, delay_point, pt_report
from cy.base.geometry cimport MM_SHIFT, PAGE_SHIFT
from cy.base.hook cimport pt_ready_t
from cy.base.shm cimport C_VMA_RECYCLED, ORACLE_LOCK_ORDER, ORACLE_UAF
from cy.mm.types cimport mm, vma
from cy.mm.vma cimport vm_start, vma_lookup_lockless, vma_mm
from cy.sync.lockclass cimport (
    LOCK_MMAP, LOCK_PGL, LOCK_VMA, lock_check_order, lock_held_pop, lock_held_push, lock_is_held, might_sleep)
from cy.sync.rcu cimport rcu_read_lock, rcu_read_unlock
from cy.sync.rwsem cimport down_read, down_read_trylock, down_write, downgrade_write, up_read, up_write
from cy.sync.seqcount cimport seq_write_begin, seq_write_end
from cy.sync.spinlock cimport spin_lock, spin_unlock
from cy.sync.wait cimport wait_begin, wait_end, wait_turn

cdef enum:
    VMA_EXCLUDE_READERS = 0x40000000

cdef inline void mmap_read_lock(cpu *c, mm *m) noexcept nogil:
    _check_has_readers(c, m)
    down_read(c, &m.mmap_lock, LOCK_MMAP)

cdef inline bint mmap_read_trylock(cpu *c, mm *m) noexcept nogil:
    _check_has_readers(c, m)
    return down_read_trylock(c, &m.mmap_lock, LOCK_MMAP)

# Oracle lock-order: where page tables are used without mmap_lock, no operation takes it for reading, not even by a try. Who did
# would be right in all that it sees, and wait for mmap and munmap as before.
cdef inline void _check_has_readers(cpu *c, mm *m) noexcept nogil:
    if PT_CHECKS and m.lockless:
        pt_report(c, ORACLE_LOCK_ORDER, 48, b"mmap_lock is taken for reading in mm a, whose page tables are used without it", 0,
                  m.index, 0)

cdef inline void mmap_read_unlock(cpu *c, mm *m) noexcept nogil:
    up_read(c, &m.mmap_lock)

cdef inline void mmap_write_lock(cpu *c, mm *m) noexcept nogil:
    down_write(c, &m.mmap_lock, LOCK_MMAP)
    seq_write_begin(&m.mm_lock_seq)

# Unlocks all VMAs that were write-locked.
cdef inline void vma_end_write_all(cpu *c, mm *m) noexcept nogil:
    seq_write_end(&m.mm_lock_seq)            # [PT-006] pairs with: vma_start_read.

cdef inline void mmap_write_unlock(cpu *c, mm *m) noexcept nogil:
    vma_end_write_all(c, m)
    up_write(c, &m.mmap_lock)

cdef inline void mmap_write_downgrade(cpu *c, mm *m) noexcept nogil:
    vma_end_write_all(c, m)
    downgrade_write(c, &m.mmap_lock)

# Try to lock a VMA of m for reading. Context: RCU, so that the object stays a VMA. Does not wait.
# False: detached, recycled by another mm, write-locked, or about to be; the caller falls back to mmap_lock.
cdef inline bint vma_start_read(cpu *c, mm *m, vma *v) noexcept nogil:
    cdef uint32_t refcnt
    if READ_ONCE32(&v.vm_lock_seq) == READ_ONCE32(&m.mm_lock_seq.sequence):
        return False
    delay_point(c)
    refcnt = READ_ONCE32(&v.vm_refcnt)
    while True:
        if refcnt == 0 or (refcnt & VMA_EXCLUDE_READERS) != 0:
            return False
        # [PT-007] pairs with: vma_mark_attached.
        if cmpxchg32(&v.vm_refcnt, refcnt, refcnt + 1) == refcnt:
            break
        refcnt = READ_ONCE32(&v.vm_refcnt)
    delay_point(c)
    # The count is raised: it is the same VMA from here on, but perhaps not the one that was looked up.
    if vma_mm(v) != m and not BUG(m.bugs, BUG_M01_RECYCLED):
        count(c, C_VMA_RECYCLED)
        atomic_add_mb32(&v.vm_refcnt, <uint32_t>-1)      # [PT-008] pairs with: vma_start_write.
        return False
    # A writer that comes now waits for us. One that came before shows here.
    # [PT-006] pairs with: vma_end_write_all.
    if READ_ONCE32(&v.vm_lock_seq) == smp_load_acquire32(&m.mm_lock_seq.sequence):
        if not BUG(m.bugs, BUG_MX_VMA_PUT):
            atomic_add_mb32(&v.vm_refcnt, <uint32_t>-1)
        return False
    lock_held_push(c, v, LOCK_VMA)
    return True

cdef inline void vma_end_read(cpu *c, vma *v) noexcept nogil:
    lock_held_pop(c, v)
    atomic_add_mb32(&v.vm_refcnt, <uint32_t>-1)      # [PT-008] pairs with: vma_start_write.

# The VMA that covers addr, locked for reading, or NULL: fall back to mmap_lock. Context: none.
cdef inline vma *lock_vma_under_rcu(cpu *c, mm *m, uint64_t addr) noexcept nogil:
    cdef vma *v
    rcu_read_lock(c, &m.rcu[RCU_TABLES])
    v = vma_lookup_lockless(m, addr)
    delay_point(c)
    if v != NULL and vma_start_read(c, m, v):
        # The bounds may have changed before the lock was ours, or the object have become another VMA.
        if BUG(m.bugs, BUG_P18) or _vma_covers(v, addr):
            rcu_read_unlock(c, &m.rcu[RCU_TABLES])
            if PT_CHECKS:
                _check_read_locked(c, m, v, addr)
            return v
        vma_end_read(c, v)
    rcu_read_unlock(c, &m.rcu[RCU_TABLES])
    return NULL

# Oracle use-after-free: the VMA that was locked for addr is of that mm, attached, covers addr, and no writer has it (I18).
# Context: it is read-locked, so nothing of this can change.
cdef inline void _check_read_locked(cpu *c, mm *m, vma *v, uint64_t addr) noexcept nogil:
    if addr < peek(&v.vm_start) or addr >= peek(&v.vm_end) or peek(&v.vm_mm) != <uint64_t>m:
        pt_report(c, ORACLE_UAF, 18, b"a VMA from a to b was locked for an address that it does not cover", addr,
                  peek(&v.vm_start), peek(&v.vm_end))
    if peek32(&v.vm_lock_seq) == peek32(&m.mm_lock_seq.sequence) or peek32(&v.vm_refcnt) < 2:
        pt_report(c, ORACLE_UAF, 18, b"a VMA is locked for reading and for writing: vm_lock_seq a, vm_refcnt b", addr,
                  peek32(&v.vm_lock_seq), peek32(&v.vm_refcnt))

# As in the kernel, where addresses of all mms look alike, this does not tell whose VMA it is.
cdef inline bint _vma_covers(vma *v, uint64_t addr) noexcept nogil:
    cdef uint64_t in_mm = (<uint64_t>1 << (MM_SHIFT + PAGE_SHIFT)) - 1
    return READ_ONCE(&v.vm_start) & in_mm <= addr & in_mm < READ_ONCE(&v.vm_end) & in_mm

cdef inline int vma_readers_drained(const void *arg) noexcept nogil:
    return (<const vma *>arg).vm_refcnt == VMA_EXCLUDE_READERS + 1

cdef inline int vma_count_zero(const void *arg) noexcept nogil:
    return (<const vma *>arg).vm_refcnt == 0

# Lock a VMA for writing. Context: mmap_lock held for writing; may sleep. Ends with mmap_write_unlock
# or mmap_write_downgrade.
cdef inline void vma_start_write(cpu *c, mm *m, vma *v) noexcept nogil:
    cdef uint32_t seq = m.mm_lock_seq.sequence
    if PT_CHECKS and ((seq & 1) == 0 or not lock_is_held(c, &m.mmap_lock)):
        pt_report(c, ORACLE_LOCK_ORDER, 20, b"write-locks a VMA without mmap_lock for writing", vm_start(v), 0, 0)
    if READ_ONCE32(&v.vm_lock_seq) == seq:
        return
    might_sleep(c)
    lock_check_order(c, LOCK_VMA)
    if READ_ONCE32(&v.vm_refcnt) == 0:           # detached: nobody can raise the count
        _vma_set_locked(c, m, v, seq)
        return
    atomic_add_mb32(&v.vm_refcnt, VMA_EXCLUDE_READERS)
    _wait_for_readers(c, v, VMA_EXCLUDE_READERS + 1, vma_readers_drained)
    _vma_set_locked(c, m, v, seq)
    atomic_add_mb32(&v.vm_refcnt, <uint32_t>-VMA_EXCLUDE_READERS)

# Wait until the count of `v`, which nobody raises any more, is `left`; `ready` says the same.
cdef inline void _wait_for_readers(cpu *c, vma *v, uint32_t left, pt_ready_t ready) noexcept nogil:
    cdef uint32_t turns = 0
    # [PT-008] pairs with: the decrement in vma_end_read. What readers did is visible once they left.
    if smp_load_acquire32(&v.vm_refcnt) == left:
        return
    wait_begin(c, v, LOCK_VMA)
    while smp_load_acquire32(&v.vm_refcnt) != left:             # [PT-008] pairs with: vma_end_read.
        wait_turn(c, &turns, ready, v)
    wait_end(c)

# From here on the VMA counts as write-locked, and who knows it without a lock knows an old one.
cdef inline void _vma_set_locked(cpu *c, mm *m, vma *v, uint32_t seq) noexcept nogil:
    WRITE_ONCE32(&v.vm_lock_seq, seq)
    if not m.lockless:
        return
    # Under page_table_lock, so that who sets the anon_vma there sets it in a VMA that has not changed.
    spin_lock(c, &m.page_table_lock, LOCK_PGL)
    # [PT-150] pairs with: vma_snapshot. Who knows the new sequence finds the VMA write-locked.
    smp_store_release32(&v.vm_seq, v.vm_seq + 1)
    spin_unlock(c, &m.page_table_lock)
    smp_mb()    # [PT-062] pairs with: _keep_if_current and _settle. The sequence before the walks that look for what to unmap.

# Attach: all fields are set, the VMA is write-locked. Readers may count from here on.
cdef inline void vma_mark_attached(vma *v) noexcept nogil:
    smp_store_release32(&v.vm_refcnt, 1)         # [PT-007] pairs with: vma_start_read.

# Detach: the VMA is write-locked and no longer in the set. Waits for transient readers.
cdef inline void vma_mark_detached(cpu *c, vma *v) noexcept nogil:
    if atomic_add_return32(&v.vm_refcnt, <uint32_t>-1) != 0:
        _wait_for_readers(c, v, 0, vma_count_zero)
