# First pass of the data oracle: the rings are merged by t0, and each operation is put where it matters.
#
# Accesses and small range operations go to their pages, larger ones to their groups, and very large ones
# to one list that each group looks through: nothing is done 25 000 times for 50 GiB. Each page and
# group is then given its operations, in the order of t0.
from libc.errno cimport EFAULT, EINVAL, ENOMEM, ESRCH
from libc.stdint cimport uint32_t, uint64_t
from cy.base.geometry cimport MM_SHIFT
from cy.base.shm cimport (
    STATUS_UNKNOWN, VERB_AGE, VERB_DISCARD, VERB_DONTNEED, VERB_EXIT, VERB_FREE, VERB_GUARD_INSTALL, VERB_GUARD_REMOVE, VERB_MMAP,
    VERB_MPROTECT, VERB_MUNMAP, VERB_POPULATE, VERB_SCAN, VERB_WALK, event)
from cy.check.record cimport BITS_PER_LINE
from cy.check.data_exits cimport data_exit_add, data_exits_begin, data_shut_out_add
from cy.check.data_table cimport data_group_get, data_page_get
from cy.check.data_types cimport (
    CHANGES_SURE, DISCARD, DISCARD_IF_MAPPED, DISCARD_LAZY, DISCARD_OFTEN, DISCARD_SURE, FREES, GROUP_SHIFT, GROUP_WORDS, GUARDS,
    MAKES_GUARDED, MAKES_HOLE, MAKES_OPEN, MAKES_RO, MAKES_RW, MAPS,
    MAPS_IF_MAPPED, MET_HOLE, NARROW_GROUPS, SMALL_PAGES, data_entry, data_group, data_is_access, data_oracle,
    data_owns, data_page, data_report, data_room)

cdef struct ring:
    const event *at
    const event *end

# What the operation may do to each page of its range: DISCARD.., MAKES.. STATUS_UNKNOWN: it may have been done, or a
# part of it, or nothing.
cdef inline uint32_t data_kind(const event *e) noexcept nogil:
    if e.verb == VERB_DONTNEED:
        if e.status == 0:
            return DISCARD | DISCARD_SURE
        if e.status == -ENOMEM:
            return DISCARD | DISCARD_IF_MAPPED | (MET_HOLE if e.end - e.start == 1 else 0)
        return DISCARD if e.status == STATUS_UNKNOWN else 0
    if e.verb == VERB_FREE:
        return FREES if e.status != -EINVAL else 0
    if e.verb == VERB_DISCARD:
        return DISCARD | DISCARD_LAZY if e.status != -EINVAL else 0
    if e.verb == VERB_MUNMAP or e.verb == VERB_EXIT:
        if e.status == 0:
            return DISCARD | DISCARD_SURE | MAKES_HOLE | MAKES_OPEN | CHANGES_SURE
        return DISCARD | MAKES_HOLE | MAKES_OPEN if e.status == STATUS_UNKNOWN else 0
    if e.verb == VERB_MMAP:
        if e.status == 0:
            return DISCARD | DISCARD_SURE | _makes(e) | MAKES_OPEN | CHANGES_SURE
        # It may have unmapped what was there before it found no room for its own VMA.
        if e.status == -ENOMEM:
            return DISCARD | MAKES_HOLE | MAKES_OPEN
        return DISCARD | MAKES_HOLE | _makes(e) | MAKES_OPEN if e.status == STATUS_UNKNOWN else 0
    if e.verb == VERB_MPROTECT:
        # -ENOMEM: what lies before the hole, or before the split that found no room, has changed.
        if e.status == 0:
            return _makes(e) | CHANGES_SURE
        return _makes(e) | MAPS_IF_MAPPED if e.status == -ENOMEM or e.status == STATUS_UNKNOWN else 0
    # -ENOMEM of these: any part of the range may have been done; only an install says so without a hole.
    if e.verb == VERB_GUARD_INSTALL:
        if e.status == 0:
            return DISCARD | DISCARD_OFTEN | DISCARD_SURE | MAKES_GUARDED | CHANGES_SURE
        return 0 if e.status == -EINVAL else DISCARD | DISCARD_OFTEN | MAKES_GUARDED
    if e.verb == VERB_GUARD_REMOVE:
        if e.status == -ENOMEM:
            return MAKES_OPEN | (MET_HOLE if e.end - e.start == 1 else 0)
        return 0 if e.status == -EINVAL else MAKES_OPEN | (CHANGES_SURE if e.status == 0 else 0)
    return 0

