# Which mappings each stretch of the address space may have at quiescence, and whether guards may lie there, carried from
# burst to burst.
#
# A sorted array of stretches; everything else is a hole. A set has more than one member only where mmap and munmap, or
# guard_install and guard_remove, overlapped in time and their order is not known. Every shard keeps all of it.
from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from cy.base.shm cimport event
from cy.check.data_scan cimport data_kind
from cy.check.data_types cimport (
    CHANGES_SURE, DISCARD, GUARDS, GUARD_SHIFT, MAKES_HOLE, MAKES_RO, MAKES_RW, MAP_ANY, MAP_HOLE, MAP_OPEN, MAP_RO, MAP_RW, MAPS,
    MAPS_IF_MAPPED, data_oracle, data_report, data_room, mapping)
from cy.check.sort cimport span, span_sort, upper_bound

cdef enum:
    TURNS = 5

# The set of MAP_* that a page may have at the start of the burst.
cdef inline uint32_t data_maps_at(data_oracle *o, uint64_t page) noexcept nogil:
    cdef uint64_t i = o.map_hint
    if i >= o.nr_maps or page < o.maps[i].start or page >= o.maps[i].end:
        i = _maps_behind(o, page)
        if i == o.nr_maps or page < o.maps[i].start:
            return MAP_HOLE | MAP_OPEN
        o.map_hint = i
    return o.maps[i].states

# The first stretch that ends behind the page.
cdef inline uint64_t _maps_behind(const data_oracle *o, uint64_t page) noexcept nogil:
    cdef uint64_t lo = 0, n = o.nr_maps, half
    while n > 0:
        half = n >> 1
        if o.maps[lo + half].end <= page:
            lo += half + 1
            n -= half + 1
        else:
            n = half
    return lo

# madvise and mprotect: 0 tells that all of its range was mapped at once; -ENOMEM of an madvise that some of it was not.
# What was mapped or unmapped in this burst may explain either, wherever it was; pages that the burst touched are
# looked at more closely on their own.
cdef inline void data_claims_check(data_oracle *o) noexcept nogil:
    cdef uint64_t i, mapped = <uint64_t>-1, unmapped = <uint64_t>-1
    cdef uint32_t kind
    cdef const event *e
    for i in range(o.nr_map_ops):
        e = o.map_ops[i].e
        kind = data_kind(e)
        if not kind & DISCARD:
            continue            # what it allows changes, not whether it is mapped
        if kind & MAKES_HOLE:
            unmapped = e.t0 if e.t0 < unmapped else unmapped
        if kind & (MAKES_RO | MAKES_RW):
            mapped = e.t0 if e.t0 < mapped else mapped
    for i in range(o.nr_claims):
        e = o.claims[i]
        if e.status == 0 and e.t1 < mapped and not _may_all(o, e.start, e.end, MAP_RO | MAP_RW):
            data_report(o, 34, b"verb a succeeded over a hole before page b", e.start, e.verb, e.end)
        if e.status == -ENOMEM and e.t1 < unmapped and not _may_any(o, e.start, e.end, MAP_HOLE):
            data_report(o, 34, b"verb a met a hole before page b, but all of it was mapped", e.start, e.verb, e.end)

# May every page of [start, end) have a mapping of the set?
cdef inline bint _may_all(const data_oracle *o, uint64_t start, uint64_t end, uint32_t wanted) noexcept nogil:
    cdef uint64_t i = _maps_behind(o, start)
    while start < end:
        if i == o.nr_maps or o.maps[i].start > start:
            return (wanted & MAP_HOLE) != 0 and (i == o.nr_maps or o.maps[i].start >= end)
        if not o.maps[i].states & wanted:
            return False
        start = o.maps[i].end
        i += 1
    return True

# May some page of [start, end) have a mapping of the set?
cdef inline bint _may_any(const data_oracle *o, uint64_t start, uint64_t end, uint32_t wanted) noexcept nogil:
    cdef uint64_t i = _maps_behind(o, start)
    while start < end:
        if i == o.nr_maps or o.maps[i].start > start:
            return (wanted & MAP_HOLE) != 0
        if o.maps[i].states & wanted:
            return True
        start = o.maps[i].end
        i += 1
    return False

