# Rule A: each incarnation of a page is a register whose writes store unique values.
#
# Operations on one value form a cluster; its zone reaches from the first end to the last begin of its
# operations: forward if that order is ascending (the register surely held the value all through it),
# backward otherwise (some instant in it is enough). A history of complete operations is linearizable
# exactly if every read has a write that began before it ended, no two forward zones overlap, and no
# backward zone lies inside a forward one.
# Source: Gibbons & Korach, Testing Shared Memories, SIAM J. Comput. 26 (1997), theorem 4.1 and the
# algorithm behind it: O(n log n).
# The initial content (the incarnation's stamp, or the value at the end of the last burst) counts as
# written before everything.
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset
from cy.check.data_types cimport cluster, data_oracle, data_report, data_room, life
from cy.check.sort cimport span, span_sort, spans_below

cdef enum:
    NO_CLUSTER = 0xffffffff

# Forget the last page. `nr` bounds the operations of this one. Returns False without memory.
cdef inline bint register_begin(data_oracle *o, uint64_t nr) noexcept nogil:
    cdef uint64_t size = 8
    o.nr_lives = 0
    o.nr_clusters = 0
    while size <= 2 * nr:
        size *= 2
    o.map_mask = size - 1
    if size > o.cap_map_epochs:
        if not (data_room(o, <void **>&o.map, &o.cap_map, size, sizeof(uint32_t))
                and data_room(o, <void **>&o.map_epochs, &o.cap_map_epochs, size, sizeof(uint32_t))):
            return False
        o.epoch = 0
    o.epoch += 1
    if o.epoch <= 1:
        memset(o.map_epochs, 0, o.cap_map_epochs * sizeof(uint32_t))
        o.epoch = 1
    return (data_room(o, <void **>&o.lives, &o.cap_lives, nr, sizeof(life))
            and data_room(o, <void **>&o.clusters, &o.cap_clusters, 2 * nr, sizeof(cluster))
            and data_room(o, <void **>&o.spans, &o.cap_spans, 2 * nr, sizeof(span))
            and data_room(o, <void **>&o.spans_tmp, &o.cap_spans_tmp, 2 * nr, sizeof(span)))

# The incarnation that the page held at the start of the burst. `lazy`: a free may have marked it.
cdef inline void register_carry(data_oracle *o, uint64_t incarnation, uint64_t value, uint32_t lazy) noexcept nogil:
    cdef uint32_t c = _cluster(o, incarnation, incarnation)
    o.clusters[c].written = 0
    o.clusters[c].first = <uint64_t>-1
    c = _cluster(o, incarnation, value)
    o.clusters[c].written = 1
    o.clusters[c].write_t0 = 0
    o.clusters[c].first = 0
    o.lives[0].first = 0
    o.lives[0].carried = 1
    o.lives[0].lazy = lazy

# Returns the index of the incarnation in o.lives.
cdef inline uint32_t register_op(data_oracle *o, uint64_t incarnation, uint64_t value, uint64_t t0, uint64_t t1,
                                 bint write) noexcept nogil:
    cdef cluster *c = &o.clusters[_cluster(o, incarnation, value)]
    cdef life *l = &o.lives[c.owner]
    if write:
        c.written = 1
        if t0 < c.write_t0:
            c.write_t0 = t0
        if t0 > l.last_store:
            l.last_store = t0
    if t1 < c.first:
        c.first = t1
    if t0 > c.last:
        c.last = t0
    if t1 < l.first:
        l.first = t1
    if t0 > l.last:
        l.last = t0
    return c.owner

# A write of which nobody knows whether it was done.
cdef inline void register_attempt(data_oracle *o, uint64_t incarnation, uint64_t value, uint64_t t0) noexcept nogil:
    cdef cluster *c = &o.clusters[_cluster(o, incarnation, value)]
    c.written = 1
    if t0 < c.write_t0:
        c.write_t0 = t0

