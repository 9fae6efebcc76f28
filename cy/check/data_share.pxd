# What the pages of a group share: its range operations and the very large ones, and of these those that a page has.
#
# Narrowed down twice, because a page has few of its group's: a block of pages keeps those that touch it, and of these a
# stretch those that cover it, which are the same ones for all of its pages. Only the first page of a block looks through all.
from libc.stdint cimport uint16_t, uint64_t
from cy.base.shm cimport event
from cy.check.data_discards cimport discards_add, discards_begin, discards_finish
from cy.check.data_scan cimport data_is_walk, data_kind
from cy.check.data_types cimport (
    BLOCK_PAGES, GROUP_PAGES, GROUP_SHIFT, data_group, data_oracle, data_room, group_discard, group_walk)

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
            and data_room(o, <void **>&o.branges, &o.cap_branges, room + 1, sizeof(group_discard))
            and data_room(o, <void **>&o.gwalks, &o.cap_gwalks, room, sizeof(group_walk))
            and data_room(o, <void **>&o.bwalks, &o.cap_bwalks, room + 1, sizeof(group_walk))
            and data_room(o, <void **>&o.walks, &o.cap_walks, room + 1, sizeof(event *))):
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
    if at >= o.block_hi:
        _narrow_to_block(o, at)
    return _narrow_to_stretch(o, at)

# The next page behind `at` at which [lo, hi) begins or ends, or `upto` if that comes first.
cdef inline uint64_t _edge(uint64_t lo, uint64_t hi, uint64_t at, uint64_t upto) noexcept nogil:
    cdef uint64_t edge = lo if lo > at else hi
    return edge if edge > at and edge < upto else upto

# A block begins at `at` and reaches further than usual if nothing begins or ends in it.
cdef inline void _narrow_to_block(data_oracle *o, uint64_t at) noexcept nogil:
    cdef uint64_t i, nr = 0, end = at + BLOCK_PAGES, edge = GROUP_PAGES
    cdef const group_discard *r
    cdef const group_walk *w
    # Each is copied, and only those that touch the block are kept: nothing to guess for the processor.
    for i in range(o.nr_granges):
        r = &o.granges[i]
        edge = _edge(r.lo, r.hi, at, edge)
        o.branges[nr] = r[0]
        nr += r.hi > at and r.lo < end
    o.nr_branges = nr
    nr = 0
    for i in range(o.nr_gwalks):
        w = &o.gwalks[i]
        edge = _edge(w.lo, w.hi, at, edge)
        o.bwalks[nr] = w[0]
        nr += w.hi > at and w.lo < end
    o.nr_bwalks = nr
    o.block_hi = edge if edge > end else end

cdef inline bint _narrow_to_stretch(data_oracle *o, uint64_t at) noexcept nogil:
    cdef uint64_t i, nr = 0, edge = o.block_hi
    cdef const group_discard *r
    cdef const group_walk *w
    if not discards_begin(o, &o.shared, o.nr_branges):
        return False
    for i in range(o.nr_branges):
        r = &o.branges[i]
        edge = _edge(r.lo, r.hi, at, edge)
        if r.lo <= at and r.hi > at:
            discards_add(&o.shared, r.t0, r.t1, r.kind)
    discards_finish(&o.shared)
    for i in range(o.nr_bwalks):
        w = &o.bwalks[i]
        edge = _edge(w.lo, w.hi, at, edge)
        o.walks[nr] = w.e
        nr += w.lo <= at and w.hi > at
    o.nr_walks = nr
    o.shared_hi = edge
    o.shared_checked = 0
    return True
