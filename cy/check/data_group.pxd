# The groups of 512 pages that a burst touched, one after the other: what their pages share, then the pages.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.coordination cimport pt_acq
from cy.base.shm cimport STOP_AT_ONCE
from cy.check.data_page cimport data_page_check
from cy.check.data_scan cimport data_touch, walk_word
from cy.check.data_share cimport data_covers, data_ctz, data_share
from cy.check.data_table cimport data_group_prune
from cy.check.data_types cimport GROUP_PAGES, GROUP_SHIFT, GROUP_WORDS, data_group, data_oracle, data_owns, data_page, data_report

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
            if data_covers(o.wide[i], o.groups[g].group):
                data_touch(o, g)
                break

cdef inline void data_groups_check(data_oracle *o) noexcept nogil:
    cdef uint64_t i
    cdef uint32_t g
    for i in range(o.nr_tgroups):
        g = o.tgroups[i]
        if o.stop != NULL and pt_acq(o.stop) == STOP_AT_ONCE:
            o.out_of_memory = 1
        if not o.out_of_memory:
            _group_check(o, &o.groups[g])
        o.groups[g].nr = 0
        o.groups[g].touched = 0
        data_group_prune(o, g)

cdef inline void _group_check(data_oracle *o, data_group *g) noexcept nogil:
    cdef uint64_t base = g.group << GROUP_SHIFT, word
    cdef uint32_t i, at
    cdef data_page *p
    if not data_share(o, g):
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

# Pages that nothing accessed and that held nothing: no walk may have seen them.
cdef inline void _check_unknown(data_oracle *o, uint64_t base) noexcept nogil:
    cdef uint64_t i, word, page
    cdef uint32_t k
    for i in range(o.nr_gwalks):
        for k in range(GROUP_WORDS):
            word = walk_word(o.gwalks[i].e, base + (k << 6)) & ~o.need[k]
            while word:
                page = base + (k << 6) + data_ctz(word)
                word &= word - 1
                if data_owns(o, page):
                    o.need[k] |= <uint64_t>1 << (page & 63)
                    data_report(o, 46, b"a walk (begin a, end b) found a page that was absent all the time",
                                page, o.gwalks[i].e.t0, o.gwalks[i].e.t1)
