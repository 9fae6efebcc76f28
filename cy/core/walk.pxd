# Page-table walks: the tables of a range one after the other, each under its lock, and what `walk` reports of them.
#
# Guarantee (I46): a page that was present during the whole walk is reported, one that was absent during
# the whole walk is not. Source: mm/pagewalk.c (PGWALK_RDLOCK), fs/proc/task_mmu.c.
from libc.stdint cimport uint64_t
from cy.base.cpu cimport delay_point
from cy.base.entry cimport pte_present
from cy.base.geometry cimport PAGE_SHIFT
from cy.mm.cursor cimport cursor_unlock
from cy.mm.map cimport ptep_get
from cy.mm.types cimport cursor, vma
from cy.mm.vma cimport find_vma, vm_end, vm_start

# What to do with the entries of [cur.addr, cur.table_end). Context: their table is locked; moves nothing of the cursor.
ctypedef void (*table_visit)(cursor *cur, void *ctx) noexcept nogil

# What walk_page_range collects.
cdef struct walk_report:
    uint64_t first          # page
    uint64_t *bits
    uint64_t nr_bits
    uint64_t present

# Visit the tables of [start, end). Context: between begin and end of the cursor, mmap_lock held for reading. Only VMAs
# are entered: what lies between them may be under teardown by a munmap that has downgraded its lock.
cdef inline void walk_tables(cursor *cur, uint64_t start, uint64_t end, table_visit visit, void *ctx) noexcept nogil:
    cdef vma *v = cur.vma
    while v != NULL and vm_start(v) < end:
        cur.vma = v
        cur.addr = vm_start(v) if vm_start(v) > start else start
        cur.end = vm_end(v) if vm_end(v) < end else end
        while cur.ops.next(cur):
            visit(cur, ctx)
            cur.addr = cur.table_end
            cursor_unlock(cur)
            delay_point(cur.cpu)
        v = find_vma(cur.mm, vm_end(v))

# Sets bit i of `bits` if page first + i is present, for i < nr_bits; returns how many pages are present.
# Context: walk_tables.
cdef inline uint64_t walk_page_range(cursor *cur, uint64_t start, uint64_t end, uint64_t *bits, uint64_t nr_bits) noexcept nogil:
    cdef walk_report r
    r.first = start >> PAGE_SHIFT
    r.bits = bits
    r.nr_bits = nr_bits
    r.present = 0
    walk_tables(cur, start, end, _report_table, &r)
    return r.present

cdef inline void _report_table(cursor *cur, void *ctx) noexcept nogil:
    cdef walk_report *r = <walk_report *>ctx
    cdef uint64_t addr = cur.addr, bit
    cdef uint64_t *ptep = cur.ptep
    while addr != cur.table_end:
        if pte_present(ptep_get(cur.cpu, cur.mm, cur.table, ptep)):
            r.present += 1
            bit = (addr >> PAGE_SHIFT) - r.first
            if bit < r.nr_bits:
                r.bits[bit >> 6] |= <uint64_t>1 << (bit & 63)
        ptep += 1
        addr += <uint64_t>1 << PAGE_SHIFT
