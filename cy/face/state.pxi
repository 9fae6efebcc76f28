# What an address space holds, in the form in which a history begins and ends.

# Present pages of a table and below it, as rows (page, incarnation, value) from row `n` on; NULL: only counts.
# Returns the number of rows so far. Context: quiescent.
cdef uint64_t present_rows(mm *m, ptdesc *t, uint64_t *rows, uint64_t n) noexcept nogil:
    cdef uint32_t i
    cdef uint64_t entry
    for i in range(geo_fanout(&m.geo, t.level)):
        entry = t.entries[i]
        if t.level != PTE_LEVEL:
            if pmd_is_table(entry) and pte_pfn(entry) < m.tables.nr:
                n = present_rows(m, &m.ptdescs[pte_pfn(entry)], rows, n)
        elif pte_present(entry):
            if rows != NULL:
                rows[3 * n] = (t.addr >> PAGE_SHIFT) + i
                if not pte_special(entry) and pte_pfn(entry) < m.frames.nr:
                    rows[3 * n + 1] = m.pages[pte_pfn(entry)].incarnation
                    rows[3 * n + 2] = m.pages[pte_pfn(entry)].stamp
            n += 1
    return n


cdef object state_of(machine *x):
    """(maps, pages): rows (start, end, 2 read-only or 4 writable) and (page, incarnation, value); see ``Space.state``."""
    cdef uint64_t n = 0, vmas = 0, i
    cdef uint32_t k
    cdef uint64_t[:, ::1] maps, pages
    cdef vma *v
    for k in range(x.nr_mms):
        n = present_rows(&x.mms[k], x.mms[k].pgd, NULL, n)
        vmas += x.mms[k].set.nr
    maps = np.zeros((vmas, 3), np.uint64)
    pages = np.zeros((n, 3), np.uint64)
    n = 0
    vmas = 0
    for k in range(x.nr_mms):
        if pages.shape[0]:
            n = present_rows(&x.mms[k], x.mms[k].pgd, &pages[0, 0], n)
        for i in range(x.mms[k].set.nr):
            v = vma_at(&x.mms[k].set, <uint32_t>i)
            maps[vmas, 0] = v.vm_start >> PAGE_SHIFT
            maps[vmas, 1] = v.vm_end >> PAGE_SHIFT
            maps[vmas, 2] = MAP_RW if v.writable else MAP_RO
            vmas += 1
    return np.asarray(maps), np.asarray(pages)