cdef inline uint32_t _makes(const event *e) noexcept nogil:
    return MAKES_RW if e.aux == 1 else MAKES_RO

# Bits of pages [page, page + 64) of a walk, those outside of it 0.
cdef inline uint64_t walk_word(const event *e, uint64_t page) noexcept nogil:
    cdef const uint64_t *bits = <const uint64_t *>(e + 1)
    cdef uint64_t nr = e.end - e.start, at, word = 0
    cdef uint32_t shift
    if page < e.start:
        shift = <uint32_t>(e.start - page)
        if shift >= 64:
            return 0
        word = bits[0] << shift
        return word if nr + shift >= 64 else word & ((<uint64_t>1 << (nr + shift)) - 1)
    at = page - e.start
    if at >= nr:
        return 0
    shift = <uint32_t>(at & 63)
    word = bits[at >> 6] >> shift
    if shift and (at | 63) + 1 < nr:
        word |= bits[(at >> 6) + 1] << (64 - shift)
    return word if nr - at >= 64 else word & ((<uint64_t>1 << (nr - at)) - 1)

# Does it say something about each page by a bit? A walk: present. An age: young, and so present.
cdef inline bint data_is_walk(const event *e) noexcept nogil:
    return (e.verb == VERB_WALK or e.verb == VERB_AGE) and e.status == 0 and e.lines != 0

# What a populate did to a page of its range: 0, or the error that it ended with there.
cdef inline int data_populated(const event *e, uint64_t page) noexcept nogil:
    return 0 if e.status == 0 or (e.status != STATUS_UNKNOWN and page - e.start < e.value) else e.status

# The end of the pages that it came to: those that it brought in, and the one that it failed on.
cdef inline uint64_t _populate_end(const event *e) noexcept nogil:
    return e.end if e.status == 0 or e.status == STATUS_UNKNOWN or e.value >= e.end - e.start else e.start + e.value + 1

# Its status says whether the range has a hole.
cdef inline bint data_is_madvise(const event *e) noexcept nogil:
    return e.verb == VERB_DONTNEED or e.verb == VERB_FREE or e.verb == VERB_GUARD_REMOVE

# Context: at most MAX_CPUS workers.
cdef inline void data_scan(data_oracle *o, event **rings, const uint64_t *counts, uint32_t nr_workers) noexcept nogil:
    cdef ring r[64]
    cdef uint32_t i, best
    cdef uint64_t t, first, second
    o.nr_entries = 0
    o.nr_gentries = 0
    o.nr_wide = 0
    o.nr_tpages = 0
    o.nr_tgroups = 0
    o.nr_map_ops = 0
    o.nr_claims = 0
    data_exits_begin(o)
    for i in range(nr_workers):
        r[i].at = rings[i]
        r[i].end = rings[i] + counts[i]
        _skip_foreign(o, &r[i])
    while True:
        best = nr_workers
        first = <uint64_t>-1
        second = <uint64_t>-1
        for i in range(nr_workers):
            if r[i].at < r[i].end:
                t = r[i].at.t0
                if best == nr_workers or t < first:
                    second = first
                    first = t
                    best = i
                elif t < second:
                    second = t
        if best == nr_workers:
            return
        while r[best].at < r[best].end and r[best].at.t0 <= second:
            _take(o, r[best].at, best)
            r[best].at += 1 + r[best].at.lines
            _skip_foreign(o, &r[best])

# Move to the next operation that concerns this shard. Lines of a walk are behind its event.
cdef inline void _skip_foreign(data_oracle *o, ring *r) noexcept nogil:
    while r.at < r.end:
        if r.at + r.at.lines >= r.end:
            o.unchecked += 1        # cut off: whatever this is, it has no rule
            r.at = r.end
            return
        if not data_is_access(r.at) or data_owns(o, r.at.start):
            return
        r.at += 1 + r.at.lines

# Each operation is counted by one shard: an access by that of its page, others by the first.
cdef inline void _take(data_oracle *o, const event *e, uint32_t worker) noexcept nogil:
    cdef uint32_t i
    if e.verb == VERB_EXIT and (e.status == 0 or e.status == STATUS_UNKNOWN):
        data_exit_add(o, e)
    elif e.status == -ESRCH and not _is_incomplete(e):
        if o.shard == 0 or data_is_access(e):
            o.checked += 1
            data_shut_out_add(o, e)
        return
    if data_is_access(e):
        if not _has_rule(e):
            o.unchecked += 1
            return
        o.checked += 1
        i = data_page_get(o, e.start)
        if i != 0:
            _add_to_page(o, e, i)
        return
    if o.shard == 0:
        if _has_rule(e):
            o.checked += 1
            _check_arguments(o, e)
        else:
            o.unchecked += 1
    if e.start < e.end and _has_rule(e):
        _take_range(o, e, worker)

