# The page fault: handle_mm_fault and what it may do to one entry.
#
# Guarantee: returns FAULT_RETRY (0) or an error. 0 never means "mapped": it means that something was
# done or has changed, and the access is executed again.
# Source: mm/memory.c handle_pte_fault, do_anonymous_page, do_wp_page, wp_page_reuse, vmf_anon_prepare.
# Not modelled: file and swap entries, userfaultfd, THP, cgroup charge.
from libc.errno cimport EFAULT, ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport (
    READ_ONCE32, WRITE_ONCE32, cmpxchg, peek32, smp_store_release, xchg)
from cy.base.bugs cimport (
    BUG, BUG_M01_GUARD, BUG_M02_ANON_VMA, BUG_M05_MMAP_READ, BUG_M10_WP, BUG_MX_FRAME_LEAK, BUG_MX_FREED_TWICE,
    BUG_MX_ZERO_WRITABLE)
from cy.base.build cimport PT_CHECKS, unlikely
from cy.base.cpu cimport count, cpu, delay_point
from cy.base.entry cimport (
    PT_ACCESSED, PT_DIRTY, PT_PRESENT, PT_RW, PT_SPECIAL, PT_USER, is_guard_pte_marker, mk_pte, pte_none, pte_pfn,
    pte_present, pte_special, pte_write)
from cy.base.geometry cimport PAGE_SHIFT
from cy.base.shm cimport C_FAULTS, C_GUARD_FAULTS, C_RECHECK_LOST, C_WP_LOST
from cy.core.scan cimport zero_mapped
from cy.mm.cursor cimport cursor_begin, cursor_end, cursor_peek, cursor_unlock
from cy.mm.deferred cimport frame_free
from cy.mm.frame cimport frame_alloc
from cy.mm.map cimport ptep_get
from cy.mm.rss cimport mm_add_rss
from cy.mm.tlb cimport check_no_zero_page, flush_tlb_range
from cy.mm.types cimport ARENA_NONE, HELD_MMAP, INTENT_FAULT, cursor, mm, vma
from cy.mm.vma cimport find_mergeable_anon_vma, mmap_assert_locked, vma_lookup
from cy.mm.vma_lock cimport mmap_read_lock, mmap_read_trylock, mmap_read_unlock
from cy.sync.lockclass cimport LOCK_PGL
from cy.sync.spinlock cimport spin_lock, spin_unlock

cdef enum:
    FAULT_RETRY = 0
    FAULT_NEEDS_MMAP_LOCK = 1

cdef extern from *:
    """
    #define PT_ZERO_PTE (PT_PRESENT | PT_USER | PT_ACCESSED | PT_SPECIAL)
    #define PT_ANON_PTE (PT_PRESENT | PT_USER | PT_ACCESSED | PT_DIRTY | PT_RW)
    """
    uint64_t PT_ZERO_PTE
    uint64_t PT_ANON_PTE

# Context: no lock held; may sleep. 0: execute the access again; -EFAULT, also for a guard marker; -ENOMEM.
cdef inline int handle_mm_fault(cpu *c, mm *m, uint64_t addr, bint write) noexcept nogil:
    cdef cursor cur
    cdef int rc
    count(c, C_FAULTS)
    addr &= ~(((<uint64_t>1) << PAGE_SHIFT) - 1)
    rc = cursor_begin(&cur, c, m, addr, addr + ((<uint64_t>1) << PAGE_SHIFT), INTENT_FAULT)
    if rc != 0:
        return rc
    rc = _handle_pte_fault(&cur, write)
    cursor_end(&cur)
    if rc == FAULT_NEEDS_MMAP_LOCK:
        return _anon_vma_slow(c, m, addr)
    return rc

cdef inline int _handle_pte_fault(cursor *cur, bint write) noexcept nogil:
    cdef uint64_t pte = 0
    if write and not cur.vma_writable:
        return -EFAULT
    if not cursor_peek(cur, &pte):
        if cur.ops.install(cur) != 0:
            return -ENOMEM
        pte = 0
    delay_point(cur.cpu)
    if pte_none(pte):
        return do_anonymous_page(cur, write)
    if is_guard_pte_marker(pte):        # handle_pte_marker: without a lock, it was one at some instant of the access
        count(cur.cpu, C_GUARD_FAULTS)
        return -EFAULT
    if write and pte_special(pte):
        return do_wp_page(cur, pte)
    return _set_access_flags(cur, pte, write)