# The state after the burst. Between two neighbouring ends of ranges all pages have the same operations;
# of each worker only its last one there counts, and of these only those that did not return before
# another one began. A worker's operations are painted from its last to its first, each stretch once. Mappings and guards
# are painted one after the other.
cdef inline void data_maps_carry(data_oracle *o) noexcept nogil:
    cdef uint64_t nr_cuts, nr, i
    cdef uint64_t *since
    cdef uint64_t *sets
    cdef uint64_t *states
    if o.nr_map_ops == 0:
        return
    nr_cuts = _cut(o)
    if nr_cuts == 0:
        return
    nr = nr_cuts - 1
    if not data_room(o, <void **>&o.paint, &o.cap_paint, 4 * nr_cuts + 64 + o.nr_map_ops, sizeof(uint64_t)):
        return
    since = o.paint + nr_cuts
    sets = since + nr_cuts
    states = sets + nr_cuts
    for i in range(nr):
        sets[i] = 0 if o.guarded else MAP_OPEN
    _paint_sort(o, nr, since, sets, states, MAPS, 0)
    if o.guarded:
        _paint_sort(o, nr, since, sets, states, GUARDS, GUARD_SHIFT)
    _merge(o, nr, sets)

# Add to `sets` the states of one sort that the stretches may have: MAPS, or GUARDS, which stand `at` bits further left.
cdef inline void _paint_sort(data_oracle *o, uint64_t nr, uint64_t *since, uint64_t *sets, uint64_t *states, uint32_t sort,
                             uint32_t at) noexcept nogil:
    cdef uint64_t i, set
    cdef uint32_t turn
    for i in range(nr):
        since[i] = 0
        states[i] = 0
    for turn in range(<uint32_t>TURNS):
        _paint(o, nr, since, states, sort, turn)
    for i in range(nr):
        set = states[i] & MAP_ANY
        if since[i] == 0:
            set |= data_maps_at(o, o.cuts[i]) >> at & (MAP_ANY if at == 0 else MAP_ANY >> 1)
        if set & (MAP_RO | MAP_RW):
            set |= states[i] >> 3
        sets[i] |= set << at

# All ends of ranges, and the carried ones between them, into o.cuts. Returns how many.
cdef inline uint64_t _cut(data_oracle *o) noexcept nogil:
    cdef uint64_t i, n = 0, first = <uint64_t>-1, last = 0, room = 2 * (o.nr_map_ops + o.nr_maps)
    cdef const event *e
    if not (data_room(o, <void **>&o.spans, &o.cap_spans, room, sizeof(span))
            and data_room(o, <void **>&o.spans_tmp, &o.cap_spans_tmp, room, sizeof(span))
            and data_room(o, <void **>&o.cuts, &o.cap_cuts, room, sizeof(uint64_t))):
        return 0
    for i in range(o.nr_map_ops):
        e = o.map_ops[i].e
        o.spans[n].lo = e.start
        o.spans[n + 1].lo = e.end
        n += 2
        first = e.start if e.start < first else first
        last = e.end if e.end > last else last
    for i in range(_maps_behind(o, first), o.nr_maps):
        if o.maps[i].start >= last:
            break
        if o.maps[i].start > first:
            o.spans[n].lo = o.maps[i].start
            n += 1
        if o.maps[i].end < last:
            o.spans[n].lo = o.maps[i].end
            n += 1
    span_sort(o.spans, n, o.spans_tmp)
    room = n
    n = 0
    for i in range(room):
        if n == 0 or o.cuts[n - 1] != o.spans[i].lo:
            o.cuts[n] = o.spans[i].lo
            n += 1
    return n

