# Page-table walks: the tables of a range one after the other, each under its lock, and what `walk` and `age` report of
# them.
#
# Guarantee (I46): a page that was present during the whole walk is reported, one that was absent during
# the whole walk is not. Source: mm/pagewalk.c (PGWALK_RDLOCK), fs/proc/task_mmu.c.
from libc.stdint cimport uint64_t
from cy.base.atomics cimport cmpxchg, plain_store
from cy.base.bugs cimport BUG, BUG_M11_AGE
from cy.base.cpu cimport delay_point
from cy.base.entry cimport PT_ACCESSED, pte_present
from cy.base.geometry cimport PAGE_SHIFT
from cy.mm.cursor cimport cursor_enter_vma, cursor_next_vma, cursor_unlock
from cy.mm.map cimport ptep_get
from cy.mm.types cimport cursor

# What to do with the entries of [cur.addr, cur.table_end). Context: their table is locked; moves nothing of the cursor.
ctypedef void (*table_visit)(cursor *cur, void *ctx) noexcept nogil

# What walk_page_range and age_page_range collect.
cdef struct walk_report:
    uint64_t first          # page
    uint64_t *bits
    uint64_t nr_bits
    uint64_t nr

# Visit the tables of [cur.addr, end). Context: the cursor has begun for it, nothing was done since. Only VMAs are
# entered: what lies between them may be under teardown by a munmap that has downgraded its lock.
cdef inline void walk_tables(cursor *cur, uint64_t end, table_visit visit, void *ctx) noexcept nogil:
    while cursor_enter_vma(cur, end):
        while cur.ops.next(cur):
            visit(cur, ctx)
            cur.addr = cur.table_end
            cursor_unlock(cur)
            delay_point(cur.cpu)
        cursor_next_vma(cur, end)

# Sets bit i of `bits` if page first + i is present, for i < nr_bits; returns how many pages are present.
# Context: walk_tables.
cdef inline uint64_t walk_page_range(cursor *cur, uint64_t start, uint64_t end, uint64_t *bits, uint64_t nr_bits) noexcept nogil:
    return _collect(cur, start, end, _report_table, bits, nr_bits)

# The same for pages that were accessed since the last call, as far as their entries tell; from now on they count as not
# accessed. Source: mm/vmscan.c walk_pte_range, mm/damon/vaddr.c.
cdef inline uint64_t age_page_range(cursor *cur, uint64_t start, uint64_t end, uint64_t *bits, uint64_t nr_bits) noexcept nogil:
    return _collect(cur, start, end, _age_table, bits, nr_bits)

cdef inline uint64_t _collect(cursor *cur, uint64_t start, uint64_t end, table_visit visit, uint64_t *bits,
                              uint64_t nr_bits) noexcept nogil:
    cdef walk_report r
    r.first = start >> PAGE_SHIFT
    r.bits = bits
    r.nr_bits = nr_bits
    r.nr = 0
    walk_tables(cur, end, visit, &r)
    return r.nr

cdef inline void _report_table(cursor *cur, void *ctx) noexcept nogil:
    cdef uint64_t addr = cur.addr
    cdef uint64_t *ptep = cur.ptep
    while addr != cur.table_end:
        if pte_present(ptep_get(cur.cpu, cur.mm, cur.table, ptep)):
            _report(<walk_report *>ctx, addr)
        ptep += 1
        addr += <uint64_t>1 << PAGE_SHIFT

cdef inline void _age_table(cursor *cur, void *ctx) noexcept nogil:
    cdef uint64_t addr = cur.addr
    cdef uint64_t *ptep = cur.ptep
    while addr != cur.table_end:
        if _test_and_clear_young(cur, ptep):
            _report(<walk_report *>ctx, addr)
        ptep += 1
        addr += <uint64_t>1 << PAGE_SHIFT

cdef inline void _report(walk_report *r, uint64_t addr) noexcept nogil:
    cdef uint64_t bit = (addr >> PAGE_SHIFT) - r.first
    r.nr += 1
    if bit < r.nr_bits:
        r.bits[bit >> 6] |= <uint64_t>1 << (bit & 63)

# ptep_test_and_clear_young. Context: the table's lock. By exchange: hardware may set D at this moment.
cdef inline bint _test_and_clear_young(cursor *cur, uint64_t *ptep) noexcept nogil:
    cdef uint64_t pte = ptep_get(cur.cpu, cur.mm, cur.table, ptep), seen
    while pte_present(pte) and pte & PT_ACCESSED:
        if BUG(cur.mm.bugs, BUG_M11_AGE):
            delay_point(cur.cpu)
            plain_store(ptep, pte & ~PT_ACCESSED)
            return True
        seen = cmpxchg(ptep, pte, pte & ~PT_ACCESSED)
        if seen == pte:
            return True
        pte = seen
    return False
