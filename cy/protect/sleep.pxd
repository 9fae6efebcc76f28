# Walkers that sleep: what keeps a table, or finds it again, over a sleep of whoever visits it.
#
# A walk visits a table under its lock. What it does there may have to sleep first (mmu_notifier_invalidate_range_start, an
# allocation), and neither that lock nor an RCU section can be held meanwhile. Afterwards the table may be detached, freed, or
# another one. Guarantee of every mode: when pause returns PAUSE_LOCKED, the table at cur.addr is locked and attached; nobody
# dereferences a table that was freed; a page that is mapped all the time is visited.
#
#   mode        while it sleeps it keeps                           and then
#   vma_lock    the VMA, or mmap_lock                              finds the table again from its parent, or from the top
#   revalidate  nothing                                            begins again at the address where it stopped
#   hoist       slept once, for the whole range, before it began   never slept
#   refcount    a reference to the table, taken under RCU          locks it and looks whether it is still attached
#   srcu        all tables, by a section of SRCU around the walk   the same
#   srcu-mm     the same, of its own mm only                       the same
# None of them lets go of the address: the walk moves on only behind what it has visited. A table that is kept is not reused,
# but may be detached: refcount and srcu trust its own word for that, as the table above it may be gone.
# Source: lore.kernel.org/r/20241204110940 ("Another plan", and its difficulty); "keep the VMA lock" is what smaps does from
# 2026 on. Registered below; a scheme chooses one.
# Not modelled: walks that hold on to upper tables by references.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE
from cy.base.bugs cimport BUG, BUG_M13_SRCU, BUG_M15_SLEEP, BUG_MX_REF_LEAK
from cy.base.build cimport PT_SCHED
from cy.base.clock cimport sched_yield, sleep_us
from cy.base.cpu cimport RCU_TABLES, count, cpu, delay_point
from cy.base.geometry cimport MAX_MMS
from cy.base.rng cimport rng_below
from cy.base.shm cimport C_WALK_LOST, C_WALK_SLEEPS
from cy.mm.cursor cimport cursor_begin, cursor_end, cursor_unlock
from cy.mm.table cimport table_put, table_tryget
from cy.mm.types cimport INTENT_SLEEP, INTENT_WALK, PAUSE_BEGUN, PAUSE_LOCKED, PAUSE_LOST, cursor, mm, ptdesc, sleep_ops
from cy.sync.rcu cimport rcu_read_lock, rcu_read_unlock
from cy.sync.srcu cimport srcu_read_lock, srcu_read_unlock

cdef enum:
    SLEEP_VMA_LOCK = 0
    SLEEP_REVALIDATE = 1
    SLEEP_HOIST = 2
    SLEEP_REFCOUNT = 3
    SLEEP_SRCU = 4
    SLEEP_SRCU_MM = 5

# The sleep itself. Context: no table locked.
cdef inline void _sleep(cursor *cur) noexcept nogil:
    cdef cpu *c = cur.cpu
    count(c, C_WALK_SLEEPS)
    if BUG(cur.mm.bugs, BUG_M15_SLEEP):
        rcu_read_lock(c, &cur.mm.rcu[RCU_TABLES])
    cur.ops.sleep(cur)
    if not PT_SCHED:            # there the point in ops.sleep is as long as the scheduler wants
        if cur.mm.knobs.sleep_us == 0:
            sched_yield()
        else:
            sleep_us(rng_below(&c.rng, 2 * cur.mm.knobs.sleep_us))
    if BUG(cur.mm.bugs, BUG_M15_SLEEP):
        rcu_read_unlock(c, &cur.mm.rcu[RCU_TABLES])

cdef inline void _nothing(cursor *cur) noexcept nogil:
    pass

cdef inline int _found(cursor *cur, bint locked) noexcept nogil:
    if locked:
        return PAUSE_LOCKED
    count(cur.cpu, C_WALK_LOST)
    return PAUSE_LOST

# A policy that cannot lock a table that it is shown finds the one at cur.addr.
cdef inline bint _relock(cursor *cur, ptdesc *table) noexcept nogil:
    return cur.ops.lock(cur, 0) if cur.ops.relock == NULL else cur.ops.relock(cur, table)

