# From a page of the data oracle to a search: its operations as the search wants them, and whether one is needed.
#
# The rules of cy/check/data.pxd come first. What they object to has no execution. What they let pass has one for
# sure if the page only had accesses, was mapped in one way all the time, and showed frames or zeroes but not both:
# then only rules A and E matter, and both are exact. All other pages are searched.
from libc.errno cimport EFAULT, ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from cy.base.shm cimport VERB_GUP_FAST, VERB_POPULATE, VERB_WALK, event
from cy.check.data_discards cimport discards_since
from cy.check.data_register cimport register_life
from cy.check.data_scan cimport data_is_walk, data_kind, data_populated, walk_word
from cy.check.data_types cimport (
    CHANGES_SURE, CHANGE_KEEPS, CHANGE_MET_HOLE, CHANGE_SURE, DISCARD, DISCARD_IF_MAPPED, DISCARD_LAZY, DISCARD_OFTEN,
    DISCARD_SURE, FREES, GUARDED, GUARDS, MAP_HOLE, MAP_RO, MAP_RW, MAPS, MAPS_IF_MAPPED, MET_HOLE, PAGE_ABSENT, PAGE_ANON,
    PAGE_ZERO, changes, data_is_write, data_oracle, data_page, data_report, discards)
from cy.history.search cimport SEARCH_UNKNOWN, SEARCH_VIOLATION, search_run
from cy.history.types cimport (
    DOES_RANGE, ENTRY_FRAME, ENTRY_NONE, ENTRY_ZERO, MAY_FRAME, MAY_ZERO, NO_OP, SAW_ABSENT, SAW_ALLOWED, SAW_FORBIDDEN,
    SAW_FRAME, SAW_NOTHING, SAW_PRESENT, SAW_ZERO, frame_span, page_op, page_search, search_room)

cdef enum:
    # That the search knows.
    KINDS = (DISCARD | DISCARD_IF_MAPPED | DISCARD_LAZY | DISCARD_OFTEN | DISCARD_SURE | MAPS | MAPS_IF_MAPPED | GUARDS
             | CHANGES_SURE | MET_HOLE)

# What a checker hands to its oracles, and what it gets back.
cdef struct decider:
    page_search search
    uint64_t searched       # pages
    uint64_t undecided
    uint64_t undecided_page # the first one
    uint64_t failed_page    # the first one without an execution, as `search` left it
    uint64_t failed_t0      # the operation that cannot end; 0: the end of the history
    uint64_t failed_t1
    uint64_t entries        # what was possible there: set of ENTRY_*
    uint32_t maps           # set of MAP_*
    uint32_t nr_failed

# The decide_t of data_oracle. Context: o.decide_ctx is a decider.
cdef inline void page_decide(data_oracle *o, const data_page *p, const discards *d, uint32_t state,
                             uint64_t incarnation) noexcept nogil:
    cdef decider *x = <decider *>o.decide_ctx
    cdef page_search *s = &x.search
    cdef uint32_t entry = ENTRY_NONE, final = NO_OP
    cdef int verdict
    if _rules_suffice(o, p, d, state):
        return
    x.searched += 1
    if p.state == PAGE_ZERO:
        entry = ENTRY_ZERO
    elif p.state == PAGE_ANON:
        entry = ENTRY_FRAME + register_life(o, p.incarnation)
    if state == PAGE_ABSENT:
        final = ENTRY_NONE
    elif state == PAGE_ZERO:
        final = ENTRY_ZERO
    elif state == PAGE_ANON:
        final = ENTRY_FRAME + register_life(o, incarnation)
    verdict = search_run(s, o.states, o.guards, entry, final) if _fill(o, s, p, d) else SEARCH_UNKNOWN
    if verdict == SEARCH_UNKNOWN:
        x.undecided_page = p.page if x.undecided == 0 else x.undecided_page
        x.undecided += 1
    elif verdict == SEARCH_VIOLATION:
        _report(o, x, p)

cdef inline bint _rules_suffice(const data_oracle *o, const data_page *p, const discards *d, uint32_t state) noexcept nogil:
    if d.latest != 0 or d.maps.n != 0 or d.guards.n != 0 or o.guards & GUARDED or o.nr_walks != 0 or p.nr != o.nr_a:
        return False
    if o.states & (o.states - 1):
        return False
    if o.nr_lives != 0:
        return o.nr_lives == 1 and o.nr_z == 0
    return state != PAGE_ZERO or p.state == PAGE_ZERO