# Turn 0: since[i], the latest t0 of an operation that surely changed stretch i. Turn 1: the states that such operations may
# have left. Later turns, one for each state: what failed ones may have left; eight times that, if a hole stays one.
cdef inline void _paint(data_oracle *o, uint64_t nr, uint64_t *since, uint64_t *states, uint32_t sort,
                        uint32_t turn) noexcept nogil:
    cdef uint64_t *skip = o.paint               # next stretch that this worker has not painted
    cdef uint64_t *heads = states + nr + 1      # last operation + 1 of each worker, then the one before each
    cdef uint64_t *before = heads + 64
    cdef uint64_t i, at, end
    cdef uint32_t w, kind, made
    cdef const event *e
    for w in range(o.nr_workers):
        heads[w] = 0
    for i in range(o.nr_map_ops):
        if _in_turn(data_kind(o.map_ops[i].e), sort, turn):
            before[i] = heads[o.map_ops[i].item]
            heads[o.map_ops[i].item] = i + 1
    for w in range(o.nr_workers):
        if heads[w] == 0:
            continue
        for i in range(nr + 1):
            skip[i] = i
        i = heads[w]
        while i != 0:
            e = o.map_ops[i - 1].e
            kind = data_kind(e)
            made = (kind & sort) >> (3 if sort == MAPS else 11)
            at = _unpainted(skip, upper_bound(o.cuts, nr + 1, e.start) - 1)
            end = upper_bound(o.cuts, nr + 1, e.end) - 1
            while at < end:
                if turn == 0:
                    since[at] = e.t0 if e.t0 > since[at] else since[at]
                elif e.t1 >= since[at]:
                    states[at] |= made << 3 if kind & MAPS_IF_MAPPED else made
                skip[at] = at + 1
                at = _unpainted(skip, at + 1)
            i = before[i - 1]

# Of failed operations the last one of a worker hides no earlier one that may have left another state.
cdef inline bint _in_turn(uint32_t kind, uint32_t sort, uint32_t turn) noexcept nogil:
    cdef uint32_t first = sort & (~sort + 1)
    if kind & CHANGES_SURE:
        return turn < 2 and (kind & sort) != 0
    return turn >= 2 and (kind & sort & first << (turn - 2)) != 0

cdef inline uint64_t _unpainted(uint64_t *skip, uint64_t i) noexcept nogil:
    cdef uint64_t root = i, next
    while skip[root] != root:
        root = skip[root]
    while skip[i] != root:
        next = skip[i]
        skip[i] = root
        i = next
    return root

# Put the new states between those that lie outside.
cdef inline void _merge(data_oracle *o, uint64_t nr, const uint64_t *sets) noexcept nogil:
    cdef uint64_t i, k, n = 0
    cdef mapping *old
    if not data_room(o, <void **>&o.maps_new, &o.cap_maps_new, 2 * o.nr_maps + nr + 2, sizeof(mapping)):
        return
    for i in range(o.nr_maps):
        if o.maps[i].start < o.cuts[0]:
            n = _append(o, n, o.maps[i].start, o.maps[i].end if o.maps[i].end < o.cuts[0] else o.cuts[0], o.maps[i].states)
    for i in range(nr):
        n = _append(o, n, o.cuts[i], o.cuts[i + 1], <uint32_t>sets[i])
    for i in range(o.nr_maps):
        if o.maps[i].end > o.cuts[nr]:
            n = _append(o, n, o.maps[i].start if o.maps[i].start > o.cuts[nr] else o.cuts[nr], o.maps[i].end, o.maps[i].states)
    old = o.maps
    o.maps = o.maps_new
    o.maps_new = old
    k = o.cap_maps
    o.cap_maps = o.cap_maps_new
    o.cap_maps_new = k
    o.nr_maps = n
    o.map_hint = 0

cdef inline uint64_t _append(data_oracle *o, uint64_t n, uint64_t start, uint64_t end, uint32_t states) noexcept nogil:
    if states & MAP_ANY == MAP_HOLE:
        return n                # and no guard lies in it
    if n > 0 and o.maps_new[n - 1].end == start and o.maps_new[n - 1].states == states:
        o.maps_new[n - 1].end = end
        return n
    o.maps_new[n].start = start
    o.maps_new[n].end = end
    o.maps_new[n].states = states
    return n + 1
