# Has one page an execution with this history? An exact answer, or none within the budget.
#
# The page: its mapping (hole, read-only, writable), its entry (nothing, a guard, the zero page, a frame), and translations that
# discards ended and that live until the first discard returns which came by since. Each operation takes effect at
# one instant of its interval: a discard ends what is there; mmap and munmap also change the mapping, and mprotect does
# nothing else: translations that allow stores live until the first one returns that came by since and forbids them. An access
# uses what the entry or a living translation gives, a gup_fast the entry only; a walk looks at the entry. Any access that
# may do so installs, at any instant of its interval: reads the zero page, writes a frame in place of nothing or the
# zero page, each frame once.
#
# A free marks the frame. Memory pressure (`discard`) may end it if a free that marked it returned no earlier than the last
# store to it began (I39). Whether a store came first or the free did does not matter beyond that: a store that
# began before the free returned may have used a translation that was dirty already.
#
# A guard_install ends what it finds and puts a guard where it finds nothing, in any order and as often as it likes while it
# runs; if it succeeded, a guard was there at some instant of it. What it found cleared already it does not flush.
#
# What a frame contains is a question for itself: accesses may use their translation as late as they like, so that rule A
# of cy/check/data.pxd decides it for each incarnation alone. Here an access only has to meet its frame.
#
# Method: all states that the page can be in are carried from one end of an operation to the next (Lowe, Testing for
# Linearizability, 2017: just-in-time linearization, with Wing & Gong's memo as the set of states). Nothing happens
# but right before an end that needs it: whatever happens between two ends can wait for the second one in
# the same order. An operation that only looks is content as soon as it can be; more choice than that
# helps nobody. So the set has one state most of the time, and the search is linear in the history.
# A frame is installed only where its uses allow it: not before a discard that would surely end it too early, not
# after its first use must have ended; a state that ends a frame which is needed later is dropped.
#
# Not modelled: that an access installs nothing any more once it took effect; which pages a dontneed of several ones
# found unmapped, if it reports -ENOMEM; that a free or mprotect which succeeded met no hole: rule E knows; that a discard
# lets a frame be that is pinned.
from libc.stdint cimport uint32_t, uint64_t
from cy.check.data_share cimport data_ctz
from cy.check.data_types cimport DISCARD_LAZY, DISCARD_OFTEN, GUARDED, MAP_HOLE, MAP_RW, MAPS, OPEN
from cy.check.sort cimport span, span_sort
from cy.history.configs cimport configs_add, configs_clear
from cy.history.types cimport (
    DOES_RANGE, ENTRY_FRAME, ENTRY_GUARD, ENTRY_NONE, ENTRY_UNNAMED, ENTRY_ZERO, MAX_STALE, MAY_FRAME, MAY_ZERO, NO_OP,
    SAW_ABSENT, SAW_FORBIDDEN, SAW_FRAME, SAW_NOTHING, SAW_PRESENT, SAW_ZERO, STALE_FRAME, STALE_RO, config, config_set, page_op,
    page_search, search_room)
from cy.history.visit cimport flush, visit

cdef enum:
    SEARCH_OK = 0
    SEARCH_VIOLATION = 1
    SEARCH_UNKNOWN = 2

# Search. Context: s.ops by t0, s.frames filled in; `maps`, `guards`: the sets of MAP_* and of OPEN, GUARDED that the page may
# have at the start, `entry` what it holds then; `final`: what it holds at the end, or NO_OP if nobody looked. ENTRY_NONE there
# stands for a guard too.
# Returns SEARCH_*; after a violation s.failed, s.entries and s.maps say why.
cdef inline int search_run(page_search *s, uint32_t maps, uint32_t guards, uint32_t entry, uint32_t final) noexcept nogil:
    cdef uint64_t i = 0, j = 0, n = s.nr_ops
    if not _prepare(s, maps, guards, entry, final):
        return SEARCH_UNKNOWN
    while j < n:
        if i < n and s.ops[i].t0 <= s.ends[j].lo:
            _begin(s, <uint32_t>i)
            i += 1
        else:
            _end(s, <uint32_t>s.ends[j].tag)
            if s.now.n == 0 and not s.gave_up:
                s.failed = <uint32_t>s.ends[j].tag
                _note(s, &s.seen)
                return SEARCH_VIOLATION
            j += 1
        if s.gave_up:
            return SEARCH_UNKNOWN
    for i in range(s.now.n):
        if final == NO_OP or s.now.items[i].entry == final or (final == ENTRY_NONE and s.now.items[i].entry == ENTRY_GUARD):
            return SEARCH_OK
    s.failed = NO_OP
    _note(s, &s.now)
    return SEARCH_VIOLATION

