# What an address space holds, in the form in which a history begins and ends.

# Present pages of a table and below it, or those with a guard marker, as rows (page, incarnation, value) from row `n` on;
# NULL: only counts. Returns the number of rows so far. Context: quiescent.
cdef uint64_t page_rows(mm *m, ptdesc *t, bint guards, uint64_t *rows, uint64_t n) noexcept nogil:
    cdef uint32_t i
    cdef uint64_t entry
    for i in range(geo_fanout(&m.geo, t.level)):
        entry = t.entries[i]
        if t.level != PTE_LEVEL:
            if pmd_is_table(entry) and pte_pfn(entry) < m.tables.nr:
                n = page_rows(m, &m.ptdescs[pte_pfn(entry)], guards, rows, n)
        elif is_guard_pte_marker(entry) if guards else pte_present(entry):
            if rows != NULL:
                rows[3 * n] = (t.addr >> PAGE_SHIFT) + i
                if not guards and not pte_special(entry) and pte_pfn(entry) < m.frames.nr:
                    rows[3 * n + 1] = m.pages[pte_pfn(entry)].incarnation
                    rows[3 * n + 2] = m.pages[pte_pfn(entry)].stamp
            n += 1
    return n


cdef object rows_of(machine *x, bint guards):
    """``page_rows`` of all mms."""
    cdef uint64_t n = 0
    cdef uint32_t k
    cdef uint64_t[:, ::1] rows
    for k in range(x.nr_mms):
        n = page_rows(&x.mms[k], x.mms[k].pgd, guards, NULL, n)
    rows = np.zeros((n, 3), np.uint64)
    n = 0
    for k in range(x.nr_mms if rows.shape[0] else 0):
        n = page_rows(&x.mms[k], x.mms[k].pgd, guards, &rows[0, 0], n)
    return np.asarray(rows)


cdef object state_of(machine *x):
    """(maps, pages): rows (start, end, 2 read-only or 4 writable, plus 16 if guards lie there) and (page, incarnation, value);
    see ``Space.state``."""
    cdef uint64_t vmas = 0, i
    cdef uint32_t k
    cdef uint64_t[:, ::1] maps
    cdef vma *v
    for k in range(x.nr_mms):
        vmas += x.mms[k].set.nr
    maps = np.zeros((vmas, 3), np.uint64)
    vmas = 0
    for k in range(x.nr_mms):
        for i in range(x.mms[k].set.nr):
            v = vma_at(&x.mms[k].set, <uint32_t>i)
            maps[vmas, 0] = v.vm_start >> PAGE_SHIFT
            maps[vmas, 1] = v.vm_end >> PAGE_SHIFT
            maps[vmas, 2] = MAP_RW if v.writable else MAP_RO
            vmas += 1
    return _cut_at_guards(np.asarray(maps), rows_of(x, True)[:, 0]), rows_of(x, False)


def _cut_at_guards(maps, guards):
    """The mappings, cut where guards begin and end. ``guards``: pages, ascending."""
    if not len(guards):
        return maps
    gaps = np.flatnonzero(np.diff(guards) != 1)
    starts, ends = guards[np.append(0, gaps + 1)], guards[np.append(gaps, len(guards) - 1)] + np.uint64(1)
    cuts = np.unique(np.concatenate([maps[:, 0], maps[:, 1], starts, ends]))
    at = np.searchsorted(maps[:, 0], cuts[:-1], "right") - 1
    inside = (at >= 0) & (cuts[:-1] < maps[at, 1])
    run = np.searchsorted(starts, cuts[:-1], "right") - 1
    guarded = (run >= 0) & (cuts[:-1] < ends[run])
    states = maps[at, 2] + guarded.astype(np.uint64) * np.uint64(MAP_GUARDED)
    return np.column_stack([cuts[:-1], cuts[1:], states])[inside]