# Bring the page at cur.addr in, for reading or for writing. Context: between begin and end of the cursor, whose VMA
# allows it; begun for a walk; no table locked. Returns 0 when the page was present, and writable if `write`, at some
# instant, or when the VMA turned out to have changed (vma_stale); -EFAULT for a guard marker; or -ENOMEM.
cdef inline int faultin_page(cursor *cur, bint write) noexcept nogil:
    cdef int rc = 0
    while rc == FAULT_RETRY and not cur.vma_stale:
        if _follow_page(cur, write):
            return 0
        cur.ops.sleep(cur)          # a policy that holds on to tables must let go before a fault
        rc = _handle_pte_fault(cur, write)
    return rc

# Is the page there in the way that is wanted? A frame that is found so for writing counts as written, although its content
# stays (FOLL_TOUCH): memory pressure keeps it. Context: faultin_page. Source: mm/gup.c follow_page_pte.
cdef inline bint _follow_page(cursor *cur, bint write) noexcept nogil:
    cdef uint64_t pte
    cdef bint found
    if not cur.ops.lock(cur, 0):
        return False
    pte = ptep_get(cur.cpu, cur.mm, cur.table, cur.ptep)
    found = pte_present(pte) and (pte_write(pte) or not write)
    if found and write and not pte & PT_DIRTY:
        WRITE_ONCE32(&cur.mm.pages[pte_pfn(pte)].dirty, 1)      # set_page_dirty: D in the entry knows nothing of it
    cursor_unlock(cur)
    return found

# Fill a hole. The table exists or did exist a moment ago.
cdef inline int do_anonymous_page(cursor *cur, bint write) noexcept nogil:
    cdef uint32_t pfn = 0
    cdef uint64_t pte = PT_ZERO_PTE, now
    cdef int rc
    if write:
        rc = vmf_anon_prepare(cur)
        if rc != 0:
            return rc
        pfn = frame_alloc(cur.cpu, cur.mm, cur.addr)
        if pfn == ARENA_NONE:
            return -ENOMEM
        pte = mk_pte(pfn, PT_ANON_PTE)
    elif BUG(cur.mm.bugs, BUG_MX_ZERO_WRITABLE) and cur.vma_writable:
        pte |= PT_RW
    delay_point(cur.cpu)
    if cur.ops.lock(cur, 0):
        now = ptep_get(cur.cpu, cur.mm, cur.table, cur.ptep)
        if pte_none(now) or (BUG(cur.mm.bugs, BUG_M01_GUARD) and not pte_present(now)):
            if write:
                mm_add_rss(cur.cpu, cur.mm, 1)
                _set_anon(cur, pfn)
            # [PT-009] pairs with: the hardware walk. The frame's contents come before the entry.
            smp_store_release(cur.ptep, pte)
            cursor_unlock(cur)
            if not write:
                zero_mapped(cur.cpu, cur.mm, cur.vma)
            return FAULT_RETRY
        count(cur.cpu, C_RECHECK_LOST)
        cursor_unlock(cur)
    if write and not BUG(cur.mm.bugs, BUG_MX_FRAME_LEAK):
        frame_free(cur.cpu, cur.mm, pfn)
    if write and BUG(cur.mm.bugs, BUG_MX_FREED_TWICE):
        frame_free(cur.cpu, cur.mm, pfn)
    return FAULT_RETRY

# Write to the zero page: replace it by a fresh frame. No lock is held while the frame is allocated,
# so the entry is checked against `orig` again. It is cleared and flushed before the new one is stored:
# never two different translations of one page in two TLBs. The entry seen before proves attachment;
# the kernel proves it by the pmd and compares the entry besides.
cdef inline int do_wp_page(cursor *cur, uint64_t orig) noexcept nogil:
    cdef uint64_t page_bytes = <uint64_t>1 << PAGE_SHIFT
    cdef uint32_t pfn
    cdef int rc = vmf_anon_prepare(cur)
    if rc != 0:
        return rc
    pfn = frame_alloc(cur.cpu, cur.mm, cur.addr)
    if pfn == ARENA_NONE:
        return -ENOMEM
    delay_point(cur.cpu)
    if not cur.ops.lock(cur, orig):
        count(cur.cpu, C_WP_LOST)
        frame_free(cur.cpu, cur.mm, pfn)
        return FAULT_RETRY
    xchg(cur.ptep, 0)                           # [PT-021] pairs with: the flush that follows.
    if not BUG(cur.mm.bugs, BUG_M10_WP):
        flush_tlb_range(cur.cpu, cur.mm, cur.addr, cur.addr + page_bytes, False)
    if PT_CHECKS:
        check_no_zero_page(cur.cpu, cur.mm, cur.addr, cur.addr + page_bytes, 42)
    mm_add_rss(cur.cpu, cur.mm, 1)
    _set_anon(cur, pfn)
    smp_store_release(cur.ptep, mk_pte(pfn, PT_ANON_PTE))       # [PT-009] pairs with: the hardware walk.
    if BUG(cur.mm.bugs, BUG_M10_WP):
        flush_tlb_range(cur.cpu, cur.mm, cur.addr, cur.addr + page_bytes, False)
    cursor_unlock(cur)
    return FAULT_RETRY