cdef inline bint _prepare(page_search *s, uint32_t maps, uint32_t guards, uint32_t entry, uint32_t final) noexcept nogil:
    cdef uint64_t i
    cdef config c
    s.open = 0
    s.observers = 0
    s.ranges = 0
    s.installs = 0
    s.readers = 0
    s.writers = 0
    s.gave_up = 0
    s.steps = 0
    s.nr_candidates = 0
    s.next_candidate = 0
    s.unnamed = 0
    s.zeroes = final == ENTRY_ZERO
    if not (search_room(s, <void **>&s.ends, &s.cap_ends, s.nr_ops, sizeof(span))
            and search_room(s, <void **>&s.ends_tmp, &s.cap_ends_tmp, s.nr_ops, sizeof(span))
            and search_room(s, <void **>&s.slot_of, &s.cap_slot_of, s.nr_ops, sizeof(uint32_t))
            and search_room(s, <void **>&s.by_since, &s.cap_by_since, s.nr_frames, sizeof(span))
            and search_room(s, <void **>&s.by_since_tmp, &s.cap_by_since_tmp, s.nr_frames, sizeof(span))
            and search_room(s, <void **>&s.candidates, &s.cap_candidates, s.nr_frames, sizeof(uint32_t))):
        return False
    for i in range(s.nr_ops):
        s.ends[i].lo = s.ops[i].t1
        s.ends[i].tag = i
        if s.ops[i].what == SAW_PRESENT:
            s.unnamed = 1
            s.zeroes = 1
        elif s.ops[i].kind & DISCARD_LAZY:
            s.unnamed = 1       # it may take one, and leave nothing
        elif s.ops[i].what == SAW_ZERO:
            s.zeroes = 1
    span_sort(s.ends, s.nr_ops, s.ends_tmp)
    for i in range(s.nr_frames):
        s.by_since[i].lo = s.frames[i].since
        s.by_since[i].tag = i
    span_sort(s.by_since, s.nr_frames, s.by_since_tmp)
    configs_clear(&s.now)
    for i in range(3):
        if maps >> i & 1 and (entry == ENTRY_NONE or i != 0):
            c.done = 0
            c.zero_until = 0
            c.write_until = 0
            c.freed = s.frames[entry - ENTRY_FRAME].lazy if entry >= ENTRY_FRAME else 0
            c.entry = entry
            c.map = <uint32_t>1 << i
            _forget(&c)
            if entry != ENTRY_NONE or i == 0 or guards & OPEN:
                _add(s, &s.now, &c)
            if entry == ENTRY_NONE and i != 0 and guards & GUARDED:
                c.entry = ENTRY_GUARD
                _add(s, &s.now, &c)
    return not s.gave_up

cdef inline void _forget(config *c) noexcept nogil:
    cdef uint32_t i
    for i in range(MAX_STALE):
        c.stale[i] = 0

cdef inline int _add(page_search *s, config_set *set, const config *c) noexcept nogil:
    cdef int added = configs_add(set, c)
    if added < 0:
        s.gave_up = 1
    return added

cdef inline void _note(page_search *s, const config_set *set) noexcept nogil:
    cdef uint64_t i
    s.entries = 0
    s.maps = 0
    for i in range(set.n):
        if set.items[i].entry < 64:
            s.entries |= <uint64_t>1 << set.items[i].entry
        s.maps |= set.items[i].map

