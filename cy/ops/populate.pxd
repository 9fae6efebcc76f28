# `populate`: madvise(MADV_POPULATE_READ, MADV_POPULATE_WRITE): fault the pages of a range in, for reading or for writing.
#
# One hold of mmap_lock for reading; each page is brought in as by a fault, and looked at again until it is there. A frame that
# is found in place for writing counts as written: memory pressure keeps it.
# Source: mm/madvise.c madvise_populate, mm/gup.c faultin_page_range.
# Not modelled: letting go of mmap_lock midway, signals.
from libc.errno cimport EINVAL, ENOMEM
from libc.stdint cimport uint64_t
from cy.base.cpu cimport cpu
from cy.base.geometry cimport PAGE_SHIFT
from cy.core.fault cimport faultin_page
from cy.mm.cursor cimport cursor_begin, cursor_end
from cy.mm.types cimport INTENT_WALK, cursor, mm

# Pages [first, last). Context: no lock; may sleep. *done: how many of the first pages were present at an instant of the
# call, and writable if `write`. Returns 0; for the page behind them -ENOMEM (no VMA, or no memory), -EINVAL (it may not
# be written) or -EFAULT (a guard marker); -EINVAL for a reversed range.
cdef inline int do_populate(cpu *c, mm *m, uint64_t first, uint64_t last, bint write, uint64_t *done) noexcept nogil:
    cdef cursor cur
    cdef int rc = 0
    done[0] = 0
    if first > last:
        return -EINVAL
    cursor_begin(&cur, c, m, first << PAGE_SHIFT, last << PAGE_SHIFT, INTENT_WALK)
    while rc == 0 and first + done[0] < last:
        cur.addr = (first + done[0]) << PAGE_SHIFT
        if cur.vma_stale or (cur.vma != NULL and cur.vma_end <= cur.addr):
            cur.ops.next_vma(&cur)
        if cur.vma == NULL or cur.vma_start > cur.addr:
            rc = -ENOMEM
        elif write and not cur.vma_writable:
            rc = -EINVAL
        else:
            rc = faultin_page(&cur, write)
            done[0] += rc == 0 and not cur.vma_stale
    cursor_end(&cur)
    return rc
