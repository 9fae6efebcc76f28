# Splitting and merging VMAs: what mmap, munmap and mprotect do at the edges of their range.
#
# Context of all: mmap_lock held for writing. A VMA is write-locked before its bounds or its anon_vma change; lockless
# readers that come meanwhile find no VMA, or one that is locked, and fall back to mmap_lock.
# Source: mm/vma.c __split_vma, vma_merge_new_range, vma_merge_existing_range.
# Deviation: vma_split_edges splits at both ends or at none; the kernel may leave the first split behind.
from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE32, WRITE_ONCE32
from cy.base.cpu cimport cpu
from cy.mm.types cimport mm, vma
from cy.mm.vma cimport (
    anon_vma_compatible, vm_area_alloc, vm_area_free, vm_area_free_unused, vm_area_init, vm_end,
    vm_start, vma_at, vma_count, vma_index_after, vma_set_bounds, vma_set_insert, vma_set_remove)
from cy.mm.vma_lock cimport vma_mark_attached, vma_mark_detached, vma_start_write

# Split the VMAs that reach over start and over end: both or, with -ENOMEM, none.
cdef inline int vma_split_edges(cpu *c, mm *m, uint64_t start, uint64_t end) noexcept nogil:
    cdef bint at_start = _reaches_over(m, start), at_end = _reaches_over(m, end)
    cdef vma *first = NULL
    cdef vma *second = NULL
    if vma_count(m) + at_start + at_end > m.set.capacity:
        return -ENOMEM
    if at_start:
        first = vm_area_alloc(c, m)
    if at_end:
        second = vm_area_alloc(c, m)
    if (at_start and first == NULL) or (at_end and second == NULL):
        vm_area_free_unused(c, m, first)
        vm_area_free_unused(c, m, second)
        return -ENOMEM
    if at_start:
        _split_at(c, m, start, first)
    if at_end:
        _split_at(c, m, end, second)
    return 0

cdef inline bint _reaches_over(mm *m, uint64_t addr) noexcept nogil:
    cdef uint32_t i = vma_index_after(&m.set, addr)
    return i < vma_count(m) and vm_start(vma_at(&m.set, i)) < addr

cdef inline void _split_at(cpu *c, mm *m, uint64_t addr, vma *tail) noexcept nogil:
    cdef vma *v = vma_at(&m.set, vma_index_after(&m.set, addr))
    vma_start_write(c, m, v)
    vm_area_init(m, tail, addr, vm_end(v), READ_ONCE32(&v.writable))
    WRITE_ONCE32(&tail.anon_vma, READ_ONCE32(&v.anon_vma))
    _take_over_mark(tail, v)
    vma_start_write(c, m, tail)
    vma_set_bounds(m, v, vm_start(v), addr)
    vma_set_insert(m, tail)
    vma_mark_attached(tail)

# Let the neighbours take [start, end) over, which is to be `writable` or not. `middle` holds it now; NULL: it is a hole.
# A neighbour can if it adjoins, allows the same and has a compatible anon_vma; both can if theirs go together
# as well, else the one before. Returns the VMA that holds the range then, write-locked, or NULL: nothing changed.
cdef inline vma *vma_merge(cpu *c, mm *m, uint64_t start, uint64_t end, uint32_t writable, vma *middle) noexcept nogil:
    cdef uint32_t at = vma_index_after(&m.set, start), behind = at + (middle != NULL)
    cdef uint32_t anon_vma = _anon_vma_of(c, m, middle) if middle != NULL else 0
    cdef vma *prev = NULL
    cdef vma *next = NULL
    cdef vma *target
    if at > 0 and (middle == NULL or vm_start(middle) == start):
        prev = vma_at(&m.set, at - 1)
        if vm_end(prev) != start or not _can_vma_merge(c, m, prev, writable, anon_vma):
            prev = NULL
    if behind < vma_count(m) and (middle == NULL or vm_end(middle) == end):
        next = vma_at(&m.set, behind)
        if vm_start(next) != end or not _can_vma_merge(c, m, next, writable, anon_vma):
            next = NULL
    if prev == NULL and next == NULL:
        return NULL
    if prev != NULL and next != NULL:
        if anon_vma_compatible(READ_ONCE32(&prev.anon_vma), READ_ONCE32(&next.anon_vma)):
            anon_vma = READ_ONCE32(&next.anon_vma) or anon_vma
        else:
            next = NULL
    target = prev if prev != NULL else next
    vma_start_write(c, m, target)
    if READ_ONCE32(&target.anon_vma) == 0:
        WRITE_ONCE32(&target.anon_vma, anon_vma)
    if middle != NULL:
        _give_up(c, m, middle, target, start, end)
    if prev == NULL:
        vma_set_bounds(m, next, start, vm_end(next))
        return next
    if next != NULL:
        end = vm_end(next)
        _give_up(c, m, next, target, vm_start(next), end)
    vma_set_bounds(m, prev, vm_start(prev), end)
    return prev

cdef inline bint _can_vma_merge(cpu *c, mm *m, vma *v, uint32_t writable, uint32_t anon_vma) noexcept nogil:
    return READ_ONCE32(&v.writable) == writable and anon_vma_compatible(_anon_vma_of(c, m, v), anon_vma)

# The anon_vma of `v`, which stays so. mmap_lock keeps it, unless faults take none: then `v` must be write-locked.
cdef inline uint32_t _anon_vma_of(cpu *c, mm *m, vma *v) noexcept nogil:
    if m.lockless:
        vma_start_write(c, m, v)
    return READ_ONCE32(&v.anon_vma)

# Tables of `v` that may be empty become those of `to`. Context: `v` is write-locked.
cdef inline void _take_over_mark(vma *to, vma *v) noexcept nogil:
    if READ_ONCE32(&v.marked):
        WRITE_ONCE32(&to.marked, 1)

# `to` takes [start, end), which is one end of `v` or all of it.
cdef inline void _give_up(cpu *c, mm *m, vma *v, vma *to, uint64_t start, uint64_t end) noexcept nogil:
    vma_start_write(c, m, v)
    _take_over_mark(to, v)
    if vm_end(v) != end:
        vma_set_bounds(m, v, end, vm_end(v))
    elif vm_start(v) != start:
        vma_set_bounds(m, v, vm_start(v), start)
    else:
        vma_set_remove(m, vma_index_after(&m.set, start), 1)
        vma_mark_detached(c, v)
        vm_area_free(c, m, v)
