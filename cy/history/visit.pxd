# What one visit of an operation on a range does to the page: cy/history/search.pxd.
from libc.stdint cimport uint32_t, uint64_t
from cy.check.data_types cimport (
    DISCARD, DISCARD_IF_MAPPED, DISCARD_LAZY, DISCARD_OFTEN, FREES, MAKES_OPEN, MAP_HOLE, MAP_RO, MAP_RW)
from cy.history.types cimport (
    ENTRY_FRAME, ENTRY_GUARD, ENTRY_NONE, ENTRY_UNNAMED, ENTRY_ZERO, MAX_STALE, STALE_FRAME, STALE_RO, config, frame_span,
    page_op, page_search)

# The operation in this slot comes by; `map`: what it maps, or 0. Returns False if it cannot, or if it would end what is
# needed later.
cdef inline bint visit(page_search *s, config *c, uint32_t slot, uint32_t map, uint64_t now) noexcept nogil:
    cdef page_op *op = &s.ops[s.slot[slot]]
    if op.wanted != 0 and not op.wanted & c.map:
        return False
    if op.kind & DISCARD_OFTEN:
        return _guard(s, c, op.t1, now)
    c.done |= <uint64_t>1 << slot
    if op.kind & MAKES_OPEN and c.entry == ENTRY_GUARD:
        c.entry = ENTRY_NONE
    if op.kind & DISCARD_IF_MAPPED and c.map == MAP_HOLE:
        return True
    if op.kind & FREES:
        if c.entry >= ENTRY_UNNAMED and c.freed <= op.t1:
            c.freed = op.t1 + 1
        return True
    if op.kind & DISCARD_LAZY:
        return _is_marked(s, c) and _end_frame(s, c, op.t1, now)
    if op.kind & DISCARD and not _discard(s, c, op.t1, now):
        return False
    if map == MAP_RO and not op.kind & DISCARD and not _forbid_stores(s, c, op.t1):
        return False
    if map != 0:
        c.map = map
    return True

# A guard_install: it ends what is there, or puts its marker where nothing is, and no TLB has what others ended when it returns.
cdef inline bint _guard(page_search *s, config *c, uint64_t until, uint64_t now) noexcept nogil:
    if c.entry == ENTRY_GUARD:
        return False
    if c.entry == ENTRY_NONE:
        c.entry = ENTRY_GUARD
        return flush(s, c, until)
    if c.entry == ENTRY_ZERO and c.zero_until < until:
        c.zero_until = until
    return _end_frame(s, c, until, now)

# What others have ended by now is gone from all TLBs at `until`. False: somebody still uses it later.
cdef inline bint flush(const page_search *s, config *c, uint64_t until) noexcept nogil:
    cdef uint32_t i
    for i in range(MAX_STALE):
        if c.stale[i] != 0 and s.frames[(c.stale[i] & STALE_FRAME) - ENTRY_FRAME].last > until:
            return False
    if c.zero_until > until:
        c.zero_until = until
    return True

# The mapping becomes read-only. When the mprotect returns, no TLB allows stores any more, not even to what others ended.
cdef inline bint _forbid_stores(const page_search *s, config *c, uint64_t until) noexcept nogil:
    cdef uint32_t i
    for i in range(MAX_STALE):
        if c.stale[i] != 0 and not c.stale[i] & STALE_RO and s.frames[c.stale[i] - ENTRY_FRAME].last_store > until:
            return False
    if c.entry >= ENTRY_FRAME and (c.map == MAP_RW or c.write_until > until):
        c.write_until = until
    return True

# Has a free marked the frame, and no store that began after its return taken that back?
cdef inline bint _is_marked(const page_search *s, const config *c) noexcept nogil:
    if c.entry < ENTRY_FRAME:
        return c.entry == ENTRY_UNNAMED and c.freed != 0
    return s.frames[c.entry - ENTRY_FRAME].last_store < c.freed

# End what the page holds. When the discard returns, what others ended before is gone from all TLBs as well.
cdef inline bint _discard(page_search *s, config *c, uint64_t until, uint64_t now) noexcept nogil:
    if not flush(s, c, until):
        return False
    if c.entry == ENTRY_ZERO:
        c.zero_until = until
    return _end_frame(s, c, until, now)

# End the frame that the page may hold; it can be used until `until`, for stores only through translations that allow them.
cdef inline bint _end_frame(page_search *s, config *c, uint64_t until, uint64_t now) noexcept nogil:
    cdef uint32_t i = 0, stale = c.entry
    cdef uint64_t write_until = until if c.map == MAP_RW or c.write_until > until else c.write_until
    cdef const frame_span *f
    if c.entry >= ENTRY_FRAME:
        f = &s.frames[c.entry - ENTRY_FRAME]
        if f.last > until or (f.last_store > now and f.last_store > write_until):
            return False
        if write_until < now:
            stale |= STALE_RO
        if f.last >= now:
            while i < MAX_STALE and c.stale[i] != 0:
                i += 1
            if i == MAX_STALE:
                s.gave_up = 1
                return False
            while i > 0 and c.stale[i - 1] < stale:
                c.stale[i] = c.stale[i - 1]
                i -= 1
            c.stale[i] = stale
    if c.entry != ENTRY_GUARD:
        c.entry = ENTRY_NONE
    c.write_until = 0
    c.freed = 0
    return True
