# The set of VMAs: a sorted array, changed in place inside a sequence counter.
#
# Under mmap_lock it is read as it is. Lockless readers (under RCU, so that VMA objects stay VMAs) search it beside a writer:
# a VMA that covers the address is what they look for, and the VMA itself says whether it is one. So a writer elsewhere is not in
# the way, as in the kernel's maple tree: at every instant the array is sorted and holds all VMAs that stay. That there is
# none is believed only if the counter says that no writer came in between; else they retry, and give up after a few turns,
# which counts as a failed lookup.
# [PT-063] pairs with: the acquire load of `nr` in vma_index_after and the release in vma_set_insert: a slot that counts holds
# a VMA.
# Source: mm/vma.c, mm/mmap.c.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport (
    READ_ONCE, READ_ONCE32, WRITE_ONCE, WRITE_ONCE32, peek, peek32, smp_load_acquire32, smp_store_release32)
from cy.base.build cimport PT_CHECKS
from cy.base.cpu cimport RCU_TABLES, cpu, pt_report, rcu_head
from cy.base.shm cimport ORACLE_LOCK_ORDER, ORACLE_UAF
from cy.mm.arena cimport arena_alloc, arena_free
from cy.mm.deferred cimport deferred_poll
from cy.mm.types cimport ARENA_NONE, mm, vma, vma_set
from cy.sync.lockclass cimport lock_is_held, might_sleep
from cy.sync.rcu cimport call_rcu
from cy.sync.seqcount cimport seq_begin, seq_retry, seq_write_begin, seq_write_end

cdef enum:
    LOOKUP_TURNS = 3

# What a VMA covers, and how many there are. Stable under mmap_lock or the VMA's lock, else a hint.
cdef inline uint64_t vm_start(vma *v) noexcept nogil:
    return READ_ONCE(&v.vm_start)

cdef inline uint64_t vm_end(vma *v) noexcept nogil:
    return READ_ONCE(&v.vm_end)

cdef inline uint32_t vma_count(mm *m) noexcept nogil:
    return READ_ONCE32(&m.set.nr)

cdef inline vma *vma_at(vma_set *set, uint32_t i) noexcept nogil:
    return <vma *>READ_ONCE(&set.slots[i])

# Index of the first VMA that ends after addr; set.nr if none. Lockless callers: a hint.
cdef inline uint32_t vma_index_after(vma_set *set, uint64_t addr) noexcept nogil:
    cdef uint32_t lo = 0, hi = smp_load_acquire32(&set.nr), mid      # [PT-063] pairs with: vma_set_insert.
    while lo < hi:
        mid = (lo + hi) >> 1
        if READ_ONCE(&vma_at(set, mid).vm_end) <= addr:
            lo = mid + 1
        else:
            hi = mid
    return lo

# Oracle lock-order: who finds a VMA without its lock, or looks at its neighbours, holds mmap_lock (I20).
# Source: include/linux/mmap_lock.h mmap_assert_locked, in find_vma and in __anon_vma_prepare.
cdef inline void mmap_assert_locked(cpu *c, mm *m) noexcept nogil:
    if PT_CHECKS and not lock_is_held(c, &m.mmap_lock):
        pt_report(c, ORACLE_LOCK_ORDER, 20, b"VMAs of mm a are used without their lock and without mmap_lock", 0, m.index, 0)

# The first VMA that ends after addr, or NULL. Context: mmap_lock.
cdef inline vma *find_vma(cpu *c, mm *m, uint64_t addr) noexcept nogil:
    cdef uint32_t i
    mmap_assert_locked(c, m)
    i = vma_index_after(&m.set, addr)
    return vma_at(&m.set, i) if i < vma_count(m) else NULL

# The VMA that covers addr, or NULL. Context: mmap_lock.
cdef inline vma *vma_lookup(cpu *c, mm *m, uint64_t addr) noexcept nogil:
    cdef vma *v = find_vma(c, m, addr)
    return v if v != NULL and vm_start(v) <= addr else NULL

# Does it cover addr? Stable as vm_start is.
cdef inline bint vma_covers(vma *v, uint64_t addr) noexcept nogil:
    return vm_start(v) <= addr < vm_end(v)

# Probably the VMA that covers addr. Context: RCU_TABLES. The caller locks it and checks its bounds.
cdef inline vma *vma_lookup_lockless(mm *m, uint64_t addr) noexcept nogil:
    cdef uint32_t turn, seq, i
    cdef vma *v
    for turn in range(LOOKUP_TURNS):
        seq = seq_begin(&m.set.seq)
        i = vma_index_after(&m.set, addr)
        v = vma_at(&m.set, i) if i < READ_ONCE32(&m.set.nr) else NULL
        if v != NULL and vma_covers(v, addr):
            return v
        if not seq_retry(&m.set.seq, seq):
            return NULL
    return NULL

