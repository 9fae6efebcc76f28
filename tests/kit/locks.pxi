# Scenes about locks.

cdef enum:
    COUNT = 0                   # cells: what the lock protects,
    TWIN = 1                    # its copy, stored after it,
    READERS = 2                 # who is inside just now, in bare memory: for what is flagged only
    WRITERS = 3
    WRITES = 4                  # writers that were inside so far

# BUSTED variants.
cdef enum:
    TEST_THEN_SET = 1           # spin_lock looks and then stores
    UNORDERED_UNLOCK = 2        # spin_unlock is no release
    OPPOSITE_ORDER = 3          # the second cpu takes the second lock first
    BLIND_WRITER = 4            # down_write does not look at readers
    UP_THEN_DOWN = 5            # downgrade by releasing and taking it again
    RUDE_READER = 6             # down_read does not look at waiting writers
    NO_RETRY = 7                # the reader does not look at the sequence again
    NO_ODD = 8                  # the writer does not make the sequence odd

# -- mutex: every cpu counts up under one lock ---------------------------------------------------

cdef void mutex_body(rig *r, cpu *c) noexcept nogil:
    cdef spinlock_t *lock = &r.board.lock[0]
    cdef uint32_t n
    for n in range(r.repeats):
        if r.busted == TEST_THEN_SET:
            while READ_ONCE32(&lock.val) != 0:
                if not sched_wait(lock_is_free, r):
                    sched_yield()
            delay_point(c)
            WRITE_ONCE32(&lock.val, c.id + 1)
        else:
            spin_lock(c, lock, LOCK_PTL)
        plain_store(&r.board.cell[COUNT], bump(c, plain_load(&r.board.cell[COUNT])))
        if r.busted == TEST_THEN_SET:
            WRITE_ONCE32(&lock.val, 0)
        elif r.busted == UNORDERED_UNLOCK:
            lock_held_pop(c, lock)
            xchg_acquire32(&lock.val, 0)
        else:
            spin_unlock(c, lock)


cdef uint64_t bump(cpu *c, uint64_t v) noexcept nogil:
    delay_point(c)
    return v + 1


cdef int lock_is_free(const void *self) noexcept nogil:
    return (<rig *>self).board.lock[0].val == 0


cdef bint mutex_wrong(rig *r) noexcept nogil:
    return r.board.cell[COUNT] != <uint64_t>r.repeats * r.face.nr_fibres


# -- two_locks: both cpus take both --------------------------------------------------------------

cdef void two_locks_body(rig *r, cpu *c) noexcept nogil:
    cdef bint swap = r.busted == OPPOSITE_ORDER and c.id == 1
    spin_lock(c, &r.board.lock[1 if swap else 0], LOCK_PTL if swap else LOCK_PML)
    spin_lock(c, &r.board.lock[0 if swap else 1], LOCK_PML if swap else LOCK_PTL)
    spin_unlock(c, &r.board.lock[0 if swap else 1])
    spin_unlock(c, &r.board.lock[1 if swap else 0])


# -- rwsem: the last cpu writes, the others read -------------------------------------------------

cdef void rwsem_body(rig *r, cpu *c) noexcept nogil:
    cdef rw_semaphore *sem = &r.board.sem[0]
    cdef uint32_t n
    for n in range(r.repeats):
        if c.id + 1 == r.face.nr_fibres:
            if r.busted == BLIND_WRITER:
                down_write_blindly(c, sem)
            else:
                down_write(c, sem, LOCK_MMAP)
            write_twins(r, c)
            up_write(c, sem)
        else:
            down_read(c, sem, LOCK_MMAP)
            read_twins(r, c)
            up_read(c, sem)


cdef void down_write_blindly(cpu *c, rw_semaphore *sem) noexcept nogil:
    cdef uint32_t v = READ_ONCE32(&sem.count)
    while cmpxchg32(&sem.count, v, v | RWSEM_WRITER) != v:
        v = READ_ONCE32(&sem.count)
    lock_held_push(c, sem, LOCK_MMAP)


# Context: alone inside.
cdef void write_twins(rig *r, cpu *c) noexcept nogil:
    plain_store(&r.board.cell[COUNT], bump(c, plain_load(&r.board.cell[COUNT])))
    plain_store(&r.board.cell[TWIN], bump(c, plain_load(&r.board.cell[TWIN])))


# Context: no writer inside.
cdef void read_twins(rig *r, cpu *c) noexcept nogil:
    cdef uint64_t count = plain_load(&r.board.cell[COUNT])
    delay_point(c)
    if plain_load(&r.board.cell[TWIN]) != count:
        flag(r)


cdef bint rwsem_wrong(rig *r) noexcept nogil:
    return r.board.cell[COUNT] != r.repeats or r.board.cell[TWIN] != r.repeats


# -- together: flags that two readers are inside at once -----------------------------------------

cdef void together_body(rig *r, cpu *c) noexcept nogil:
    down_read(c, &r.board.sem[0], LOCK_MMAP)
    r.board.cell[READERS] += 1
    if r.board.cell[READERS] > 1:
        flag(r)
    op_pause(r)
    r.board.cell[READERS] -= 1
    up_read(c, &r.board.sem[0])