cdef inline void _report(data_oracle *o, decider *x, const data_page *p) noexcept nogil:
    cdef uint64_t t0 = 0, t1 = 0
    if x.search.failed != NO_OP:
        t0 = x.search.ops[x.search.failed].t0
        t1 = x.search.ops[x.search.failed].t1
    if x.nr_failed == 0:
        x.failed_page = p.page
        x.failed_t0 = t0
        x.failed_t1 = t1
        x.entries = x.search.entries
        x.maps = x.search.maps
    x.nr_failed += 1
    if t0 == 0:
        data_report(o, 34, b"no execution leaves the page as it was found", p.page, 0, 0)
    else:
        data_report(o, 34, b"no execution explains the operation that began at a and ended at b", p.page, t0, t1)

# The page's operations by t0: its own entries, what its group shares, and walks. Of the dontneeds between
# two of the others one is enough: the page is empty after it, whatever the rest does.
cdef inline bint _fill(data_oracle *o, page_search *s, const data_page *p, const discards *d) noexcept nogil:
    cdef uint64_t i = p.first, end = p.first + p.nr, k = 0, w = 0, m = 0, g = 0, f = 0, t, first, until = 0
    cdef uint64_t nr_frees = d.nr_frees if d.nr_lazy != 0 else 0       # who would look at their marks?
    cdef uint64_t room = p.nr + d.n + d.maps.n + d.guards.n + nr_frees + o.nr_walks
    cdef bint emptied = False
    cdef const event *e
    cdef const page_op *op
    s.nr_ops = 0
    if not (search_room(s, <void **>&s.ops, &s.cap_ops, room, sizeof(page_op))
            and _fill_frames(o, s, d)):
        return False
    while True:
        while i < end and data_kind(o.sorted[i]) != 0:
            i += 1              # it is among the discards, changes and frees
        while k < d.n and d.kind[k] == 0:
            k += 1              # it covers other pages
        t = o.sorted[i].t0 if i < end else <uint64_t>-1
        if w < o.nr_walks and o.walks[w].t0 < t:
            t = o.walks[w].t0
        first = min(_next_change(&d.maps, m), _next_change(&d.guards, g))
        if (first != <uint64_t>-1 and first <= t and (k == d.n or first <= d.t0[k])
                and (f == nr_frees or first <= d.f0[f])):
            if _next_change(&d.maps, m) == first:
                op = _add_change(s, &d.maps, m, 3)
                m += 1
            else:
                op = _add_change(s, &d.guards, g, 11)
                g += 1
            until = op.t1 if op.t1 > until else until
            emptied = False
            continue
        if f < nr_frees and d.f0[f] <= t and (k == d.n or d.f0[f] <= d.t0[k]):
            until = d.f1[f] if d.f1[f] > until else until
            emptied = False
            _add(s, d.f0[f], d.f1[f], DOES_RANGE).kind = FREES
            f += 1
            continue
        if k < d.n and d.t0[k] <= t:
            if d.kind[k] & ~<uint64_t>KINDS:
                return False
            if d.kind[k] & (MAPS | GUARDS):
                until = d.t1[k] if d.t1[k] > until else until
                emptied = False
                m += (d.kind[k] & MAPS) != 0
                g += (d.kind[k] & GUARDS) != 0
                _add_range(s, d, k)
            elif (d.kind[k] != (DISCARD | DISCARD_SURE) or d.t0[k] <= until or d.t1[k] >= t
                    or (m < d.maps.n and d.t1[k] >= d.maps.t0[m]) or (g < d.guards.n and d.t1[k] >= d.guards.t0[g])
                    or (f < nr_frees and d.t1[k] >= d.f0[f])):
                _add_range(s, d, k)
            elif not emptied:
                emptied = True
                _add_range(s, d, k)
            k += 1
            continue
        emptied = False
        if w < o.nr_walks and o.walks[w].t0 == t:
            until = o.walks[w].t1 if o.walks[w].t1 > until else until
            _add_walk(s, o.walks[w], p.page)
            w += 1
        elif i < end:
            e = o.sorted[i]
            until = e.t1 if e.t1 > until else until
            if data_is_walk(e):
                _add_walk(s, e, p.page)
            else:
                _add_access(o, s, e, p.page)
            i += 1
        else:
            return True

