# Scenes about arenas.

# BUSTED variant.
cdef enum:
    UNLOCKED = 1                # the common list is used without its lock

# -- handout: every cpu takes a frame, marks it as its own, and gives it back ---------------------

cdef void handout_body(rig *r, cpu *c) noexcept nogil:
    cdef arena *a = r.m.frames
    cdef uint32_t n, i
    for n in range(r.repeats):
        i = take_unlocked(c, a) if r.busted == UNLOCKED else arena_alloc(c, a)
        if i == ARENA_NONE:
            continue
        if i == 0 or i >= NR_CELLS or xchg(&r.board.owner[i], c.id + 1) != 0:
            flag(r)
            return
        delay_point(c)
        xchg(&r.board.owner[i], 0)
        if r.busted == UNLOCKED:
            give_unlocked(c, a, i)
        else:
            arena_free(c, a, i)


cdef uint32_t take_unlocked(cpu *c, arena *a) noexcept nogil:
    cdef uint32_t i = READ_ONCE32(&a.head)
    if i == ARENA_NONE:
        return i
    delay_point(c)
    WRITE_ONCE32(&a.head, a.items[i].next)
    return i


cdef void give_unlocked(cpu *c, arena *a, uint32_t i) noexcept nogil:
    a.items[i].next = READ_ONCE32(&a.head)
    delay_point(c)
    WRITE_ONCE32(&a.head, i)


# Nothing was lost.
cdef bint handout_wrong(rig *r) noexcept nogil:
    return r.busted == 0 and arena_nr_free(r.m.frames) != r.m.frames.nr - 1


cdef bint arena_scene(scene *s, str name) except -1:
    if name != "handout":
        return False
    s.body = handout_body
    s.wrong = handout_wrong
    return True
