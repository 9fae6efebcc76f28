# `exit`: the owner of an mm leaves, and the mm is torn down and born again, empty.
#
# Whoever drops the last reference, the exit or an operation that was in the mm, runs exit_mmap: unmap everything under
# mmap_lock for reading, then free the tables of all levels with mmap_lock for writing, as the kernel does; no
# user is left, but a reader by RCU alone may still look. The new life has a pgd of its own; the old one goes the way
# of all tables.
# Source: mm/mmap.c exit_mmap, kernel/fork.c __mmput, check_mm. Not modelled: the OOM reaper, which is why the kernel
# unmaps under mmap_lock for reading; tlb_gather_mmu_fullmm.
from libc.errno cimport ESRCH
from libc.stdint cimport uint32_t, uint64_t
from cy.base.bugs cimport BUG, BUG_M07_EXIT
from cy.base.build cimport PT_CHECKS
from cy.base.clock cimport sched_yield
from cy.base.cpu cimport count, cpu, delay_point, pt_report
from cy.base.geometry cimport PAGE_SHIFT
from cy.base.shm cimport C_EXIT_BY_OTHER, ORACLE_COUNTERS
from cy.core.free_pgtables cimport free_pgtables
from cy.core.zap cimport ZAP_DROP_MARKERS, zap_page_range
from cy.mm.cursor cimport cursor_begin, cursor_end
from cy.mm.deferred cimport deferred_barrier_tables
from cy.mm.gather cimport mmu_gather, tlb_finish_mmu, tlb_gather_mmu
from cy.mm.mm_list cimport mm_list_del
from cy.mm.mm_users cimport mm_init, mm_reborn, mm_start_exit, mm_was_reborn, mmput_last
from cy.mm.rss cimport mm_rss
from cy.mm.table cimport pagetable_take, table_free_rcu, table_unlinked
from cy.mm.types cimport INTENT_UNMAP, cursor, mm, ptdesc, vma
from cy.mm.vma cimport vm_area_free, vm_end, vm_start, vma_at, vma_count, vma_set_remove
from cy.mm.vma_lock cimport (
    mmap_read_lock, mmap_read_unlock, mmap_write_lock, mmap_write_unlock, vma_mark_detached, vma_start_write)
from cy.sync.lockclass cimport might_sleep
from cy.sync.wait cimport wait_turn

cdef struct exit_wait:
    mm *mm
    uint64_t born

# Context: no lock, no reference; may sleep. Returns 0 when the new life has begun, whoever began it, or -ESRCH: another exit
# of the mm was faster.
cdef inline int do_exit(cpu *c, mm *m) noexcept nogil:
    cdef exit_wait w
    cdef uint32_t turns = 0
    might_sleep(c)
    w.mm = m
    if not mm_start_exit(m, &w.born):
        return -ESRCH
    delay_point(c)
    if mmput_last(m) or BUG(m.bugs, BUG_M07_EXIT):
        _mm_end(c, m)
    while not mm_was_reborn(m, w.born):
        wait_turn(c, &turns, exit_is_over, &w)
    return 0

# Drop the reference of an operation. Context: as do_exit.
cdef inline void mmput(cpu *c, mm *m) noexcept nogil:
    if mmput_last(m) and not BUG(m.bugs, BUG_M07_EXIT):
        count(c, C_EXIT_BY_OTHER)
        _mm_end(c, m)

cdef inline int exit_is_over(const void *arg) noexcept nogil:
    cdef const exit_wait *w = <const exit_wait *>arg
    return w.mm.mm_users >> 32 != w.born >> 32

# From one life to the next. Context: the last user.
cdef inline void _mm_end(cpu *c, mm *m) noexcept nogil:
    cdef ptdesc *pgd = m.pgd
    mm_list_del(c, m)
    exit_mmap(c, m)
    if PT_CHECKS and (m.pgtables_bytes != 0 or mm_rss(m) != 0):
        pt_report(c, ORACLE_COUNTERS, 30, b"an mm ended with a bytes of tables and rss of b pages", m.first_page << PAGE_SHIFT,
                  m.pgtables_bytes, mm_rss(m))
    table_unlinked(c, m, pgd)
    table_free_rcu(c, m, pgd)
    mm_init(m, _pgd_alloc(c, m))
    mm_reborn(m)

# Context: mm_users is 0, or an operation of the mm would populate what was unmapped.
cdef inline void exit_mmap(cpu *c, mm *m) noexcept nogil:
    cdef mmu_gather tlb
    cdef cursor cur
    cdef uint32_t i
    cdef uint64_t start = 0, end = 0
    if m.lockless:              # nobody reads under mmap_lock
        mmap_write_lock(c, m)
    else:
        mmap_read_lock(c, m)
    tlb_gather_mmu(&tlb, c, m)
    for i in range(vma_count(m)):
        start, end = vm_start(vma_at(&m.set, i)), vm_end(vma_at(&m.set, i))
        cursor_begin(&cur, c, m, start, end, INTENT_UNMAP)
        zap_page_range(&cur, &tlb, start, end, ZAP_DROP_MARKERS)
        cursor_end(&cur)
    if not m.lockless:
        mmap_read_unlock(c, m)
        delay_point(c)
        mmap_write_lock(c, m)
    if vma_count(m) != 0:
        for i in range(vma_count(m)):
            vma_start_write(c, m, vma_at(&m.set, i))
        free_pgtables(&tlb, vm_start(vma_at(&m.set, 0)), vm_end(vma_at(&m.set, vma_count(m) - 1)), 0, 0)
    tlb_finish_mmu(&tlb)
    _remove_vmas(c, m)
    mmap_write_unlock(c, m)

cdef inline void _remove_vmas(cpu *c, mm *m) noexcept nogil:
    cdef vma *v
    while vma_count(m) != 0:
        v = vma_at(&m.set, vma_count(m) - 1)
        vma_set_remove(m, vma_count(m) - 1, 1)
        vma_mark_detached(c, v)
        vm_area_free(c, m, v)

# A pgd. There is one in the end: the old one, at the latest. Context: may sleep.
cdef inline ptdesc *_pgd_alloc(cpu *c, mm *m) noexcept nogil:
    cdef ptdesc *t
    while True:
        t = pagetable_take(c, m, m.geo.levels - 1, m.first_page << PAGE_SHIFT)
        if t != NULL:
            return t
        deferred_barrier_tables(c, m)
        sched_yield()