# A schedule point that means nothing.
cdef void op_pause(rig *r) noexcept nogil:
    READ_ONCE(&r.board.cell[NR_CELLS - 1])


# -- downgrade: two cpus write and downgrade; no other write comes between -----------------------

cdef void downgrade_body(rig *r, cpu *c) noexcept nogil:
    cdef rw_semaphore *sem = &r.board.sem[0]
    cdef uint64_t count
    cdef uint32_t n
    for n in range(r.repeats):
        down_write(c, sem, LOCK_MMAP)
        count = plain_load(&r.board.cell[COUNT]) + 1
        plain_store(&r.board.cell[COUNT], count)
        if r.busted == UP_THEN_DOWN:
            up_write(c, sem)
            down_read(c, sem, LOCK_MMAP)
        else:
            downgrade_write(c, sem)
        delay_point(c)
        if plain_load(&r.board.cell[COUNT]) != count:
            flag(r)
        up_read(c, sem)


cdef bint downgrade_wrong(rig *r) noexcept nogil:
    return r.board.cell[COUNT] != <uint64_t>r.repeats * r.face.nr_fibres


# -- downgrade_lets_in: flags that a reader is inside together with one that was a writer ---------

cdef void downgrade_lets_in_body(rig *r, cpu *c) noexcept nogil:
    cdef rw_semaphore *sem = &r.board.sem[0]
    if c.id == 0:
        down_write(c, sem, LOCK_MMAP)
        downgrade_write(c, sem)
        r.board.cell[WRITERS] = 1
        op_pause(r)
        r.board.cell[WRITERS] = 0
    else:
        down_read(c, sem, LOCK_MMAP)
        if r.board.cell[WRITERS]:
            flag(r)
    up_read(c, sem)


# -- stream: cpu 0 writes, the others read again and again. A reader that comes while the writer waits
#    is not inside before the writer was ---------------------------------------------------------

cdef void stream_body(rig *r, cpu *c) noexcept nogil:
    cdef rw_semaphore *sem = &r.board.sem[0]
    cdef uint64_t writes
    cdef bint waiting
    cdef uint32_t n
    for n in range(r.repeats):
        if c.id == 0:
            down_write(c, sem, LOCK_MMAP)
            atomic_add_return(&r.board.cell[WRITES], 1)
            up_write(c, sem)
        else:
            writes = smp_load_acquire(&r.board.cell[WRITES])        # before the look at who waits
            waiting = (READ_ONCE32(&sem.count) & ~RWSEM_WRITER) >= RWSEM_WAITER
            if r.busted == RUDE_READER:
                down_read_rudely(c, sem)
            else:
                down_read(c, sem, LOCK_MMAP)
            if waiting and READ_ONCE(&r.board.cell[WRITES]) == writes:
                flag(r)
            up_read(c, sem)


cdef void down_read_rudely(cpu *c, rw_semaphore *sem) noexcept nogil:
    cdef uint32_t v
    while True:
        v = READ_ONCE32(&sem.count)
        if (v & RWSEM_WRITER) == 0 and cmpxchg32(&sem.count, v, v + 1) == v:
            break
        if not sched_wait(no_writer_inside, sem):
            sched_yield()
    lock_held_push(c, sem, LOCK_MMAP)


cdef int no_writer_inside(const void *sem) noexcept nogil:
    return ((<const rw_semaphore *>sem).count & RWSEM_WRITER) == 0


# -- twins: cpu 0 stores two words inside a sequence counter, the others read both ---------------

cdef void twins_body(rig *r, cpu *c) noexcept nogil:
    cdef seqcount_t *s = &r.board.seq
    cdef uint64_t count, twin
    cdef uint32_t n, seq
    for n in range(r.repeats):
        if c.id == 0:
            if r.busted != NO_ODD:
                seq_write_begin(s)
            write_twins(r, c)
            if r.busted == NO_ODD:
                s.sequence += 1
            seq_write_end(s)
        else:
            seq = seq_begin(s)
            count = plain_load(&r.board.cell[COUNT])
            delay_point(c)
            twin = plain_load(&r.board.cell[TWIN])
            if (r.busted == NO_RETRY or not seq_retry(s, seq)) and count != twin:
                flag(r)


# -- names ---------------------------------------------------------------------------------------

cdef bint lock_scene(scene *s, str name) except -1:
    if name == "mutex":
        s.body = mutex_body
        s.wrong = mutex_wrong
    elif name == "two_locks":
        s.nr_cpus = 2
        s.body = two_locks_body
    elif name == "rwsem":
        s.body = rwsem_body
        s.wrong = rwsem_wrong
    elif name == "together":
        s.nr_cpus = 2
        s.body = together_body
    elif name == "downgrade":
        s.body = downgrade_body
        s.wrong = downgrade_wrong
    elif name == "downgrade_lets_in":
        s.nr_cpus = 2
        s.body = downgrade_lets_in_body
    elif name == "stream":
        s.body = stream_body
    elif name == "twins":
        s.body = twins_body
    else:
        return False
    return True
