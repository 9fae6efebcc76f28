# What madvise() does for its advices: the VMAs of the range one after the other, one gather for all that unmap or flush.
#
# Locks: the policy's. INTENT_ZAP: one VMA's lock if the range lies in one VMA (6.17 and later), else mmap_lock;
# INTENT_WALK: mmap_lock for reading.
# With drop_lock_before_flush a VMA lock goes before tlb_finish_mmu, as in 6.18; tlb_flush_pending makes concurrent
# gathers flush everything meanwhile.
# Source: mm/madvise.c do_madvise, madvise_walk_vmas.
# Not modelled: process_madvise, locked and PFN mappings, userfaultfd events.
from libc.errno cimport EINVAL, ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from cy.base.bugs cimport BUG, BUG_MX_MADVISE_RELOCK
from cy.base.cpu cimport cpu
from cy.base.geometry cimport PAGE_SHIFT
from cy.mm.cursor cimport cursor_begin, cursor_end, cursor_enter_vma, cursor_next_vma
from cy.mm.gather cimport mmu_gather, tlb_finish_mmu, tlb_gather_mmu
from cy.mm.types cimport HELD_VMA, INTENT_WALK, cursor, mm

# What to do with [start, end), which lies in cur.vma. Context: between begin and end of the cursor, no table locked. Returns 0,
# or a negative errno, which ends the operation. Leaves cur.addr behind what was done: at `end`, unless the VMA has changed.
ctypedef int (*madvise_behavior)(cursor *cur, mmu_gather *tlb, uint64_t start, uint64_t end) noexcept nogil

# Pages [first, last). Context: no lock; may sleep.
# Returns 0; -ENOMEM if a part has no VMA (the rest is done all the same); -EINVAL for a bad range; what `behavior` returned.
cdef inline int madvise_pages(cpu *c, mm *m, uint64_t first, uint64_t last, uint32_t intent,
                              madvise_behavior behavior) noexcept nogil:
    cdef uint64_t start = first << PAGE_SHIFT, end = last << PAGE_SHIFT
    cdef cursor cur
    cdef mmu_gather tlb
    cdef int rc
    if first > last or last > m.end_page:
        return -EINVAL
    if first == last:
        return 0
    cursor_begin(&cur, c, m, start, end, intent)
    tlb_gather_mmu(&tlb, c, m)
    rc = _madvise_walk_vmas(&cur, &tlb, end, behavior)
    if m.drop_lock_before_flush and cur.held & HELD_VMA:
        cursor_end(&cur)
        tlb_finish_mmu(&tlb)
    else:
        tlb_finish_mmu(&tlb)
        cursor_end(&cur)
    return rc

# The same for what unmaps nothing and so needs no gather, under mmap_lock for reading; `behavior` gets NULL for it.
cdef inline int madvise_pages_lightly(cpu *c, mm *m, uint64_t first, uint64_t last, madvise_behavior behavior) noexcept nogil:
    cdef cursor cur
    cdef int rc
    if first > last or last > m.end_page:
        return -EINVAL
    if first == last:
        return 0
    cursor_begin(&cur, c, m, first << PAGE_SHIFT, last << PAGE_SHIFT, INTENT_WALK)
    rc = _madvise_walk_vmas(&cur, NULL, last << PAGE_SHIFT, behavior)
    cursor_end(&cur)
    return rc

cdef inline int _madvise_walk_vmas(cursor *cur, mmu_gather *tlb, uint64_t end, madvise_behavior behavior) noexcept nogil:
    cdef uint64_t at = cur.addr
    cdef int rc = 0, err
    while cursor_enter_vma(cur, end):
        if cur.addr != at:
            rc = -ENOMEM
        err = behavior(cur, tlb, cur.addr, cur.end)
        if err != 0:
            return err
        at = cur.addr
        if BUG(cur.mm.bugs, BUG_MX_MADVISE_RELOCK) and at < end:
            cursor_end(cur)
            cursor_begin(cur, cur.cpu, cur.mm, at, end, cur.intent)
        else:
            cursor_next_vma(cur, end)        # only under mmap_lock, if at all: a VMA lock covers the whole range
    return rc if at == end else -ENOMEM
