# Litmus tests: what accesses that are ordered, or are not, may show of each other. The names are those of the literature.
#
# FIRST, SECOND and UNTOUCHED are cells, 0 in the beginning; owner[i] is what the i-th load returned. `unordered` leaves an
# ordering out, and then the outcome that wrong() looks for may come.
# Source: Alglave, Maranget, Tautschnig, "Herding cats", ACM TOPLAS 2014; tools/memory-model/litmus-tests.

cdef enum:
    FIRST = 0
    SECOND = 1
    UNTOUCHED = 2

cdef enum:
    UNORDERED_STORES = 1
    UNORDERED_LOADS = 2
    UNORDERED = 3
    NO_MEMBARRIER = 4

cdef uint64_t *word(rig *r, uint32_t i) noexcept nogil:
    return &r.board.cell[i]


cdef void saw(rig *r, uint32_t i, uint64_t value) noexcept nogil:
    r.board.owner[i] = value


# -- MP: message passing. The flag SECOND is seen, the message FIRST is not ------------------------------------

cdef void mp_body(rig *r, cpu *c) noexcept nogil:
    if c.id == 0:
        WRITE_ONCE(word(r, FIRST), 1)
        if r.busted == UNORDERED_STORES:
            WRITE_ONCE(word(r, SECOND), 1)
        else:
            smp_store_release(word(r, SECOND), 1)
    else:
        saw(r, 0, READ_ONCE(word(r, SECOND)) if r.busted == UNORDERED_LOADS else smp_load_acquire(word(r, SECOND)))
        saw(r, 1, READ_ONCE(word(r, FIRST)))


cdef void mp_fences_body(rig *r, cpu *c) noexcept nogil:
    if c.id == 0:
        WRITE_ONCE(word(r, FIRST), 1)
        if r.busted != UNORDERED_STORES:
            smp_wmb()
        WRITE_ONCE(word(r, SECOND), 1)
    else:
        saw(r, 0, READ_ONCE(word(r, SECOND)))
        if r.busted != UNORDERED_LOADS:
            smp_rmb()
        saw(r, 1, READ_ONCE(word(r, FIRST)))


# The loads the other way round in time: a load is not held back by an acquire behind it.
cdef void mp_acquire_body(rig *r, cpu *c) noexcept nogil:
    if c.id == 0:
        WRITE_ONCE(word(r, FIRST), 1)
        smp_store_release(word(r, SECOND), 1)
    else:
        saw(r, 0, READ_ONCE(word(r, SECOND)))
        if r.busted != UNORDERED:
            smp_rmb()
        saw(r, 1, smp_load_acquire(word(r, FIRST)))


# An acquire between them holds back the second load, not the first; of a word that nobody stores, it may be made at any time.
cdef void mp_acquire_between_body(rig *r, cpu *c) noexcept nogil:
    if c.id == 0:
        WRITE_ONCE(word(r, FIRST), 1)
        smp_store_release(word(r, SECOND), 1)
    else:
        saw(r, 0, READ_ONCE(word(r, SECOND)))
        if r.busted != UNORDERED:
            smp_rmb()
        smp_load_acquire(word(r, UNTOUCHED))
        saw(r, 1, READ_ONCE(word(r, FIRST)))


# The message is found through the flag: an address dependency. It orders nothing here, so the engine must not need it.
cdef void mp_address_body(rig *r, cpu *c) noexcept nogil:
    cdef uint64_t at
    if c.id == 0:
        WRITE_ONCE(word(r, FIRST), 1)
        smp_store_release(word(r, SECOND), 1)
    else:
        at = READ_ONCE(word(r, SECOND)) if r.busted == UNORDERED else smp_load_acquire(word(r, SECOND))
        saw(r, 0, at)
        saw(r, 1, READ_ONCE(word(r, FIRST) + (at & 0)))


# With a lock: what one holder stored the next one sees.
cdef void mp_lock_body(rig *r, cpu *c) noexcept nogil:
    spin_lock(c, &r.board.lock[0], LOCK_PTL)
    if c.id == 0:
        WRITE_ONCE(word(r, FIRST), 1)
        WRITE_ONCE(word(r, SECOND), 1)
    else:
        saw(r, 0, READ_ONCE(word(r, SECOND)))
        saw(r, 1, READ_ONCE(word(r, FIRST)))
    spin_unlock(c, &r.board.lock[0])


cdef bint flag_without_message(rig *r) noexcept nogil:
    return r.board.owner[0] == 1 and r.board.owner[1] == 0


# -- SB: store buffering. Neither sees the store of the other -----------------------------------------

cdef void sb_body(rig *r, cpu *c) noexcept nogil:
    WRITE_ONCE(word(r, c.id), 1)
    if r.busted != UNORDERED:
        smp_mb()
    saw(r, c.id, READ_ONCE(word(r, 1 - c.id)))


# One side has its barrier or leaves it to the other, whose barrier is on all cpus then: RCU readers and who waits for them.
cdef void sb_membarrier_body(rig *r, cpu *c) noexcept nogil:
    if c.id == 0:
        xchg_or_membarrier(word(r, 0), 1)
    else:
        WRITE_ONCE(word(r, 1), 1)
        if r.busted != UNORDERED:
            smp_mb()
        if r.busted != NO_MEMBARRIER:
            membarrier_all_cpus()
    saw(r, c.id, READ_ONCE(word(r, 1 - c.id)))