cdef inline bint _fill_frames(data_oracle *o, page_search *s, const discards *d) noexcept nogil:
    cdef uint64_t i
    cdef frame_span *f
    if not search_room(s, <void **>&s.frames, &s.cap_frames, o.nr_lives, sizeof(frame_span)):
        return False
    s.nr_frames = o.nr_lives
    for i in range(o.nr_lives):
        f = &s.frames[i]
        f.last = o.lives[i].last
        f.since = discards_since(d, f.last)
        f.last_store = o.lives[i].last_store
        f.ended = o.lives[i].carried
        f.lazy = o.lives[i].lazy
    return True

cdef inline page_op *_add(page_search *s, uint64_t t0, uint64_t t1, uint32_t what) noexcept nogil:
    cdef page_op *op = &s.ops[s.nr_ops]
    s.nr_ops += 1
    op.t0 = t0
    op.t1 = t1
    op.what = what
    op.entry = 0
    op.kind = 0
    op.may = 0
    op.wanted = 0
    op.optional = 0
    op.stores = 0
    op.cached = 0
    return op

cdef inline void _add_range(page_search *s, const discards *d, uint64_t k) noexcept nogil:
    cdef page_op *op = _add(s, d.t0[k], d.t1[k], DOES_RANGE)
    op.kind = <uint32_t>d.kind[k]
    op.optional = op.kind & (DISCARD_SURE | DISCARD_IF_MAPPED | CHANGES_SURE) == 0
    if op.kind & MET_HOLE:
        op.wanted = MAP_HOLE
    elif op.kind & (MAPS | DISCARD_IF_MAPPED) == 0:
        op.wanted = MAP_RO | MAP_RW

# When the next change begins, if it is no discard.
cdef inline uint64_t _next_change(const changes *x, uint64_t k) noexcept nogil:
    return x.t0[k] if k < x.n and x.made[k] & CHANGE_KEEPS else <uint64_t>-1

# An mprotect or guard_remove. Only what is mapped changes. `at`: where its MAKES.. stand.
cdef inline page_op *_add_change(page_search *s, const changes *x, uint64_t k, uint32_t at) noexcept nogil:
    cdef page_op *op = _add(s, x.t0[k], x.t1[k], DOES_RANGE)
    cdef bint met_hole = (x.made[k] & CHANGE_MET_HOLE) != 0
    op.kind = <uint32_t>(x.made[k] & 7) << at
    op.optional = not x.made[k] & CHANGE_SURE and not met_hole
    op.wanted = MAP_HOLE if met_hole else MAP_RO | MAP_RW
    return op

cdef inline void _add_walk(page_search *s, const event *e, uint64_t page) noexcept nogil:
    if walk_word(e, page) & 1:
        _add(s, e.t0, e.t1, SAW_PRESENT)
    elif e.verb == VERB_WALK:
        _add(s, e.t0, e.t1, SAW_ABSENT)         # to an age it may be present and old

cdef inline void _add_access(data_oracle *o, page_search *s, const event *e, uint64_t page) noexcept nogil:
    cdef bint populate = e.verb == VERB_POPULATE
    cdef bint write = e.aux == 1 if populate else data_is_write(e)
    cdef page_op *op = _add(s, e.t0, e.t1, SAW_NOTHING)
    op.may = MAY_FRAME if write else MAY_ZERO
    op.stores = write and not populate
    op.cached = e.verb != VERB_GUP_FAST and not populate
    op.wanted = MAP_RW if write else MAP_RO | MAP_RW
    if populate:
        if data_populated(e, page) == 0:
            op.what = SAW_PRESENT
        elif e.status == -EFAULT:
            op.what = SAW_FORBIDDEN         # by a guard
            op.wanted = 0
    elif e.status == 0:
        op.what = SAW_FRAME if e.incarnation else SAW_ZERO
        op.entry = ENTRY_FRAME + register_life(o, e.incarnation) if e.incarnation else 0
    elif e.status == -ENOMEM:
        op.what = SAW_ALLOWED
    elif e.status == -EFAULT:
        op.what = SAW_FORBIDDEN
        op.wanted ^= MAP_HOLE | MAP_RO | MAP_RW
