# `dontneed`: madvise(MADV_DONTNEED), the exact algorithm of 6.18 (cy/core/zap.pxd).
# Source: mm/madvise.c madvise_dontneed_single_vma, mm/memory.c zap_page_range_single_batched.
from libc.stdint cimport uint64_t
from cy.base.cpu cimport cpu
from cy.core.madvise cimport madvise_pages
from cy.core.scan cimport left_behind
from cy.core.zap cimport ZAP_RECLAIM, zap_page_range
from cy.mm.gather cimport mmu_gather
from cy.mm.types cimport INTENT_ZAP, cursor, mm

# Pages [first, last). Context and returns: madvise_pages.
cdef inline int do_dontneed(cpu *c, mm *m, uint64_t first, uint64_t last) noexcept nogil:
    return madvise_pages(c, m, first, last, INTENT_ZAP, _dontneed_vma)

cdef inline int _dontneed_vma(cursor *cur, mmu_gather *tlb, uint64_t start, uint64_t end) noexcept nogil:
    if zap_page_range(cur, tlb, start, end, ZAP_RECLAIM):
        left_behind(cur.cpu, cur.mm, cur.vma)
    return 0
