# Scenes about grace periods of SRCU. Parcels, cells and most wrong variants are those of the scenes about RCU.

# BUSTED variants.
cdef enum:
    OTHER_HALF = 6              # the reader leaves by the half that is in use when it leaves
    NO_FIRST_SCAN = 7           # a period does not look at the half that readers had left before

cdef srcu_struct *sleepers(rig *r) noexcept nogil:
    return &r.x.srcu[0]


cdef void srcu_setup(rig *r) noexcept nogil:
    srcu_struct_init(sleepers(r), r.x.nr_workers)
    sleepers(r).backlog_max = tables_rcu(r).backlog_max


# -- srcu_unlink: cpu 0 replaces and frees parcels, the last cpu drives periods, the others read and sleep --

cdef void srcu_unlink_body(rig *r, cpu *c) noexcept nogil:
    cdef uint32_t n
    for n in range(r.repeats):
        if c.id == 0:
            srcu_unlink_update(r, c)
        elif c.id + 1 == r.face.nr_fibres:
            srcu_drive(r, c)
        else:
            srcu_unlink_read(r, c)


cdef void srcu_unlink_update(rig *r, cpu *c) noexcept nogil:
    cdef srcu_struct *s = sleepers(r)
    cdef uint64_t old = r.board.cell[AT], new = (old + 1) % NR_PARCELS, target
    plain_store(&r.board.parcel[new].value, 1)
    smp_store_release(&r.board.cell[AT], new)
    if r.busted == NO_GRACE_PERIOD:
        delay_point(c)
        poison_parcel(c, &r.board.parcel[old].head)
    elif r.busted == NO_FIRST_SCAN:
        target = srcu_gp_target(s)
        while not srcu_gp_reached(s, target):
            srcu_drive(r, c)
            if not srcu_gp_reached(s, target) and not sched_wait(srcu_can_advance, s):
                sched_yield()
        poison_parcel(c, &r.board.parcel[old].head)
    else:
        call_srcu(c, s, &r.board.parcel[old].head, poison_parcel)
        srcu_barrier(c, s)


cdef void srcu_drive(rig *r, cpu *c) noexcept nogil:
    cdef srcu_struct *s = sleepers(r)
    if r.busted == NO_FIRST_SCAN and spin_trylock(c, &s.gp_lock, LOCK_RCU):
        if s.state == SRCU_IDLE:
            xchg(&s.gp_seq, s.gp_seq + 2)
            xchg(&s.idx, s.idx + 1)
            s.state = SRCU_SCAN2
        spin_unlock(c, &s.gp_lock)
    srcu_advance(c, s)


cdef void srcu_unlink_read(rig *r, cpu *c) noexcept nogil:
    cdef srcu_struct *s = sleepers(r)
    cdef parcel *p
    cdef uint32_t i, half = 0
    if r.busted == UNORDERED_READER:
        half = <uint32_t>READ_ONCE(&s.idx) & 1
        WRITE_ONCE(&s.data[c.id].locks[half], s.data[c.id].locks[half] + 1)
    elif r.busted != SILENT_READER:
        half = srcu_read_lock(c, s)
    p = &r.board.parcel[READ_ONCE(&r.board.cell[AT])]
    for i in range(2):
        might_sleep(c)
        delay_point(c)
        if plain_load(&p.value) == PT_POISON:
            flag(r)
    if r.busted == OTHER_HALF:
        half = <uint32_t>READ_ONCE(&s.idx) & 1
    if r.busted != SILENT_READER:
        srcu_read_unlock(c, s, half)


# -- srcu_sync: cpu 0: x = 1; synchronize_srcu; y = 1.  cpu 1, in one section: read x; read y ------

cdef void srcu_sync_body(rig *r, cpu *c) noexcept nogil:
    cdef uint32_t half
    if c.id == 0:
        WRITE_ONCE(&r.board.cell[X], 1)
        if r.busted != NO_GRACE_PERIOD:
            synchronize_srcu(c, sleepers(r))
        WRITE_ONCE(&r.board.cell[Y], 1)
    else:
        half = srcu_read_lock(c, sleepers(r))
        r.board.cell[SAW_X] = READ_ONCE(&r.board.cell[X])
        delay_point(c)
        r.board.cell[SAW_Y] = READ_ONCE(&r.board.cell[Y])
        srcu_read_unlock(c, sleepers(r), half)


# -- names ---------------------------------------------------------------------------------------

cdef bint srcu_scene(scene *s, str name) except -1:
    if name == "srcu_unlink":
        s.body = srcu_unlink_body
    elif name == "srcu_sync":
        s.nr_cpus = 2
        s.body = srcu_sync_body
        s.wrong = sync_wrong
    else:
        return False
    s.setup = srcu_setup
    return True
