# Finding, mapping and locking a pte_table.
#
# | primitive                | returns        | held on success | guarantees                          |
# | pmd_offset               | pmd *, or NULL | nothing         | upper tables exist (VMA stable)     |
# | pte_offset_map           | pte *, or NULL | RCU             | table readable; may be detached     |
# | pte_offset_map_rw_nolock | the same       | RCU             | the same, plus pmdval and the ptl   |
# | pte_offset_map_lock      | the same       | RCU, ptl        | attached at *pmdp while ptl is held |
#
# After rw_nolock and spin_lock(ptl) a writer must prove that the table is attached, in one of three
# ways, each a call of its own:
#   attached_by_pmd  the parent entry is still the one that was mapped;
#   attached_by_pte  an entry seen earlier, not none, is still there: a detached table is all none;
#   attached_by_pml  the pml is held since before the map;
# and a fourth for who has slept in a table that something kept:
#   attached_by_table  the table itself says so.
# For an entry expected to be none the second is not valid.
# Source: mm/pgtable-generic.c, Documentation/mm/process_addrs.rst.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE, plain_load32, smp_load_acquire
from cy.base.bugs cimport BUG, BUG_M01_RELOCK, BUG_M02_RETRY
from cy.base.build cimport PT_CHECKS
from cy.base.cpu cimport RCU_TABLES, count, cpu, delay_point, pt_report
from cy.base.entry cimport PT_POISON, pmd_none, pte_none
from cy.base.flight cimport flight_note
from cy.base.geometry cimport PMD_LEVEL, PTE_LEVEL, geo_addr_end, geo_index
from cy.base.shm cimport C_RECHECK_LOST, FLIGHT_RECHECK, ORACLE_LOCK_ORDER, ORACLE_UAF
from cy.mm.table cimport table_check_live, table_entries, table_number, table_number_of, table_of, table_row
from cy.mm.types cimport mm, ptdesc
from cy.sync.lockclass cimport LOCK_PTL, lock_is_held
from cy.sync.rcu cimport rcu_read_lock, rcu_read_unlock
from cy.sync.spinlock cimport spin_lock, spin_unlock

# The entry of `level` that covers addr, and the table that holds it; NULL if an upper table is
# missing, with `missing` set to the level of the entry that is none.
# Context: upper tables stable (VMA or mmap_lock), or hardware, or RCU as a hint.
cdef inline uint64_t *entry_offset(cpu *c, mm *m, uint64_t addr, uint32_t level, ptdesc **table,
                                   uint32_t *missing) noexcept nogil:
    cdef uint32_t number = table_number(m, m.pgd), l = m.geo.levels - 1
    cdef uint64_t *entryp
    while True:
        entryp = table_row(m, number) + geo_index(&m.geo, l, addr)
        if l == level:
            table[0] = &m.ptdescs[number]
            return entryp
        # [PT-005] pairs with: the release store that published the table (pmd_install, upper_install).
        # An address dependency orders it in the kernel; here a load-acquire.
        number = table_number_of(c, m, smp_load_acquire(entryp))
        if number == 0:
            missing[0] = l
            return NULL
        l -= 1

# The pmd entry that covers the first address >= *addrp and < end whose upper tables exist; moves
# *addrp there. NULL: none before end.
cdef inline uint64_t *pmd_offset_next(cpu *c, mm *m, uint64_t *addrp, uint64_t end, ptdesc **table) noexcept nogil:
    cdef uint64_t *pmdp
    cdef uint32_t missing = 0
    while addrp[0] < end:
        pmdp = entry_offset(c, m, addrp[0], PMD_LEVEL, table, &missing)
        if pmdp != NULL:
            return pmdp
        addrp[0] = geo_addr_end(&m.geo, missing - 1, addrp[0], end)
    return NULL

cdef inline uint64_t *pte_index(mm *m, ptdesc *table, uint64_t addr) noexcept nogil:
    return table_entries(m, table) + geo_index(&m.geo, PTE_LEVEL, addr)

# Enter RCU and map the pte_table at *pmdp. Context: any. Does not sleep.
# Returns its descriptor and in *pmdvalp the value of the entry, or NULL with nothing held: none, or
# just detached.
cdef inline ptdesc *pte_offset_map(cpu *c, mm *m, uint64_t *pmdp, uint64_t *pmdvalp) noexcept nogil:
    cdef ptdesc *table
    rcu_read_lock(c, &m.rcu[RCU_TABLES])
    pmdvalp[0] = smp_load_acquire(pmdp)          # [PT-005] pairs with: pmd_install.
    delay_point(c)
    if not pmd_none(pmdvalp[0]):
        table = table_of(c, m, pmdvalp[0])
        if table != NULL:
            return table
    rcu_read_unlock(c, &m.rcu[RCU_TABLES])
    return NULL