cdef inline void _begin(page_search *s, uint32_t i) noexcept nogil:
    cdef page_op *op = &s.ops[i]
    cdef uint32_t slot
    cdef uint64_t bit, k
    if ~s.open == 0:
        s.gave_up = 1
        return
    slot = data_ctz(~s.open)
    bit = <uint64_t>1 << slot
    s.open |= bit
    s.slot[slot] = i
    s.slot_of[i] = slot
    if op.may == MAY_ZERO:
        s.readers |= bit
    elif op.may == MAY_FRAME:
        s.writers |= bit
    if op.kind & DISCARD_OFTEN:
        s.installs |= bit
    elif op.what == DOES_RANGE:
        s.ranges |= bit
    if (op.what != DOES_RANGE and op.what != SAW_NOTHING) or (op.kind & DISCARD_OFTEN and not op.optional):
        s.observers |= bit
        for k in range(s.now.n):
            # Each state changes by itself; two that differ go on to differ.
            if _sees(s, op, &s.now.items[k], op.t0):
                s.now.items[k].done |= bit

# Does the page show what the operation reports? A guard_install that finds a guard has flushed when it returns.
cdef inline bint _sees(const page_search *s, const page_op *op, config *c, uint64_t now) noexcept nogil:
    if op.what == SAW_FRAME:
        if c.entry == op.entry:
            return not op.stores or c.map == MAP_RW or c.write_until >= now
        return op.cached and c.stale[0] != 0 and _is_stale(c, op.entry, op.stores != 0)
    if op.what == SAW_ZERO:
        return c.entry == ENTRY_ZERO or (op.cached and c.zero_until >= now)
    if op.what == SAW_PRESENT:
        return c.entry >= ENTRY_ZERO
    if op.what == SAW_ABSENT:
        return c.entry <= ENTRY_NONE
    if op.what == DOES_RANGE:
        return c.entry == ENTRY_GUARD and flush(s, c, op.t1)
    return (c.map & op.wanted) != 0 or (op.what == SAW_FORBIDDEN and c.entry == ENTRY_GUARD)

cdef inline bint _is_stale(const config *c, uint32_t entry, bint stores) noexcept nogil:
    cdef uint32_t i
    for i in range(MAX_STALE):
        if c.stale[i] == entry or (not stores and c.stale[i] == (entry | STALE_RO)):
            return True
    return False

# The operation returns: what it needs has happened by now.
cdef inline void _end(page_search *s, uint32_t i) noexcept nogil:
    cdef page_op *op = &s.ops[i]
    cdef uint64_t bit = <uint64_t>1 << s.slot_of[i], k
    cdef config_set old
    # The last one that can install something may have done so for the others.
    cdef bint last_writer = s.writers == bit, last_reader = s.readers == bit and s.zeroes != 0
    cdef bint needed = (op.what == DOES_RANGE and not op.optional) or s.observers & bit != 0
    if last_writer:
        _find_candidates(s, op.t1)
        last_writer = s.nr_candidates != 0 or s.unnamed != 0
    configs_clear(&s.next)
    configs_clear(&s.seen)
    for k in range(s.now.n):
        if not needed or s.now.items[k].done & bit:
            _keep(s, &s.now.items[k], bit, op.t1)
            if not ((op.optional and not s.now.items[k].done & bit)
                    or s.installs & bit or ((last_reader or last_writer) and _can_clear(s, &s.now.items[k]))):
                continue
        _explore(s, &s.now.items[k], bit, op.t1, last_reader, last_writer)
        if s.gave_up:
            return
    if op.what == SAW_FRAME:
        s.frames[op.entry - ENTRY_FRAME].ended = 1
    s.open &= ~bit
    s.observers &= ~bit
    s.ranges &= ~bit
    s.installs &= ~bit
    s.readers &= ~bit
    s.writers &= ~bit
    old = s.now
    s.now = s.next
    s.next = old

# May the entry be empty, or the zero page, before the next end?
cdef inline bint _can_clear(const page_search *s, const config *c) noexcept nogil:
    return c.entry <= ENTRY_ZERO or _acting(s, c) != 0

# Those that may still do something to the page.
cdef inline uint64_t _acting(const page_search *s, const config *c) noexcept nogil:
    return (s.ranges & ~c.done) | s.installs

