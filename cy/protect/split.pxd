# Split page-table locks: the table half of the policies `mmap_lock` and `vma_lock`, as in 6.18.
#
# Upper tables are stable because the VMA is. A pte_table may be detached at any time by someone who
# holds pml and ptl, so it is mapped under RCU, locked, and proved attached.
# Lock order: pml before ptl; with a ptl held the pml is only tried.
# Source: mm/pgtable-generic.c, mm/pt_reclaim.c.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport smp_load_acquire, yield_point
from cy.base.bugs cimport BUG, BUG_M01_SCAN, BUG_M15_LOCK_ORDER, BUG_M15_TRYLOCK, BUG_MX_WALK_HOLE, BUG_P04, BUG_P07, BUG_P20
from cy.base.cpu cimport RCU_TABLES, count, cpu, delay_point, pt_report
from cy.base.entry cimport pmd_none
from cy.base.geometry cimport PMD_LEVEL, PTE_LEVEL, geo_addr_end
from cy.base.rng cimport rng_one_in
from cy.base.shm cimport C_DETACH_NOT_EMPTY, C_MAP_FAILED, C_TRYLOCK_FAILED, ORACLE_PROGRESS
from cy.core.populate cimport pmd_alloc, pte_alloc
from cy.core.table_empty cimport pmd_clear_table, pmd_clear_table_for, table_empty_out
from cy.mm.cursor cimport cursor_pmd, cursor_set_table
from cy.mm.map cimport (
    attached_by_pml, attached_by_pte, attached_by_table, pmd_offset_next, pte_index, pte_lock, pte_offset_map,
    pte_offset_map_lock, pte_offset_map_rw_nolock, pte_unmap_unlock)
from cy.mm.types cimport DETACH_TRY, HELD_RCU, HELD_TABLE, INTENT_SCAN, INTENT_SLEEP, INTENT_WALK, cursor, mm, ptdesc
from cy.sync.lockclass cimport LOCK_PML, LOCK_PTL, might_sleep
from cy.sync.rcu cimport rcu_read_lock
from cy.sync.spinlock cimport spin_is_free, spin_lock, spin_trylock, spin_unlock
from cy.sync.wait cimport wait_turn

from libc.errno cimport ENOMEM

cdef enum:
    MAX_MAPS = 100000           # of one entry by one walk; more is no bad luck

cdef inline int split_next(cursor *cur) noexcept nogil:
    cdef cpu *c = cur.cpu
    cdef mm *m = cur.mm
    cdef ptdesc *pmd_table
    cdef ptdesc *table
    cdef uint64_t pmdval, mapped
    cdef uint64_t *pmdp
    cdef uint32_t turn
    cdef bint walks
    while cur.addr < cur.end:
        pmdp = pmd_offset_next(c, m, &cur.addr, cur.end, &pmd_table)
        if pmdp == NULL:
            return 0
        pmdval = smp_load_acquire(pmdp)
        turn = 0
        while not pmd_none(pmdval):                  # none is skipped without a lock
            table = pte_offset_map_lock(c, m, pmdp, &mapped)
            if table != NULL:
                cursor_set_table(cur, table, pmdp, mapped, pmd_table, HELD_TABLE | HELD_RCU)
                return 1
            count(c, C_MAP_FAILED)
            if not BUG(m.bugs, BUG_P20):
                break                                # it was detached since: nothing is mapped there
            turn += 1
            if turn == MAX_MAPS:
                pt_report(c, ORACLE_PROGRESS, 47, b"a walk mapped an entry a times and never saw that it is none",
                          cur.addr, turn, 0)
                break
        walks = cur.intent == INTENT_WALK or cur.intent == INTENT_SLEEP
        cur.addr = geo_addr_end(&m.geo, PMD_LEVEL if walks and BUG(m.bugs, BUG_MX_WALK_HOLE) else PTE_LEVEL, cur.addr, cur.end)
    return 0

cdef inline int split_lock(cursor *cur, uint64_t expect) noexcept nogil:
    cdef cpu *c = cur.cpu
    cdef mm *m = cur.mm
    cdef ptdesc *pmd_table
    cdef ptdesc *table
    cdef uint64_t pmdval
    cdef uint64_t *pmdp = cursor_pmd(cur, &pmd_table)
    if pmdp == NULL:
        return 0
    if BUG(m.bugs, BUG_P07) and expect == 0 and cur.peeked != NULL:
        return _lock_peeked(cur, pmdp, pmd_table)
    if expect == 0:
        table = pte_offset_map_lock(c, m, pmdp, &pmdval)
        if table == NULL:
            count(c, C_MAP_FAILED)
            return 0
    else:
        table = pte_offset_map_rw_nolock(c, m, pmdp, &pmdval)
        if table == NULL:
            count(c, C_MAP_FAILED)
            return 0
        pte_lock(c, m, table, pmdval)
        if not attached_by_pte(c, pte_index(m, table, cur.addr), expect):
            pte_unmap_unlock(c, m, table)
            return 0
    cursor_set_table(cur, table, pmdp, pmdval, pmd_table, HELD_TABLE | HELD_RCU)
    return 1

