# `mmap`: map anonymous memory at a fixed place; what was there goes (MAP_FIXED).
#
# The new VMA is write-locked before it becomes visible and merges with its neighbours where the
# kernel would: equal flags, adjoining, compatible anon_vma. Everything happens in one hold of
# mmap_lock for writing. Source: mm/vma.c __mmap_region, vma_merge_new_range.
# Not modelled: file mappings, hints, limits other than the number of VMAs.
from libc.errno cimport EINVAL, ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport WRITE_ONCE32
from cy.base.bugs cimport BUG, BUG_P19
from cy.base.cpu cimport cpu, delay_point
from cy.base.geometry cimport PAGE_SHIFT
from cy.core.vma_modify cimport vma_merge
from cy.mm.types cimport ARENA_NONE, mm, vma
from cy.mm.vma cimport vm_area_alloc, vm_area_free_unused, vm_area_init, vma_count, vma_set_insert
from cy.mm.vma_lock cimport mmap_write_lock, mmap_write_unlock, vma_mark_attached, vma_start_write
from cy.ops.munmap cimport unmap_complete, unmap_gather, unmap_state

cdef enum:
    VMAS_PER_MMAP = 3

# Pages [first, last). Context: no lock; may sleep. Returns 0, -EINVAL for an empty range, -ENOMEM past the
# end of the address space or with too many VMAs.
cdef inline int do_mmap(cpu *c, mm *m, uint64_t first, uint64_t last, uint32_t writable) noexcept nogil:
    cdef unmap_state u
    cdef vma *new
    cdef int rc
    if first >= last:
        return -EINVAL
    if last > m.end_page:
        return -ENOMEM
    mmap_write_lock(c, m)
    # All that can fail comes before the old mapping goes. At most two splits and the new VMA are needed; like
    # the kernel's limit, this one does not look whether they really are.
    new = vm_area_alloc(c, m)
    rc = -ENOMEM
    if new != NULL and vma_count(m) + VMAS_PER_MMAP <= m.set.capacity:
        rc = unmap_gather(c, m, first << PAGE_SHIFT, last << PAGE_SHIFT, &u)
    if rc == 0:
        if u.vmas != ARENA_NONE:
            unmap_complete(c, m, &u)
        new = _map_region(c, m, first << PAGE_SHIFT, last << PAGE_SHIFT, writable, new)
    vm_area_free_unused(c, m, new)
    mmap_write_unlock(c, m)
    return rc

# [start, end) is a hole. Context: mmap_lock for writing. Returns `new` if a neighbour grew instead.
cdef inline vma *_map_region(cpu *c, mm *m, uint64_t start, uint64_t end, uint32_t writable, vma *new) noexcept nogil:
    if vma_merge(c, m, start, end, writable, NULL) != NULL:
        return new
    # What it allows is set last, while the VMA is write-locked, as vma_set_page_prot does it.
    vm_area_init(m, new, start, end, 0)
    if not BUG(m.bugs, BUG_P19):
        vma_start_write(c, m, new)
    vma_set_insert(m, new)
    vma_mark_attached(new)
    delay_point(c)
    WRITE_ONCE32(&new.writable, writable)
    return NULL
