# Rule F: when a page was surely present, when surely absent, and what walks say.
#
# Something that was there at a begin t0 and that nothing could take away since is there from its end on
# until the next operation begins that could. So evidence (ends of accesses; of sure discards) and breakers
# (discards; attempts to access) give disjoint stretches of certainty. A walk is wrong if it lies inside
# a stretch of the other kind.
from libc.stdint cimport uint64_t
from cy.base.shm cimport VERB_WALK, event
from cy.check.data_discards cimport changes_may
from cy.check.data_scan cimport data_is_walk
from cy.check.data_types cimport (
    DISCARD_SURE, GUARDED, OPEN, PAGE_ABSENT, PAGE_ANON, PAGE_ZERO, data_oracle, data_page, data_report, discards, stretch_list)

# Evidence [e0, e1] by e0; breakers by b0, with the latest end so far. `carried`: it was so at time 0.
cdef inline void stretches(stretch_list *s, const uint64_t *e0, const uint64_t *e1, uint64_t nr_e,
                           const uint64_t *b0, const uint64_t *bmax, uint64_t nr_b, bint carried) noexcept nogil:
    cdef uint64_t i, j = 0, begin = 0 if carried else <uint64_t>-1, broken = 0
    s.n = 0
    for i in range(nr_e):
        while j < nr_b and b0[j] <= e0[i]:
            if bmax[j] != broken:       # else one before it lasts longer, or it covers other pages
                begin = _stretch(s, begin, b0[j])
                broken = bmax[j]
            j += 1
        if (broken == 0 or broken < e0[i]) and e1[i] < begin:
            begin = e1[i]
    while j < nr_b and bmax[j] == broken:
        j += 1
    _stretch(s, begin, b0[j] if j < nr_b else <uint64_t>-1)

cdef inline uint64_t _stretch(stretch_list *s, uint64_t begin, uint64_t end) noexcept nogil:
    if begin < end:
        s.lo[s.n] = begin
        s.hi[s.n] = end
        s.n += 1
    return <uint64_t>-1

# Fill o.present and o.absent. Context: o.a0, o.amax are the attempts; o.e0, o.e1 the successful accesses.
cdef inline void presence_fill(data_oracle *o, const data_page *p, const discards *d, uint64_t nr_e) noexcept nogil:
    cdef uint64_t i, n = 0
    stretches(&o.present, o.e0, o.e1, nr_e, d.t0, d.pmax, d.n, p.state == PAGE_ANON or (p.state == PAGE_ZERO and not o.zero_goes))
    for i in range(d.n):
        if d.kind[i] & DISCARD_SURE:
            o.e0[n] = d.t0[i]
            o.e1[n] = d.t1[i]
            n += 1
    stretches(&o.absent, o.e0, o.e1, n, o.a0, o.amax, o.nr_a, p.state == PAGE_ABSENT)

# The walks of the page: small ones are among its own entries, others its stretch has. By t0 both.
cdef inline void presence_check(data_oracle *o, const data_page *p, const discards *d) noexcept nogil:
    cdef uint64_t at_present = 0, at_absent = 0, i
    cdef bint ok = True
    if o.present.n == 0 and o.absent.n == 0 and not d.guards.n and not o.guards & GUARDED:
        return
    for i in range(o.nr_walks):
        ok = ok and _walk_check(o, p.page, d, o.walks[i], &at_present, &at_absent)
    at_present = 0
    at_absent = 0
    for i in range(p.first, p.first + p.nr):
        if data_is_walk(o.sorted[i]):
            ok = ok and _walk_check(o, p.page, d, o.sorted[i], &at_present, &at_absent)

# Returns False after a report: one for each page is enough.
cdef inline bint _walk_check(data_oracle *o, uint64_t page, const discards *d, const event *e, uint64_t *at_present,
                             uint64_t *at_absent) noexcept nogil:
    cdef uint64_t i = page - e.start
    if page < e.start or page >= e.end:
        return True
    if (<const uint64_t *>(e + 1))[i >> 6] >> (i & 63) & 1:
        if _inside(&o.absent, at_absent, e.t0, e.t1):
            data_report(o, 46, b"a walk (begin a, end b) found a page that was absent all the time", page, e.t0, e.t1)
            return False
        if not changes_may(&d.guards, o.guards, OPEN, e.t0, e.t1):
            data_report(o, 38, b"a walk (begin a, end b) found a page that a guard lay on all the time", page, e.t0, e.t1)
            return False
    elif e.verb == VERB_WALK and _inside(&o.present, at_present, e.t0, e.t1):
        data_report(o, 46, b"a walk (begin a, end b) missed a page that was present all the time", page, e.t0, e.t1)
        return False
    return True

# Does [t0, t1] lie inside a stretch? `at` moves on with ascending t0.
cdef inline bint _inside(const stretch_list *s, uint64_t *at, uint64_t t0, uint64_t t1) noexcept nogil:
    while at[0] + 1 < s.n and s.lo[at[0] + 1] < t0:
        at[0] += 1
    return s.n != 0 and s.lo[at[0]] < t0 and t1 < s.hi[at[0]]
