# The list of mms in which tables may be empty that nobody has freed.
#
# An mm stands on it once at most. A scan takes the first one off and pins it in the same hold of the lock, and puts it back
# behind the others if something is left to do. An mm that ends leaves the list with its last user; a scan that has it
# pinned is a user, so no mm ends under a scan (I49).
# [PT-060] pairs with: mm_list_add and mm_list_take. The one has set a mark in the mm and looks whether the mm is on the list,
# the other takes it off and looks for marks. Both store, pass a full barrier, and load what the other one stores, so a mark
# is found, or the mm is on the list again.
# Source: mm/khugepaged.c khugepaged_scan.mm_head, struct mm_slot. Deviation: the kernel pins mm_count and its exit waits for
# the scan; here the scan pins mm_users, and tears down an mm whose owner left meanwhile.
from cy.base.atomics cimport READ_ONCE32, WRITE_ONCE32, smp_mb
from cy.base.bugs cimport BUG, BUG_M07_SCAN
from cy.base.build cimport PT_CHECKS
from cy.base.cpu cimport cpu, pt_report
from cy.base.geometry cimport PAGE_SHIFT
from cy.base.shm cimport ORACLE_UAF
from cy.mm.mm_users cimport mmget_not_zero
from cy.mm.types cimport mm, mm_list
from cy.sync.lockclass cimport LOCK_LIST
from cy.sync.spinlock cimport spin_lock, spin_lock_init, spin_unlock

cdef inline void mm_list_init(mm_list *l) noexcept nogil:
    spin_lock_init(&l.lock)
    l.head = NULL
    l.tail = NULL

# Context: the caller uses the mm, and has set a mark in it.
cdef inline void mm_list_add(cpu *c, mm *m) noexcept nogil:
    smp_mb()                                        # [PT-060] pairs with: mm_list_take.
    if READ_ONCE32(&m.on_list):
        return
    spin_lock(c, &m.list.lock, LOCK_LIST)
    if not READ_ONCE32(&m.on_list):
        _append(m.list, m)
    spin_unlock(c, &m.list.lock)

# The first mm of the list that no other scan is at, pinned and taken off; NULL if there is none. It goes to mm_list_put.
# Context: may not hold a spinlock.
cdef inline mm *mm_list_take(cpu *c, mm_list *l) noexcept nogil:
    cdef mm *m
    cdef mm *previous = NULL
    spin_lock(c, &l.lock, LOCK_LIST)
    m = l.head
    while m != NULL and READ_ONCE32(&m.scanning):
        previous = m
        m = m.list_next
    if m != NULL:
        _unlink(l, m, previous)
        if BUG(m.bugs, BUG_M07_SCAN) or mmget_not_zero(m):
            WRITE_ONCE32(&m.scanning, 1)
        else:
            m = NULL                                # it exits; the next scan looks at the next one
    spin_unlock(c, &l.lock)
    smp_mb()                                        # [PT-060] pairs with: mm_list_add.
    return m

# The scan is over. Context: mm_list_take gave it; the caller drops the pin afterwards.
cdef inline void mm_list_put(cpu *c, mm *m, bint again) noexcept nogil:
    spin_lock(c, &m.list.lock, LOCK_LIST)
    WRITE_ONCE32(&m.scanning, 0)
    if again and not READ_ONCE32(&m.on_list):
        _append(m.list, m)
    spin_unlock(c, &m.list.lock)

# The mm ends. Context: its last user; nobody can put it on the list any more.
cdef inline void mm_list_del(cpu *c, mm *m) noexcept nogil:
    cdef mm *at
    cdef mm *previous = NULL
    spin_lock(c, &m.list.lock, LOCK_LIST)
    if PT_CHECKS and READ_ONCE32(&m.scanning):
        pt_report(c, ORACLE_UAF, 49, b"an mm ends while a scan is at it", m.first_page << PAGE_SHIFT, 0, 0)
    at = m.list.head if READ_ONCE32(&m.on_list) else NULL
    while at != NULL:
        if at == m:
            _unlink(m.list, m, previous)
            break
        previous = at
        at = at.list_next
    spin_unlock(c, &m.list.lock)

# Context of both: the list's lock.
cdef inline void _append(mm_list *l, mm *m) noexcept nogil:
    m.list_next = NULL
    if l.head == NULL:
        l.head = m
    else:
        l.tail.list_next = m
    l.tail = m
    WRITE_ONCE32(&m.on_list, 1)

cdef inline void _unlink(mm_list *l, mm *m, mm *previous) noexcept nogil:
    if previous == NULL:
        l.head = m.list_next
    else:
        previous.list_next = m.list_next
    if l.tail == m:
        l.tail = previous
    WRITE_ONCE32(&m.on_list, 0)
