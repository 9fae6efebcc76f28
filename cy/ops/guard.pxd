# `guard_install`, `guard_remove`: madvise(MADV_GUARD_INSTALL, MADV_GUARD_REMOVE): pages that fail every touch, without a VMA of
# their own.
#
# A guard marker is an entry that is neither none nor present. What a page held when it gets one is gone; DONTNEED and FREE leave
# markers where they are, and with them their tables; munmap, mmap and exit drop them.
# Guarantee: no touch that began after guard_install returned succeeds until a guard_remove or the end of the mapping.
# Source: mm/madvise.c madvise_guard_install, madvise_guard_remove, mm/pagewalk.c (install_pte).
# Stricter than 6.18: one gather covers all of guard_install, and deferred flushes are drained. A page that a concurrent
# DONTNEED or memory pressure has cleared and not flushed yet is none to the kernel, which then returns while other
# cpus still read the page through their TLBs.
# Not modelled: giving up after MAX_MADVISE_GUARD_RETRIES, when the kernel drops mmap_lock and restarts the system call; file
# mappings, huge entries.
from libc.errno cimport ENOMEM
from libc.stdint cimport uint64_t
from cy.base.atomics cimport WRITE_ONCE
from cy.base.bugs cimport BUG, BUG_P08
from cy.base.cpu cimport count, cpu, delay_point
from cy.base.entry cimport PT_GUARD, is_guard_pte_marker, pte_none
from cy.base.geometry cimport PAGE_SHIFT
from cy.base.shm cimport C_GUARD_ZAPS
from cy.core.fault cimport vmf_anon_prepare
from cy.core.madvise cimport madvise_pages, madvise_pages_lightly
from cy.core.scan cimport left_behind
from cy.core.zap cimport zap_page_range
from cy.mm.batch cimport flush_tlb_batched_pending
from cy.mm.cursor cimport cursor_unlock
from cy.mm.gather cimport mmu_gather
from cy.mm.map cimport ptep_get
from cy.mm.types cimport HELD_COVER, HELD_TABLE, INTENT_WALK, cursor, mm
from cy.sync.lockclass cimport LOCK_PGL
from cy.sync.spinlock cimport spin_lock, spin_unlock

# Pages [first, last). Context and returns: madvise_pages; -ENOMEM also if there is no memory for a table: markers stored
# before that stay.
cdef inline int do_guard_install(cpu *c, mm *m, uint64_t first, uint64_t last) noexcept nogil:
    return madvise_pages(c, m, first, last, INTENT_WALK, _guard_install_vma)

# Pages [first, last): markers become none. Nothing else is touched, and no table goes. Context and returns: madvise_pages.
cdef inline int do_guard_remove(cpu *c, mm *m, uint64_t first, uint64_t last) noexcept nogil:
    return madvise_pages_lightly(c, m, first, last, _guard_remove_vma)

cdef inline int _guard_install_vma(cursor *cur, mmu_gather *tlb, uint64_t start, uint64_t end) noexcept nogil:
    cdef int rc
    cur.ops.sleep(cur)              # a policy that holds on to tables must let go
    rc = vmf_anon_prepare(cur)      # the range is no longer empty: a fork has to copy it
    while rc == 0:
        rc = _install_markers(cur, start, end)
        if rc == 0:
            return 0
        if rc < 0:
            break
        # Optimism did not pay. Markers that are there already stay.
        count(cur.cpu, C_GUARD_ZAPS)
        zap_page_range(cur, tlb, start, end, 0)
        rc = 0
    left_behind(cur.cpu, cur.mm, cur.vma)       # what was unmapped and got no markers
    return rc

# Returns 0, with cur.addr behind what was done; 1: met a page that is mapped, so that the range must be unmapped first; -ENOMEM.
cdef inline int _install_markers(cursor *cur, uint64_t start, uint64_t end) noexcept nogil:
    cdef bint clear = True
    cur.addr = start
    cur.end = end
    while clear and cur.addr < end:
        if not cur.ops.lock(cur, 0):
            if cur.vma_stale:
                return 0
            if cur.ops.install(cur) != 0:
                return -ENOMEM
            continue
        _lock_for_guards(cur)
        flush_tlb_batched_pending(cur.cpu, cur.mm)
        while clear and cur.addr != cur.table_end:
            clear = _guard_install_entry(cur)
            cur.ptep += 1
            cur.addr += <uint64_t>1 << PAGE_SHIFT
        delay_point(cur.cpu)
        _unlock_for_guards(cur)
    return 0 if clear else 1

# guard_install_set_pte, guard_install_pte_entry. Context: the table's lock. False: a page is mapped there.
cdef inline bint _guard_install_entry(cursor *cur) noexcept nogil:
    cdef uint64_t pte = ptep_get(cur.cpu, cur.mm, cur.table, cur.ptep)
    if pte_none(pte):
        if BUG(cur.mm.bugs, BUG_P08):
            delay_point(cur.cpu)
        WRITE_ONCE(cur.ptep, PT_GUARD)
        return True
    return is_guard_pte_marker(pte)

cdef inline int _guard_remove_vma(cursor *cur, mmu_gather *tlb, uint64_t start, uint64_t end) noexcept nogil:
    cur.addr = start
    cur.end = end
    while cur.ops.next(cur):
        _lock_for_guards(cur)
        while cur.addr != cur.table_end:
            if is_guard_pte_marker(ptep_get(cur.cpu, cur.mm, cur.table, cur.ptep)):
                WRITE_ONCE(cur.ptep, 0)      # no TLB has it
            cur.ptep += 1
            cur.addr += <uint64_t>1 << PAGE_SHIFT
        delay_point(cur.cpu)
        _unlock_for_guards(cur)
    left_behind(cur.cpu, cur.mm, cur.vma)
    return 0

# The cursor has the table's lock, and that is all there is to it.
cdef inline void _lock_for_guards(cursor *cur) noexcept nogil:
    if BUG(cur.mm.bugs, BUG_P08) and cur.held & HELD_TABLE:
        spin_unlock(cur.cpu, &cur.table.lock)
        cur.held &= ~<unsigned int>HELD_TABLE
        spin_lock(cur.cpu, &cur.mm.page_table_lock, LOCK_PGL)

cdef inline void _unlock_for_guards(cursor *cur) noexcept nogil:
    if BUG(cur.mm.bugs, BUG_P08) and not cur.held & (HELD_TABLE | HELD_COVER):
        spin_unlock(cur.cpu, &cur.mm.page_table_lock)
    cursor_unlock(cur)
