"""The history checker's Python face: the data oracle over a whole history, and a search where its rules leave doubt."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from cy.base.cpu cimport cpu
from cy.base.geometry cimport PAGE_SHIFT
from cy.base.shm cimport MAX_CPUS, MAX_REPORTS, NR_VERBS, event, report, shm_header
from cy.check.data cimport data_oracle_burst, data_oracle_destroy, data_oracle_init
from cy.check.data_table cimport data_page_get
from cy.check.data_types cimport (
    MAP_GUARDED, MAP_OPEN, PAGE_ABSENT, PAGE_ANON, PAGE_GUARD, PAGE_NONE, PAGE_ZERO, data_oracle, data_page, data_room, mapping,
    observe_t)
from cy.check.overlap cimport overlaps_count
from cy.check.sort cimport upper_bound
from cy.history.page cimport decider, page_decide
from cy.history.types cimport search_free

import numpy as np

#: States that a search may look at for each page before it gives up.
BUDGET = 1 << 22

cdef enum:
    NOT_COUNTED = 64            # no shift of a table: nobody asks for overlaps

cdef struct final_pages:
    const uint64_t *rows        # page, incarnation, value; by page
    const uint64_t *page
    uint64_t nr


cdef int observe_final(void *ctx, uint64_t page, uint64_t *incarnation, uint64_t *value) noexcept nogil:
    """The state of a page at the end, as the caller gave it."""
    cdef final_pages *f = <final_pages *>ctx
    cdef uint64_t i = upper_bound(f.page, f.nr, page)
    if i == 0 or f.page[i - 1] != page:
        return PAGE_ABSENT
    incarnation[0] = f.rows[3 * i - 2]
    value[0] = f.rows[3 * i - 1]
    if incarnation[0] == <uint64_t>-1:      # tests say so what lies where no page is present
        return PAGE_GUARD if value[0] else PAGE_NONE
    return PAGE_ANON if incarnation[0] != 0 else PAGE_ZERO


cdef class _Checker:
    """Oracles, one for each shard, their reports, and the search behind them."""

    cdef data_oracle *oracles
    cdef uint32_t shards
    cdef decider decider
    cdef cpu *reporter
    cdef shm_header *header
    cdef uint64_t overlaps[576]         # NR_VERBS squared

    def __cinit__(self, uint32_t shards):
        cdef uint32_t i
        memset(self.overlaps, 0, sizeof(self.overlaps))
        self.oracles = <data_oracle *>calloc(shards, sizeof(data_oracle))
        self.reporter = <cpu *>calloc(1, sizeof(cpu))
        self.header = <shm_header *>calloc(1, sizeof(shm_header))
        if self.oracles == NULL or self.reporter == NULL or self.header == NULL:
            raise MemoryError("no memory for the history checker")
        self.shards = shards
        self.reporter.header = self.header
        for i in range(shards):
            if not data_oracle_init(&self.oracles[i], i, shards):
                raise MemoryError("no memory for the history checker")

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.shards):
            data_oracle_destroy(&self.oracles[i])
        search_free(&self.decider.search)
        free(self.oracles)
        free(self.reporter)
        free(self.header)

    cdef int start(self, maps_before, pages_before) except -1:
        """The address space before the history. Context: one shard."""
        cdef const uint64_t[:, ::1] maps = _rows(maps_before)
        cdef const uint64_t[:, ::1] pages = _rows(pages_before)
        cdef data_oracle *o = self.oracles
        cdef data_page *p
        cdef uint32_t number
        cdef Py_ssize_t i
        if not data_room(o, <void **>&o.maps, &o.cap_maps, maps.shape[0], sizeof(mapping)):
            raise MemoryError("no memory for the mappings")
        for i in range(maps.shape[0]):
            o.maps[i].start = maps[i, 0]
            o.maps[i].end = maps[i, 1]
            o.maps[i].states = <uint32_t>maps[i, 2]
            if not o.maps[i].states & (MAP_OPEN | MAP_GUARDED):
                o.maps[i].states |= MAP_OPEN
            o.guarded |= o.maps[i].states & MAP_GUARDED
        o.nr_maps = maps.shape[0]
        for i in range(pages.shape[0]):
            number = data_page_get(o, pages[i, 0])
            if number == 0:
                raise MemoryError("no memory for the pages")
            p = &o.pages[number]
            p.incarnation = pages[i, 1]
            p.value = pages[i, 2]
            p.state = PAGE_ANON if p.incarnation != 0 else PAGE_ZERO
            p.lazy = 1          # nobody says whether a free has marked it
        return 0

    cdef int burst(self, list rings, final, uint32_t shift=NOT_COUNTED) except -1:
        """Check one burst in all shards, one after the other. ``final``: rows, or None. ``shift``: of overlaps_count."""
        cdef event *at[64]
        cdef uint64_t counts[64]
        cdef const uint64_t[::1] view, numbers
        cdef const uint64_t[:, ::1] rows
        cdef final_pages f
        cdef uint32_t i, nr = <uint32_t>len(rings)
        cdef observe_t observe = NULL
        if nr > MAX_CPUS:
            raise ValueError(f"{nr} workers: expected at most {MAX_CPUS}")
        keep = [np.ascontiguousarray(ring).view(np.uint64) for ring in rings]
        for i in range(nr):
            view = keep[i]
            at[i] = <event *>&view[0] if view.shape[0] else NULL
            counts[i] = view.shape[0] // (sizeof(event) // 8)
        f.nr = 0
        if final is not None:
            by_page = _rows(final)
            by_page = by_page[np.argsort(by_page[:, 0], kind="stable")]
            rows = by_page
            numbers = np.ascontiguousarray(by_page[:, 0])
            f.nr = rows.shape[0]
            f.rows = &rows[0, 0] if f.nr else NULL
            f.page = &numbers[0] if f.nr else NULL
            observe = observe_final
        with nogil:
            for i in range(self.shards):
                data_oracle_burst(&self.oracles[i], self.reporter, at, counts, nr, observe, &f)
                if shift != NOT_COUNTED:
                    overlaps_count(at, counts, nr, shift, i, self.shards, self.overlaps)
        return 0

    cdef dict violation(self, uint64_t i):
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
            "nr_violations": violations,
            "violations": [self.violation(i) for i in range(min(violations, <uint64_t>MAX_REPORTS))],
        }


cdef object _rows(rows):
    return np.ascontiguousarray(rows, np.uint64).reshape(-1, 3)


def check(rings: list, maps, pages, final=None, task_pages: int = 0, search: bool = True, budget: int = BUDGET) -> dict:
    """Check a history of an address space.

    ``rings``: one EVENT_DTYPE array for each worker, in program order, walk lines included, times from 1. ``maps``: uint64
    rows (start, end, states) of the mappings before it, ascending; states: 2 read-only, 4 writable, their sum if
    that is not known; plus 16 if guards lie on its pages, 24 if that is not known. ``pages``: rows (page, incarnation,
    value) of the pages that were present, incarnation 0 for the zero page; ``final``: the same at its end, or None if
    that is not known. ``search``: look closer at pages on which the rules alone are not exact; ``budget``: at how many
    states of each. ``task_pages``: size of the address space, 0 if not known.

    Returns checked, unchecked (operations), nr_violations, violations (at most 32), searched, undecided (pages),
    undecided_page, and for the first page on which a search failed: failed (page, t0, t1 of the operation that
    cannot end, entries and maps that were possible there), or None.
    """
    cdef _Checker c = _Checker(1)
    cdef decider *d = &c.decider
    c.oracles.task_pages = task_pages
    d.search.budget = budget
    if search:
        c.oracles.decide = page_decide
        c.oracles.decide_ctx = d
    c.start(maps, pages)
    c.burst(list(rings), final)
    return c.verdict() | {
        "searched": d.searched,
        "undecided": d.undecided,
        "undecided_page": d.undecided_page,
        "failed": {"page": d.failed_page, "t0": d.failed_t0, "t1": d.failed_t1, "entries": d.entries, "maps": d.maps}
        if d.nr_failed else None,
    }


def check_bursts(bursts: list, pages_per_table: int = 512, shards: int = 1) -> dict:
    """Check a history of several bursts with the rules alone, from an empty address space on, as a run does.

    ``bursts``: pairs (rings, final) as in ``check``; final None only for the last one. ``pages_per_table`` is a power
    of two. Returns checked, unchecked, nr_violations, violations (at most 32), overlaps[verb, verb]: how often two
    operations met on one table. ValueError: bad argument.
    """
    if pages_per_table < 1 or pages_per_table & (pages_per_table - 1):
        raise ValueError(f"pages_per_table {pages_per_table}: expected a power of two")
    if shards < 1:
        raise ValueError(f"shards {shards}: expected at least 1")
    if any(final is None for _, final in bursts[:-1]):
        raise ValueError("only the last burst may go without its final pages")
    cdef _Checker c = _Checker(shards)
    for rings, final in bursts:
        c.burst(list(rings), final, pages_per_table.bit_length() - 1)
    overlaps = np.array([c.overlaps[i] for i in range(NR_VERBS * NR_VERBS)], np.uint64).reshape(NR_VERBS, NR_VERBS)
    return c.verdict() | {"overlaps": overlaps}
