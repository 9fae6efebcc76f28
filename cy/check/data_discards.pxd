# The discards of one page, or of pages that have the same ones, the changes of their mapping and guards, and questions about all.
#
# Lazy discards end only what a free has marked: lazy_can_end. Frees are no discards and stand apart.
# Build: discards_begin, discards_add in the order of t0, discards_finish; or discards_begin, discards_lay_out, discards_turn.
# All questions are binary searches. "Before" is strict: operations that touch in time overlap.
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from cy.check.data_types cimport (
    CHANGES_SURE, CHANGE_KEEPS, CHANGE_MET_HOLE, CHANGE_SURE, DISCARD, DISCARD_IF_MAPPED, DISCARD_LAZY,
    DISCARD_SURE, FREES, GUARDS, MAP_ANY, MAPS, MET_HOLE, changes, data_oracle, discards, group_discard)
from cy.check.sort cimport lower_bound, upper_bound

cdef enum:
    ARRAYS = 25

# Context: `room` bounds what will be added. Returns False without memory.
cdef inline bint discards_begin(data_oracle *o, discards *d, uint64_t room) noexcept nogil:
    d.n = 0
    d.maps.n = 0
    d.maps.makes = 0
    d.guards.n = 0
    d.guards.makes = 0
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
    d.t0 = <uint64_t *>malloc(d.cap * ARRAYS * sizeof(uint64_t))
    if d.t0 == NULL:
        d.cap = 0
        o.out_of_memory = 1
        return False
    d.t1 = d.t0 + d.cap
    d.pmax = d.t1 + d.cap
    d.smin = d.pmax + d.cap
    d.kind = d.smin + d.cap
    d.hmax = d.kind + d.cap
    d.l0 = d.hmax + d.cap
    d.lmax = d.l0 + d.cap
    d.f0 = d.lmax + d.cap
    d.f1 = d.f0 + d.cap
    d.fmax = d.f1 + d.cap
    _place(&d.maps, d.fmax + d.cap, d.cap)
    _place(&d.guards, d.fmax + 8 * d.cap, d.cap)
    return True

# Seven arrays.
cdef inline void _place(changes *x, uint64_t *at, uint64_t cap) noexcept nogil:
    cdef uint32_t k
    x.t0 = at
    x.t1 = at + cap
    x.made = at + 2 * cap
    x.smin = at + 3 * cap
    for k in range(3):
        x.latest[k] = at + (4 + k) * cap

cdef inline void discards_add(discards *d, uint64_t t0, uint64_t t1, uint32_t kind) noexcept nogil:
    if kind & FREES:
        _free(d, t0, t1)
    if kind & DISCARD:
        _add(d, t0, t1, kind)
    cdef uint32_t how = ((CHANGE_SURE if kind & CHANGES_SURE else 0) | (0 if kind & DISCARD else CHANGE_KEEPS)
                         | (CHANGE_MET_HOLE if kind & MET_HOLE else 0))
    if kind & MAPS:
        _change(&d.maps, t0, t1, ((kind & MAPS) >> 3) | how)
    if kind & GUARDS:
        _change(&d.guards, t0, t1, ((kind & GUARDS) >> 11) | how)

cdef inline void _free(discards *d, uint64_t t0, uint64_t t1) noexcept nogil:
    d.f0[d.nr_frees] = t0
    d.f1[d.nr_frees] = t1
    d.latest_free = t1 if t1 > d.latest_free else d.latest_free
    d.fmax[d.nr_frees] = d.latest_free
    d.nr_frees += 1

cdef inline void _add(discards *d, uint64_t t0, uint64_t t1, uint32_t kind) noexcept nogil:
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
    d.n += 1
    if kind & DISCARD_IF_MAPPED:
        d.nr_maybe += 1