# A release and an acquire are no full barrier.
cdef void sb_release_body(rig *r, cpu *c) noexcept nogil:
    if r.busted != UNORDERED:
        xchg(word(r, c.id), 1)
    else:
        smp_store_release(word(r, c.id), 1)
    saw(r, c.id, smp_load_acquire(word(r, 1 - c.id)))


cdef bint both_saw_nothing(rig *r) noexcept nogil:
    return r.board.owner[0] == 0 and r.board.owner[1] == 0


# -- 2+2W, R, S: stores that cross --------------------------------------------------------------------

cdef void two_two_w_body(rig *r, cpu *c) noexcept nogil:
    WRITE_ONCE(word(r, c.id), 1)
    if r.busted != UNORDERED:
        smp_wmb()
    WRITE_ONCE(word(r, 1 - c.id), 2)


cdef bint first_stores_last(rig *r) noexcept nogil:
    return r.board.cell[FIRST] == 1 and r.board.cell[SECOND] == 1


cdef void r_body(rig *r, cpu *c) noexcept nogil:
    if c.id == 0:
        WRITE_ONCE(word(r, FIRST), 1)
        if r.busted != UNORDERED_STORES:
            smp_mb()
        WRITE_ONCE(word(r, SECOND), 1)
    else:
        WRITE_ONCE(word(r, SECOND), 2)
        if r.busted != UNORDERED_LOADS:
            smp_mb()
        saw(r, 0, READ_ONCE(word(r, FIRST)))


cdef bint r_wrong(rig *r) noexcept nogil:
    return r.board.cell[SECOND] == 2 and r.board.owner[0] == 0


cdef void s_body(rig *r, cpu *c) noexcept nogil:
    if c.id == 0:
        WRITE_ONCE(word(r, FIRST), 2)
        if r.busted != UNORDERED:
            smp_wmb()
        WRITE_ONCE(word(r, SECOND), 1)
    else:
        saw(r, 0, smp_load_acquire(word(r, SECOND)))
        WRITE_ONCE(word(r, FIRST), 1)


cdef bint s_wrong(rig *r) noexcept nogil:
    return r.board.owner[0] == 1 and r.board.cell[FIRST] == 2


# -- LB: load buffering. Each load sees the store behind the other load: not modelled, so never --------

cdef void lb_body(rig *r, cpu *c) noexcept nogil:
    saw(r, c.id, READ_ONCE(word(r, c.id)))
    WRITE_ONCE(word(r, 1 - c.id), 1)


cdef bint both_saw_all(rig *r) noexcept nogil:
    return r.board.owner[0] == 1 and r.board.owner[1] == 1


# -- CoRR: one word never goes back, for nobody --------------------------------------------------------

cdef void corr_body(rig *r, cpu *c) noexcept nogil:
    cdef uint64_t i, last = 0, value
    for i in range(1, 4):
        if c.id == 0:
            WRITE_ONCE(word(r, FIRST), i)
        else:
            value = READ_ONCE(word(r, FIRST))
            if value < last:
                flag(r)
            last = value


# -- IRIW: two readers see two independent stores in different orders; never with barriers, as memory is one --

cdef void iriw_body(rig *r, cpu *c) noexcept nogil:
    cdef uint32_t first
    if c.id < 2:
        WRITE_ONCE(word(r, c.id), 1)
        return
    first = c.id - 2
    saw(r, 2 * first, READ_ONCE(word(r, first)))
    if r.busted != UNORDERED:
        smp_rmb()
    saw(r, 2 * first + 1, READ_ONCE(word(r, 1 - first)))


cdef bint iriw_wrong(rig *r) noexcept nogil:
    return (r.board.owner[0] == 1 and r.board.owner[1] == 0 and r.board.owner[2] == 1 and r.board.owner[3] == 0)


# -- names ---------------------------------------------------------------------------------------

cdef bint litmus_scene(scene *s, str name) except -1:
    s.nr_cpus = 2
    s.wrong = flag_without_message
    if name == "MP":
        s.body = mp_body
    elif name == "MP+fences":
        s.body = mp_fences_body
    elif name == "MP+acquire-behind":
        s.body = mp_acquire_body
    elif name == "MP+acquire-between":
        s.body = mp_acquire_between_body
    elif name == "MP+address":
        s.body = mp_address_body
    elif name == "MP+lock":
        s.body = mp_lock_body
    elif name == "SB":
        s.body, s.wrong = sb_body, both_saw_nothing
    elif name == "SB+membarrier":
        s.body, s.wrong = sb_membarrier_body, both_saw_nothing
    elif name == "SB+release+acquire":
        s.body, s.wrong = sb_release_body, both_saw_nothing
    elif name == "2+2W":
        s.body, s.wrong = two_two_w_body, first_stores_last
    elif name == "R":
        s.body, s.wrong = r_body, r_wrong
    elif name == "S":
        s.body, s.wrong = s_body, s_wrong
    elif name == "LB":
        s.body, s.wrong = lb_body, both_saw_all
    elif name == "CoRR":
        s.body, s.wrong = corr_body, never_wrong
    elif name == "IRIW":
        s.nr_cpus = 4
        s.body, s.wrong = iriw_body, iriw_wrong
    else:
        return False
    return True