cdef inline bint _has_rule(const event *e) noexcept nogil:
    if _is_incomplete(e):
        return False
    if data_is_access(e):
        return e.status == 0 or e.status == -EFAULT or e.status == -ENOMEM or e.status == STATUS_UNKNOWN
    if e.verb == VERB_POPULATE:
        return (e.status == 0 or e.status == -EINVAL or e.status == -ENOMEM or e.status == -EFAULT
                or e.status == STATUS_UNKNOWN)
    if e.verb == VERB_WALK or e.verb == VERB_AGE:
        return (e.status == -EINVAL or e.status == STATUS_UNKNOWN
                or (e.status == 0 and <uint64_t>e.lines * BITS_PER_LINE >= e.end - e.start))
    if e.verb == VERB_DISCARD or e.verb == VERB_EXIT:
        return e.status == 0 or e.status == -EINVAL or e.status == STATUS_UNKNOWN
    if e.verb == VERB_SCAN:
        return e.status == 0 or e.status == STATUS_UNKNOWN
    if e.verb == VERB_MMAP or e.verb == VERB_MUNMAP or data_is_madvise(e) or e.verb == VERB_GUARD_INSTALL:
        return e.status == 0 or e.status == -EINVAL or e.status == -ENOMEM or e.status == STATUS_UNKNOWN
    if e.verb == VERB_MPROTECT:
        return e.status == 0 or e.status == -ENOMEM or e.status == STATUS_UNKNOWN
    return False

cdef inline bint _is_incomplete(const event *e) noexcept nogil:
    return e.t1 < e.t0

# What the arguments and the status alone tell.
cdef inline void _check_arguments(data_oracle *o, const event *e) noexcept nogil:
    cdef bint wrong = e.start > e.end or (e.start == e.end and (e.verb == VERB_MMAP or e.verb == VERB_MUNMAP))
    cdef uint64_t nr, at, word, end = e.end - (e.start >> MM_SHIFT << MM_SHIFT)     # in its mm
    if e.status == 0 and wrong:
        data_report(o, 34, b"verb a succeeded on an impossible range that ends at page b", e.start, e.verb, e.end)
    if o.task_pages != 0 and not wrong and e.verb != VERB_EXIT:
        if e.status == -EINVAL and e.verb != VERB_POPULATE and end <= o.task_pages:
            data_report(o, 34, b"verb a refused a range inside the address space, up to page b", e.start, e.verb, e.end)
        if e.status == 0 and end > o.task_pages:
            data_report(o, 34, b"verb a succeeded past the end of the address space, page b", e.start, e.verb, e.end)
    if data_is_walk(e) and e.start < e.end:
        nr = 0
        at = e.start
        while at < e.end:
            word = walk_word(e, at)
            while word:
                word &= word - 1
                nr += 1
            at += 64
        if nr != e.aux:
            data_report(o, 46, b"a walk counted a pages and reported b", e.start, e.aux, nr)

