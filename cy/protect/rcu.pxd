# Protection `rcu`: page tables without mmap_lock and without VMA locks. "Another plan" of the page-table reclaim series.
#
# Guarantee between begin and end: none but that of RCU and of the table locks. A VMA may change and any table may go at any
# moment; next and lock return a table that is attached, of a VMA that was as the cursor says when the lock was taken.
# mmap, munmap and mprotect still hold mmap_lock for writing, among themselves.
#
#   R1  every table is mapped under RCU by entries, which may fail at every level            (cy/mm/offset_map.pxd)
#   R3  a table that is not empty is attached: it is unlinked empty, under its parent's lock and its own  (cy/core/unlink.pxd)
#   R4  who installs into a table proves under its lock that it is attached. Otherwise: pages in a dead table, lost at once
#   R6  teardown takes the same locks. Otherwise: it unlinks a table that is being filled
#   R11 who changes a VMA moves vm_seq, then walks; who populates installs, locks the pte_table, then looks at vm_seq:
#       [PT-062]. Either the walk meets the table, and whoever has its lock first is seen by the other, or the populate sees that
#       its VMA is an old one and starts over. Otherwise: a page in no VMA
# What a populate has installed for a VMA that turned out to be old may stand where teardown has been: it is taken back.
# DONTNEED, FREE and walks see one VMA after the other; what they say of a range is true of each page at an instant of its own.
# Source: lore.kernel.org/r/20241204110940; Linux has none of it. Registered in cy/protect/registry.pxd. How a walk sleeps in a
# table, the difficulty that the plan names: cy/protect/sleep.pxd.
from libc.errno cimport EFAULT, ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE32, peek32, smp_mb, smp_mb__after_spinlock
from cy.base.bugs cimport BUG, BUG_M04_R11
from cy.base.build cimport PT_CHECKS, likely, unlikely
from cy.base.cpu cimport RCU_TABLES, count, cpu, delay_point, pt_report
from cy.base.entry cimport pmd_none
from cy.base.geometry cimport PMD_LEVEL, PTE_LEVEL, geo_addr_end
from cy.base.shm cimport C_INSTALL_LOST, C_MAP_FAILED, C_RECHECK_LOST, C_TABLES_RECLAIMED, ORACLE_UAF
from cy.core.fault cimport anon_vma_assign
from cy.core.populate cimport pmd_install
from cy.core.unlink cimport free_empty_tables, unlink_empty_table
from cy.mm.cursor cimport cursor_set_table, cursor_unlock
from cy.mm.gather cimport mmu_gather, tlb_finish_mmu, tlb_gather_mmu
from cy.mm.map cimport attached_by_pte, pte_index, pte_lock, pte_offset_map_lock, pte_offset_map_rw_nolock, pte_unmap_unlock
from cy.mm.offset_map cimport (
    entry_get, entry_offset_map, entry_offset_map_lock, entry_offset_map_next, entry_unmap, entry_unmap_unlock, mapped_entry)
from cy.mm.table cimport pagetable_alloc, pagetable_free_private
from cy.mm.types cimport (
    DETACH_SCAN, DETACH_TRY, HELD_RCU, HELD_TABLE, HELD_VMA, INTENT_FAULT, INTENT_PROTECT, INTENT_SCAN, INTENT_SLEEP,
    INTENT_UNMAP, cursor, mm, protect_ops, ptdesc)
from cy.mm.vma_lock cimport vma_end_read, vma_start_read
from cy.mm.vma_snapshot cimport mergeable_anon_vma_lockless, vma_snapshot
from cy.protect.split cimport split_detach_try, split_relock, split_sleep
from cy.sync.lockclass cimport LOCK_PGL, might_sleep
from cy.sync.rcu cimport rcu_read_lock, rcu_read_unlock
from cy.sync.spinlock cimport spin_lock, spin_unlock

cdef inline int rcu_begin(cursor *cur, uint64_t start, uint64_t end, uint32_t intent) noexcept nogil:
    if intent == INTENT_UNMAP or intent == INTENT_PROTECT or intent == INTENT_SCAN:
        return 0                    # a scan unlinks empty tables, whatever VMA they are of
    vma_snapshot(cur)
    if intent == INTENT_SLEEP:
        _hold_vma(cur)
    return -EFAULT if intent == INTENT_FAULT and (cur.vma == NULL or cur.vma_start > start) else 0

cdef inline void rcu_next_vma(cursor *cur) noexcept nogil:
    _settle(cur)
    _release_vma(cur)               # the snapshot may have to wait for who waits for it
    vma_snapshot(cur)
    cur.vma_stale = False
    if cur.intent == INTENT_SLEEP:
        _hold_vma(cur)