# The number of an incarnation that the page used or held.
cdef inline uint32_t register_life(data_oracle *o, uint64_t incarnation) noexcept nogil:
    return o.clusters[_cluster(o, incarnation, incarnation)].owner

# Find or make. A new incarnation comes with the cluster of its stamp.
cdef inline uint32_t _cluster(data_oracle *o, uint64_t incarnation, uint64_t value) noexcept nogil:
    cdef uint64_t h = ((incarnation ^ (value * <uint64_t>0x9E3779B97F4A7C15ULL)) * <uint64_t>0xD6E8FEB86659FD93ULL) >> 32
    cdef uint32_t i, owner
    cdef cluster *c
    cdef life *l
    h &= o.map_mask
    while o.map_epochs[h] == o.epoch:
        i = o.map[h]
        if o.clusters[i].value == value and o.clusters[i].incarnation == incarnation:
            return i
        h = (h + 1) & o.map_mask
    if value == incarnation:
        owner = <uint32_t>o.nr_lives
        o.nr_lives += 1
        l = &o.lives[owner]
        l.incarnation = incarnation
        l.first = <uint64_t>-1
        l.last = 0
        l.since = 0
        l.clusters = NO_CLUSTER
        l.carried = 0
        l.lazy = 0
        l.last_store = 0
        l.last_of = owner
    else:
        owner = o.clusters[_cluster(o, incarnation, incarnation)].owner
        h = _free_slot(o, h)
    i = <uint32_t>o.nr_clusters
    o.nr_clusters += 1
    o.map[h] = i
    o.map_epochs[h] = o.epoch
    c = &o.clusters[i]
    c.incarnation = incarnation
    c.value = value
    c.write_t0 = 0 if value == incarnation else <uint64_t>-1
    c.written = value == incarnation
    c.first = 0 if value == incarnation else <uint64_t>-1
    c.last = 0
    c.owner = owner
    c.next = o.lives[owner].clusters
    o.lives[owner].clusters = i
    return i

# Making the incarnation may have taken the slot that was found.
cdef inline uint64_t _free_slot(data_oracle *o, uint64_t h) noexcept nogil:
    while o.map_epochs[h] == o.epoch:
        h = (h + 1) & o.map_mask
    return h

# Context: all operations of the page are in. Reports at most one violation for each incarnation.
cdef inline void register_check(data_oracle *o, uint64_t page) noexcept nogil:
    cdef uint64_t i
    for i in range(o.nr_lives):
        if o.lives[i].clusters != NO_CLUSTER:
            _check_life(o, page, &o.lives[i])

cdef inline void _check_life(data_oracle *o, uint64_t page, life *l) noexcept nogil:
    cdef uint32_t i = l.clusters
    cdef uint64_t nr = 0, k
    cdef cluster *c
    cdef span *s = o.spans
    cdef span *tmp = o.spans_tmp
    while i != NO_CLUSTER:
        c = &o.clusters[i]
        if not c.written and c.last != 0:
            data_report(o, 34, b"frame a was found with value b, which nothing stored in it", page, l.incarnation, c.value)
            return
        if c.written and c.first < c.write_t0:
            data_report(o, 34, b"value b was read from frame a before its write began", page, l.incarnation, c.value)
            return
        if c.first < c.last:
            s[nr].lo = c.first
            s[nr].hi = c.last
            s[nr].tag = c.value
            nr += 1
        i = c.next
    if nr == 0:
        return
    span_sort(s, nr, tmp)
    for k in range(1, nr):
        if s[k].lo < s[k - 1].hi:
            data_report(o, 34, b"values a and b were each read after the other one was in place",
                        page, s[k - 1].tag, s[k].tag)
            return
    i = l.clusters
    while i != NO_CLUSTER:
        c = &o.clusters[i]
        if c.first >= c.last and c.first != 0:
            k = spans_below(s, nr, c.last)
            if k != 0 and c.first < s[k - 1].hi:
                data_report(o, 34, b"value a was read although b had replaced it", page, s[k - 1].tag, c.value)
                return
        i = c.next
