# The data oracle on histories from anywhere: for tests, and for histories read back from a file.

cdef struct final_pages:
    const uint64_t *page        # sorted
    const uint64_t *incarnation
    const uint64_t *value
    uint64_t nr


cdef int observe_final(void *ctx, uint64_t page, uint64_t *incarnation, uint64_t *value) noexcept nogil:
    """The state of a page as the caller of check_history gave it."""
    cdef final_pages *f = <final_pages *>ctx
    cdef uint64_t i = upper_bound(f.page, f.nr, page)
    if i == 0 or f.page[i - 1] != page:
        return PAGE_ABSENT
    incarnation[0] = f.incarnation[i - 1]
    value[0] = f.value[i - 1]
    return PAGE_ANON if incarnation[0] != 0 else PAGE_ZERO


cdef class _HistoryChecker:
    """Oracles, one per shard, and the cpu in whose name they report."""
    cdef data_oracle *oracles
    cdef uint32_t shards
    cdef cpu *reporter
    cdef shm_header *header
    cdef uint64_t matrix[576]           # NR_VERBS squared

    def __cinit__(self, uint32_t shards):
        cdef uint32_t i
        memset(self.matrix, 0, sizeof(self.matrix))
        self.oracles = <data_oracle *>calloc(shards, sizeof(data_oracle))
        self.reporter = <cpu *>calloc(1, sizeof(cpu))
        self.header = <shm_header *>calloc(1, sizeof(shm_header))
        if self.oracles == NULL or self.reporter == NULL or self.header == NULL:
            raise MemoryError
        self.shards = shards
        self.reporter.header = self.header
        for i in range(shards):
            if not data_oracle_init(&self.oracles[i], i, shards):
                raise MemoryError

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.shards):
            data_oracle_destroy(&self.oracles[i])
        free(self.oracles)
        free(self.reporter)
        free(self.header)

    cdef burst(self, list rings, final, uint32_t shift):
        """Check one burst in all shards, one after the other."""
        cdef event *at[64]
        cdef uint64_t counts[64]
        cdef const uint64_t[::1] view, page, incarnation, value
        cdef final_pages f
        cdef uint32_t i, nr = <uint32_t>len(rings)
        cdef observe_t observe = NULL
        if nr > MAX_CPUS:
            raise ValueError(f"{nr} rings; at most {MAX_CPUS}")
        keep = [np.ascontiguousarray(ring).view(np.uint64) for ring in rings]
        for i in range(nr):
            view = keep[i]
            at[i] = <event *>&view[0] if view.shape[0] else NULL
            counts[i] = view.shape[0] // (sizeof(event) // 8)
        if final is not None:
            pages = sorted(final)
            page = np.array([*pages, 0], np.uint64)
            incarnation = np.array([*(final[p][0] for p in pages), 0], np.uint64)
            value = np.array([*(final[p][1] for p in pages), 0], np.uint64)
            f.page = &page[0]
            f.incarnation = &incarnation[0]
            f.value = &value[0]
            f.nr = len(pages)
            observe = observe_final
        with nogil:
            for i in range(self.shards):
                data_oracle_burst(&self.oracles[i], self.reporter, at, counts, nr, observe, &f)
                overlaps_count(at, counts, nr, shift, i, self.shards, self.matrix)

    cdef dict violation(self, uint64_t i):
        """The i-th violation."""
        cdef report *r = &self.header.reports[i]
        return {"invariant": r.invariant, "page": r.addr >> PAGE_SHIFT, "a": r.a, "b": r.b, "what": r.what.decode()}

    cdef dict verdict(self):
        """What all bursts so far gave."""
        cdef uint64_t checked = 0, unchecked = 0, violations = 0, i
        for i in range(self.shards):
            checked += self.oracles[i].checked
            unchecked += self.oracles[i].unchecked
            violations += self.oracles[i].violations
        return {
            "checked": checked,
            "unchecked": unchecked,
            "violations": [self.violation(i) for i in range(min(violations, MAX_REPORTS))],
            "nr_violations": violations,
            "overlaps": np.array([self.matrix[i] for i in range(NR_VERBS * NR_VERBS)], np.uint64).reshape(NR_VERBS, NR_VERBS),
        }


def check_bursts(bursts: list, pages_per_table: int = 512, shards: int = 1) -> dict:
    """Check a history of several bursts with the data oracle, from an empty address space on.

    ``bursts``: pairs (rings, final). ``rings``: one EVENT_DTYPE array per worker, in program order, walk lines
    included, times from 1; ``final``: page -> (incarnation, value) of every page that was present at its end, (0, 0)
    for the zero page, or None for the last burst if that is not known. ``pages_per_table`` is a power of two.
    Returns checked, unchecked, nr_violations, violations (at most 32), overlaps[verb, verb]. ValueError: bad argument.
    """
    if pages_per_table < 1 or pages_per_table & (pages_per_table - 1):
        raise ValueError(f"pages_per_table {pages_per_table}: expected a power of two")
    if shards < 1:
        raise ValueError(f"shards {shards}: expected at least 1")
    if any(final is None for _, final in bursts[:max(len(bursts) - 1, 0)]):
        raise ValueError("only the last burst may go without its final pages")
    cdef _HistoryChecker checker = _HistoryChecker(shards)
    for rings, final in bursts:
        checker.burst(list(rings), final, pages_per_table.bit_length() - 1)
    return checker.verdict()


def check_history(rings: list, pages_per_table: int = 512, final: dict | None = None) -> dict:
    """Check one burst from an empty address space on; see ``check_bursts``."""
    return check_bursts([(rings, final)], pages_per_table)