cdef inline int split_relock(cursor *cur, ptdesc *table) noexcept nogil:
    cdef cpu *c = cur.cpu
    cdef mm *m = cur.mm
    rcu_read_lock(c, &m.rcu[RCU_TABLES])         # ends when the table is left, as after every map
    pte_lock(c, m, table, cur.pmdval)
    if not attached_by_table(c, m, table):
        pte_unmap_unlock(c, m, table)
        return 0
    cursor_set_table(cur, table, cur.pmdp, cur.pmdval, cur.pmd_table, HELD_TABLE | HELD_RCU)
    return 1

# BUSTED: the lock of the table that was seen before the RCU section ended, and the entry of the one that is there now.
cdef inline int _lock_peeked(cursor *cur, uint64_t *pmdp, ptdesc *pmd_table) noexcept nogil:
    cdef uint64_t pmdval
    cdef ptdesc *table = pte_offset_map(cur.cpu, cur.mm, pmdp, &pmdval)
    if table == NULL:
        return 0
    spin_lock(cur.cpu, &cur.peeked.lock, LOCK_PTL)
    cursor_set_table(cur, cur.peeked, pmdp, pmdval, pmd_table, HELD_TABLE | HELD_RCU)
    cur.ptep = pte_index(cur.mm, table, cur.addr)
    return 1

cdef inline int split_install(cursor *cur) noexcept nogil:
    cdef ptdesc *pmd_table
    cdef uint64_t *pmdp = pmd_alloc(cur.cpu, cur.mm, cur.addr, &pmd_table)
    if pmdp == NULL:
        return -ENOMEM
    return pte_alloc(cur.cpu, cur.mm, pmdp, pmd_table, cur.addr)

cdef inline int split_detach(cursor *cur, uint32_t mode) noexcept nogil:
    if mode == DETACH_TRY:
        return split_detach_try(cur)
    return _detach_scan(cur, mode)

# Fast detach. The ptl was held over one complete pass that left nothing behind, and nobody can store
# without it, so no scan is needed.
cdef inline int split_detach_try(cursor *cur) noexcept nogil:
    cdef cpu *c = cur.cpu
    cdef uint32_t turns = 0
    if rng_one_in(&c.rng, cur.mm.knobs.trylock_fail):
        count(c, C_TRYLOCK_FAILED)
        return 0
    if BUG(cur.mm.bugs, BUG_M15_LOCK_ORDER):
        spin_lock(c, &cur.pmd_table.lock, LOCK_PML)
    elif BUG(cur.mm.bugs, BUG_M15_TRYLOCK):
        while not spin_trylock(c, &cur.pmd_table.lock, LOCK_PML):
            wait_turn(c, &turns, spin_is_free, &cur.pmd_table.lock)
    elif not spin_trylock(c, &cur.pmd_table.lock, LOCK_PML):
        count(c, C_TRYLOCK_FAILED)
        return 0
    pmd_clear_table(c, cur.mm, cur.pmdp, cur.table)
    spin_unlock(c, &cur.pmd_table.lock)
    cur.detached = cur.table
    return 1

# Slow detach: both locks in order, then look at every entry, because the ptl was dropped in between.
cdef inline int _detach_scan(cursor *cur, uint32_t mode) noexcept nogil:
    cdef cpu *c = cur.cpu
    cdef mm *m = cur.mm
    cdef ptdesc *table = NULL
    cdef uint64_t pmdval
    cdef int detached = 0
    cdef bint early = BUG(m.bugs, BUG_P04) and cur.intent == INTENT_SCAN
    delay_point(c)
    if early:
        table = pte_offset_map_rw_nolock(c, m, cur.pmdp, &pmdval)       # BUSTED: it may be unlinked before the pml is held
    spin_lock(c, &cur.pmd_table.lock, LOCK_PML)
    if not early:
        table = pte_offset_map_rw_nolock(c, m, cur.pmdp, &pmdval)
    if table != NULL:
        pte_lock(c, m, table, pmdval)
        if attached_by_pml(c, cur.pmd_table):
            if (BUG(m.bugs, BUG_M01_SCAN) and cur.intent == INTENT_SCAN) or table_empty_out(c, m, table, mode):
                pmd_clear_table_for(c, m, cur.pmdp, table, cur.intent)
                cur.detached = table
                detached = 1
            else:
                count(c, C_DETACH_NOT_EMPTY)
        pte_unmap_unlock(c, m, table)
    spin_unlock(c, &cur.pmd_table.lock)
    return detached

# Nothing that forbids sleeping is held between tables.
cdef inline void split_sleep(cursor *cur) noexcept nogil:
    might_sleep(cur.cpu)
    delay_point(cur.cpu)
    yield_point()
