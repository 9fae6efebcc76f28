# [p4d|pud|pmd]_offset_map: finding, mapping and locking an entry of any level, with nothing but RCU before.
#
# What cy/mm/map.pxd does for pte_tables, for all levels, where neither mmap_lock nor a VMA lock keeps the upper tables. The
# kernel would have one function for each level; here the level is an argument.
#
# | primitive             | returns               | held on success | guarantees                                   |
# | entry_offset_map      | entry of the level,   | RCU             | its table is readable; it may be detached    |
# | entry_offset_map_next | or NULL with nothing  | RCU             | the same, of the next address that has one   |
# | entry_offset_map_lock | held                  | RCU, the table  | its table is attached while the lock is held |
#
# Why one level of recheck is enough: a table is detached with all entries none and stays so, as who installs into one proves
# under its lock that it is attached. So a parent whose entry refers to the table is not empty, hence attached, and
# so on up to the pgd, which is always.
# Source: nowhere yet: "another plan" of lore.kernel.org/r/20241204110940. Not modelled: huge entries.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE, smp_load_acquire
from cy.base.bugs cimport BUG, BUG_M01_INSTALL
from cy.base.cpu cimport RCU_TABLES, count, cpu, delay_point
from cy.base.geometry cimport geo_addr_end, geo_index
from cy.base.shm cimport C_RECHECK_LOST
from cy.mm.map cimport not_poison
from cy.mm.table cimport table_number, table_number_of, table_row
from cy.mm.types cimport mm, ptdesc
from cy.sync.lockclass cimport LOCK_PGL, LOCK_PTL
from cy.sync.rcu cimport rcu_read_lock, rcu_read_unlock
from cy.sync.spinlock cimport spin_lock, spin_unlock

# Where an entry stands. Valid in the section that it was mapped in.
cdef struct mapped_entry:
    uint64_t *entryp
    ptdesc *table           # holds it
    uint64_t *parentp       # the entry that refers to the table; NULL: it is the pgd
    uint64_t parentval      # its value when it was followed
    uint32_t missing        # nothing mapped: the level of the entry that was none

# Enter RCU and map the entry of `level` that covers addr. Context: any. Does not sleep.
# NULL, nothing held: an upper table is missing.
cdef inline uint64_t *entry_offset_map(cpu *c, mm *m, uint64_t addr, uint32_t level, mapped_entry *at) noexcept nogil:
    cdef uint32_t number = table_number(m, m.pgd), l = m.geo.levels - 1
    at.parentp = NULL
    at.parentval = 0
    rcu_read_lock(c, &m.rcu[RCU_TABLES])
    while True:
        at.entryp = table_row(m, number) + geo_index(&m.geo, l, addr)
        if l == level:
            at.table = &m.ptdescs[number]
            return at.entryp
        at.parentp = at.entryp
        at.parentval = smp_load_acquire(at.entryp)       # [PT-005] pairs with: pmd_install.
        delay_point(c)
        number = table_number_of(c, m, at.parentval)
        if number == 0:
            at.missing = l
            entry_unmap(c, m)
            return NULL
        l -= 1

# The same for the first address >= *addrp and < end that has one; moves *addrp there. NULL: none before end.
cdef inline uint64_t *entry_offset_map_next(cpu *c, mm *m, uint64_t *addrp, uint64_t end, uint32_t level,
                                            mapped_entry *at) noexcept nogil:
    while addrp[0] < end:
        if entry_offset_map(c, m, addrp[0], level, at) != NULL:
            return at.entryp
        addrp[0] = geo_addr_end(&m.geo, at.missing - 1, addrp[0], end)
    return NULL

# Map the entry and lock its table, which is attached while the lock is held. Starts over while the parent's entry changes.
cdef inline uint64_t *entry_offset_map_lock(cpu *c, mm *m, uint64_t addr, uint32_t level, mapped_entry *at) noexcept nogil:
    while True:
        if entry_offset_map(c, m, addr, level, at) == NULL:
            return NULL
        table_lock(c, m, at.table, level)
        if at.parentp == NULL or BUG(m.bugs, BUG_M01_INSTALL) or READ_ONCE(at.parentp) == at.parentval:
            return at.entryp
        count(c, C_RECHECK_LOST)
        entry_unmap_unlock(c, m, at)

# What the entry is, as a hint; poison is a freed table (oracle use-after-free), read as none. Context: mapped.
cdef inline uint64_t entry_get(cpu *c, const mapped_entry *at) noexcept nogil:
    return not_poison(c, at.table, smp_load_acquire(at.entryp))

cdef inline void entry_unmap(cpu *c, mm *m) noexcept nogil:
    rcu_read_unlock(c, &m.rcu[RCU_TABLES])

# The lock lives in RCU-freed memory: unlock first, leave RCU second.
cdef inline void entry_unmap_unlock(cpu *c, mm *m, mapped_entry *at) noexcept nogil:
    table_unlock(c, m, at.table)
    entry_unmap(c, m)

# The lock of the entries of a table of `level`. The pgd's is the page_table_lock; the classes of the others have the order
# of their levels. Context: RCU. Lock order: from the pgd down.
cdef inline void table_lock(cpu *c, mm *m, ptdesc *table, uint32_t level) noexcept nogil:
    if table == m.pgd:
        spin_lock(c, &m.page_table_lock, LOCK_PGL)
    else:
        spin_lock(c, &table.lock, LOCK_PTL - level)

cdef inline void table_unlock(cpu *c, mm *m, ptdesc *table) noexcept nogil:
    spin_unlock(c, &m.page_table_lock if table == m.pgd else &table.lock)
