# Scenes about grace periods. All use the domain RCU_TABLES.

cdef enum:
    AT = 0                      # cells: the parcel that readers find,
    X = 1                       # two words of the classic litmus, and what the reader saw of them,
    Y = 2
    SAW_X = 3
    SAW_Y = 4
    INSIDE = 5                  # a reader is inside its section,
    DONE = 6                    # the updater is done

# BUSTED variants.
cdef enum:
    NO_GRACE_PERIOD = 1         # freed right after the unlink
    RUNNING_PERIOD = 2          # waits for the period that runs: it may have begun before the unlink (s, not s + 2)
    SILENT_READER = 3           # the reader publishes nothing
    UNORDERED_READER = 4        # publishes, but its loads may come before: no full barrier
    NO_BACKPRESSURE = 5

cdef rcu_domain *tables_rcu(rig *r) noexcept nogil:
    return &r.m.rcu[RCU_TABLES]


cdef void poison_parcel(cpu *c, rcu_head *head) noexcept nogil:
    plain_store(&(<parcel *>head).value, PT_POISON)


# -- unlink: cpu 0 replaces and frees parcels, the last cpu drives periods, the others read -------

cdef void unlink_body(rig *r, cpu *c) noexcept nogil:
    cdef uint32_t n
    for n in range(r.repeats):
        if c.id == 0:
            unlink_update(r, c)
        elif c.id + 1 == r.face.nr_fibres:
            rcu_advance(c, tables_rcu(r))
        else:
            unlink_read(r, c)


cdef void unlink_update(rig *r, cpu *c) noexcept nogil:
    cdef uint64_t old = r.board.cell[AT]
    cdef uint64_t new = (old + 1) % NR_PARCELS
    cdef rcu_domain *d = tables_rcu(r)
    cdef uint64_t target
    plain_store(&r.board.parcel[new].value, 1)
    smp_store_release(&r.board.cell[AT], new)
    if r.busted == NO_GRACE_PERIOD:
        delay_point(c)
        poison_parcel(c, &r.board.parcel[old].head)
    elif r.busted == RUNNING_PERIOD:
        target = rcu_gp_target(d)
        if READ_ONCE(&d.gp_completed) != target - 2:
            target -= 2
        while not rcu_gp_reached(d, target):
            rcu_advance(c, d)
            if not rcu_gp_reached(d, target) and not sched_wait(rcu_can_advance, d):
                sched_yield()
        poison_parcel(c, &r.board.parcel[old].head)
    else:
        call_rcu(c, d, &r.board.parcel[old].head, poison_parcel)
        rcu_barrier(c, d)


cdef void unlink_read(rig *r, cpu *c) noexcept nogil:
    cdef rcu_domain *d = tables_rcu(r)
    cdef parcel *p
    cdef uint32_t i
    if r.busted == UNORDERED_READER:
        WRITE_ONCE(&c.rcu[RCU_TABLES].slot, READ_ONCE(&d.gp_seq))
    elif r.busted != SILENT_READER:
        rcu_read_lock(c, d)
    p = &r.board.parcel[READ_ONCE(&r.board.cell[AT])]
    for i in range(2):
        delay_point(c)
        if plain_load(&p.value) == PT_POISON:
            flag(r)
    if r.busted != SILENT_READER:
        rcu_read_unlock(c, d)


# -- sync: cpu 0: x = 1; synchronize_rcu; y = 1.  cpu 1, in one section: read x; read y -----------

cdef void sync_body(rig *r, cpu *c) noexcept nogil:
    if c.id == 0:
        WRITE_ONCE(&r.board.cell[X], 1)
        if r.busted != NO_GRACE_PERIOD:
            synchronize_rcu(c, tables_rcu(r))
        WRITE_ONCE(&r.board.cell[Y], 1)
    else:
        rcu_read_lock(c, tables_rcu(r))
        r.board.cell[SAW_X] = READ_ONCE(&r.board.cell[X])
        delay_point(c)
        r.board.cell[SAW_Y] = READ_ONCE(&r.board.cell[Y])
        rcu_read_unlock(c, tables_rcu(r))


cdef bint sync_wrong(rig *r) noexcept nogil:
    return r.board.cell[SAW_X] == 0 and r.board.cell[SAW_Y] == 1


# -- backlog: cpu 1 stays in a section until cpu 0, which queues callbacks, has to wait or is done --

cdef void backlog_body(rig *r, cpu *c) noexcept nogil:
    cdef rcu_domain *d = tables_rcu(r)
    cdef uint32_t n
    if c.id == 1:
        rcu_read_lock(c, d)
        WRITE_ONCE(&r.board.cell[INSIDE], 1)
        wait_for(r, updater_waits_or_is_done)
        rcu_read_unlock(c, d)
        return
    wait_for(r, reader_is_inside)
    for n in range(r.repeats):
        call_rcu(c, d, &r.board.parcel[n % NR_PARCELS].head, poison_parcel)
        if r.busted != NO_BACKPRESSURE:
            rcu_backpressure(c, d)
    WRITE_ONCE(&r.board.cell[DONE], 1)
    rcu_barrier(c, d)


cdef int reader_is_inside(const void *self) noexcept nogil:
    return peek(&(<rig *>self).board.cell[INSIDE]) != 0


cdef int updater_waits_or_is_done(const void *self) noexcept nogil:
    cdef rig *r = <rig *>self
    return peek(&r.x.shared[0].counter[C_RCU_BACKPRESSURE]) != 0 or peek(&r.board.cell[DONE]) != 0


# Never more than the limit and the one callback that went over it; and all of them ran.
cdef bint backlog_wrong(rig *r) noexcept nogil:
    cdef uint64_t *counter = &r.x.shared[0].counter[0]
    return counter[C_RCU_BACKLOG_MAX] > tables_rcu(r).backlog_max + 1 or counter[C_RCU_CALLBACKS] != r.repeats


# -- names ---------------------------------------------------------------------------------------

cdef bint rcu_scene(scene *s, str name) except -1:
    if name == "unlink":
        s.body = unlink_body
    elif name == "sync":
        s.nr_cpus = 2
        s.body = sync_body
        s.wrong = sync_wrong
    elif name == "backlog":
        s.nr_cpus = 2
        s.body = backlog_body
        s.wrong = backlog_wrong
    else:
        return False
    return True
