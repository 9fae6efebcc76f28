# All operations of one burst on one page, brought together and checked.
#
# Callers give what the page's group shares and is not among the page's own entries: cy/check/data_share.pxd.
from libc.errno cimport EFAULT, EINVAL, ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from cy.base.shm cimport STATUS_UNKNOWN, VERB_POPULATE, event
from cy.check.data_discards cimport (
    changes_may, discards_add, discards_any, discards_any_hard, discards_begin, discards_finish, discards_join,
    discards_since)
from cy.check.data_maps cimport data_maps_at
from cy.check.data_presence cimport presence_check, presence_fill
from cy.check.data_register cimport register_attempt, register_begin, register_carry, register_check, register_op
from cy.check.data_scan cimport data_kind, data_populated
from cy.check.data_share cimport data_share_at
from cy.check.data_succession cimport lazy_can_end, succession_check
from cy.check.data_types cimport (
    CHANGES_SURE, DISCARD, DISCARD_OFTEN, DISCARD_SURE, GROUP_PAGES, GUARDED, GUARD_SHIFT, MAP_ANY, MAP_RO, MAP_RW, OPEN,
    PAGE_ABSENT, PAGE_ANON, PAGE_GUARD, PAGE_NONE, PAGE_UNSEEN, PAGE_ZERO, data_is_access, data_is_write, data_oracle,
    data_page, data_report, data_room, discards)
from cy.check.sort cimport upper_bound

# Check the page and carry its state on. Context: data_place; pages of a group in ascending order.
cdef inline void data_page_check(data_oracle *o, data_page *p) noexcept nogil:
    cdef const discards *d
    cdef uint64_t incarnation = 0, value = 0, nr_e, violations = o.violations
    cdef uint32_t state = PAGE_ABSENT, seen
    cdef uint32_t at = 0
    cdef bint lost, lazy = False
    cdef uint32_t before = data_maps_at(o, p.page)
    o.states = before & MAP_ANY
    o.guards = before >> GUARD_SHIFT
    d = _discards_of(o, p)
    if d == NULL or (p.nr == 0 and d.latest == 0 and d.nr_frees == 0 and o.nr_walks == 0):
        return
    if not _page_room(o, p, d) or not register_begin(o, p.nr + 2):
        return
    if p.state == PAGE_ANON:
        register_carry(o, p.incarnation, p.value, p.lazy)
    nr_e = _take_accesses(o, p, d)
    if o.observe != NULL and (p.nr != 0 or d.latest != 0 or d.nr_frees != 0):
        seen = <uint32_t>o.observe(o.ctx, p.page, &incarnation, &value)
        state = seen if seen == PAGE_ZERO or seen == PAGE_ANON else PAGE_ABSENT
        if state == PAGE_ANON:
            at = register_op(o, incarnation, value, <uint64_t>-1, <uint64_t>-1, False)
        else:
            _take_zero(o, <uint64_t>-1, <uint64_t>-1)
        register_check(o, p.page)
        lost = _check_populated(o, d, p.page) or succession_check(o, d, p.page)
        if _check_guard(o, d, p.page, seen) and not lost:
            _check_end(o, p, d, state, nr_e)
        # Whatever a discard of the next burst is: has this one left the frame marked and clean?
        lazy = state == PAGE_ANON and lazy_can_end(d, &o.lives[at], <uint64_t>-1)
    else:
        register_check(o, p.page)
        lost = _check_populated(o, d, p.page) or succession_check(o, d, p.page)
        if p.nr == 0 and d.latest == 0:
            state = p.state         # only walks looked at it
            incarnation = p.incarnation
            value = p.value
            lazy = p.lazy
    if o.nr_walks != 0 or p.nr > nr_e:
        presence_fill(o, p, d, nr_e)
        presence_check(o, p, d)
    if o.decide != NULL and o.violations == violations:
        o.decide(o, p, d, state if o.observe != NULL else PAGE_UNSEEN, incarnation)
    p.state = state if o.observe != NULL else PAGE_ABSENT
    p.incarnation = incarnation
    p.value = value
    p.lazy = lazy

