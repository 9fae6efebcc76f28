# Scenes about finding and locking tables.

# BUSTED variants.
cdef enum:
    NO_PMD_RECHECK = 1          # the table is not proved attached after its lock was taken
    FREED_AT_ONCE = 2           # a detached table is freed without a grace period
    UNORDERED_INSTALL = 3       # the entry is published without a release

# A pte_table at page 0. Context: cpu 0.
cdef void table_setup(rig *r) noexcept nogil:
    add_table(r, 0)


# The pte_table that maps `page`, made if needed; NULL: no memory. Context: cpu 0.
cdef ptdesc *add_table(rig *r, uint64_t page) noexcept nogil:
    cdef cpu *c = &r.m.cpus[0]
    cdef uint64_t addr = page << PAGE_SHIFT
    cdef ptdesc *pmd_table
    cdef ptdesc *table
    cdef uint32_t missing
    cdef uint64_t *pmdp = pmd_alloc(c, r.m, addr, &pmd_table)
    if pmdp == NULL or pte_alloc(c, r.m, pmdp, pmd_table, addr) != 0:
        return NULL
    entry_offset(c, r.m, addr, PTE_LEVEL, &table, &missing)
    return table


# -- attached: cpu 1 detaches the table and frees it, cpu 0 wants to lock it, the others' hardware walks
#    through it ---------------------------------------------------------------------------------

cdef void attached_body(rig *r, cpu *c) noexcept nogil:
    cdef ptdesc *pmd_table
    cdef ptdesc *table
    cdef uint32_t missing
    cdef uint64_t pmdval, value = 0, incarnation = 0
    cdef uint64_t *pmdp = entry_offset(c, r.m, 0, PMD_LEVEL, &pmd_table, &missing)
    if c.id == 1:
        detach_table(r, c, pmd_table, pmdp)
        return
    if c.id > 1:
        hw_access(c, r.m, 0, False, &value, &incarnation)
        return
    if r.busted == NO_PMD_RECHECK:
        table = pte_offset_map_rw_nolock(c, r.m, pmdp, &pmdval)
        if table != NULL:
            pte_lock(c, r.m, table, pmdval)
    else:
        table = pte_offset_map_lock(c, r.m, pmdp, &pmdval)
    if table == NULL:
        return
    ptep_get(c, r.m, table, pte_index(r.m, table, 0))
    if READ_ONCE32(&table.detached):
        flag(r)
    pte_unmap_unlock(c, r.m, table)


cdef void detach_table(rig *r, cpu *c, ptdesc *pmd_table, uint64_t *pmdp) noexcept nogil:
    cdef ptdesc *table
    cdef uint64_t pmdval
    spin_lock(c, &pmd_table.lock, LOCK_PML)
    table = pte_offset_map_rw_nolock(c, r.m, pmdp, &pmdval)
    if table != NULL:
        pte_lock(c, r.m, table, pmdval)
        pmd_clear_table(c, r.m, pmdp, table)
        pte_unmap_unlock(c, r.m, table)
    spin_unlock(c, &pmd_table.lock)
    if table != NULL:
        table_free_rcu(c, r.m, table)       # BUSTED by BUG_M07_TABLE: at once
    rcu_barrier(c, &r.m.rcu[RCU_TABLES])
    rcu_barrier(c, &r.m.rcu[RCU_HW])


# -- publish: cpu 0 installs a table, the others walk to it. It is empty for everyone -------------

cdef void publish_setup(rig *r) noexcept nogil:
    cdef ptdesc *pmd_table
    cdef uint64_t i
    pmd_alloc(&r.m.cpus[0], r.m, 0, &pmd_table)
    # What the next table finds in its memory: entries of another life.
    for i in range(pmd_table.index + 1, r.m.tables.nr):
        r.m.ptdescs[i].entries[0] = mk_pte(1, PT_PRESENT | PT_RW)


cdef void publish_body(rig *r, cpu *c) noexcept nogil:
    cdef ptdesc *table
    cdef ptdesc *new
    cdef uint32_t missing
    cdef uint64_t *entryp
    if c.id != 0:
        entryp = entry_offset(c, r.m, 0, PTE_LEVEL, &table, &missing)
        if entryp != NULL and not pte_none(READ_ONCE(entryp)):
            flag(r)
        return
    entryp = entry_offset(c, r.m, 0, PMD_LEVEL, &table, &missing)
    if r.busted != UNORDERED_INSTALL:
        pte_alloc(c, r.m, entryp, table, 0)
        return
    new = pagetable_alloc(c, r.m, PTE_LEVEL, 0)
    spin_lock(c, &table.lock, LOCK_PML)
    # An add to an entry that is none stands for a store that overtakes those before it.
    atomic_add(entryp, mk_table(new.index, r.m.tables.items[new.index].gen))
    spin_unlock(c, &table.lock)


cdef bint map_scene(rig *r, scene *s, str name) except -1:
    if name == "attached":
        s.setup = table_setup
        s.body = attached_body
        r.m.bugs = <uint64_t>1 << BUG_M07_TABLE if r.busted == FREED_AT_ONCE else 0
    elif name == "publish":
        s.setup = publish_setup
        s.body = publish_body
    else:
        return False
    return True
