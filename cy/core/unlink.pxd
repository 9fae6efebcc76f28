# Unlinking a table of any level where only table locks are held: reclaim of upper tables, and teardown (mm.lockless).
#
# Invariant (I53): a table that is not empty is attached. So a table goes with the locks of its parent and its own held and
# all entries none, and whoever cleared the last entry of a table, or gave up on filling it, looks at it next.
# Source: nowhere yet: R3 to R6 of an mm without mmap_lock in its page tables.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE, xchg
from cy.base.bugs cimport BUG, BUG_M01_UPPER
from cy.base.cpu cimport count, cpu, delay_point
from cy.base.geometry cimport PTE_LEVEL, geo_table_span
from cy.base.shm cimport C_DETACH_NOT_EMPTY
from cy.core.table_empty cimport table_empty_out, table_looks_empty
from cy.mm.gather cimport mmu_gather, tlb_remove_table
from cy.mm.offset_map cimport (
    entry_offset_map_lock, entry_unmap_unlock, mapped_entry, table_lock, table_unlock)
from cy.mm.table cimport mm_dec_nr_tables, table_check_unlinked, table_of, table_unlinked
from cy.mm.types cimport DETACH_SCAN, mm, ptdesc

# Unlink the table of `level` that covers addr, if there is one and it is empty, as `mode` (DETACH_*) means it.
# Returns it, or NULL.
# Context: no table locked. Lock order: its parent, then the table.
cdef inline ptdesc *unlink_empty_table(cpu *c, mm *m, uint64_t addr, uint32_t level, uint32_t mode) noexcept nogil:
    cdef mapped_entry at
    cdef ptdesc *table
    cdef ptdesc *unlinked = NULL
    cdef bint looked
    if entry_offset_map_lock(c, m, addr, level + 1, &at) == NULL:
        return NULL
    table = table_of(c, m, READ_ONCE(at.entryp))
    if table != NULL:
        looked = BUG(m.bugs, BUG_M01_UPPER) and level != PTE_LEVEL and table_looks_empty(c, m, table, mode)
        delay_point(c)
        table_lock(c, m, table, level)
        if looked or table_empty_out(c, m, table, mode):
            # [PT-010] pairs with: the grace periods. A full barrier between the unlink and the flush.
            xchg(at.entryp, 0)
            table_check_unlinked(c, m, table, 4 if level == PTE_LEVEL else 53)
            table_unlinked(c, m, table)
            unlinked = table
        else:
            count(c, C_DETACH_NOT_EMPTY)
        table_unlock(c, m, table)
    entry_unmap_unlock(c, m, &at)
    return unlinked

# Queue an unlinked table of `level`, then lower the count. Context: nothing locked.
cdef inline void table_free_tlb(mmu_gather *tlb, ptdesc *table, uint32_t level, uint64_t addr) noexcept nogil:
    cdef uint64_t span = geo_table_span(&tlb.mm.geo, level)
    cdef uint64_t start = addr & ~(span - 1)
    tlb_remove_table(tlb, table, start, start + span)
    mm_dec_nr_tables(tlb.cpu, tlb.mm, level)

# Free what is empty of the tables that cover addr, bottom-up. Context: nothing locked.
cdef inline void free_empty_tables(mmu_gather *tlb, uint64_t addr) noexcept nogil:
    cdef uint32_t level
    cdef ptdesc *table
    for level in range(PTE_LEVEL, tlb.mm.geo.levels - 1):
        table = unlink_empty_table(tlb.cpu, tlb.mm, addr, level, DETACH_SCAN)
        if table != NULL:
            table_free_tlb(tlb, table, level, addr)
