# Installing tables: pte_alloc, pmd_alloc and the levels above.
#
# Protocol of every level: look without a lock, allocate and zero outside any
# spinlock, take the parent's lock, look again; still none: account, publish with a release store;
# else free the own table, which nobody ever saw.
# Context for all: the VMA is stable (mmap_lock or VMA lock), so upper tables cannot go away. May sleep.
# Source: mm/memory.c pmd_install, __pte_alloc, __pmd_alloc, __pud_alloc.
from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE, WRITE_ONCE, plain_zero, smp_load_acquire, smp_store_release
from cy.base.bugs cimport BUG, BUG_MX_INSTALL_LEAK, BUG_MX_TWO_PARENTS, BUG_P16
from cy.base.cpu cimport count, cpu, delay_point
from cy.base.entry cimport mk_table, pmd_none
from cy.base.geometry cimport PMD_LEVEL, PTE_LEVEL, geo_fanout
from cy.base.shm cimport C_INSTALL_LOST
from cy.mm.map cimport entry_offset
from cy.mm.table cimport mm_inc_nr_tables, pagetable_alloc, pagetable_free_private
from cy.mm.types cimport mm, ptdesc
from cy.sync.lockclass cimport LOCK_PGL, LOCK_PML, might_sleep
from cy.sync.spinlock cimport spin_lock, spin_unlock, spinlock_t

# The pmd entry that covers addr, upper tables made as needed; NULL: out of memory.
cdef inline uint64_t *pmd_alloc(cpu *c, mm *m, uint64_t addr, ptdesc **pmd_table) noexcept nogil:
    cdef uint32_t missing = 0
    cdef uint64_t *entryp
    cdef ptdesc *parent
    while True:
        entryp = entry_offset(c, m, addr, PMD_LEVEL, pmd_table, &missing)
        if entryp != NULL:
            return entryp
        # `missing` is the level of the entry that is none: a table of missing - 1 goes there.
        entryp = entry_offset(c, m, addr, missing, &parent, &missing)
        if entryp == NULL:
            continue
        if _table_alloc(c, m, entryp, missing - 1, addr, &m.page_table_lock, LOCK_PGL) != 0:
            return NULL

# Make sure that *pmdp refers to a table. Returns 0 or -ENOMEM.
cdef inline int pte_alloc(cpu *c, mm *m, uint64_t *pmdp, ptdesc *pmd_table, uint64_t addr) noexcept nogil:
    if not pmd_none(smp_load_acquire(pmdp)):     # [PT-005] pairs with: pmd_install.
        return 0
    return _table_alloc(c, m, pmdp, PTE_LEVEL, addr, &pmd_table.lock, LOCK_PML)

cdef inline int _table_alloc(cpu *c, mm *m, uint64_t *entryp, uint32_t level, uint64_t addr,
                             spinlock_t *parent_lock, uint32_t lock_class) noexcept nogil:
    cdef ptdesc *new
    might_sleep(c)
    new = pagetable_alloc(c, m, level, addr)
    if new == NULL:
        return -ENOMEM
    delay_point(c)
    spin_lock(c, parent_lock, lock_class)
    new = pmd_install(c, m, entryp, new, level)
    spin_unlock(c, parent_lock)
    if new != NULL:
        count(c, C_INSTALL_LOST)
        if not BUG(m.bugs, BUG_MX_INSTALL_LEAK):
            pagetable_free_private(c, m, new)
    return 0

# Publish `new`, a table of `level`, in *entryp if it is still none. Context: the parent's lock.
# Returns NULL, or `new` if the entry was taken.
cdef inline ptdesc *pmd_install(cpu *c, mm *m, uint64_t *entryp, ptdesc *new, uint32_t level) noexcept nogil:
    if not pmd_none(READ_ONCE(entryp)):
        return new
    # Not new.level: this cpu's own store to it may still be on its way.
    mm_inc_nr_tables(c, m, level)
    if BUG(m.bugs, BUG_P16):
        # What x86 never does by itself: the two stores, the other way round.
        WRITE_ONCE(entryp, mk_table(new.index, m.tables.items[new.index].gen))
        delay_point(c)
        plain_zero(new.entries, geo_fanout(&m.geo, level))
        return NULL
    # [PT-004] pairs with: the walkers' acquire loads, PT-005; orders the zeroes and the lock of the
    # new table before it becomes reachable: a walker that sees the entry sees an empty table.
    smp_store_release(entryp, mk_table(new.index, m.tables.items[new.index].gen))
    if BUG(m.bugs, BUG_MX_TWO_PARENTS) and level == PTE_LEVEL:
        smp_store_release(<uint64_t *>(<uint64_t>entryp ^ sizeof(uint64_t)), READ_ONCE(entryp))
    return NULL