# The page's discards: those of its group alone are the same for a whole stretch of pages.
cdef inline discards *_discards_of(data_oracle *o, const data_page *p) noexcept nogil:
    cdef uint64_t i
    cdef uint64_t at[4]
    cdef const event *e
    cdef discards *d = &o.shared
    if not data_share_at(o, p.page & (GROUP_PAGES - 1)):
        return NULL
    if p.nr_ranges == 0:
        if not o.shared_checked:
            _check_mapped_all(o, p.page, d)
            o.shared_checked = 1
        return d
    d = &o.own
    if not discards_begin(o, d, o.shared.n + o.shared.maps.n + o.shared.guards.n + o.shared.nr_frees + p.nr_ranges):
        return NULL
    at[0] = 0
    at[1] = 0
    at[2] = 0
    at[3] = 0
    for i in range(p.first, p.first + p.nr):
        e = o.sorted[i]
        if data_is_access(e) or data_kind(e) == 0:
            continue
        discards_join(d, &o.shared, at, e.t0)
        discards_add(d, e.t0, e.t1, data_kind(e))
    discards_join(d, &o.shared, at, <uint64_t>-1)
    discards_finish(d)
    _check_mapped_all(o, p.page, d)
    return d

cdef inline bint _page_room(data_oracle *o, const data_page *p, const discards *d) noexcept nogil:
    cdef uint64_t m = p.nr + 2, n = d.n
    cdef uint64_t *w
    if not data_room(o, <void **>&o.words, &o.cap_words, 17 * m + 5 * n, sizeof(uint64_t)):
        return False
    w = o.words
    o.a0 = w
    o.amax = w + m
    o.w0 = w + 2 * m
    o.wmax = w + 3 * m
    o.z0 = w + 4 * m
    o.z1 = w + 5 * m
    o.zmin = w + 6 * m
    o.dead = w + 7 * m
    o.sinces = w + 8 * m
    o.present.lo = w + 9 * m
    o.present.hi = w + 10 * m
    o.p0 = w + 11 * m
    o.p1 = w + 12 * m
    w += 13 * m
    o.e0 = w
    o.e1 = w + m + n
    w += 2 * (m + n)
    o.absent.lo = w
    o.absent.hi = w + m + n
    w += 2 * (m + n)
    o.heap = w
    o.nr_a = 0
    o.nr_w = 0
    o.nr_z = 0
    o.nr_p = 0
    return True

# Sort the accesses out, and apply what needs no other access. Returns how many succeeded.
cdef inline uint64_t _take_accesses(data_oracle *o, const data_page *p, const discards *d) noexcept nogil:
    cdef uint64_t i, n = 0, latest = 0, latest_write = 0
    cdef const event *e
    cdef bint write, populate, mapped = True
    cdef int status
    for i in range(p.first, p.first + p.nr):
        e = o.sorted[i]
        populate = e.verb == VERB_POPULATE
        if not populate and not data_is_access(e):
            continue
        status = data_populated(e, p.page) if populate else e.status
        write = e.aux == 1 if populate else data_is_write(e)
        latest = e.t1 if e.t1 > latest else latest
        o.a0[o.nr_a] = e.t0
        o.amax[o.nr_a] = latest
        o.nr_a += 1
        if write:
            latest_write = e.t1 if e.t1 > latest_write else latest_write
            o.w0[o.nr_w] = e.t0
            o.wmax[o.nr_w] = latest_write
            o.nr_w += 1
        mapped = mapped and _check_mapped(o, p.page, d, e, status, write)
        if status != 0:
            if write and status == STATUS_UNKNOWN and e.incarnation != 0:
                register_attempt(o, e.incarnation, e.value, e.t0)
            continue
        if not o.zero_goes or e.incarnation != 0 or (populate and write):
            o.e0[n] = e.t0
            o.e1[n] = e.t1
            n += 1
        if populate:
            # It was there; what it was nobody looked at.
            if write:
                o.p0[o.nr_p] = e.t0
                o.p1[o.nr_p] = e.t1
                o.nr_p += 1
            continue
        if e.incarnation != 0:
            register_op(o, e.incarnation, e.value, e.t0, e.t1, write)
        elif write or e.value != 0:
            data_report(o, 34, b"value a was accessed, but no frame", p.page, e.value, 0)
        else:
            _take_zero(o, e.t0, e.t1)
    return n

cdef inline void _take_zero(data_oracle *o, uint64_t t0, uint64_t t1) noexcept nogil:
    o.z0[o.nr_z] = t0
    o.z1[o.nr_z] = t1
    o.nr_z += 1

# Rule D for a populate for writing: until a discard there is a frame. Of the zeroes behind it the first one is enough.
# Context: o.z0 by t0, of all zeroes. Returns True if it reported something.
cdef inline bint _check_populated(data_oracle *o, const discards *d, uint64_t page) noexcept nogil:
    cdef uint64_t i, k
    for i in range(o.nr_p):
        k = upper_bound(o.z0, o.nr_z, o.p1[i])
        if k < o.nr_z and not discards_any(d, o.p0[i], o.z1[k]):
            data_report(o, 33, b"zero was read after a populate for writing (begin a, end b), and no discard came by", page,
                        o.p0[i], o.p1[i])
            return True
    return False

