# The groups of 512 pages that a burst touched, one after the other: what their pages share, then the pages.
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from cy.base.shm cimport event
from cy.check.data_page cimport data_page_check
from cy.check.data_scan cimport data_is_walk, data_kind, data_touch, walk_word
from cy.check.data_table cimport data_group_prune
from cy.check.data_types cimport (
    GROUP_PAGES, GROUP_SHIFT, GROUP_WORDS, data_group, data_oracle, data_owns, data_page, data_report, data_room,
    group_discard)

cdef extern from *:
    """
    #define data_ctz(x) ((uint32_t)__builtin_ctzll(x))
    """
    uint32_t data_ctz(uint64_t x) noexcept nogil

# Groups with carried pages that a very large operation covers. Context: after data_scan.
cdef inline void data_groups_touch_wide(data_oracle *o) noexcept nogil:
    cdef uint32_t g
    cdef uint64_t i
    if o.nr_wide == 0:
        return
    for g in range(1, o.gtable.used):
        if not o.groups[g].live:
            continue
        for i in range(o.nr_wide):
            if _covers(o.wide[i], o.groups[g].group):
                data_touch(o, g)
                break

cdef inline bint _covers(const event *e, uint64_t group) noexcept nogil:
    return e.start >> GROUP_SHIFT <= group and (e.end - 1) >> GROUP_SHIFT >= group

cdef inline void data_groups_check(data_oracle *o) noexcept nogil:
    cdef uint64_t i
    cdef uint32_t g
    for i in range(o.nr_tgroups):
        g = o.tgroups[i]
        if not o.out_of_memory:
            _group_check(o, &o.groups[g])
        o.groups[g].nr = 0
        o.groups[g].touched = 0
        data_group_prune(o, g)

cdef inline void _group_check(data_oracle *o, data_group *g) noexcept nogil:
    cdef uint64_t base = g.group << GROUP_SHIFT, word
    cdef uint32_t i, at
    cdef data_page *p
    if not _share(o, g):
        return
    for i in range(GROUP_WORDS):
        o.need[i] = 0
    i = g.pages
    while i != 0:
        p = &o.pages[i]
        at = <uint32_t>(p.page & (GROUP_PAGES - 1))
        o.slot[at] = i
        o.need[at >> 6] |= <uint64_t>1 << (at & 63)
        i = p.group_next
    o.shared_hi = 0
    for i in range(GROUP_WORDS):
        word = o.need[i]
        while word:
            at = (i << 6) + data_ctz(word)
            word &= word - 1
            p = &o.pages[o.slot[at]]
            data_page_check(o, p)
            p.nr = 0
            p.nr_ranges = 0
    if o.nr_gwalks:
        _check_unknown(o, base)

# Collect what the pages of the group share: its own operations and the very large ones, by t0.
cdef inline bint _share(data_oracle *o, const data_group *g) noexcept nogil:
    cdef uint64_t room = g.nr + o.nr_wide, i = g.first, k = 0, base = g.group << GROUP_SHIFT
    cdef const event *e
    cdef group_discard *r
    o.nr_granges = 0
    o.nr_gwalks = 0
    if room == 0:
        return True
    if not (data_room(o, <void **>&o.granges, &o.cap_granges, room, sizeof(group_discard))
            and data_room(o, <void **>&o.gwalks, &o.cap_gwalks, room, sizeof(event *))):
        return False
    while True:
        while k < o.nr_wide and not _covers(o.wide[k], g.group):
            k += 1
        if i < g.first + g.nr and (k == o.nr_wide or o.gsorted[i].t0 <= o.wide[k].t0):
            e = o.gsorted[i]
            i += 1
        elif k < o.nr_wide:
            e = o.wide[k]
            k += 1
        else:
            return True
        if data_is_walk(e):
            o.gwalks[o.nr_gwalks] = e
            o.nr_gwalks += 1
        else:
            r = &o.granges[o.nr_granges]
            r.t0 = e.t0
            r.t1 = e.t1
            r.lo = <uint16_t>(e.start - base) if e.start > base else 0
            r.hi = <uint16_t>(e.end - base) if e.end - base < GROUP_PAGES else GROUP_PAGES
            r.kind = data_kind(e)
            o.nr_granges += 1

# Pages that nothing accessed and that held nothing: no walk may have seen them.
cdef inline void _check_unknown(data_oracle *o, uint64_t base) noexcept nogil:
    cdef uint64_t i, word, page
    cdef uint32_t k
    for i in range(o.nr_gwalks):
        for k in range(GROUP_WORDS):
            word = walk_word(o.gwalks[i], base + (k << 6)) & ~o.need[k]
            while word:
                page = base + (k << 6) + data_ctz(word)
                word &= word - 1
                if data_owns(o, page):
                    o.need[k] |= <uint64_t>1 << (page & 63)
                    data_report(o, 46, b"a walk (begin a, end b) found a page that was absent all the time",
                                page, o.gwalks[i].t0, o.gwalks[i].t1)