# Everything that can happen right before the end of the operation `bit`, from one state on.
cdef inline void _explore(page_search *s, const config *start, uint64_t bit, uint64_t now, bint last_reader,
                          bint last_writer) noexcept nogil:
    cdef uint64_t at = s.seen.n, left, k
    cdef uint32_t slot, maps
    cdef config c, x
    if _add(s, &s.seen, start) != 1:
        return
    if s.writers:
        _find_candidates(s, now)
    while at < s.seen.n and not s.gave_up:
        c = s.seen.items[at]
        at += 1
        left = _acting(s, &c)
        while left:
            slot = data_ctz(left)
            left &= left - 1
            maps = (s.ops[s.slot[slot]].kind & MAPS) >> 3
            for k in range(3):
                x = c
                if (maps >> k & 1 or (maps == 0 and k == 0)) and visit(s, &x, slot, maps & <uint32_t>1 << k, now):
                    _reach(s, &c, &x, bit, now, last_reader, last_writer, s.installs & bit & <uint64_t>1 << slot)
        if c.entry == ENTRY_NONE and s.readers and s.zeroes and c.map != MAP_HOLE:
            x = c
            x.entry = ENTRY_ZERO
            _reach(s, &c, &x, bit, now, last_reader, last_writer, False)
        if (c.entry == ENTRY_NONE or c.entry == ENTRY_ZERO) and s.writers and c.map == MAP_RW:
            for k in range(s.nr_candidates):
                if _is_unused(s, &c, ENTRY_FRAME + s.candidates[k]):
                    x = c
                    x.entry = ENTRY_FRAME + s.candidates[k]
                    _reach(s, &c, &x, bit, now, last_reader, last_writer, False)
            if s.unnamed:
                x = c
                x.entry = ENTRY_UNNAMED
                _reach(s, &c, &x, bit, now, last_reader, last_writer, False)

# A state that can be reached. It stays if the operation can end in it; what can wait is not done beyond that. `install`: the
# one that ends did this, and cannot do so later.
cdef inline void _reach(page_search *s, const config *before, config *c, uint64_t bit, uint64_t now, bint last_reader,
                        bint last_writer, bint install) noexcept nogil:
    cdef uint64_t left = s.observers & ~c.done
    cdef uint32_t slot
    s.steps += 1
    if s.steps > s.budget:
        s.gave_up = 1
        return
    while left:
        slot = data_ctz(left)
        left &= left - 1
        if _sees(s, &s.ops[s.slot[slot]], c, now):
            c.done |= <uint64_t>1 << slot
    if (s.observers | s.ranges) & bit == 0 or c.done & bit:
        if (install or (not before.done & bit and (s.observers | s.ranges) & bit != 0)
                or (last_writer and c.entry >= ENTRY_UNNAMED) or (last_reader and c.entry == ENTRY_ZERO)):
            _keep(s, c, bit, now)
        if not (last_writer or last_reader or s.installs & bit):
            return
    _add(s, &s.seen, c)

# The state as it is once the operation has ended.
cdef inline void _keep(page_search *s, const config *c, uint64_t bit, uint64_t now) noexcept nogil:
    cdef config x = c[0]
    cdef uint32_t i, n = 0, k
    x.done &= ~bit
    if x.zero_until < now:
        x.zero_until = 0
    if x.write_until < now:
        x.write_until = 0
    if x.stale[0] != 0:
        _forget(&x)
        for i in range(MAX_STALE):
            k = c.stale[i]
            if k != 0 and s.frames[(k & STALE_FRAME) - ENTRY_FRAME].last >= now:
                x.stale[n] = k
                n += 1
    _add(s, &s.next, &x)

# Frames that may be installed now, if they were not before.
cdef inline void _find_candidates(page_search *s, uint64_t now) noexcept nogil:
    cdef uint64_t i, n = 0
    while s.next_candidate < s.nr_frames and s.by_since[s.next_candidate].lo <= now:
        s.candidates[s.nr_candidates] = <uint32_t>s.by_since[s.next_candidate].tag
        s.nr_candidates += 1
        s.next_candidate += 1
    for i in range(s.nr_candidates):
        if not s.frames[s.candidates[i]].ended:
            s.candidates[n] = s.candidates[i]
            n += 1
    s.nr_candidates = n

# None of its uses has ended: it was there before only if one of them met it, or if a discard ended it.
cdef inline bint _is_unused(const page_search *s, const config *c, uint32_t entry) noexcept nogil:
    cdef uint64_t left = s.observers & c.done
    cdef uint32_t slot
    if c.stale[0] != 0 and _is_stale(c, entry, False):
        return False
    while left:
        slot = data_ctz(left)
        left &= left - 1
        if s.ops[s.slot[slot]].what == SAW_FRAME and s.ops[s.slot[slot]].entry == entry:
            return False
    return True
