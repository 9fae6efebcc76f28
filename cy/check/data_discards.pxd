# The discards of one page, or of pages that have the same ones, and questions about them.
#
# Lazy discards end only what a free has marked: lazy_can_end. Frees are no discards and stand apart.
# Build: discards_begin, discards_add in the order of t0, discards_finish. All questions are binary
# searches. "Before" is strict: operations that touch in time overlap.
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from cy.check.data_types cimport (
    DISCARD_IF_MAPPED, DISCARD_LAZY, DISCARD_SURE, FREES, GROUP_PAGES, MAKES_HOLE, MAKES_RO, MAKES_RW, MAP_HOLE, MAP_RO, MAP_RW, MAPS,
    data_oracle, discards, group_discard)
from cy.check.sort cimport lower_bound, upper_bound

# Context: `room` bounds what will be added. Returns False without memory.
cdef inline bint discards_begin(data_oracle *o, discards *d, uint64_t room) noexcept nogil:
    d.n = 0
    d.nr_maps = 0
    d.nr_maybe = 0
    d.nr_lazy = 0
    d.nr_frees = 0
    d.latest = 0
    d.latest_hard = 0
    d.latest_lazy = 0
    d.latest_free = 0
    if room <= d.cap:
        return True
    free(d.t0)
    if room < 64:
        room = 64
    d.cap = room * 2
    d.t0 = <uint64_t *>malloc(d.cap * 17 * sizeof(uint64_t))
    if d.t0 == NULL:
        d.cap = 0
        o.out_of_memory = 1
        return False
    d.t1 = d.t0 + d.cap
    d.pmax = d.t1 + d.cap
    d.smin = d.pmax + d.cap
    d.kind = d.smin + d.cap
    d.map = d.kind + d.cap
    d.m0 = d.map + d.cap
    d.hole = d.m0 + d.cap
    d.ro = d.hole + d.cap
    d.rw = d.ro + d.cap
    d.mmin = d.rw + d.cap
    d.hmax = d.mmin + d.cap
    d.l0 = d.hmax + d.cap
    d.lmax = d.l0 + d.cap
    d.f0 = d.lmax + d.cap
    d.f1 = d.f0 + d.cap
    d.fmax = d.f1 + d.cap
    return True

cdef inline void discards_add(discards *d, uint64_t t0, uint64_t t1, uint32_t kind) noexcept nogil:
    if kind & FREES:
        d.f0[d.nr_frees] = t0
        d.f1[d.nr_frees] = t1
        d.latest_free = t1 if t1 > d.latest_free else d.latest_free
        d.fmax[d.nr_frees] = d.latest_free
        d.nr_frees += 1
        return
    if kind & DISCARD_LAZY:
        d.l0[d.nr_lazy] = t0
        d.latest_lazy = t1 if t1 > d.latest_lazy else d.latest_lazy
        d.lmax[d.nr_lazy] = d.latest_lazy
        d.nr_lazy += 1
    elif t1 > d.latest_hard:
        d.latest_hard = t1
    d.hmax[d.n] = d.latest_hard
    d.t0[d.n] = t0
    d.t1[d.n] = t1
    d.kind[d.n] = kind
    d.latest = t1 if t1 > d.latest else d.latest
    d.pmax[d.n] = d.latest
    if kind & MAPS:
        d.map[d.nr_maps] = d.n
        d.nr_maps += 1
    d.n += 1
    if kind & DISCARD_IF_MAPPED:
        d.nr_maybe += 1

# Add those of a group that cover its page `at`. Returns up to which page these are the same ones.
cdef inline uint64_t discards_select(discards *d, const group_discard *r, uint64_t nr, uint64_t at) noexcept nogil:
    cdef uint64_t i, same = GROUP_PAGES
    for i in range(nr):
        if r[i].lo > at:
            if r[i].lo < same:
                same = r[i].lo
        elif r[i].hi > at:
            if r[i].hi < same:
                same = r[i].hi
            discards_add(d, r[i].t0, r[i].t1, r[i].kind)
    return same