cdef inline void rcu_end(cursor *cur) noexcept nogil:
    _settle(cur)
    _release_vma(cur)

# Keep the VMA of the snapshot as it is, if it still is and nobody changes it now: who wants to has to wait then. Tables come and
# go all the same.
cdef inline void _hold_vma(cursor *cur) noexcept nogil:
    if cur.vma == NULL:
        return
    rcu_read_lock(cur.cpu, &cur.mm.rcu[RCU_TABLES])
    if vma_start_read(cur.cpu, cur.mm, cur.vma):
        cur.held |= HELD_VMA
        if not _vma_is_current(cur):
            _release_vma(cur)
    rcu_read_unlock(cur.cpu, &cur.mm.rcu[RCU_TABLES])

cdef inline void _release_vma(cursor *cur) noexcept nogil:
    if unlikely(cur.held & HELD_VMA):
        vma_end_read(cur.cpu, cur.vma)
        cur.held &= ~<uint32_t>HELD_VMA

cdef inline int rcu_next(cursor *cur) noexcept nogil:
    cdef cpu *c = cur.cpu
    cdef mm *m = cur.mm
    cdef mapped_entry at
    cdef ptdesc *table
    cdef uint64_t pmdval
    while entry_offset_map_next(c, m, &cur.addr, cur.end, PMD_LEVEL, &at) != NULL:
        table = NULL
        if not pmd_none(entry_get(c, &at)):                  # none is skipped without a lock
            table = pte_offset_map_lock(c, m, at.entryp, &pmdval)
            if table == NULL:
                count(c, C_MAP_FAILED)                       # it was detached since: nothing is mapped there
        entry_unmap(c, m)                                    # a table that is mapped has a section of its own
        if table != NULL:
            cursor_set_table(cur, table, at.entryp, pmdval, at.table, HELD_TABLE | HELD_RCU)
            return _keep_if_current(cur, True)
        cur.addr = geo_addr_end(&m.geo, PTE_LEVEL, cur.addr, cur.end)
    return 0

cdef inline int rcu_lock(cursor *cur, uint64_t expect) noexcept nogil:
    cdef cpu *c = cur.cpu
    cdef mm *m = cur.mm
    cdef mapped_entry at
    cdef ptdesc *table
    cdef uint64_t pmdval
    cdef bint before = _vma_is_current(cur) if BUG(m.bugs, BUG_M04_R11) else True
    if entry_offset_map(c, m, cur.addr, PMD_LEVEL, &at) == NULL:
        count(c, C_MAP_FAILED)
        return 0
    if expect == 0:
        table = pte_offset_map_lock(c, m, at.entryp, &pmdval)
    else:
        table = pte_offset_map_rw_nolock(c, m, at.entryp, &pmdval)
    entry_unmap(c, m)
    if table == NULL:
        count(c, C_MAP_FAILED)
        return 0
    if expect != 0:
        pte_lock(c, m, table, pmdval)
        if not attached_by_pte(c, pte_index(m, table, cur.addr), expect):
            pte_unmap_unlock(c, m, table)
            return 0
    cursor_set_table(cur, table, at.entryp, pmdval, at.table, HELD_TABLE | HELD_RCU)
    return _keep_if_current(cur, before)

cdef inline int rcu_relock(cursor *cur, ptdesc *table) noexcept nogil:
    return split_relock(cur, table) and _keep_if_current(cur, True)

# The table is locked: is it one of the VMA that the cursor knows? Otherwise it is left. `before`: said so earlier.
cdef inline int _keep_if_current(cursor *cur, bint before) noexcept nogil:
    # [PT-062] pairs with: _vma_set_locked. The tables that were installed before the sequence.
    smp_mb__after_spinlock()
    if before and (BUG(cur.mm.bugs, BUG_M04_R11) or _vma_is_current(cur)):
        if cur.installed == cur.addr + 1:
            cur.installed = 0       # who changes the VMA from here on meets what was installed
        return 1
    count(cur.cpu, C_RECHECK_LOST)
    cursor_unlock(cur)
    cur.vma_stale = True
    return 0

# Has nobody write-locked cur.vma since the cursor knows it? Who changes it later walks later, too. Context: a full barrier lies
# between what the cursor has installed and this look.
cdef inline bint _vma_is_current(cursor *cur) noexcept nogil:
    if cur.intent == INTENT_UNMAP or cur.intent == INTENT_PROTECT:
        return True                 # the caller is who changes it
    return READ_ONCE32(&cur.vma.vm_seq) == cur.vma_seq

