# Is a table empty, and unlinking one that is. Shared by all ways to detach.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport xchg
from cy.base.cpu cimport count, cpu
from cy.base.entry cimport pte_none
from cy.base.geometry cimport geo_fanout
from cy.base.shm cimport C_TABLES_RECLAIMED
from cy.mm.map cimport ptep_get, ptep_get_lockless
from cy.mm.table cimport table_unlinked
from cy.mm.types cimport mm, ptdesc

# Context: the table's lock.
cdef inline bint table_is_empty(cpu *c, mm *m, ptdesc *table) noexcept nogil:
    cdef uint32_t i
    for i in range(geo_fanout(&m.geo, table.level)):
        if not pte_none(ptep_get(c, m, table, &table.entries[i])):
            return False
    return True

# The same without it: a hint. Context: RCU.
cdef inline bint table_is_empty_lockless(cpu *c, mm *m, ptdesc *table) noexcept nogil:
    cdef uint32_t i
    for i in range(geo_fanout(&m.geo, table.level)):
        if not pte_none(ptep_get_lockless(c, m, table, &table.entries[i])):
            return False
    return True

# Clear the parent entry of an empty table. Context: the parent's lock and the table's.
# Afterwards nobody stores into the table: writers prove attachment under its lock.
cdef inline void pmd_clear_table(cpu *c, mm *m, uint64_t *pmdp, ptdesc *table) noexcept nogil:
    # [PT-010] pairs with: the grace periods. A full barrier between the unlink and the flush.
    xchg(pmdp, 0)
    table_unlinked(c, m, table)
    count(c, C_TABLES_RECLAIMED)
