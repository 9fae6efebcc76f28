# What the pages of a group share: its range operations and the very large ones, and of these those that a page has.
#
# Narrowed down twice, because a page has few of its group's: a block of pages keeps those that touch it, and of these a
# stretch those that cover it, which are the same ones for all of its pages. Only the first page of a block looks through all.
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from cy.base.shm cimport event
from cy.check.data_discards cimport discards_add, discards_begin, discards_finish, discards_lay_out, discards_turn
from cy.check.data_scan cimport data_is_walk, data_kind
from cy.check.data_types cimport (
    BLOCK_PAGES, DISCARD, DISCARD_SURE, GROUP_PAGES, GROUP_SHIFT, data_group, data_oracle, data_room, group_discard, group_walk)

cdef enum:
    LONG = 64                   # shorter lists are sooner made anew than passed by where they do not count

cdef extern from *:
    """
    #define data_ctz(x) ((uint32_t)__builtin_ctzll(x))
    """
    uint32_t data_ctz(uint64_t x) noexcept nogil

# Does this very large operation concern the group?
cdef inline bint data_covers(const event *e, uint64_t group) noexcept nogil:
    return e.start >> GROUP_SHIFT <= group and (e.end - 1) >> GROUP_SHIFT >= group

# Collect what there is, by t0: o.granges and o.gwalks. Returns False without memory.
cdef inline bint data_share(data_oracle *o, const data_group *g) noexcept nogil:
    cdef uint64_t room = g.nr + o.nr_wide, i = g.first, k = 0, base = g.group << GROUP_SHIFT
    cdef const event *e
    cdef uint16_t lo, hi
    o.nr_granges = 0
    o.nr_gwalks = 0
    o.block_hi = 0
    o.shared_hi = 0
    if not (data_room(o, <void **>&o.granges, &o.cap_granges, room, sizeof(group_discard))
            and data_room(o, <void **>&o.branges, &o.cap_branges, room, sizeof(group_discard))
            and data_room(o, <void **>&o.gwalks, &o.cap_gwalks, room, sizeof(group_walk))
            and data_room(o, <void **>&o.bwalks, &o.cap_bwalks, room, sizeof(group_walk))
            and data_room(o, <void **>&o.walks, &o.cap_walks, room, sizeof(event *))):
        return False
    while True:
        while k < o.nr_wide and not data_covers(o.wide[k], g.group):
            k += 1
        if i < g.first + g.nr and (k == o.nr_wide or o.gsorted[i].t0 <= o.wide[k].t0):
            e = o.gsorted[i]
            i += 1
        elif k < o.nr_wide:
            e = o.wide[k]
            k += 1
        else:
            return True
        lo = <uint16_t>(e.start - base) if e.start > base else 0
        hi = <uint16_t>(e.end - base) if e.end - base < GROUP_PAGES else <uint16_t>GROUP_PAGES
        if data_is_walk(e):
            _keep_walk(o, e, lo, hi)
        else:
            _keep_range(o, e, lo, hi)

cdef inline void _keep_walk(data_oracle *o, const event *e, uint16_t lo, uint16_t hi) noexcept nogil:
    cdef group_walk *w = &o.gwalks[o.nr_gwalks]
    o.nr_gwalks += 1
    w.e = e
    w.lo = lo
    w.hi = hi

cdef inline void _keep_range(data_oracle *o, const event *e, uint16_t lo, uint16_t hi) noexcept nogil:
    cdef group_discard *r = &o.granges[o.nr_granges]
    o.nr_granges += 1
    r.t0 = e.t0
    r.t1 = e.t1
    r.lo = lo
    r.hi = hi
    r.kind = data_kind(e)

# Make o.shared and o.walks those that cover page `at` of the group. Context: pages in ascending order. Returns False
# without memory.
cdef inline bint data_share_at(data_oracle *o, uint64_t at) noexcept nogil:
    if at < o.shared_hi:
        return True
    if at >= o.block_hi and not _narrow_to_block(o, at):
        return False
    return _narrow_to_stretch(o, at)

# The next page behind `at` at which [lo, hi) begins or ends, or `upto` if that comes first.
cdef inline uint64_t _edge(uint64_t lo, uint64_t hi, uint64_t at, uint64_t upto) noexcept nogil:
    cdef uint64_t edge = lo if lo > at else hi
    return edge if edge > at and edge < upto else upto

