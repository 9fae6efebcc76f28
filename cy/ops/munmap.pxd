# `munmap`, and the unmapping half of `mmap`.
#
# Order: split the edges, write-lock the VMAs, take them out of the set, wait for
# their readers, downgrade mmap_lock, zap, free tables of all levels, flush and free.
# Source: mm/vma.c vms_gather_munmap_vmas, vms_clear_ptes, mm/memory.c free_pgtables.
# Not modelled: rmap; a range that is zapped but not yet freed is reachable by nobody here.
from libc.errno cimport EINVAL, ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from cy.base.bugs cimport BUG, BUG_P21
from cy.base.cpu cimport cpu, delay_point
from cy.base.geometry cimport PAGE_SHIFT, PTE_LEVEL, geo_table_span
from cy.core.free_pgtables cimport free_pgtables
from cy.core.scan cimport left_behind
from cy.core.vma_modify cimport vma_split_edges
from cy.core.zap cimport ZAP_DROP_MARKERS, zap_page_range
from cy.mm.cursor cimport cursor_begin, cursor_end
from cy.mm.gather cimport mmu_gather, tlb_finish_mmu, tlb_gather_mmu
from cy.mm.types cimport ARENA_NONE, INTENT_UNMAP, cursor, mm, vma
from cy.mm.vma cimport find_vma, vm_area_free, vm_end, vm_start, vma_at, vma_count, vma_index_after, vma_set_remove
from cy.mm.vma_lock cimport (
    mmap_read_unlock, mmap_write_downgrade, mmap_write_lock, mmap_write_unlock, vma_mark_detached, vma_start_write)

# VMAs taken out of the set, on their way out. `floor` and `ceiling`: ends of the neighbours.
cdef struct unmap_state:
    uint64_t start
    uint64_t end
    uint64_t floor
    uint64_t ceiling
    uint32_t vmas           # list through vma.next

# Pages [first, last). Context: no lock; may sleep. Returns 0 (also if nothing was mapped), -EINVAL for a
# bad range, -ENOMEM if a split needs a VMA that there is no room for (nothing was done then).
cdef inline int do_munmap(cpu *c, mm *m, uint64_t first, uint64_t last) noexcept nogil:
    cdef unmap_state u
    cdef int rc
    if first >= last or last > m.end_page:
        return -EINVAL
    mmap_write_lock(c, m)
    rc = unmap_gather(c, m, first << PAGE_SHIFT, last << PAGE_SHIFT, &u)
    if rc != 0 or u.vmas == ARENA_NONE:
        mmap_write_unlock(c, m)
        return rc
    # Readers may come in, but nobody can map the range again before it is torn down.
    mmap_write_downgrade(c, m)
    if BUG(m.bugs, BUG_P21):
        mmap_read_unlock(c, m)
    delay_point(c)
    unmap_complete(c, m, &u)
    if not BUG(m.bugs, BUG_P21):
        mmap_read_unlock(c, m)
    return 0

# Take the VMAs of [start, end) out of the set. Context: mmap_lock for writing.
cdef inline int unmap_gather(cpu *c, mm *m, uint64_t start, uint64_t end, unmap_state *u) noexcept nogil:
    cdef uint32_t at, i, n = 0
    cdef vma *v
    u.vmas = ARENA_NONE
    u.start = start
    u.end = end
    if vma_split_edges(c, m, start, end) != 0:
        return -ENOMEM
    at = vma_index_after(&m.set, start)
    while at + n < vma_count(m) and vm_start(vma_at(&m.set, at + n)) < end:
        vma_start_write(c, m, vma_at(&m.set, at + n))
        n += 1
    if n == 0:
        return 0
    u.start = vm_start(vma_at(&m.set, at))
    u.end = vm_end(vma_at(&m.set, at + n - 1))
    u.floor = vm_end(vma_at(&m.set, at - 1)) if at > 0 else 0
    u.ceiling = vm_start(vma_at(&m.set, at + n)) if at + n < vma_count(m) else 0
    for i in range(at, at + n):
        v = vma_at(&m.set, i)
        v.next = u.vmas
        u.vmas = v.index
    vma_set_remove(m, at, n)
    i = u.vmas
    while i != ARENA_NONE:
        vma_mark_detached(c, &m.vma_objects[i])
        i = m.vma_objects[i].next
    return 0

# Zap and free what unmap_gather took out. Context: mmap_lock, for reading or writing.
cdef inline void unmap_complete(cpu *c, mm *m, unmap_state *u) noexcept nogil:
    cdef mmu_gather tlb
    cdef cursor cur
    cdef vma *v
    tlb_gather_mmu(&tlb, c, m)
    cursor_begin(&cur, c, m, u.start, u.end, INTENT_UNMAP)
    zap_page_range(&cur, &tlb, u.start, u.end, ZAP_DROP_MARKERS)
    cursor_end(&cur)
    delay_point(c)
    free_pgtables(&tlb, u.start, u.end, u.floor, u.ceiling)
    tlb_finish_mmu(&tlb)
    _tell_neighbours(c, m, u)
    while u.vmas != ARENA_NONE:
        v = &m.vma_objects[u.vmas]
        u.vmas = v.next
        vm_area_free(c, m, v)

# VMAs that share a table with the range may have nothing in it. Context: mmap_lock.
cdef inline void _tell_neighbours(cpu *c, mm *m, const unmap_state *u) noexcept nogil:
    cdef uint64_t in_table = geo_table_span(&m.geo, PTE_LEVEL) - 1
    if u.floor > u.start & ~in_table:
        left_behind(c, m, find_vma(c, m, u.floor - 1))
    if u.ceiling != 0 and u.ceiling <= (u.end - 1 | in_table):
        left_behind(c, m, find_vma(c, m, u.ceiling))