# Insert, by address; no overlap. Context: mmap_lock for writing, room in the set.
# The last one counts twice before the others make room, so that none is missing meanwhile.
cdef inline void vma_set_insert(mm *m, vma *v) noexcept nogil:
    cdef uint32_t at = vma_index_after(&m.set, vm_start(v)), nr = vma_count(m), i = nr
    seq_write_begin(&m.set.seq)
    WRITE_ONCE(&m.set.slots[nr], READ_ONCE(&m.set.slots[nr - 1]) if at < nr else <uint64_t>v)
    smp_store_release32(&m.set.nr, nr + 1)      # [PT-063] pairs with: vma_index_after.
    while i > at:
        i -= 1
        WRITE_ONCE(&m.set.slots[i], READ_ONCE(&m.set.slots[i - 1]) if i > at else <uint64_t>v)
    seq_write_end(&m.set.seq)

# Remove `n` VMAs from index `at` on. Context: mmap_lock for writing.
cdef inline void vma_set_remove(mm *m, uint32_t at, uint32_t n) noexcept nogil:
    cdef uint32_t i
    seq_write_begin(&m.set.seq)
    for i in range(at, vma_count(m) - n):
        WRITE_ONCE(&m.set.slots[i], READ_ONCE(&m.set.slots[i + n]))
    WRITE_ONCE32(&m.set.nr, vma_count(m) - n)
    seq_write_end(&m.set.seq)

# Change the bounds of a VMA in the set. Context: mmap_lock for writing, VMA write-locked.
cdef inline void vma_set_bounds(mm *m, vma *v, uint64_t start, uint64_t end) noexcept nogil:
    seq_write_begin(&m.set.seq)
    WRITE_ONCE(&v.vm_start, start)
    WRITE_ONCE(&v.vm_end, end)
    seq_write_end(&m.set.seq)

# An unused VMA object, or NULL. Context: may sleep.
cdef inline vma *vm_area_alloc(cpu *c, mm *m) noexcept nogil:
    cdef uint32_t i
    might_sleep(c)
    i = arena_alloc(c, m.vmas)
    if i == ARENA_NONE:
        deferred_poll(c, m)
        i = arena_alloc(c, m.vmas)
    if i == ARENA_NONE:
        return NULL
    m.vma_objects[i].index = i
    return &m.vma_objects[i]

# Give back an object that was never initialised, or NULL.
cdef inline void vm_area_free_unused(cpu *c, mm *m, vma *v) noexcept nogil:
    if v != NULL:
        arena_free(c, m.vmas, v.index)

# Make it a detached VMA. Context: mmap_lock for writing.
cdef inline void vm_area_init(mm *m, vma *v, uint64_t start, uint64_t end, uint32_t writable) noexcept nogil:
    WRITE_ONCE(&v.vm_start, start)
    WRITE_ONCE(&v.vm_end, end)
    WRITE_ONCE32(&v.writable, writable)
    WRITE_ONCE32(&v.anon_vma, 0)
    WRITE_ONCE32(&v.marked, 0)
    WRITE_ONCE32(&v.vm_refcnt, 0)
    WRITE_ONCE32(&v.vm_lock_seq, m.mm_lock_seq.sequence - 2)    # not locked
    WRITE_ONCE(&v.vm_mm, <uint64_t>m)

# The mm of a VMA. Stable while vm_refcnt is not 0.
cdef inline mm *vma_mm(vma *v) noexcept nogil:
    return <mm *>READ_ONCE(&v.vm_mm)

# Free a detached VMA: at once, as lockless readers notice what became of it, or after a grace period.
# Source of the look: vma_assert_detached in vm_area_free.
cdef inline void vm_area_free(cpu *c, mm *m, vma *v) noexcept nogil:
    if PT_CHECKS and peek32(&v.vm_refcnt) != 0:
        pt_report(c, ORACLE_UAF, 18, b"a VMA is freed that is attached or read: vm_refcnt a", peek(&v.vm_start),
                  peek32(&v.vm_refcnt), 0)
    if m.vma_typesafe:
        arena_free(c, m.vmas, v.index)
    else:
        call_rcu(c, &m.rcu[RCU_TABLES], &v.rcu, _vma_gp_over)

cdef inline void _vma_gp_over(cpu *c, rcu_head *head) noexcept nogil:
    cdef vma *v = <vma *>head
    arena_free(c, vma_mm(v).vmas, v.index)

# May two adjoining VMAs be one? Source: mm/vma.c is_mergeable_anon_vma. Context: mmap_lock for writing.
cdef inline bint anon_vma_compatible(uint32_t a, uint32_t b) noexcept nogil:
    return a == 0 or b == 0 or a == b

# The anon_vma of an adjoining VMA, next first; 0 if there is none to share. Whether it is writable does not matter: mprotect
# may make the two alike, and then they can merge. Context: mmap_lock for reading. Source: mm/vma.c find_mergeable_anon_vma.
cdef inline uint32_t find_mergeable_anon_vma(mm *m, vma *v) noexcept nogil:
    cdef uint32_t i = vma_index_after(&m.set, vm_start(v))
    cdef uint32_t id = 0
    cdef vma *other
    if i + 1 < vma_count(m):
        other = vma_at(&m.set, i + 1)
        if vm_start(other) == vm_end(v):
            id = READ_ONCE32(&other.anon_vma)
    if id == 0 and i > 0:
        other = vma_at(&m.set, i - 1)
        if vm_end(other) == vm_start(v):
            id = READ_ONCE32(&other.anon_vma)
    return id
