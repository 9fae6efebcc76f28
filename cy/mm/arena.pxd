# Arena: numbered items with generations. Frames, tables and VMAs each have one.
#
# An item freed by a cpu goes to that cpu's magazine and is reused first (LIFO), which makes a premature
# free collide at once; with `fifo` it goes to the end of one common queue, which keeps it poisoned
# as long as possible (quarantine). Never blocks. Returns ARENA_NONE when empty.
# In checking builds a free of an item that is not in use is reported (census).
# Lock order: LOCK_ARENA is taken last; see cy/LOCKING.md.
from libc.stdint cimport uint32_t
from cy.base.atomics cimport WRITE_ONCE32, peek32
from cy.base.build cimport PT_CHECKS, unlikely
from cy.base.cpu cimport cpu, pt_report
from cy.base.shm cimport ORACLE_CENSUS
from cy.mm.types cimport (
    ARENA_NONE, ARENA_TABLES, ARENA_VMAS, ITEM_FREE, ITEM_LIVE, ITEM_ZAPPED, MAGAZINE, arena, magazine)
from cy.sync.lockclass cimport LOCK_ARENA
from cy.sync.spinlock cimport spin_lock, spin_lock_init, spin_unlock

# Every item free but the first `reserved`, which are never handed out, so that no entry holds number 0, and the `live`
# ones behind them, which are in use. They are as many as they were the last time.
# Returns: how many items may have been touched since then; those behind them need not be looked at. The first time: all.
cdef inline uint32_t arena_reset(arena *a, uint32_t reserved, uint32_t live) noexcept nogil:
    cdef uint32_t i, kept = reserved + live, touched = a.nr - a.nr_untouched
    spin_lock_init(&a.lock)
    if touched < kept:
        touched = kept
    for i in range(touched):
        a.items[i].next = i + 1 if i + 1 < a.nr else ARENA_NONE
        a.items[i].gen = <uint32_t>-3
        a.items[i].state = ITEM_FREE
        a.items[i].owner = 0
        if i < kept:
            a.items[i].state = ITEM_LIVE
    a.items[a.nr - 1].next = ARENA_NONE         # the common list may have gone on behind it
    a.nr_untouched = a.nr
    a.reserved = reserved
    a.head = kept if kept < a.nr else ARENA_NONE
    a.tail = a.nr - 1
    a.nr_free = a.nr - kept
    # A small arena is not left in one cpu's magazine; all magazines together hold at most half of a large one.
    if a.nr < 64 * MAGAZINE:
        a.batch = 1
        a.high = 4
    else:
        a.batch = MAGAZINE if a.nr >> 8 < MAGAZINE else a.nr >> 8
        a.high = 2 * a.batch
    for i in range(a.nr_cpus):
        a.mags[i].head = ARENA_NONE
        a.mags[i].nr = 0
    return touched

cdef inline uint32_t arena_alloc(cpu *c, arena *a) noexcept nogil:
    cdef magazine *m = &a.mags[c.id]
    cdef uint32_t i
    if unlikely(m.nr == 0):
        _refill(c, a, m)
        if m.nr == 0:
            return ARENA_NONE
    i = m.head
    m.head = a.items[i].next
    m.nr -= 1
    if PT_CHECKS and peek32(&a.items[i].state) != ITEM_FREE:
        pt_report(c, ORACLE_CENSUS, 27,
                  _text(a, b"frame a is handed out in state b", b"table a is handed out in state b",
                        b"VMA a is handed out in state b"), 0, i, a.items[i].state)
    a.items[i].gen += 1
    WRITE_ONCE32(&a.items[i].state, ITEM_LIVE)
    return i

# Context: the item is unreachable and every grace period it needs is over.
cdef inline void arena_free(cpu *c, arena *a, uint32_t i) noexcept nogil:
    cdef magazine *m = &a.mags[c.id]
    if PT_CHECKS and peek32(&a.items[i].state) == ITEM_FREE:
        pt_report(c, ORACLE_CENSUS, 27, _text(a, b"double free of frame a", b"double free of table a", b"double free of VMA a"),
                  0, i, 0)
        return
    WRITE_ONCE32(&a.items[i].state, ITEM_FREE)
    if a.fifo:
        spin_lock(c, &a.lock, LOCK_ARENA)
        _append(a, i)
        spin_unlock(c, &a.lock)
        return
    if unlikely(m.nr >= a.high):
        _drain(c, a, m, a.high >> 1)         # what is drained was freed before this one
    a.items[i].next = m.head
    m.head = i
    m.nr += 1

# Free items, magazines included. Context: nobody allocates or frees.
cdef inline uint32_t arena_nr_free(arena *a) noexcept nogil:
    cdef uint32_t i, n = a.nr_free
    for i in range(a.nr_cpus):
        n += a.mags[i].nr
    return n

# That of three texts which says what the arena holds.
cdef inline const char *_text(const arena *a, const char *frame, const char *table, const char *vma) noexcept nogil:
    return table if a.holds == ARENA_TABLES else vma if a.holds == ARENA_VMAS else frame

cdef inline void _append(arena *a, uint32_t i) noexcept nogil:
    a.items[i].next = ARENA_NONE
    if a.head == ARENA_NONE:
        a.head = i
    else:
        a.items[a.tail].next = i
    a.tail = i
    a.nr_free += 1

cdef inline void _refill(cpu *c, arena *a, magazine *m) noexcept nogil:
    cdef uint32_t i
    cdef uint32_t want = 1 if a.fifo else a.batch
    spin_lock(c, &a.lock, LOCK_ARENA)
    while want and a.head != ARENA_NONE:
        i = a.head
        a.head = a.items[i].next
        a.nr_free -= 1
        if a.nr - i - 1 < a.nr_untouched:
            a.nr_untouched = a.nr - i - 1
        a.items[i].next = m.head
        m.head = i
        m.nr += 1
        want -= 1
    spin_unlock(c, &a.lock)

cdef inline void _drain(cpu *c, arena *a, magazine *m, uint32_t n) noexcept nogil:
    cdef uint32_t i
    spin_lock(c, &a.lock, LOCK_ARENA)
    while n:
        i = m.head
        m.head = a.items[i].next
        m.nr -= 1
        a.items[i].next = a.head
        a.head = i
        a.nr_free += 1
        n -= 1
    spin_unlock(c, &a.lock)

# Who zaps: names one operation of one cpu.
cdef inline uint32_t zap_owner(cpu *c) noexcept nogil:
    return (c.id << 24) | (c.seq & 0xffffff)

# The item was unlinked from its mm and now waits to be freed. Context: the lock of the entry.
# False: it was not in use, which is reported (I29); it must not be freed then.
cdef inline bint arena_zapped(cpu *c, arena *a, uint32_t i) noexcept nogil:
    if PT_CHECKS and peek32(&a.items[i].state) != ITEM_LIVE:
        pt_report(c, ORACLE_CENSUS, 29,
                  _text(a, b"frame a is unlinked twice; its state is b", b"table a is unlinked twice; its state is b",
                        b"VMA a is unlinked twice; its state is b"), 0, i, peek32(&a.items[i].state))
        return False
    WRITE_ONCE32(&a.items[i].owner, zap_owner(c))
    WRITE_ONCE32(&a.items[i].state, ITEM_ZAPPED)
    return True
