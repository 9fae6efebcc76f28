# Protection `covering`: a toy. The pml of a pmd_table covers all pte_tables below it; no ptl is taken.
#
# It exists to keep the cursor honest: a policy whose lock belongs to no single table and stays held
# from one table to the next. mmap_lock for reading keeps VMAs and upper tables stable.
# Guarantee: whoever holds the pml of D owns every entry of every pte_table of D.
# Registered in cy/protect/registry.pxd. Not modelled: locking at the lowest covering node, sub-tree
# locks and stray marks (CortenMM).
from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE, yield_point
from cy.base.cpu cimport cpu
from cy.base.geometry cimport PMD_LEVEL, PTE_LEVEL, geo_addr_end
from cy.core.populate cimport pmd_alloc, pte_alloc
from cy.core.table_empty cimport pmd_clear_table_for, table_empty_out
from cy.mm.cursor cimport cursor_set_table
from cy.mm.map cimport attached_by_pte, attached_by_table, entry_offset, pmd_offset_next, pte_index
from cy.mm.table cimport table_check_live, table_of
from cy.mm.types cimport DETACH_TRY, HELD_COVER, cursor, mm, protect_ops, ptdesc
from cy.protect.mmap_lock cimport mmap_lock_begin, mmap_lock_end, mmap_lock_next_vma
from cy.sync.lockclass cimport LOCK_PML, might_sleep
from cy.sync.spinlock cimport spin_lock, spin_unlock

# Own `pmd_table`, and nothing else.
cdef inline void _cover(cursor *cur, ptdesc *pmd_table) noexcept nogil:
    if cur.held & HELD_COVER:
        if cur.pmd_table == pmd_table:
            return
        _uncover(cur)
    spin_lock(cur.cpu, &pmd_table.lock, LOCK_PML)
    cur.pmd_table = pmd_table
    cur.held |= HELD_COVER

cdef inline void _uncover(cursor *cur) noexcept nogil:
    if cur.held & HELD_COVER:
        spin_unlock(cur.cpu, &cur.pmd_table.lock)
        cur.held &= ~<uint32_t>HELD_COVER
    cur.table = NULL

cdef inline int covering_next(cursor *cur) noexcept nogil:
    cdef ptdesc *pmd_table
    cdef ptdesc *table
    cdef uint64_t *pmdp
    while cur.addr < cur.end:
        pmdp = pmd_offset_next(cur.cpu, cur.mm, &cur.addr, cur.end, &pmd_table)
        if pmdp == NULL:
            return 0
        _cover(cur, pmd_table)
        table = table_of(cur.cpu, cur.mm, READ_ONCE(pmdp))
        if table != NULL:
            cursor_set_table(cur, table, pmdp, READ_ONCE(pmdp), pmd_table, HELD_COVER)
            return 1
        cur.addr = geo_addr_end(&cur.mm.geo, PTE_LEVEL, cur.addr, cur.end)
    return 0

cdef inline int covering_lock(cursor *cur, uint64_t expect) noexcept nogil:
    cdef ptdesc *pmd_table
    cdef ptdesc *table
    cdef uint32_t missing
    cdef uint64_t *pmdp = entry_offset(cur.cpu, cur.mm, cur.addr, PMD_LEVEL, &pmd_table, &missing)
    if pmdp == NULL:
        return 0
    _cover(cur, pmd_table)
    table = table_of(cur.cpu, cur.mm, READ_ONCE(pmdp))
    if table == NULL or (expect != 0 and not attached_by_pte(cur.cpu, pte_index(cur.mm, table, cur.addr), expect)):
        _uncover(cur)
        return 0
    cursor_set_table(cur, table, pmdp, READ_ONCE(pmdp), pmd_table, HELD_COVER)
    return 1

# mmap_lock has kept the pmd_table, and so the cover, where it was.
cdef inline int covering_relock(cursor *cur, ptdesc *table) noexcept nogil:
    _cover(cur, cur.pmd_table)
    table_check_live(cur.cpu, cur.mm, table, cur.pmdval)
    if not attached_by_table(cur.cpu, cur.mm, table):
        _uncover(cur)
        return 0
    cursor_set_table(cur, table, cur.pmdp, cur.pmdval, cur.pmd_table, HELD_COVER)
    return 1

cdef inline int covering_install(cursor *cur) noexcept nogil:
    cdef ptdesc *pmd_table
    cdef uint64_t *pmdp
    _uncover(cur)
    pmdp = pmd_alloc(cur.cpu, cur.mm, cur.addr, &pmd_table)
    if pmdp == NULL:
        return -ENOMEM
    return pte_alloc(cur.cpu, cur.mm, pmdp, pmd_table, cur.addr)

# The cover makes both modes one: it is taken if it was dropped, and then the table is looked at.
cdef inline int covering_detach(cursor *cur, uint32_t mode) noexcept nogil:
    cdef ptdesc *table
    _cover(cur, cur.pmd_table)
    table = table_of(cur.cpu, cur.mm, READ_ONCE(cur.pmdp))
    if table == NULL or (mode != DETACH_TRY and not table_empty_out(cur.cpu, cur.mm, table, mode)):
        return 0
    pmd_clear_table_for(cur.cpu, cur.mm, cur.pmdp, table, cur.intent)
    cur.detached = table
    return 1

cdef inline void covering_sleep(cursor *cur) noexcept nogil:
    _uncover(cur)
    might_sleep(cur.cpu)
    yield_point()

cdef inline void covering_end(cursor *cur) noexcept nogil:
    _uncover(cur)
    mmap_lock_end(cur)

cdef inline void protect_covering(protect_ops *ops) noexcept nogil:
    ops.begin = mmap_lock_begin
    ops.next_vma = mmap_lock_next_vma
    ops.next = covering_next
    ops.lock = covering_lock
    ops.relock = covering_relock
    ops.install = covering_install
    ops.detach = covering_detach
    ops.sleep = covering_sleep
    ops.end = covering_end