cdef inline void _take_range(data_oracle *o, const event *e, uint32_t worker) noexcept nogil:
    cdef uint32_t kind = data_kind(e), g
    cdef uint64_t page, group, last = (e.end - 1) >> GROUP_SHIFT
    if kind & (MAPS | GUARDS):
        if not data_room(o, <void **>&o.map_ops, &o.cap_map_ops, o.nr_map_ops + 1, sizeof(data_entry)):
            return
        o.map_ops[o.nr_map_ops].e = e
        o.map_ops[o.nr_map_ops].item = worker
        o.nr_map_ops += 1
    if kind & MAKES_GUARDED:
        o.guarded = 1
    if o.shard == 0 and kind and (data_is_madvise(e) or (e.status == 0 and e.verb in (VERB_MPROTECT, VERB_GUARD_INSTALL))):
        if not data_room(o, <void **>&o.claims, &o.cap_claims, o.nr_claims + 1, sizeof(event *)):
            return
        o.claims[o.nr_claims] = e
        o.nr_claims += 1
    if kind == 0 and not data_is_walk(e) and e.verb != VERB_POPULATE:
        return
    # A populate worked on each of its pages, however many they are.
    if e.end - e.start <= SMALL_PAGES or e.verb == VERB_POPULATE:
        for page in range(e.start, _populate_end(e) if e.verb == VERB_POPULATE else e.end):
            if data_owns(o, page):
                g = data_page_get(o, page)
                if g != 0:
                    _add_to_page(o, e, g)
                    o.pages[g].nr_ranges += kind != 0
    elif last - (e.start >> GROUP_SHIFT) < NARROW_GROUPS:
        for group in range(e.start >> GROUP_SHIFT, last + 1):
            _add_to_group(o, e, data_group_get(o, group))
    else:
        if not data_room(o, <void **>&o.wide, &o.cap_wide, o.nr_wide + 1, sizeof(event *)):
            return
        o.wide[o.nr_wide] = e
        o.nr_wide += 1
        if data_is_walk(e):
            for group in range(e.start >> GROUP_SHIFT, last + 1):
                if _any_present(e, group):
                    data_touch(o, data_group_get(o, group))

cdef inline bint _any_present(const event *e, uint64_t group) noexcept nogil:
    cdef uint32_t i
    cdef uint64_t any = 0
    for i in range(GROUP_WORDS):
        any |= walk_word(e, (group << GROUP_SHIFT) + (i << 6))
    return any != 0

cdef inline void data_touch(data_oracle *o, uint32_t g) noexcept nogil:
    if g == 0 or o.groups[g].touched:
        return
    if data_room(o, <void **>&o.tgroups, &o.cap_tgroups, o.nr_tgroups + 1, sizeof(uint32_t)):
        o.groups[g].touched = 1
        o.tgroups[o.nr_tgroups] = g
        o.nr_tgroups += 1

cdef inline void _add_to_page(data_oracle *o, const event *e, uint32_t i) noexcept nogil:
    cdef data_page *p = &o.pages[i]
    if not data_room(o, <void **>&o.entries, &o.cap_entries, o.nr_entries + 1, sizeof(data_entry)):
        return
    if p.nr == 0:
        if not data_room(o, <void **>&o.tpages, &o.cap_tpages, o.nr_tpages + 1, sizeof(uint32_t)):
            return
        o.tpages[o.nr_tpages] = i
        o.nr_tpages += 1
        data_touch(o, data_group_get(o, p.page >> GROUP_SHIFT))
    p.nr += 1
    o.entries[o.nr_entries].e = e
    o.entries[o.nr_entries].item = i
    o.nr_entries += 1

cdef inline void _add_to_group(data_oracle *o, const event *e, uint32_t g) noexcept nogil:
    if g == 0 or not data_room(o, <void **>&o.gentries, &o.cap_gentries, o.nr_gentries + 1, sizeof(data_entry)):
        return
    data_touch(o, g)
    o.groups[g].nr += 1
    o.gentries[o.nr_gentries].e = e
    o.gentries[o.nr_gentries].item = g
    o.nr_gentries += 1

# Give each page and each group its operations: counting sort, which keeps the order of t0.
cdef inline bint data_place(data_oracle *o) noexcept nogil:
    cdef uint64_t i, at = 0
    cdef data_page *p
    cdef data_group *g
    if not data_room(o, <void **>&o.sorted, &o.cap_sorted, o.nr_entries, sizeof(event *)):
        return False
    if not data_room(o, <void **>&o.gsorted, &o.cap_gsorted, o.nr_gentries, sizeof(event *)):
        return False
    for i in range(o.nr_tpages):
        p = &o.pages[o.tpages[i]]
        p.first = <uint32_t>at
        at += p.nr
    for i in range(o.nr_entries):
        p = &o.pages[o.entries[i].item]
        o.sorted[p.first] = o.entries[i].e
        p.first += 1
    for i in range(o.nr_tpages):
        p = &o.pages[o.tpages[i]]
        p.first -= p.nr
    at = 0
    for i in range(o.nr_tgroups):
        g = &o.groups[o.tgroups[i]]
        g.first = <uint32_t>at
        at += g.nr
    for i in range(o.nr_gentries):
        g = &o.groups[o.gentries[i].item]
        o.gsorted[g.first] = o.gentries[i].e
        g.first += 1
    for i in range(o.nr_tgroups):
        g = &o.groups[o.tgroups[i]]
        g.first -= g.nr
    return True