cdef inline void _change(changes *x, uint64_t t0, uint64_t t1, uint64_t made) noexcept nogil:
    x.t0[x.n] = t0
    x.t1[x.n] = t1
    x.made[x.n] = made
    x.makes |= made & MAP_ANY
    x.n += 1

# Add those of `s` that began at `upto` or before; `at` says how many discards, frees, changes of the mapping and of the guard
# of it were added already.
cdef inline void discards_join(discards *d, const discards *s, uint64_t *at, uint64_t upto) noexcept nogil:
    cdef uint32_t kind
    while at[0] < s.n and s.t0[at[0]] <= upto:
        # A doubtful one was decided without the page's own operations.
        kind = <uint32_t>s.kind[at[0]]
        if kind != 0:
            _add(d, s.t0[at[0]], s.t1[at[0]], kind & ~DISCARD_SURE if kind & DISCARD_IF_MAPPED else kind)
        at[0] += 1
    while at[1] < s.nr_frees and s.f0[at[1]] <= upto:
        _free(d, s.f0[at[1]], s.f1[at[1]])
        at[1] += 1
    _join(&d.maps, &s.maps, &at[2], upto)
    _join(&d.guards, &s.guards, &at[3], upto)

cdef inline void _join(changes *x, const changes *s, uint64_t *at, uint64_t upto) noexcept nogil:
    while at[0] < s.n and s.t0[at[0]] <= upto:
        _change(x, s.t0[at[0]], s.t1[at[0]], s.made[at[0]])
        at[0] += 1

# A list of which all surely discard and do nothing else, in another form: it also has those that do not cover page `page`,
# with t1 and kind 0, so that all questions pass them by. Context: nothing was added. Copies: as in discards_finish.
cdef inline void discards_lay_out(discards *d, const group_discard *r, uint64_t nr, uint64_t page) noexcept nogil:
    cdef uint64_t i, covers, latest = 0, least = <uint64_t>-1
    cdef uint64_t *t0 = d.t0
    cdef uint64_t *t1 = d.t1
    cdef uint64_t *kind = d.kind
    cdef uint64_t *pmax = d.pmax
    cdef uint64_t *hmax = d.hmax
    cdef uint64_t *smin = d.smin
    for i in range(nr):
        covers = (r[i].lo <= page) & (r[i].hi > page)
        t0[i] = r[i].t0
        t1[i] = r[i].t1 & -covers
        kind[i] = r[i].kind & -covers
        latest = t1[i] if t1[i] > latest else latest
        pmax[i] = latest
        hmax[i] = latest
    for i in range(nr, 0, -1):
        least = t1[i - 1] if t1[i - 1] and t1[i - 1] < least else least
        smin[i - 1] = least
    d.n = nr
    d.latest = latest

# Put one of them in, or take it out: t1 and kind 0. The sums to both sides change as far as it is the one that counts,
# which is not far, for discards follow each other.
cdef inline void discards_turn(discards *d, uint64_t at, uint64_t t1, uint32_t kind) noexcept nogil:
    cdef uint64_t i, latest = d.pmax[at - 1] if at > 0 else 0, least = d.smin[at + 1] if at + 1 < d.n else <uint64_t>-1
    d.t1[at] = t1
    d.kind[at] = kind
    for i in range(at, d.n):
        latest = d.t1[i] if d.t1[i] > latest else latest
        if d.pmax[i] == latest:
            break
        d.pmax[i] = latest
        d.hmax[i] = latest
    for i in range(at + 1, 0, -1):
        least = d.t1[i - 1] if d.kind[i - 1] and d.t1[i - 1] < least else least
        if d.smin[i - 1] == least:
            break
        d.smin[i - 1] = least
    d.latest = d.pmax[d.n - 1]

