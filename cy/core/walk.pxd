# walk_page_range: visit every entry of a range under its table's lock and report what is present.
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

# Sets bit i of `bits` if page first + i is present, for i < nr_bits; returns how many pages are present.
# Context: between begin and end of the cursor, mmap_lock held for reading. Only VMAs are entered: what
# lies between them may be under teardown by a munmap that has downgraded its lock.
cdef inline uint64_t walk_page_range(cursor *cur, uint64_t start, uint64_t end, uint64_t *bits, uint64_t nr_bits) noexcept nogil:
    cdef uint64_t present = 0
    cdef vma *v = cur.vma
    while v != NULL and vm_start(v) < end:
        cur.vma = v
        cur.addr = vm_start(v) if vm_start(v) > start else start
        cur.end = vm_end(v) if vm_end(v) < end else end
        present += _walk_vma(cur, start >> PAGE_SHIFT, bits, nr_bits)
        v = find_vma(cur.mm, vm_end(v))
    return present

cdef inline uint64_t _walk_vma(cursor *cur, uint64_t first, uint64_t *bits, uint64_t nr_bits) noexcept nogil:
    cdef uint64_t present = 0, addr, bit
    cdef uint64_t *ptep
    while cur.ops.next(cur):
        addr = cur.addr
        ptep = cur.ptep
        while addr != cur.table_end:
            if pte_present(ptep_get(cur.cpu, cur.mm, cur.table, ptep)):
                present += 1
                bit = (addr >> PAGE_SHIFT) - first
                if bit < nr_bits:
                    bits[bit >> 6] |= <uint64_t>1 << (bit & 63)
            ptep += 1
            addr += <uint64_t>1 << PAGE_SHIFT
        cur.addr = addr
        cursor_unlock(cur)
        delay_point(cur.cpu)
    return present
