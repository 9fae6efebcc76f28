# Teardown: free the tables of an unmapped range, all levels.
#
# Context: mmap_lock; the VMAs of the range are detached and zapped, so nothing is populated there and no lock is needed (I15).
# Where nobody locks VMAs (mm.lockless) that is found out late: tables may still come, and each goes under its locks. One
# that is not empty then is left to who has installed into it. A table goes if no other VMA overlaps its
# span: the span must lie within [floor, ceiling), the ends of the neighbours. Entries are cleared bottom-up.
# Source: mm/memory.c free_pgd_range.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE, xchg
from cy.base.bugs cimport BUG, BUG_M02_TEARDOWN
from cy.base.cpu cimport cpu
from cy.base.entry cimport pmd_none
from cy.base.geometry cimport PTE_LEVEL, geo_addr_end, geo_table_span
from cy.core.unlink cimport table_free_tlb, unlink_empty_table
from cy.mm.gather cimport mmu_gather
from cy.mm.map cimport entry_offset
from cy.mm.offset_map cimport entry_get, entry_offset_map_next, entry_unmap, mapped_entry
from cy.mm.table cimport table_check_unlinked, table_of, table_unlinked
from cy.mm.types cimport DETACH_SCAN, mm, ptdesc

# `ceiling` 0: no VMA behind the range.
cdef inline void free_pgtables(mmu_gather *tlb, uint64_t start, uint64_t end, uint64_t floor, uint64_t ceiling) noexcept nogil:
    cdef uint32_t level
    for level in range(PTE_LEVEL, tlb.mm.geo.levels - 1):
        if tlb.mm.lockless and not BUG(tlb.mm.bugs, BUG_M02_TEARDOWN):
            _free_level_locked(tlb, level, start, end, floor, ceiling)
        else:
            _free_level(tlb, level, start, end, floor, ceiling)

# Free the tables of one level that overlap [start, end) and lie within [floor, ceiling).
cdef inline void _free_level(mmu_gather *tlb, uint32_t level, uint64_t start, uint64_t end,
                             uint64_t floor, uint64_t ceiling) noexcept nogil:
    cdef mm *m = tlb.mm
    cdef cpu *c = tlb.cpu
    cdef uint64_t span = geo_table_span(&m.geo, level)
    cdef uint64_t addr = start & ~(span - 1)
    cdef uint64_t *entryp
    cdef ptdesc *parent
    cdef ptdesc *table
    cdef uint32_t missing = 0
    while addr < end:
        entryp = entry_offset(c, m, addr, level + 1, &parent, &missing)
        if entryp == NULL:
            addr = geo_addr_end(&m.geo, missing - 1, addr, end)
            continue
        if _within(addr, addr + span, floor, ceiling) and not pmd_none(READ_ONCE(entryp)):
            table = table_of(c, m, READ_ONCE(entryp))
            if table != NULL:
                xchg(entryp, 0)                 # [PT-010] pairs with: the grace periods.
                table_check_unlinked(c, m, table, 15)
                table_unlinked(c, m, table)
                table_free_tlb(tlb, table, level, addr)
        addr += span

cdef inline void _free_level_locked(mmu_gather *tlb, uint32_t level, uint64_t start, uint64_t end,
                                    uint64_t floor, uint64_t ceiling) noexcept nogil:
    cdef mm *m = tlb.mm
    cdef cpu *c = tlb.cpu
    cdef uint64_t span = geo_table_span(&m.geo, level)
    cdef uint64_t addr = start & ~(span - 1)
    cdef mapped_entry at
    cdef ptdesc *table
    cdef bint none
    while entry_offset_map_next(c, m, &addr, end, level + 1, &at) != NULL:
        none = pmd_none(entry_get(c, &at))
        entry_unmap(c, m)
        table = NULL
        if _within(addr, addr + span, floor, ceiling) and not none:
            table = unlink_empty_table(c, m, addr, level, DETACH_SCAN)
        if table != NULL:
            table_free_tlb(tlb, table, level, addr)
        addr += span

cdef inline bint _within(uint64_t start, uint64_t end, uint64_t floor, uint64_t ceiling) noexcept nogil:
    return start >= floor and (ceiling == 0 or end <= ceiling)
