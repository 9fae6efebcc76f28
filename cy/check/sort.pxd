# Sorting and searching for the checkers: spans by their lower end, sorted arrays, a small heap.
#
# Inputs are nearly sorted already (histories come in time order), so both sorts look first.
# `tmp` has room for as many items as `x`.
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef struct span:
    uint64_t lo
    uint64_t hi
    uint64_t tag

cdef enum:
    SORT_SMALL = 24     # below this, insertion

# Sort by lo, stable.
cdef inline void span_sort(span *x, uint64_t n, span *tmp) noexcept nogil:
    cdef uint64_t i, j, width, mid, end
    cdef span s
    if _spans_sorted(x, n):
        return
    if n <= SORT_SMALL:
        for i in range(1, n):
            s = x[i]
            j = i
            while j > 0 and x[j - 1].lo > s.lo:
                x[j] = x[j - 1]
                j -= 1
            x[j] = s
        return
    width = 1
    while width < n:
        i = 0
        while i + width < n:
            mid = i + width
            end = mid + width if mid + width < n else n
            if x[mid - 1].lo > x[mid].lo:
                _span_merge(x, tmp, i, mid, end)
            i = end
        width <<= 1

# How many of the spans, sorted by lo, have lo < v.
cdef inline uint64_t spans_below(const span *x, uint64_t n, uint64_t v) noexcept nogil:
    cdef uint64_t lo = 0, half
    while n > 0:
        half = n >> 1
        if x[lo + half].lo < v:
            lo += half + 1
            n -= half + 1
        else:
            n = half
    return lo

cdef inline bint _spans_sorted(span *x, uint64_t n) noexcept nogil:
    cdef uint64_t i
    for i in range(1, n):
        if x[i - 1].lo > x[i].lo:
            return False
    return True

cdef inline void _span_merge(span *x, span *tmp, uint64_t start, uint64_t mid, uint64_t end) noexcept nogil:
    cdef uint64_t nr = mid - start, a = 0, b = mid, out = start
    memcpy(tmp, &x[start], nr * sizeof(span))
    while a < nr:
        if b < end and x[b].lo < tmp[a].lo:
            x[out] = x[b]
            b += 1
        else:
            x[out] = tmp[a]
            a += 1
        out += 1

# First index whose item is > v; n if there is none. Where to go on is computed, not branched to: no processor could guess.
cdef inline uint64_t upper_bound(const uint64_t *x, uint64_t n, uint64_t v) noexcept nogil:
    cdef uint64_t lo = 0, half
    while n > 1:
        half = n >> 1
        lo += half & -<uint64_t>(x[lo + half - 1] <= v)
        n -= half
    return lo + (n != 0 and x[lo] <= v)

# First index whose item is >= v; n if there is none.
cdef inline uint64_t lower_bound(const uint64_t *x, uint64_t n, uint64_t v) noexcept nogil:
    return 0 if v == 0 else upper_bound(x, n, v - 1)

# A min-heap of numbers; the caller keeps the size and the room.
cdef inline void heap_push(uint64_t *x, uint64_t *n, uint64_t v) noexcept nogil:
    cdef uint64_t i = n[0], up
    n[0] += 1
    while i > 0:
        up = (i - 1) >> 1
        if x[up] <= v:
            break
        x[i] = x[up]
        i = up
    x[i] = v

# Context: not empty; the least is x[0].
cdef inline void heap_pop(uint64_t *x, uint64_t *n) noexcept nogil:
    cdef uint64_t i = 0, child, v
    n[0] -= 1
    v = x[n[0]]
    while True:
        child = 2 * i + 1
        if child >= n[0]:
            break
        if child + 1 < n[0] and x[child + 1] < x[child]:
            child += 1
        if x[child] >= v:
            break
        x[i] = x[child]
        i = child
    x[i] = v