# The bits of o.edges for a range.
cdef inline uint64_t _edges(uint64_t lo, uint64_t hi, uint64_t at) noexcept nogil:
    return (<uint64_t>1 << (lo - at) if lo - at < BLOCK_PAGES else 0) | (<uint64_t>1 << (hi - at) if hi - at < BLOCK_PAGES else 0)

# A block begins at `at` and reaches further than usual if nothing begins or ends in it.
cdef inline bint _narrow_to_block(data_oracle *o, uint64_t at) noexcept nogil:
    cdef uint64_t i, nr = 0, end = at + BLOCK_PAGES, edge = GROUP_PAGES, edges = 0
    cdef uint32_t kinds = 0
    cdef const group_discard *r
    cdef const group_walk *w
    # Each is copied, and only those that touch the block are kept: nothing to guess for the processor.
    for i in range(o.nr_granges):
        r = &o.granges[i]
        edge = _edge(r.lo, r.hi, at, edge)
        edges |= _edges(r.lo, r.hi, at)
        kinds |= r.kind
        o.branges[nr] = r[0]
        nr += r.hi > at and r.lo < end
    o.nr_branges = nr
    nr = 0
    for i in range(o.nr_gwalks):
        w = &o.gwalks[i]
        edge = _edge(w.lo, w.hi, at, edge)
        edges |= _edges(w.lo, w.hi, at)
        o.bwalks[nr] = w[0]
        nr += w.hi > at and w.lo < end
    o.nr_bwalks = nr
    o.edges = edges
    o.block_lo = at
    o.block_hi = edge if edge > end else end
    o.laid_out = o.nr_branges >= LONG and kinds & ~<uint32_t>(DISCARD | DISCARD_SURE) == 0
    return not o.laid_out or _lay_out(o)

# Many ranges, and nearly always all are dontneeds. Then the list is made once for the block, and at each page those that
# begin or end there are put in or taken out, instead of a new list for each stretch.
cdef inline bint _lay_out(data_oracle *o) noexcept nogil:
    cdef uint64_t i
    cdef group_discard *r
    if not discards_begin(o, &o.shared, o.nr_branges):
        return False
    discards_lay_out(&o.shared, o.branges, o.nr_branges, o.block_lo)
    for i in range(BLOCK_PAGES):
        o.begins[i] = 0
        o.ends[i] = 0
    o.laid_hi = 1
    for i in range(o.nr_branges):
        r = &o.branges[i]
        if r.lo > o.block_lo:
            _chain(o.begins, r.lo - o.block_lo, &r.next_begin, i)
        if r.hi - o.block_lo < BLOCK_PAGES:
            _chain(o.ends, r.hi - o.block_lo, &r.next_end, i)
    return True

cdef inline void _chain(uint32_t *heads, uint64_t page, uint32_t *next, uint64_t i) noexcept nogil:
    next[0] = heads[page]
    heads[page] = <uint32_t>i + 1

# Put in what begins at page `page` of the block, and take out what ends there.
cdef inline void _turn(data_oracle *o, uint64_t page) noexcept nogil:
    cdef uint32_t i = o.begins[page]
    while i != 0:
        discards_turn(&o.shared, i - 1, o.branges[i - 1].t1, o.branges[i - 1].kind)
        i = o.branges[i - 1].next_begin
    i = o.ends[page]
    while i != 0:
        discards_turn(&o.shared, i - 1, 0, 0)
        i = o.branges[i - 1].next_end

cdef inline bint _narrow_to_stretch(data_oracle *o, uint64_t at) noexcept nogil:
    cdef uint64_t i, nr = 0, behind = at - o.block_lo
    cdef const group_discard *r
    cdef const group_walk *w
    if o.laid_out:
        while o.laid_hi <= behind and o.laid_hi < BLOCK_PAGES:
            _turn(o, o.laid_hi)
            o.laid_hi += 1
    else:
        if not discards_begin(o, &o.shared, o.nr_branges):
            return False
        for i in range(o.nr_branges):
            r = &o.branges[i]
            if r.lo <= at and r.hi > at:
                discards_add(&o.shared, r.t0, r.t1, r.kind)
        discards_finish(&o.shared)
    for i in range(o.nr_bwalks):
        w = &o.bwalks[i]
        o.walks[nr] = w.e
        nr += w.lo <= at and w.hi > at
    o.nr_walks = nr
    # The next edge; a block that is longer has none.
    behind = o.edges >> 1 >> behind if behind < BLOCK_PAGES else 0
    o.shared_hi = at + 1 + data_ctz(behind) if behind else o.block_hi
    o.shared_checked = 0
    return True