# Make the tables that are missing, from the top down. Nothing is held while one is allocated; then its parent is found again,
# locked and proved to be attached.
cdef inline int rcu_install(cursor *cur) noexcept nogil:
    cdef cpu *c = cur.cpu
    cdef mm *m = cur.mm
    cdef mapped_entry at
    cdef ptdesc *new
    cdef int level
    _settle(cur)
    while True:
        level = _missing_level(cur)
        if level < 0:
            return 0
        might_sleep(c)
        new = pagetable_alloc(c, m, level, cur.addr)
        if new == NULL:
            return -ENOMEM
        delay_point(c)
        if entry_offset_map_lock(c, m, cur.addr, level + 1, &at) != NULL:
            new = pmd_install(c, m, at.entryp, new, level)
            if PT_CHECKS and new == NULL:
                _check_parent(c, &at)
            entry_unmap_unlock(c, m, &at)
        if new == NULL:
            cur.installed = cur.addr + 1
        else:
            count(c, C_INSTALL_LOST)
            pagetable_free_private(c, m, new)

# Oracle use-after-free: the table that something was installed into is attached (I52). Context: its lock.
cdef inline void _check_parent(cpu *c, const mapped_entry *at) noexcept nogil:
    if peek32(&at.table.detached):
        pt_report(c, ORACLE_UAF, 52, b"a table was installed into table a of level b, which is detached", at.table.addr,
                  at.table.index, at.table.level)

# The level of the highest table that cur.addr lacks; -1: none.
cdef inline int _missing_level(cursor *cur) noexcept nogil:
    cdef mapped_entry at
    cdef bint none
    if entry_offset_map(cur.cpu, cur.mm, cur.addr, PMD_LEVEL, &at) == NULL:
        return <int>at.missing - 1
    none = pmd_none(entry_get(cur.cpu, &at))
    entry_unmap(cur.cpu, cur.mm)
    return PTE_LEVEL if none else -1

# Look after what was installed and never proved to lie in a VMA: nobody may come any more who frees it.
# Context: nothing locked; may sleep.
cdef inline void _settle(cursor *cur) noexcept nogil:
    cdef mmu_gather tlb
    cdef uint64_t addr = cur.installed - 1
    if likely(cur.installed == 0):
        return
    cur.installed = 0
    smp_mb()    # [PT-062] pairs with: _vma_set_locked.
    if _vma_is_current(cur):
        return
    tlb_gather_mmu(&tlb, cur.cpu, cur.mm)
    free_empty_tables(&tlb, addr)
    tlb_finish_mmu(&tlb)

# The fast way is that of split locks: the table is locked, so it is attached and its parent not empty.
cdef inline int rcu_detach(cursor *cur, uint32_t mode) noexcept nogil:
    if mode == DETACH_TRY:
        return split_detach_try(cur)
    _detach(cur, cur.table_end - 1, PTE_LEVEL, mode)
    return cur.detached != NULL

cdef inline void rcu_detach_upper(cursor *cur, uint64_t addr, uint32_t level) noexcept nogil:
    _detach(cur, addr, level, DETACH_SCAN)

cdef inline void _detach(cursor *cur, uint64_t addr, uint32_t level, uint32_t mode) noexcept nogil:
    cur.detached = unlink_empty_table(cur.cpu, cur.mm, addr, level, mode)
    if cur.detached != NULL:
        count(cur.cpu, C_TABLES_RECLAIMED)

# Under page_table_lock the VMA stays what it is: who changes it takes that lock first. If it is an old one, lock will find out.
cdef inline void rcu_anon_vma_prepare(cursor *cur) noexcept nogil:
    cdef uint32_t id = mergeable_anon_vma_lockless(cur)
    spin_lock(cur.cpu, &cur.mm.page_table_lock, LOCK_PGL)
    if READ_ONCE32(&cur.vma.vm_seq) == cur.vma_seq:
        anon_vma_assign(cur.mm, cur.vma, id)
    spin_unlock(cur.cpu, &cur.mm.page_table_lock)

cdef inline void protect_rcu(protect_ops *ops) noexcept nogil:
    ops.begin = rcu_begin
    ops.next_vma = rcu_next_vma
    ops.next = rcu_next
    ops.lock = rcu_lock
    ops.relock = rcu_relock
    ops.install = rcu_install
    ops.detach = rcu_detach
    ops.detach_upper = rcu_detach_upper
    ops.anon_vma_prepare = rcu_anon_vma_prepare
    ops.sleep = split_sleep
    ops.end = rcu_end