# Rule E. Returns False after a report.
cdef inline bint _check_mapped(data_oracle *o, uint64_t page, const discards *d, const event *e, int status,
                               bint write) noexcept nogil:
    cdef uint32_t wanted = MAP_RW if write else MAP_RO | MAP_RW
    if status == STATUS_UNKNOWN or (e.verb == VERB_POPULATE and status == -ENOMEM):
        return True             # to a populate a hole is ENOMEM too
    if status == 0 or status == -ENOMEM:
        if not changes_may(&d.maps, o.states, wanted, e.t0, e.t1):
            data_report(o, 34, b"an access (verb a, status b) went to a hole or to a read-only mapping", page,
                        e.verb, <uint64_t>status)
            return False
        if status == 0 and not changes_may(&d.guards, o.guards, OPEN, e.t0, e.t1):
            data_report(o, 38, b"an access (begin a, end b) went past a guard that lay on the page all the time", page,
                        e.t0, e.t1)
            return False
    elif not (changes_may(&d.maps, o.states, _refused(e, wanted, status), e.t0, e.t1)
              or (status == -EFAULT and changes_may(&d.guards, o.guards, GUARDED, e.t0, e.t1))):
        data_report(o, 34, b"an access (verb a, status b) failed although the page was mapped for it, without a guard", page,
                    e.verb, <uint64_t>status)
        return False
    return True

# What the mapping may have been when it refused the access. A populate calls a hole -ENOMEM, a lack of rights -EINVAL.
cdef inline uint32_t _refused(const event *e, uint32_t wanted, int status) noexcept nogil:
    if e.verb == VERB_POPULATE:
        return MAP_RO if status == -EINVAL else 0
    return ~wanted & MAP_ANY

# Rule E for dontneed and guard_install: 0 tells that all of its range was mapped at once. Context: the discards of the page,
# or of a stretch that begins with it.
cdef inline void _check_mapped_all(data_oracle *o, uint64_t page, const discards *d) noexcept nogil:
    cdef uint64_t i, install = DISCARD_OFTEN | CHANGES_SURE
    if d.maps.n == 0:
        return
    for i in range(d.n):
        if ((d.kind[i] == (DISCARD | DISCARD_SURE) or d.kind[i] & install == install)
                and not changes_may(&d.maps, o.states, MAP_RO | MAP_RW, d.t0[i], d.t1[i])):
            data_report(o, 34, b"a dontneed or guard_install (begin a, end b) succeeded over a hole", page, d.t0[i], d.t1[i])
            return

# Rule E for the quiescent page: a guard lies there, or none does, for a reason. Returns False after a report.
cdef inline bint _check_guard(data_oracle *o, const discards *d, uint64_t page, uint32_t seen) noexcept nogil:
    cdef uint32_t wanted = GUARDED if seen == PAGE_GUARD else OPEN
    if seen == PAGE_ABSENT or changes_may(&d.guards, o.guards, wanted, <uint64_t>-1, <uint64_t>-1):
        return True
    if seen == PAGE_GUARD:
        data_report(o, 38, b"a guard lies on a page, but none was put there, or it was removed", page, 0, 0)
    elif seen == PAGE_NONE:
        data_report(o, 38, b"a guard that was put on a page, and that nothing took away, is gone", page, 0, 0)
    else:
        data_report(o, 38, b"a page is present that a guard lies on", page, seen, 0)
    return False

# Rule F for the quiescent page. Losses of data were looked for before.
cdef inline void _check_end(data_oracle *o, const data_page *p, const discards *d, uint32_t state, uint64_t nr_e) noexcept nogil:
    cdef bint ended
    cdef uint64_t i, last = 0, gone = discards_since(d, <uint64_t>-1)
    if state == PAGE_ZERO:
        if (p.state == PAGE_ABSENT or gone != 0) and (o.nr_a == 0 or o.amax[o.nr_a - 1] < gone):
            data_report(o, 31, b"the zero page is mapped, but nothing can have mapped it since the last discard", p.page, gone, 0)
    elif state == PAGE_ABSENT:
        for i in range(nr_e):
            last = o.e0[i] if o.e0[i] > last else last
        # Memory pressure takes frames only.
        ended = discards_any(d, last, <uint64_t>-1) if o.nr_lives or o.nr_w else discards_any_hard(d, last, <uint64_t>-1)
        if (nr_e != 0 or (p.state != PAGE_ABSENT and not _may_go(o, p))) and not ended:
            data_report(o, 46, b"a page that was present is gone without a discard", p.page, last, 0)

# May what was there at the end of the last burst be gone by itself?
cdef inline bint _may_go(const data_oracle *o, const data_page *p) noexcept nogil:
    return o.zero_goes and p.state == PAGE_ZERO
