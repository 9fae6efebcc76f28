# What the data oracle may ask the quiescent machine.

cdef int observe_page(void *ctx, uint64_t vpn, uint64_t *incarnation, uint64_t *value) noexcept nogil:
    """What the tables say about a page: 0 not present, 1 zero page, 2 a frame."""
    cdef mm *m = <mm *>ctx
    cdef uint64_t pte = quiescent_pte(m, vpn)
    incarnation[0] = 0
    value[0] = 0
    if not pte_present(pte):
        return 0
    if pte_special(pte) or pte_pfn(pte) >= m.frames.nr:
        return 1
    incarnation[0] = m.pages[pte_pfn(pte)].incarnation
    value[0] = m.pages[pte_pfn(pte)].stamp
    return 2
