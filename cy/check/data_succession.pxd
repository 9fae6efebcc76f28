# Rules B, C and D: the incarnations of a page follow each other, and each change has its discard.
#
# For each incarnation:  first   the least end of its operations; it was installed by then
#                        last    the greatest begin; no discard that ended it had returned before
#                        since   the earliest instant at which it can have been installed: behind the
#                                visit of every sure discard that returned before `last`, behind every
#                                certain zero read before `last`, and while a write was attempted
# since > first is a contradiction. Which one it is tells which rule was broken.
#
# Changes: sort the `since` and the `first` of all incarnations, each by itself. The k-th change comes
# after the k-th since and not after the (k+1)-th first; a certain zero observation that comes after
# k of the firsts needs k changes. Each change takes a discard of its own that is open in that window.
# Both ends of the windows ascend, so that taking the discard that returns first finds an assignment if
# there is one. A guard_install makes any number of changes in its time, and so takes none from the
# others. The windows are wider than the truth: no assignment means a lost write.
# Besides, two incarnations that follow each other by `first` need a discard between them that returned after
# the last use of the one it ended, and so does the last one before a zero observation.
# A zero read is certain if no discard overlaps it: a zero page that a discard ended can be in a
# TLB until that discard returns.
# Lazy discards (I39): such a one, D, ends an incarnation only if a free marked it by then and no store to it began after
# that free returned: such a store has set D in the entry, and D would have seen it. Among the frees that began before D
# returned the one that returned last decides. This is asked for the incarnation that a change must have ended;
# counting takes every lazy discard for a possible one. A loss breaks I39 if such a discard came by, I33 if none did.
from libc.stdint cimport uint32_t, uint64_t
from cy.check.data_discards cimport changes_any, discards_any, discards_any_hard, discards_since
from cy.check.data_types cimport DISCARD_OFTEN, GUARDED, data_oracle, data_report, discards, life
from cy.check.sort cimport heap_pop, heap_push, lower_bound, span, span_sort, spans_below, upper_bound

# Context: register_op for all operations of the page, o.w0, o.wmax and o.z0, o.z1 are filled in, by t0.
# Returns True if it reported something.
cdef inline bint succession_check(data_oracle *o, const discards *d, uint64_t page) noexcept nogil:
    cdef uint64_t i
    if o.nr_lives == 0:
        return False
    _keep_certain_zeros(o, d)
    for i in range(o.nr_lives):
        if _find_since(o, d, page, &o.lives[i]):
            return True
    if o.nr_lives == 1 and o.nr_z == 0:
        return False
    return _check_changes(o, d, page)

# May a lazy discard that returned at t1 have ended this incarnation? Context: _find_since.
cdef inline bint lazy_can_end(const discards *d, const life *l, uint64_t t1) noexcept nogil:
    cdef uint64_t i = upper_bound(d.f0, d.nr_frees, t1)
    if i > 0 and d.fmax[i - 1] >= l.since:
        return l.last_store <= d.fmax[i - 1]
    return l.lazy and l.last_store == 0

# Is there a discard with t0 <= latest and t1 >= earliest that can end this incarnation? Of the lazy ones that which
# returned last can if any can.
cdef inline bint _can_end(const discards *d, const life *l, uint64_t earliest, uint64_t latest) noexcept nogil:
    cdef uint64_t i
    if discards_any_hard(d, earliest, latest):
        return True
    i = upper_bound(d.l0, d.nr_lazy, latest)
    return i > 0 and d.lmax[i - 1] >= earliest and lazy_can_end(d, l, d.lmax[i - 1])

# Drop the zero reads that a discard overlaps, and index the others like sure discards.
cdef inline void _keep_certain_zeros(data_oracle *o, const discards *d) noexcept nogil:
    cdef uint64_t i, n = 0, least = <uint64_t>-1
    for i in range(o.nr_z):
        if not discards_any(d, o.z0[i], o.z1[i]):
            o.z0[n] = o.z0[i]
            o.z1[n] = o.z1[i]
            n += 1
    o.nr_z = n
    for i in range(n, 0, -1):
        if o.z1[i - 1] < least:
            least = o.z1[i - 1]
        o.zmin[i - 1] = least

cdef inline bint _find_since(data_oracle *o, const discards *d, uint64_t page, life *l) noexcept nogil:
    cdef uint64_t i
    l.since = discards_since(d, l.last)
    if l.since > l.first:
        data_report(o, 32, b"frame a was used after a discard returned that began after an earlier use", page, l.incarnation, 0)
        return True
    i = lower_bound(o.zmin, o.nr_z, l.last)
    if i > 0 and o.z0[i - 1] > l.since:
        l.since = o.z0[i - 1]
        if l.since > l.first:
            data_report(o, 33, b"zero was read between two uses of frame a, and no discard was open", page, l.incarnation, 0)
            return True
    if l.carried:
        l.since = 0
        return False
    # Move on to the next instant at which a write was attempted.
    i = upper_bound(o.w0, o.nr_w, l.since)
    if i == 0 or o.wmax[i - 1] < l.since:
        l.since = o.w0[i] if i < o.nr_w else <uint64_t>-1
    if l.since > l.first or l.since == <uint64_t>-1:
        data_report(o, 31, b"frame a was used, but no write can have installed it", page, l.incarnation, 0)
        return True
    return False