cdef inline void discards_finish(discards *d) noexcept nogil:
    # Copies: else the compiler takes every store for one that may change `d`.
    cdef uint64_t i, n = d.n, least = <uint64_t>-1
    cdef const uint64_t *t1 = d.t1
    cdef uint64_t *kind = d.kind
    cdef uint64_t *smin = d.smin
    if d.maps.n:
        _finish_changes(&d.maps)
    if d.guards.n:
        _finish_changes(&d.guards)
    if d.nr_maybe:
        for i in range(n):
            # A hole that this one met is a hole all the time, unless something changed mappings meanwhile.
            if kind[i] & DISCARD_IF_MAPPED and not _changes_overlap(&d.maps, d.t0[i], t1[i]):
                kind[i] |= DISCARD_SURE
    for i in range(n, 0, -1):
        if kind[i - 1] & DISCARD_SURE and t1[i - 1] < least:
            least = t1[i - 1]
        smin[i - 1] = least

cdef inline void _finish_changes(changes *x) noexcept nogil:
    cdef uint64_t i, latest, least = <uint64_t>-1
    cdef uint32_t k
    for k in range(3):
        latest = 0
        for i in range(x.n):
            if x.made[i] >> k & 1 and x.t1[i] > latest:
                latest = x.t1[i]
            x.latest[k][i] = latest
    for i in range(x.n, 0, -1):
        if x.made[i - 1] & CHANGE_SURE and x.t1[i - 1] < least:
            least = x.t1[i - 1]
        x.smin[i - 1] = least

cdef inline bint _changes_overlap(const changes *x, uint64_t t0, uint64_t t1) noexcept nogil:
    cdef uint64_t i = upper_bound(x.t0, x.n, t1)
    return i > 0 and (x.latest[0][i - 1] >= t0 or x.latest[1][i - 1] >= t0 or x.latest[2][i - 1] >= t0)

# Is there a discard with t0 <= latest and t1 >= earliest?
cdef inline bint discards_any(const discards *d, uint64_t earliest, uint64_t latest) noexcept nogil:
    cdef uint64_t i = upper_bound(d.t0, d.n, latest)
    return i > 0 and d.pmax[i - 1] >= earliest and d.pmax[i - 1] != 0      # 0: none so far

# The same without the lazy ones.
cdef inline bint discards_any_hard(const discards *d, uint64_t earliest, uint64_t latest) noexcept nogil:
    cdef uint64_t i = upper_bound(d.t0, d.n, latest)
    return i > 0 and d.hmax[i - 1] >= earliest and d.hmax[i - 1] != 0      # 0: only lazy ones so far

# The greatest t0 of a sure discard that returned before `t`; 0 if there is none.
cdef inline uint64_t discards_since(const discards *d, uint64_t t) noexcept nogil:
    cdef uint64_t i = lower_bound(d.smin, d.n, t)
    return d.t0[i - 1] if i > 0 else 0

# Is there a change into a state of the set with t0 <= latest and t1 >= earliest?
cdef inline bint changes_any(const changes *x, uint32_t wanted, uint64_t earliest, uint64_t latest) noexcept nogil:
    cdef uint64_t i
    cdef uint32_t k
    if not x.makes & wanted:
        return False
    earliest = earliest if earliest else 1      # 0: none of them so far
    i = upper_bound(x.t0, x.n, latest)
    for k in range(3):
        if i > 0 and wanted >> k & 1 and x.latest[k][i - 1] >= earliest:
            return True
    return False

# May the page be in a state of the set `wanted` at an instant of [t0, t1]? `carried`: those that it may have had at
# the start of the burst.
cdef inline bint changes_may(const changes *x, uint32_t carried, uint32_t wanted, uint64_t t0, uint64_t t1) noexcept nogil:
    cdef uint64_t i, since = 1
    if not (carried | x.makes) & ~<uint64_t>wanted:
        return True             # there is no other state
    if x.n == 0:
        return (carried & wanted) != 0
    i = lower_bound(x.smin, x.n, t0)
    if i > 0:
        since = x.t0[i - 1]
    elif carried & wanted:
        return True
    return changes_any(x, wanted, since, t1)
