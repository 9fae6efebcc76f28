# Is a table empty, or would it be without the zero page, and unlinking one that is. Shared by all ways to detach.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport xchg
from cy.base.bugs cimport BUG, BUG_M08_ZERO, BUG_M10_ZERO
from cy.base.build cimport PT_CHECKS
from cy.base.cpu cimport count, cpu
from cy.base.entry cimport pte_none, pte_present, pte_special
from cy.base.geometry cimport PTE_LEVEL, geo_fanout, geo_table_span
from cy.base.shm cimport C_TABLES_RECLAIMED, C_ZEROES_UNMAPPED
from cy.mm.map cimport ptep_get, ptep_get_lockless
from cy.mm.table cimport table_check_unlinked, table_unlinked
from cy.mm.tlb cimport check_no_zero_page, flush_tlb_range
from cy.mm.types cimport DETACH_ZERO, INTENT_SCAN, INTENT_ZAP, mm, ptdesc

# Is the table empty, as a mode of detach means it? A hint. Context: RCU.
cdef inline bint table_looks_empty(cpu *c, mm *m, ptdesc *table, uint32_t mode) noexcept nogil:
    cdef uint32_t i
    for i in range(geo_fanout(&m.geo, table.level)):
        if not _may_go(ptep_get_lockless(c, m, table, &table.entries[i]), mode):
            return False
    return True

cdef inline bint _may_go(uint64_t pte, uint32_t mode) noexcept nogil:
    return pte_none(pte) or (mode == DETACH_ZERO and pte_present(pte) and pte_special(pte))

# Empty a table that maps nothing, or nothing but the zero page with DETACH_ZERO. False: it maps something else, and stays
# as it is. Context: the table's lock, and its parent's, so that nobody populates the range before the flush: a write would,
# and whoever still translated to the zero page would not see it.
# All entries are none before the table is unlinked: a write that saw the zero page locks the table later and takes an
# unchanged entry for proof that it is attached.
# Source: none in Linux; the idea is that of the series of 2022 (20220825101037.96517-1).
# Not modelled: what keeps the zero page from going: VM_LOCKED, userfaultfd, soft-dirty; notifiers.
cdef inline bint table_empty_out(cpu *c, mm *m, ptdesc *table, uint32_t mode) noexcept nogil:
    cdef uint32_t i, zeros = 0
    cdef uint64_t pte
    for i in range(geo_fanout(&m.geo, table.level)):
        pte = ptep_get(c, m, table, &table.entries[i])
        if not _may_go(pte, mode):
            return False
        zeros += not pte_none(pte)
    if zeros == 0:
        return True
    count(c, C_ZEROES_UNMAPPED)
    if not BUG(m.bugs, BUG_M08_ZERO):
        for i in range(geo_fanout(&m.geo, table.level)):
            xchg(&table.entries[i], 0)      # by exchange: hardware may set A. [PT-021] pairs with: the flush.
    if not BUG(m.bugs, BUG_M10_ZERO):
        flush_tlb_range(c, m, table.addr, table.addr + geo_table_span(&m.geo, PTE_LEVEL), False)
    if PT_CHECKS:
        check_no_zero_page(c, m, table.addr, table.addr + geo_table_span(&m.geo, PTE_LEVEL), 51)
    return True

# Clear the parent entry of an empty table. Context: the parent's lock and the table's.
# Afterwards nobody stores into the table: writers prove attachment under its lock.
cdef inline void pmd_clear_table(cpu *c, mm *m, uint64_t *pmdp, ptdesc *table) noexcept nogil:
    pmd_clear_table_for(c, m, pmdp, table, INTENT_ZAP)

# The same, for an oracle that tells scans from other callers. `intent`: of the cursor.
cdef inline void pmd_clear_table_for(cpu *c, mm *m, uint64_t *pmdp, ptdesc *table, uint32_t intent) noexcept nogil:
    # [PT-010] pairs with: the grace periods. A full barrier between the unlink and the flush.
    xchg(pmdp, 0)
    table_check_unlinked(c, m, table, 50 if intent == INTENT_SCAN else 4)
    table_unlinked(c, m, table)
    count(c, C_TABLES_RECLAIMED)