cdef inline void discards_finish(discards *d) noexcept nogil:
    # Copies: else the compiler takes every store for one that may change `d`.
    cdef uint64_t i, n = d.n, least = <uint64_t>-1
    cdef const uint64_t *t1 = d.t1
    cdef uint64_t *kind = d.kind
    cdef uint64_t *smin = d.smin
    if d.nr_maps:
        _finish_maps(d)
    if d.nr_maybe:
        for i in range(n):
            # A hole that this one met is a hole all the time, unless something changed mappings meanwhile.
            if kind[i] & DISCARD_IF_MAPPED and not _maps_overlap(d, d.t0[i], t1[i]):
                kind[i] |= DISCARD_SURE
    for i in range(n, 0, -1):
        if kind[i - 1] & DISCARD_SURE and t1[i - 1] < least:
            least = t1[i - 1]
        smin[i - 1] = least

cdef inline void _finish_maps(discards *d) noexcept nogil:
    cdef uint64_t k, i, hole = 0, ro = 0, rw = 0, least = <uint64_t>-1
    for k in range(d.nr_maps):
        i = d.map[k]
        if d.kind[i] & MAKES_HOLE and d.t1[i] > hole:
            hole = d.t1[i]
        if d.kind[i] & MAKES_RO and d.t1[i] > ro:
            ro = d.t1[i]
        if d.kind[i] & MAKES_RW and d.t1[i] > rw:
            rw = d.t1[i]
        d.m0[k] = d.t0[i]
        d.hole[k] = hole
        d.ro[k] = ro
        d.rw[k] = rw
    for k in range(d.nr_maps, 0, -1):
        i = d.map[k - 1]
        if d.kind[i] & DISCARD_SURE and d.t1[i] < least:
            least = d.t1[i]
        d.mmin[k - 1] = least

cdef inline bint _maps_overlap(const discards *d, uint64_t t0, uint64_t t1) noexcept nogil:
    cdef uint64_t i = upper_bound(d.m0, d.nr_maps, t1)
    return i > 0 and (d.hole[i - 1] >= t0 or d.ro[i - 1] >= t0 or d.rw[i - 1] >= t0)

# Is there a discard with t0 <= latest and t1 >= earliest?
cdef inline bint discards_any(const discards *d, uint64_t earliest, uint64_t latest) noexcept nogil:
    cdef uint64_t i = upper_bound(d.t0, d.n, latest)
    return i > 0 and d.pmax[i - 1] >= earliest

# The same without the lazy ones.
cdef inline bint discards_any_hard(const discards *d, uint64_t earliest, uint64_t latest) noexcept nogil:
    cdef uint64_t i = upper_bound(d.t0, d.n, latest)
    return i > 0 and d.hmax[i - 1] >= earliest and d.hmax[i - 1] != 0      # 0: only lazy ones so far

# The greatest t0 of a sure discard that returned before `t`; 0 if there is none.
cdef inline uint64_t discards_since(const discards *d, uint64_t t) noexcept nogil:
    cdef uint64_t i = lower_bound(d.smin, d.n, t)
    return d.t0[i - 1] if i > 0 else 0

# May the page be mapped in a way of the set `wanted` at an instant of [t0, t1]? `carried`: the set at
# the start of the burst.
cdef inline bint discards_may_map(const discards *d, uint32_t carried, uint32_t wanted, uint64_t t0,
                                  uint64_t t1) noexcept nogil:
    cdef uint64_t i, since
    if d.nr_maps == 0:
        return (carried & wanted) != 0
    i = lower_bound(d.mmin, d.nr_maps, t0)
    if i == 0 and carried & wanted:
        return True
    since = d.m0[i - 1] if i > 0 else 1
    i = upper_bound(d.m0, d.nr_maps, t1)
    if i == 0:
        return False
    i -= 1
    return (
        (wanted & MAP_HOLE and d.hole[i] >= since) or (wanted & MAP_RO and d.ro[i] >= since)
        or (wanted & MAP_RW and d.rw[i] >= since))
