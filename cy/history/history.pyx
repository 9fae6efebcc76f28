"""The history checker's Python face: the data oracle over a whole history, and a search where its rules leave doubt."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from cy.base.cpu cimport cpu
from cy.base.geometry cimport PAGE_SHIFT
from cy.base.shm cimport MAX_CPUS, MAX_REPORTS, event, report, shm_header
from cy.check.data cimport data_oracle_burst, data_oracle_destroy, data_oracle_init
from cy.check.data_table cimport data_page_get
from cy.check.data_types cimport (
    PAGE_ABSENT, PAGE_ANON, PAGE_ZERO, data_oracle, data_page, data_room, mapping, observe_t)
from cy.check.sort cimport upper_bound
from cy.history.page cimport decider, page_decide
from cy.history.types cimport search_free

import numpy as np

#: States that a search may look at for each page before it gives up.
BUDGET = 1 << 22

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
    return PAGE_ANON if incarnation[0] != 0 else PAGE_ZERO


cdef class _Checker:
    """One oracle, its reports, and the search behind it."""

    cdef data_oracle oracle
    cdef decider decider
    cdef cpu *reporter
    cdef shm_header *header

    def __cinit__(self):
        self.reporter = <cpu *>calloc(1, sizeof(cpu))
        self.header = <shm_header *>calloc(1, sizeof(shm_header))
        if not data_oracle_init(&self.oracle, 0, 1) or self.reporter == NULL or self.header == NULL:
            raise MemoryError("no memory for the history checker")
        self.reporter.header = self.header

    def __dealloc__(self):
        data_oracle_destroy(&self.oracle)
        search_free(&self.decider.search)
        free(self.reporter)
        free(self.header)

    cdef int start(self, const uint64_t[:, ::1] maps, const uint64_t[:, ::1] pages) except -1:
        """The address space before the history."""
        cdef data_oracle *o = &self.oracle
        cdef data_page *p
        cdef uint32_t number
        cdef Py_ssize_t i
        if not data_room(o, <void **>&o.maps, &o.cap_maps, maps.shape[0], sizeof(mapping)):
            raise MemoryError("no memory for the mappings")
        for i in range(maps.shape[0]):
            o.maps[i].start = maps[i, 0]
            o.maps[i].end = maps[i, 1]
            o.maps[i].states = <uint32_t>maps[i, 2]
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

    cdef int run(self, list rings, const uint64_t[:, ::1] final, const uint64_t[::1] final_numbers, bint seen) except -1:
        cdef event *at[64]
        cdef uint64_t counts[64]
        cdef const uint64_t[::1] view
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
        if seen:
            observe = observe_final
        f.nr = final.shape[0]
        f.rows = &final[0, 0] if f.nr else NULL
        f.page = &final_numbers[0] if f.nr else NULL
        with nogil:
            data_oracle_burst(&self.oracle, self.reporter, at, counts, nr, observe, &f)
        return 0

    cdef dict violation(self, uint64_t i):
        cdef report *r = &self.header.reports[i]
        return {"invariant": r.invariant, "page": r.addr >> PAGE_SHIFT, "a": r.a, "b": r.b, "what": r.what.decode()}


def check(rings: list, maps, pages, final=None, task_pages: int = 0, search: bool = True, budget: int = BUDGET) -> dict:
    """Check a history of an address space.

    ``rings``: one EVENT_DTYPE array for each worker, in program order, walk lines included, times from 1. ``maps``: uint64
    rows (start, end, states) of the mappings before it, ascending; states: 2 read-only, 4 writable, their sum if
    that is not known. ``pages``: rows (page, incarnation, value) of the pages that were present, incarnation 0 for
    the zero page; ``final``: the same at its end, or None if that is not known. ``search``: look closer at pages
    on which the rules alone are not exact; ``budget``: at how many states of each. ``task_pages``: size of the
    address space, 0 if not known.

    Returns checked, unchecked (operations), nr_violations, violations (at most 32), searched, undecided (pages),
    undecided_page, and for the first page on which a search failed: failed (page, t0, t1 of the operation that
    cannot end, entries and maps that were possible there), or None.
    """
    cdef _Checker c = _Checker()
    cdef decider *d = &c.decider
    last = np.zeros((0, 3), np.uint64) if final is None else np.ascontiguousarray(final, np.uint64).reshape(-1, 3)
    last = last[np.argsort(last[:, 0], kind="stable")]
    c.oracle.task_pages = task_pages
    d.search.budget = budget
    if search:
        c.oracle.decide = page_decide
        c.oracle.decide_ctx = d
    c.start(np.ascontiguousarray(maps, np.uint64).reshape(-1, 3), np.ascontiguousarray(pages, np.uint64).reshape(-1, 3))
    c.run(list(rings), last, np.ascontiguousarray(last[:, 0]), final is not None)
    nr = c.oracle.violations
    return {
        "checked": c.oracle.checked,
        "unchecked": c.oracle.unchecked,
        "nr_violations": nr,
        "violations": [c.violation(i) for i in range(min(nr, MAX_REPORTS))],
        "searched": d.searched,
        "undecided": d.undecided,
        "undecided_page": d.undecided_page,
        "failed": {"page": d.failed_page, "t0": d.failed_t0, "t1": d.failed_t1, "entries": d.entries, "maps": d.maps}
        if d.nr_failed else None,
    }