# As pte_offset_map, for writers: they lock table.lock next and prove attachment.
cdef inline ptdesc *pte_offset_map_rw_nolock(cpu *c, mm *m, uint64_t *pmdp, uint64_t *pmdvalp) noexcept nogil:
    return pte_offset_map(c, m, pmdp, pmdvalp)

cdef inline void pte_unmap(cpu *c, mm *m) noexcept nogil:
    rcu_read_unlock(c, &m.rcu[RCU_TABLES])

# The lock lives in RCU-freed memory: unlock first, leave RCU second.
cdef inline void pte_unmap_unlock(cpu *c, mm *m, ptdesc *table) noexcept nogil:
    spin_unlock(c, &table.lock)
    rcu_read_unlock(c, &m.rcu[RCU_TABLES])

# Lock the ptl of a table that was mapped through `pmdval`. The table may be detached by then.
cdef inline void pte_lock(cpu *c, mm *m, ptdesc *table, uint64_t pmdval) noexcept nogil:
    spin_lock(c, &table.lock, LOCK_PTL)
    table_check_live(c, m, table, pmdval)

# Map and lock: the table is attached at *pmdp while the ptl is held. Retries while the entry changes;
# NULL (nothing held) only if it does not refer to a table.
cdef inline ptdesc *pte_offset_map_lock(cpu *c, mm *m, uint64_t *pmdp, uint64_t *pmdvalp) noexcept nogil:
    cdef ptdesc *table
    while True:
        table = pte_offset_map_rw_nolock(c, m, pmdp, pmdvalp)
        if table == NULL:
            return NULL
        pte_lock(c, m, table, pmdvalp[0])
        if attached_by_pmd(c, pmdp, pmdvalp[0]):
            return table
        if not BUG(m.bugs, BUG_M02_RETRY):
            pte_unmap_unlock(c, m, table)

# Proof (a). Context: ptl held.
cdef inline bint attached_by_pmd(cpu *c, uint64_t *pmdp, uint64_t pmdval) noexcept nogil:
    return _recheck(c, pmdp, READ_ONCE(pmdp), pmdval)

# Proof (b). Context: ptl held; `expect` was read from this entry before, and was not none.
cdef inline bint attached_by_pte(cpu *c, uint64_t *ptep, uint64_t expect) noexcept nogil:
    if PT_CHECKS and pte_none(expect):
        pt_report(c, ORACLE_UAF, 6, b"proof of attachment by an entry that was none", 0, expect, 0)
    return _recheck(c, ptep, READ_ONCE(ptep), expect)

# Whether what was `read` at `entry` is what was read before.
cdef inline bint _recheck(cpu *c, const uint64_t *entry, uint64_t read, uint64_t expect) noexcept nogil:
    flight_note(c, FLIGHT_RECHECK, read == expect, entry, read)
    if read == expect:
        return True
    count(c, C_RECHECK_LOST)
    return False

# Proof (c). Context: ptl held. The pml of `pmd_table` was taken before the map.
cdef inline bint attached_by_pml(cpu *c, ptdesc *pmd_table) noexcept nogil:
    if PT_CHECKS and not lock_is_held(c, &pmd_table.lock):
        pt_report(c, ORACLE_LOCK_ORDER, 6, b"proof of attachment by a pml that is not held", pmd_table.addr, 0, 0)
    return True

# Proof (d). Context: ptl held; the table was found attached at this place once, and its memory kept since.
cdef inline bint attached_by_table(cpu *c, mm *m, ptdesc *table) noexcept nogil:
    cdef uint32_t detached = plain_load32(&table.detached)
    flight_note(c, FLIGHT_RECHECK, detached == 0, &table.detached, detached)
    if not detached or BUG(m.bugs, BUG_M01_RELOCK):
        return True
    count(c, C_RECHECK_LOST)
    return False

# An entry read under its table's lock; poison is a freed table (oracle use-after-free), read as none.
cdef inline uint64_t ptep_get(cpu *c, mm *m, ptdesc *table, uint64_t *ptep) noexcept nogil:
    return not_poison(c, table, READ_ONCE(ptep))

# The same without the lock: by hardware, or as a hint.
# [PT-009] pairs with: the release stores of do_anonymous_page and do_wp_page. Whoever sees the entry
# sees the contents of its frame. The kernel relies on the address dependency.
cdef inline uint64_t ptep_get_lockless(cpu *c, mm *m, ptdesc *table, uint64_t *ptep) noexcept nogil:
    return not_poison(c, table, smp_load_acquire(ptep))        # [PT-009] pairs with: who stores the entry.

# What was read in a table.
cdef inline uint64_t not_poison(cpu *c, ptdesc *table, uint64_t pte) noexcept nogil:
    if PT_CHECKS and pte == PT_POISON:
        pt_report(c, ORACLE_UAF, 11, b"an entry of table a is poison: read after the table was freed",
                  table.addr, table.index, 0)
        return 0
    return pte
