# A secondary MMU, and the notifier that keeps it honest.
#
# A device translates by a page table of its own, which it fills from the entries that a walk reports. Whoever takes a
# translation away tells it: invalidate_range_start, then the stores into entries, then invalidate_range_end.
#
# Guarantee: from start to end the device has no translation of the range; after end it has none of what was taken away in
# between. Otherwise: it reads and writes a frame that has become somebody else's.
#   start  counts the invalidation as in progress, widens the interval, drops what the device has of the range
#   end    moves the sequence on, then counts down
#   fill   a walk notes the sequence, then reads entries, each under its table's lock. What it read goes in, under the device's
#          lock, unless an invalidation of it is in progress, or one has ended since.
# An entry that was cleared after it was read was cleared inside an invalidation. If that had not begun when the entry went
# in, start dropped it; if it was under way, the interval says so; if it was over, the sequence has moved. Everything is
# ordered by the two locks ([PT-001]).
# start sleeps: a driver takes locks and waits for its device. That is what a walk inside RCU cannot afford.
# Source: virt/kvm/kvm_main.c kvm_mmu_invalidate_begin, kvm_mmu_invalidate_end, mmu_invalidate_retry_gfn; mm/mmu_notifier.c.
# Not modelled: what a device writes (so clearing D and A need not tell it), translations to the zero page, devices that walk
# the cpu's page table (arch_invalidate_secondary_tlbs), registration while the mm is in use.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE, WRITE_ONCE
from cy.base.build cimport PT_CHECKS
from cy.base.cpu cimport count, cpu, delay_point, pt_report
from cy.base.entry cimport pte_pfn, pte_present, pte_special
from cy.base.geometry cimport PAGE_SHIFT
from cy.base.shm cimport C_DEVICE_FILLS, C_DEVICE_RETRIES, C_NOTIFIED, ORACLE_STALE_TLB
from cy.mm.tlb cimport frame_is_gone
from cy.mm.types cimport SECONDARY_ENTRIES, mm, secondary_entry, secondary_mmu
from cy.sync.lockclass cimport LOCK_DEVICE, might_sleep
from cy.sync.spinlock cimport spin_lock, spin_lock_init, spin_unlock

# What a walk has read for the device since it noted the sequence.
cdef struct secondary_batch:
    uint64_t seq
    uint32_t nr
    secondary_entry entries[16]

# Context: no worker runs. Makes no schedule points.
cdef inline void secondary_mmu_init(secondary_mmu *s) noexcept nogil:
    cdef uint32_t i
    spin_lock_init(&s.lock)
    s.invalidate_seq = <uint64_t>-5          # wraps soon
    s.in_progress = 0
    for i in range(<uint32_t>SECONDARY_ENTRIES):
        s.entries[i].tag = 0

# Entries of [start, end) will be cleared or lose permissions. Context: may sleep; no table locked.
cdef inline void mmu_notifier_invalidate_range_start(cpu *c, mm *m, uint64_t start, uint64_t end) noexcept nogil:
    cdef secondary_mmu *s = &m.secondary
    cdef uint32_t i
    if not s.present:
        return
    might_sleep(c)
    count(c, C_NOTIFIED)
    spin_lock(c, &s.lock, LOCK_DEVICE)
    if s.in_progress == 0:
        s.start = start
        s.end = end
    s.in_progress += 1
    if start < s.start:
        s.start = start
    if end > s.end:
        s.end = end
    for i in range(<uint32_t>SECONDARY_ENTRIES):
        if _inside(&s.entries[i], start, end):
            s.entries[i].tag = 0
    spin_unlock(c, &s.lock)
    delay_point(c)

# They have. Context: as start, of which it is the other half.
cdef inline void mmu_notifier_invalidate_range_end(cpu *c, mm *m, uint64_t start, uint64_t end) noexcept nogil:
    cdef secondary_mmu *s = &m.secondary
    cdef uint32_t i
    if not s.present:
        return
    spin_lock(c, &s.lock, LOCK_DEVICE)
    if PT_CHECKS:
        for i in range(<uint32_t>SECONDARY_ENTRIES):
            if _inside(&s.entries[i], start, end):
                pt_report(c, ORACLE_STALE_TLB, 22, b"a device got a translation to frame a amid its invalidation",
                          (s.entries[i].tag - 1) << PAGE_SHIFT, pte_pfn(s.entries[i].val), 0)
    WRITE_ONCE(&s.invalidate_seq, s.invalidate_seq + 1)
    s.in_progress -= 1
    spin_unlock(c, &s.lock)

# Oracle stale-tlb at operation return: the device has nothing of [start, end) whose frame is gone. Checking builds only.
cdef inline void check_stale_secondary(cpu *c, mm *m, uint64_t start, uint64_t end) noexcept nogil:
    cdef secondary_mmu *s = &m.secondary
    cdef secondary_entry *e
    cdef uint32_t i
    if not s.present:
        return
    spin_lock(c, &s.lock, LOCK_DEVICE)
    for i in range(<uint32_t>SECONDARY_ENTRIES):
        e = &s.entries[i]
        if _inside(e, start, end) and frame_is_gone(c, m, pte_pfn(e.val), e.incarnation):
            pt_report(c, ORACLE_STALE_TLB, 32, b"a device still translates to frame a, which was unmapped",
                      (e.tag - 1) << PAGE_SHIFT, pte_pfn(e.val), 0)
    spin_unlock(c, &s.lock)

cdef inline bint _inside(const secondary_entry *e, uint64_t start, uint64_t end) noexcept nogil:
    return e.tag != 0 and start <= (e.tag - 1) << PAGE_SHIFT < end

# Note the sequence; what is read from here on may be added. Context: before the entries are read.
cdef inline void secondary_batch_begin(secondary_batch *b, mm *m) noexcept nogil:
    b.nr = 0
    b.seq = READ_ONCE(&m.secondary.invalidate_seq) if m.secondary.present else 0

# The walk has read `pte` for a page. Context: its table's lock.
cdef inline void secondary_batch_add(secondary_batch *b, mm *m, uint64_t vpn, uint64_t pte) noexcept nogil:
    if not m.secondary.present or b.nr == SECONDARY_ENTRIES or not pte_present(pte) or pte_special(pte):
        return
    b.entries[b.nr].tag = vpn + 1
    b.entries[b.nr].val = pte
    b.entries[b.nr].incarnation = READ_ONCE(&m.pages[pte_pfn(pte)].incarnation)
    b.nr += 1

# Give the device what was read, as far as it is still true. Context: none, or any lock above LOCK_DEVICE.
cdef inline void secondary_fill(cpu *c, mm *m, secondary_batch *b) noexcept nogil:
    cdef secondary_mmu *s = &m.secondary
    cdef uint32_t i
    if b.nr == 0:
        return
    delay_point(c)
    spin_lock(c, &s.lock, LOCK_DEVICE)
    for i in range(b.nr):
        if b.seq != s.invalidate_seq or (s.in_progress != 0 and _inside(&b.entries[i], s.start, s.end)):
            count(c, C_DEVICE_RETRIES)
        else:
            s.entries[(b.entries[i].tag - 1) & (SECONDARY_ENTRIES - 1)] = b.entries[i]
            count(c, C_DEVICE_FILLS)
    spin_unlock(c, &s.lock)
    b.nr = 0