cdef inline bint _check_changes(data_oracle *o, const discards *d, uint64_t page) noexcept nogil:
    cdef uint64_t n = o.nr_lives, i, k, since, latest
    cdef uint32_t last_of = 0
    cdef span *firsts = o.spans
    cdef life *a
    cdef life *b
    for i in range(n):
        firsts[i].lo = o.lives[i].since
    span_sort(firsts, n, o.spans_tmp)
    for i in range(n):
        o.sinces[i] = firsts[i].lo
    for i in range(n):
        firsts[i].lo = o.lives[i].first
        firsts[i].hi = _ends_after(&o.lives[i])
        firsts[i].tag = i
    span_sort(firsts, n, o.spans_tmp)
    for i in range(1, n):
        a = &o.lives[firsts[i - 1].tag]
        b = &o.lives[firsts[i].tag]
        # One of the two was there first, and its discard was seen by the other one.
        if not (_can_end(d, a, firsts[i - 1].hi, firsts[i].lo) or _can_end(d, b, firsts[i].hi, firsts[i - 1].lo)):
            if discards_any(d, firsts[i - 1].hi, firsts[i].lo):
                data_report(o, 39, b"a write to frame a was lost to memory pressure: frame b took its place", page, a.incarnation,
                            b.incarnation)
            else:
                data_report(o, 33, b"a write to frame a was lost: frame b took its place, and no discard can have ended a",
                            page, a.incarnation, b.incarnation)
            return True
    # dead[k]: k + 1 incarnations have ended by then. From here on `hi` is the latest so far.
    since = 0
    for i in range(n):
        if i == 0 or firsts[i].hi > since:
            since = firsts[i].hi
            last_of = <uint32_t>firsts[i].tag
        firsts[i].hi = since
        o.lives[firsts[i].tag].last_of = last_of
        o.dead[i] = firsts[i + 1].lo if i + 1 < n else <uint64_t>-1
    for i in range(o.nr_z):
        k = spans_below(firsts, n, o.z0[i])
        if k == 0:
            continue
        a = &o.lives[o.lives[firsts[k - 1].tag].last_of]
        if not _can_end(d, a, firsts[k - 1].hi, o.z1[i]):
            if discards_any(d, firsts[k - 1].hi, o.z1[i]):
                data_report(o, 39, b"a write to frame a was lost to memory pressure: zero was read", page, a.incarnation, 0)
            else:
                data_report(o, 33, b"a write to frame a was lost: zero was read, and no discard can have ended it",
                            page, a.incarnation, 0)
            return True
        if o.z1[i] < o.dead[k - 1]:
            o.dead[k - 1] = o.z1[i]
    k = n if o.nr_z != 0 and spans_below(firsts, n, o.z0[o.nr_z - 1]) == n else n - 1
    latest = <uint64_t>-1
    for i in range(k, 0, -1):
        latest = o.dead[i - 1] if o.dead[i - 1] < latest else latest
        o.dead[i - 1] = latest
    i = _match(o, d, k)
    if i < k:
        data_report(o, 33, b"a write to frame a was lost: too few discards for what came after it; next b",
                    page, o.lives[firsts[i].tag].incarnation, o.lives[firsts[i + 1].tag].incarnation if i + 1 < n else 0)
        return True
    return False

# A discard that ends the incarnation returns at this time or later.
cdef inline uint64_t _ends_after(const life *l) noexcept nogil:
    return l.since if l.since > l.last else l.last

# Give each of the first k changes a discard, those beside a guard_install not. Returns how many could be explained.
cdef inline uint64_t _match(data_oracle *o, const discards *d, uint64_t k) noexcept nogil:
    cdef uint64_t i, at = 0, first, nr = 0
    for i in range(k):
        while nr != 0 and o.heap[0] < o.sinces[i]:
            heap_pop(o.heap, &nr)
        if changes_any(&d.guards, GUARDED, o.sinces[i], o.dead[i]):
            continue
        first = lower_bound(d.pmax, d.n, o.sinces[i])
        at = first if first > at else at        # all before it returned too early
        # One that begins after the best so far returned cannot return before it.
        while at < d.n and d.t0[at] <= o.dead[i] and (nr == 0 or d.t0[at] <= o.heap[0]):
            if d.kind[at] and d.t1[at] >= o.sinces[i] and not d.kind[at] & DISCARD_OFTEN:
                heap_push(o.heap, &nr, d.t1[at])
            at += 1
        if nr == 0:
            return i
        heap_pop(o.heap, &nr)
    return k