# Note what the frame of a new entry belongs to, for an oracle: the reverse map finds it by that (I57). It is what
# vmf_anon_prepare found. Where VMAs are not locked (mm.lockless) cur.vma may have become another VMA since lock proved that it
# was current, if that is mapped elsewhere; the entry is then in a part of the old one, which has the same anon_vma.
# Context: its ptl. Source: mm/rmap.c folio_add_new_anon_rmap.
cdef inline void _set_anon(cursor *cur, uint32_t pfn) noexcept nogil:
    if PT_CHECKS:
        cur.mm.pages[pfn].anon_vma = cur.anon_vma

# The entry stays: someone else was faster, hardware needs A or D set for it, or mprotect took the write bit from a
# frame that belongs to this mm alone, which is then written where it is (wp_page_reuse). Nothing is flushed: a
# TLB that allows less faults, and walks again.
cdef inline int _set_access_flags(cursor *cur, uint64_t pte, bint write) noexcept nogil:
    if cur.ops.lock(cur, pte):
        # By exchange: a store would lose the bit that hardware sets at this moment.
        cmpxchg(cur.ptep, pte, pte | PT_ACCESSED | (PT_DIRTY | PT_RW if write else 0))
        cursor_unlock(cur)
    return FAULT_RETRY

# A VMA needs an anon_vma before its first anonymous page. Under the VMA lock alone neighbours are
# not stable, and waiting for mmap_lock there would deadlock with a writer that waits for this VMA.
# Sets cur.anon_vma. Context: before the table is locked, so that the lock proves that it is of this VMA.
cdef inline int vmf_anon_prepare(cursor *cur) noexcept nogil:
    cdef int rc = 0
    cur.anon_vma = READ_ONCE32(&cur.vma.anon_vma)
    if unlikely(cur.anon_vma == 0):
        rc = _anon_vma_missing(cur)
        if PT_CHECKS:
            cur.anon_vma = peek32(&cur.vma.anon_vma)
    return rc

cdef inline int _anon_vma_missing(cursor *cur) noexcept nogil:
    if cur.ops.anon_vma_prepare != NULL and not BUG(cur.mm.bugs, BUG_M05_MMAP_READ):
        cur.ops.anon_vma_prepare(cur)
        return 0
    if cur.held & HELD_MMAP:
        _anon_vma_prepare(cur.cpu, cur.mm, cur.vma)
        return 0
    if not mmap_read_trylock(cur.cpu, cur.mm):
        return FAULT_NEEDS_MMAP_LOCK
    _anon_vma_prepare(cur.cpu, cur.mm, cur.vma)
    mmap_read_unlock(cur.cpu, cur.mm)
    return 0

# Context: mmap_lock for reading. The page_table_lock decides between two faults.
cdef inline void _anon_vma_prepare(cpu *c, mm *m, vma *v) noexcept nogil:
    cdef uint32_t id
    mmap_assert_locked(c, m)
    id = find_mergeable_anon_vma(m, v)
    if not BUG(m.bugs, BUG_M02_ANON_VMA):
        spin_lock(c, &m.page_table_lock, LOCK_PGL)
    anon_vma_assign(m, v, id)
    if not BUG(m.bugs, BUG_M02_ANON_VMA):
        spin_unlock(c, &m.page_table_lock)

# Give `v` the anon_vma `id`, 0: a new one, if it has none yet. Context: page_table_lock; `v` is what it was taken for.
cdef inline void anon_vma_assign(mm *m, vma *v, uint32_t id) noexcept nogil:
    if READ_ONCE32(&v.anon_vma) == 0:
        if id == 0:
            m.next_anon_vma += 1
            id = m.next_anon_vma
        WRITE_ONCE32(&v.anon_vma, id)

# The same with mmap_lock; the access is then executed again. Context: no lock held.
cdef inline int _anon_vma_slow(cpu *c, mm *m, uint64_t addr) noexcept nogil:
    cdef vma *v
    mmap_read_lock(c, m)
    v = vma_lookup(c, m, addr)
    if v != NULL and READ_ONCE32(&v.writable):
        _anon_vma_prepare(c, m, v)
    mmap_read_unlock(c, m)
    return FAULT_RETRY
