# Scenes about the VMA lock. There is one VMA, pages 0 to 3; cpu 0 writes, the others read.

cdef enum:
    CHANGING = 0                # cells: the VMA is write-locked,
    GONE = 1                    # detached
    LEFT = 2                    # the word that the VMA lock protects, and its copy
    RIGHT = 3

# BUSTED variants.
cdef enum:
    NO_SEQ_RECHECK = 1          # vma_start_read does not look at vm_lock_seq after it counted itself
    NO_DRAIN = 2                # vma_start_write does not wait for readers
    NO_BOUNDS_RECHECK = 3       # lock_vma_under_rcu does not look at the bounds again
    UNLOCKED_DETACH = 4         # detached without being write-locked first

# A VMA in the set, attached. Context: cpu 0.
cdef vma *add_vma(rig *r, uint64_t first, uint64_t end) noexcept nogil:
    cdef cpu *c = &r.m.cpus[0]
    cdef vma *v = vm_area_alloc(c, r.m)
    if v == NULL:
        return NULL
    mmap_write_lock(c, r.m)
    vm_area_init(r.m, v, first << PAGE_SHIFT, end << PAGE_SHIFT, 1)
    vma_start_write(c, r.m, v)
    vma_set_insert(r.m, v)
    vma_mark_attached(v)
    mmap_write_unlock(c, r.m)
    return v


cdef void vma_setup(rig *r) noexcept nogil:
    add_vma(r, 0, 4)


cdef vma *the_vma(rig *r) noexcept nogil:
    return &r.m.vma_objects[0]


cdef bint start_read(rig *r, cpu *c, vma *v) noexcept nogil:
    cdef uint32_t refcnt
    if r.busted != NO_SEQ_RECHECK:
        return vma_start_read(c, r.m, v)
    if READ_ONCE32(&v.vm_lock_seq) == READ_ONCE32(&r.m.mm_lock_seq.sequence):
        return False
    delay_point(c)
    while True:
        refcnt = READ_ONCE32(&v.vm_refcnt)
        if refcnt == 0 or (refcnt & VMA_EXCLUDE_READERS) != 0:
            return False
        if cmpxchg32(&v.vm_refcnt, refcnt, refcnt + 1) == refcnt:
            lock_held_push(c, v, LOCK_VMA)
            return True


# -- write_lock: no reader is inside while the VMA is write-locked --------------------------------

cdef void write_lock_body(rig *r, cpu *c) noexcept nogil:
    cdef vma *v = the_vma(r)
    cdef uint64_t left
    cdef uint32_t n
    for n in range(r.repeats):
        if c.id != 0:
            rcu_read_lock(c, tables_rcu(r))
            if start_read(r, c, v):
                left = plain_load(&r.board.cell[LEFT])
                delay_point(c)
                if READ_ONCE(&r.board.cell[CHANGING]) or plain_load(&r.board.cell[RIGHT]) != left:
                    flag(r)
                vma_end_read(c, v)
            rcu_read_unlock(c, tables_rcu(r))
            continue
        mmap_write_lock(c, r.m)
        if r.busted == NO_DRAIN:
            WRITE_ONCE32(&v.vm_lock_seq, r.m.mm_lock_seq.sequence)
        else:
            vma_start_write(c, r.m, v)
        WRITE_ONCE(&r.board.cell[CHANGING], 1)
        plain_store(&r.board.cell[LEFT], n + 1)
        delay_point(c)
        plain_store(&r.board.cell[RIGHT], n + 1)
        WRITE_ONCE(&r.board.cell[CHANGING], 0)
        if n % 2:
            mmap_write_unlock(c, r.m)
        else:
            mmap_write_downgrade(c, r.m)
            mmap_read_unlock(c, r.m)


# -- detach: once it returned, no reader is inside and none comes ---------------------------------

cdef void detach_body(rig *r, cpu *c) noexcept nogil:
    cdef vma *v = the_vma(r)
    if c.id != 0:
        rcu_read_lock(c, tables_rcu(r))
        if start_read(r, c, v):
            delay_point(c)
            if READ_ONCE(&r.board.cell[GONE]):
                flag(r)
            vma_end_read(c, v)
        rcu_read_unlock(c, tables_rcu(r))
        return
    mmap_write_lock(c, r.m)
    if r.busted != UNLOCKED_DETACH:
        vma_start_write(c, r.m, v)
    vma_set_remove(r.m, 0, 1)
    if r.busted == UNLOCKED_DETACH:
        atomic_add_return32(&v.vm_refcnt, <uint32_t>-1)
    else:
        vma_mark_detached(c, v)
        if READ_ONCE32(&v.vm_refcnt) != 0:
            flag(r)
    WRITE_ONCE(&r.board.cell[GONE], 1)
    mmap_write_unlock(c, r.m)


# -- bounds: the VMA is cut while the others look up a page that it loses -------------------------

cdef void bounds_body(rig *r, cpu *c) noexcept nogil:
    cdef uint64_t addr = <uint64_t>3 << PAGE_SHIFT
    cdef vma *v
    if c.id == 0:
        v = the_vma(r)
        mmap_write_lock(c, r.m)
        vma_start_write(c, r.m, v)
        vma_set_bounds(r.m, v, v.vm_start, addr)
        mmap_write_unlock(c, r.m)
        return
    if r.busted == NO_BOUNDS_RECHECK:
        rcu_read_lock(c, tables_rcu(r))
        v = vma_lookup_lockless(r.m, addr)
        if v != NULL and not vma_start_read(c, r.m, v):
            v = NULL
        rcu_read_unlock(c, tables_rcu(r))
    else:
        v = lock_vma_under_rcu(c, r.m, addr)
    if v != NULL:
        if not v.vm_start <= addr < v.vm_end:
            flag(r)
        vma_end_read(c, v)


cdef bint vma_scene(scene *s, str name) except -1:
    s.setup = vma_setup
    if name == "write_lock":
        s.body = write_lock_body
    elif name == "detach":
        s.body = detach_body
    elif name == "bounds":
        s.nr_cpus = 2
        s.body = bounds_body
    else:
        s.setup = no_setup
        return False
    return True
