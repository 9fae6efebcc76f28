# What the controlled scheduler gets: a program, and functions to reset, run and judge it.

cdef struct branch:
    const op *ops
    uint64_t nr_ops

cdef struct explore_ctx:
    machine *x
    judge *judge
    branch prefix
    branch *branches
    uint32_t nr
    outcome_table allowed       # no rows: nobody knows what the program may come to
    explorable face


cdef void explore_reset(void *self, uint64_t seed) noexcept nogil:
    cdef explore_ctx *e = <explore_ctx *>self
    cdef uint64_t i
    machine_reset(e.x, seed)
    judge_reset(e.judge)
    for i in range(e.prefix.nr_ops):
        execute(&e.x.cpus[0], e.x, &e.prefix.ops[i])
    drain(&e.x.cpus[0], &e.x.mms[0])


cdef void explore_body(void *self, uint32_t i) noexcept nogil:
    cdef explore_ctx *e = <explore_ctx *>self
    cdef cpu *c = &e.x.cpus[i]
    cdef uint64_t n
    for n in range(e.branches[i].nr_ops):
        execute(c, e.x, &e.branches[i].ops[n])
    drain(c, &e.x.mms[0])


cdef uint32_t explore_finish(void *self) noexcept nogil:
    cdef explore_ctx *e = <explore_ctx *>self
    check_quiescent(&e.x.cpus[0], e.x)
    judge_all(e.judge)
    # What the oracles object to is told in their words, which say more.
    if e.allowed.nr_rows != 0 and e.x.header.nr_reports == 0:
        outcome_judge(&e.allowed, e.x, e.nr)
    return <uint32_t>e.x.header.nr_reports


cdef uint64_t explore_state(void *self) noexcept nogil:
    return machine_state((<explore_ctx *>self).x)


cdef pt_hook *explore_hook(void *self, uint32_t i) noexcept nogil:
    return &(<explore_ctx *>self).x.cpus[i].hook


cdef pt_hook **explore_slot() noexcept nogil:
    return pt_current_slot()


cdef void release_machine(object capsule) noexcept:
    """Destructor of an explorable's capsule: gives back its reference to the machine."""
    cdef void *owner = PyCapsule_GetContext(capsule)
    if owner != NULL:
        Py_DECREF(<object>owner)
