# Policy `recorded`: keeps to the order in which a flight recorder saw operations begin, end and get their locks.
#
# The order is a list of marks, each of a fibre: it begins its next operation, ends it, gets a lock in it. A fibre that is about
# to make a marked step waits until all earlier marks of others are made; everything between is a random walk. The program is
# smaller than what was recorded, so marks may have no step and steps no mark: marks of locks that an operation did not use are
# passed when it ends, and who has none left goes as it likes. Where all would wait, also for one that gives way at a yield point,
# the one whose mark is the earliest goes. Half of the executions heed operations only.
#
# Source: Huang, Zhang, Dolby, "CLAP: recording local executions to reproduce concurrency failures", PLDI 2013 (record little,
# search the rest); Thomson, Donaldson, Betts, as for random_walk.pxd.
# Departs from it: nothing is solved, the order is a hint, and an oracle says whether the failure is there.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport strstr
from cy.base.hook cimport PT_KIND_OP, PT_KIND_RMW
from cy.base.rng cimport rng_below, rng_next, rng_seed
from cy.explore.policy cimport (
    access, always_more, count_bits, is_in, lowest_bit, moment, never_done, nth_fibre, policy_knobs, policy_ops)

# A mark is one byte: what it is, and of which fibre. Numbers as in ptstress/recorded_order.py.
cdef enum:
    MARK_BEGIN = 0
    MARK_END = 1
    MARK_LOCK = 2
    MARK_BITS = 2
    MAX_MARKS = 256             # of each fibre; further ones are left out
    MARKED_FIBRES = 8
    NO_MARK = 0xffff

cdef struct recorded:
    uint64_t rng
    uint64_t stay               # of 2^32
    bint locks                  # this execution heeds them
    uint8_t kinds[8][256]
    uint16_t places[8][256]     # in the order of all marks
    uint32_t nr[8]
    uint32_t at[8]              # marks that are made, or were passed

cdef inline void recorded_ops(policy_ops *ops) noexcept nogil:
    ops.state_bytes = sizeof(recorded)
    ops.every_step = True
    ops.init = recorded_init
    ops.begin = recorded_begin
    ops.choose = recorded_choose
    ops.more = always_more
    ops.done = never_done
    ops.fini = recorded_fini

cdef inline uint32_t recorded_choose(void *state, const moment *now) noexcept nogil:
    cdef recorded *r = <recorded *>state
    cdef uint64_t left = now.enabled, allowed = 0
    cdef uint32_t fibre, place, earliest = NO_MARK, first = lowest_bit(now.enabled)
    while left:
        fibre = lowest_bit(left)
        left &= left - 1
        place = _mark_of_step(r, fibre, &now.pending[fibre])
        if place == NO_MARK or not _somebody_before(r, now, fibre, place):
            allowed |= <uint64_t>1 << fibre
        elif place < earliest:
            earliest = place
            first = fibre
    if allowed == 0:
        allowed = <uint64_t>1 << first
    fibre = _walk(r, allowed, now.current)
    place = _mark_of_step(r, fibre, &now.pending[fibre])
    if place != NO_MARK:
        while r.places[fibre][r.at[fibre]] != place:
            r.at[fibre] += 1
        r.at[fibre] += 1
    return fibre

cdef inline uint32_t _walk(recorded *r, uint64_t allowed, uint32_t current) noexcept nogil:
    if is_in(allowed, current) and rng_next(&r.rng) >> 32 < r.stay:
        return current
    return nth_fibre(allowed, rng_below(&r.rng, count_bits(allowed)))

# Does a fibre begin an operation by its next step? By its first one it does.
cdef inline bint _is_begin(const access *step) noexcept nogil:
    return step.site == NULL or step.site.kind == PT_KIND_OP

# The place of the mark that a fibre makes by its next step; NO_MARK: none.
cdef inline uint32_t _mark_of_step(const recorded *r, uint32_t fibre, const access *step) noexcept nogil:
    if fibre >= MARKED_FIBRES:
        return NO_MARK
    if _is_begin(step):
        return _next(r, fibre, MARK_BEGIN, NO_MARK)
    if r.locks and step.site.kind == PT_KIND_RMW and strstr(step.site.func, b"spin_lock") != NULL:
        if (<const uint32_t *>step.addr)[0] == 0:
            return _next(r, fibre, MARK_LOCK, MARK_END)
    return NO_MARK

# The next mark of a kind, before one of kind `until`.
cdef inline uint32_t _next(const recorded *r, uint32_t fibre, uint32_t kind, uint32_t until) noexcept nogil:
    cdef uint32_t i = r.at[fibre]
    while i < r.nr[fibre] and r.kinds[fibre][i] != until:
        if r.kinds[fibre][i] == kind:
            return r.places[fibre][i]
        i += 1
    return NO_MARK

# Has another fibre, that is not at its end, a mark before that place to make?
cdef inline bint _somebody_before(const recorded *r, const moment *now, uint32_t fibre, uint32_t place) noexcept nogil:
    cdef uint32_t other
    for other in range(<uint32_t>MARKED_FIBRES):
        if other != fibre and is_in(now.live, other) and _waits_at(r, other, &now.pending[other]) < place:
            return True
    return False

# The place of the first mark that a fibre has still to make. Who is about to begin an operation has ended the one before.
cdef inline uint32_t _waits_at(const recorded *r, uint32_t fibre, const access *step) noexcept nogil:
    cdef uint32_t i = r.at[fibre]
    if _is_begin(step):
        return _next(r, fibre, MARK_BEGIN, NO_MARK)
    while i < r.nr[fibre] and r.kinds[fibre][i] == MARK_LOCK and not r.locks:
        i += 1
    return r.places[fibre][i] if i < r.nr[fibre] else NO_MARK

cdef inline int recorded_init(void *state, const policy_knobs *knobs) noexcept nogil:
    cdef recorded *r = <recorded *>state
    cdef uint32_t i, fibre
    for i in range(knobs.nr_choices):
        fibre = knobs.choices[i] >> MARK_BITS
        if fibre < MARKED_FIBRES and r.nr[fibre] < MAX_MARKS and i < NO_MARK:
            r.kinds[fibre][r.nr[fibre]] = knobs.choices[i] & ((1 << MARK_BITS) - 1)
            r.places[fibre][r.nr[fibre]] = <uint16_t>i
            r.nr[fibre] += 1
    return 0

cdef inline void recorded_begin(void *state, uint64_t seed) noexcept nogil:
    cdef recorded *r = <recorded *>state
    cdef uint32_t fibre
    rng_seed(&r.rng, seed, 0xF117)
    r.stay = (<uint64_t>1 << 32) - ((<uint64_t>1 << 32) >> rng_below(&r.rng, 6))
    r.locks = rng_below(&r.rng, 2) != 0
    for fibre in range(<uint32_t>MARKED_FIBRES):
        r.at[fibre] = 0

cdef inline void recorded_fini(void *state) noexcept nogil:
    pass
