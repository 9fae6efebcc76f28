# The pages that the data oracle knows, and the groups of 512 they lie in: two chained hash tables.
#
# A page stays while it is present at quiescence; a group while it has pages. Items are numbered from 1,
# and numbers stay valid when a table grows. Reset clears the heads of items used since the last one.
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from cy.check.data_types cimport GROUP_SHIFT, PAGE_ABSENT, data_group, data_oracle, data_page, data_room, data_table

cdef enum:
    TABLE_FIRST = 256       # items at the start

cdef inline bint data_tables_init(data_oracle *o) noexcept nogil:
    o.pages = <data_page *>calloc(TABLE_FIRST, sizeof(data_page))
    o.groups = <data_group *>calloc(TABLE_FIRST, sizeof(data_group))
    return o.pages != NULL and o.groups != NULL and _table_init(&o.ptable) and _table_init(&o.gtable)

cdef inline bint _table_init(data_table *t) noexcept nogil:
    t.heads = <uint32_t *>calloc(TABLE_FIRST, sizeof(uint32_t))
    t.nr_heads = TABLE_FIRST
    t.cap = TABLE_FIRST
    t.used = 1
    t.free = 0
    return t.heads != NULL

cdef inline void data_tables_free(data_oracle *o) noexcept nogil:
    free(o.pages)
    free(o.groups)
    free(o.ptable.heads)
    free(o.gtable.heads)

cdef inline void data_tables_reset(data_oracle *o) noexcept nogil:
    cdef uint32_t i
    for i in range(1, o.ptable.used):
        o.ptable.heads[_hash(&o.ptable, o.pages[i].page)] = 0
    for i in range(1, o.gtable.used):
        o.gtable.heads[_hash(&o.gtable, o.groups[i].group)] = 0
        o.groups[i].live = 0
    o.ptable.used = 1
    o.ptable.free = 0
    o.gtable.used = 1
    o.gtable.free = 0

cdef inline uint64_t _hash(const data_table *t, uint64_t key) noexcept nogil:
    return ((key * <uint64_t>0x9E3779B97F4A7C15ULL) >> 32) & (t.nr_heads - 1)

# The page, added as absent if it is unknown. 0: no memory.
cdef inline uint32_t data_page_get(data_oracle *o, uint64_t page) noexcept nogil:
    cdef data_table *t = &o.ptable
    cdef uint64_t h = _hash(t, page)
    cdef uint32_t i = t.heads[h], g
    cdef data_page *p
    while i != 0:
        if o.pages[i].page == page:
            return i
        i = o.pages[i].next
    g = data_group_get(o, page >> GROUP_SHIFT)
    if g == 0:
        return 0
    i = t.free
    if i != 0:
        t.free = o.pages[i].next
    else:
        if t.used == t.cap and not _pages_grow(o):
            return 0
        h = _hash(t, page)
        i = t.used
        t.used += 1
    p = &o.pages[i]
    p.page = page
    p.state = PAGE_ABSENT
    p.nr = 0
    p.nr_ranges = 0
    p.lazy = 0
    p.next = t.heads[h]
    t.heads[h] = i
    p.group_next = o.groups[g].pages
    o.groups[g].pages = i
    return i

# The group, added if it is unknown. 0: no memory.
cdef inline uint32_t data_group_get(data_oracle *o, uint64_t group) noexcept nogil:
    cdef data_table *t = &o.gtable
    cdef uint64_t h = _hash(t, group)
    cdef uint32_t i = t.heads[h]
    cdef data_group *g
    while i != 0:
        if o.groups[i].group == group:
            return i
        i = o.groups[i].next
    i = t.free
    if i != 0:
        t.free = o.groups[i].next
    else:
        if t.used == t.cap and not _groups_grow(o):
            return 0
        h = _hash(t, group)
        i = t.used
        t.used += 1
    g = &o.groups[i]
    g.group = group
    g.pages = 0
    g.nr = 0
    g.touched = 0
    g.live = 1
    g.next = t.heads[h]
    t.heads[h] = i
    return i

# Forget the absent pages of a group, and the group if none is left. Context: nothing refers to them.
cdef inline void data_group_prune(data_oracle *o, uint32_t g) noexcept nogil:
    cdef uint32_t *link = &o.groups[g].pages
    cdef uint32_t i = link[0]
    while i != 0:
        if o.pages[i].state == PAGE_ABSENT:
            link[0] = o.pages[i].group_next
            _page_drop(o, i)
        else:
            link = &o.pages[i].group_next
        i = link[0]
    if o.groups[g].pages == 0:
        _group_drop(o, g)

cdef inline void _page_drop(data_oracle *o, uint32_t i) noexcept nogil:
    cdef uint32_t *link = &o.ptable.heads[_hash(&o.ptable, o.pages[i].page)]
    while link[0] != i:
        link = &o.pages[link[0]].next
    link[0] = o.pages[i].next
    o.pages[i].next = o.ptable.free
    o.ptable.free = i

cdef inline void _group_drop(data_oracle *o, uint32_t g) noexcept nogil:
    cdef uint32_t *link = &o.gtable.heads[_hash(&o.gtable, o.groups[g].group)]
    while link[0] != g:
        link = &o.groups[link[0]].next
    link[0] = o.groups[g].next
    o.groups[g].live = 0
    o.groups[g].next = o.gtable.free
    o.gtable.free = g

# Twice as many items. Context: all are in use, so that each is found by its number.
cdef inline bint _pages_grow(data_oracle *o) noexcept nogil:
    cdef data_table *t = &o.ptable
    cdef uint32_t i
    cdef uint64_t h
    if not data_room(o, <void **>&o.pages, &t.cap, t.cap + 1, sizeof(data_page)) or not _heads_grow(o, t):
        return False
    for i in range(1, t.used):
        h = _hash(t, o.pages[i].page)
        o.pages[i].next = t.heads[h]
        t.heads[h] = i
    return True

cdef inline bint _groups_grow(data_oracle *o) noexcept nogil:
    cdef data_table *t = &o.gtable
    cdef uint32_t i
    cdef uint64_t h
    if not data_room(o, <void **>&o.groups, &t.cap, t.cap + 1, sizeof(data_group)) or not _heads_grow(o, t):
        return False
    for i in range(1, t.used):
        h = _hash(t, o.groups[i].group)
        o.groups[i].next = t.heads[h]
        t.heads[h] = i
    return True

cdef inline bint _heads_grow(data_oracle *o, data_table *t) noexcept nogil:
    cdef uint32_t *heads = <uint32_t *>calloc(t.nr_heads * 2, sizeof(uint32_t))
    if heads == NULL:
        o.out_of_memory = 1
        return False
    free(t.heads)
    t.heads = heads
    t.nr_heads *= 2
    return True