# -- vma_lock: upper tables stay where they are, the table itself may go ---------------------------

cdef inline int vma_lock_pause(cursor *cur, uint64_t end) noexcept nogil:
    cursor_unlock(cur)
    _sleep(cur)
    return _found(cur, cur.ops.lock(cur, 0))

# -- revalidate: even VMAs may change --------------------------------------------------------------

cdef inline int revalidate_pause(cursor *cur, uint64_t end) noexcept nogil:
    cdef uint32_t one_in = cur.sleep_one_in
    cursor_unlock(cur)
    cursor_end(cur)
    _sleep(cur)
    cursor_begin(cur, cur.cpu, cur.mm, cur.addr, end, cur.intent)
    cur.sleep_one_in = one_in
    return PAUSE_BEGUN

# -- hoist: whatever has to sleep does so before the first table -----------------------------------

cdef inline int hoist_pause(cursor *cur, uint64_t end) noexcept nogil:
    return PAUSE_LOCKED

# -- refcount: RCU to find the table, a reference to sleep in it -----------------------------------

cdef inline int refcount_pause(cursor *cur, uint64_t end) noexcept nogil:
    cdef cpu *c = cur.cpu
    cdef mm *m = cur.mm
    cdef ptdesc *table = cur.table
    cdef bint kept, locked
    # The section in which the table was found is enough: who walks without locks does no more.
    rcu_read_lock(c, &m.rcu[RCU_TABLES])
    cursor_unlock(cur)
    delay_point(c)
    kept = table_tryget(c, m, table)
    rcu_read_unlock(c, &m.rcu[RCU_TABLES])
    _sleep(cur)
    if not kept:
        return _found(cur, cur.ops.lock(cur, 0))
    locked = _relock(cur, table)
    if locked or not BUG(m.bugs, BUG_MX_REF_LEAK):
        table_put(c, m, table)  # while it is locked and attached, it stays by itself
    return _found(cur, locked)

# -- srcu: nothing is freed before the walk ends ---------------------------------------------------

cdef inline void srcu_enter(cursor *cur) noexcept nogil:
    cur.srcu_idx = srcu_read_lock(cur.cpu, cur.mm.srcu)

cdef inline int srcu_pause(cursor *cur, uint64_t end) noexcept nogil:
    cdef ptdesc *table = cur.table
    cursor_unlock(cur)
    _sleep(cur)
    return _found(cur, _relock(cur, table))

cdef inline void srcu_leave(cursor *cur) noexcept nogil:
    if BUG(cur.mm.bugs, BUG_M13_SRCU):
        cur.srcu_idx = <uint32_t>READ_ONCE(&cur.mm.srcu.idx) & 1
    srcu_read_unlock(cur.cpu, cur.mm.srcu, cur.srcu_idx)

# -- registry --------------------------------------------------------------------------------------

# Returns 0, or -1 for an unknown number. The names are in ptstress/schemes.py.
cdef inline int sleep_fill(mm *m, sleep_ops *ops, uint32_t which) noexcept nogil:
    m.table_refs = which == SLEEP_REFCOUNT
    m.nr_srcu = MAX_MMS if which == SLEEP_SRCU_MM else which == SLEEP_SRCU
    ops.intent = INTENT_WALK
    ops.enter = _nothing
    ops.leave = _nothing
    if which == SLEEP_VMA_LOCK:
        ops.intent = INTENT_SLEEP
        ops.pause = vma_lock_pause
    elif which == SLEEP_REVALIDATE:
        ops.pause = revalidate_pause
    elif which == SLEEP_HOIST:
        ops.enter = _sleep
        ops.pause = hoist_pause
    elif which == SLEEP_REFCOUNT:
        ops.pause = refcount_pause
    elif which == SLEEP_SRCU or which == SLEEP_SRCU_MM:
        ops.enter = srcu_enter
        ops.pause = srcu_pause
        ops.leave = srcu_leave
    else:
        return -1
    return 0
