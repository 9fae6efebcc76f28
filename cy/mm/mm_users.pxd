# mm_users: who uses an mm, and its birth.
#
# One reference is the owner's, which `exit` drops. In a machine of several mms each operation holds one besides, and
# whoever drops the last one tears the mm down; then it is born again. While an mm exits nobody comes in, as no thread
# of a process that exits enters the kernel again: it ends by itself, however busy it was.
# One word: references, MM_EXITING, and how often it was born, so that a waiting exit cannot miss a birth.
# [PT-050] pairs with: mmput_last, a full barrier, of all users and of the one that was last: what they did in the mm
# comes before its teardown.
# [PT-051] pairs with: mm_reborn, a full barrier, and mmget_not_zero or the exit that waits: who comes in finds the new mm.
# Source: kernel/fork.c mmput, include/linux/sched/mm.h mmget_not_zero. Not modelled: mm_count; an mm is memory for
# ever. mm_users does not fall to 0 while it is reached by remote operations in the kernel; here those wait outside.
from libc.stdint cimport uint64_t
from libc.string cimport memset
from cy.base.atomics cimport READ_ONCE, atomic_add_mb, atomic_add_return, cmpxchg
from cy.base.cpu cimport cpu
from cy.base.geometry cimport PAGE_SHIFT, geo_fanout
from cy.mm.batch cimport BATCH_START
from cy.mm.rss cimport mm_rss_reset
from cy.mm.types cimport mm, ptdesc
from cy.sync.seqcount cimport seqcount_init
from cy.sync.spinlock cimport spin_lock_init

cdef extern from *:
    """
    #define MM_EXITING ((uint64_t)1 << 31)
    #define MM_BORN ((uint64_t)1 << 32)
    """
    uint64_t MM_EXITING
    uint64_t MM_BORN            # step of the count of births

# An empty mm whose pgd is `pgd`, a zeroed table. Context: nobody uses the mm. Makes no schedule points.
cdef inline void mm_init(mm *m, ptdesc *pgd) noexcept nogil:
    m.pgd = pgd
    spin_lock_init(&m.page_table_lock)
    seqcount_init(&m.mm_lock_seq)
    seqcount_init(&m.set.seq)
    m.set.nr = 0
    m.next_anon_vma = 0
    m.pgtables_bytes = 0
    mm_rss_reset(m)
    m.tlb_flush_pending = 0
    m.tlb_flush_batched = BATCH_START
    m.on_list = 0
    m.marked = 0
    m.scanning = 0
    m.scan_at = m.first_page << PAGE_SHIFT
    m.scan_until = m.scan_at

# The first birth. Context: no worker runs; the pgd is nobody's table.
cdef inline void mm_first_init(mm *m, ptdesc *pgd) noexcept nogil:
    pgd.mm = m
    pgd.level = m.geo.levels - 1
    pgd.addr = m.first_page << PAGE_SHIFT
    pgd.detached = 0
    pgd.refs = 1
    memset(pgd.entries, 0, <size_t>geo_fanout(&m.geo, pgd.level) * 8)
    spin_lock_init(&pgd.lock)
    m.mmap_lock.count = 0
    m.mm_users = (<uint64_t>-3) * MM_BORN + 1       # births wrap soon
    mm_init(m, pgd)

# Take a reference. False: the mm is exiting. Context: any.
cdef inline bint mmget_not_zero(mm *m) noexcept nogil:
    cdef uint64_t users = READ_ONCE(&m.mm_users)
    while not users & MM_EXITING:
        # [PT-051] pairs with: mm_reborn.
        if cmpxchg(&m.mm_users, users, users + 1) == users:
            return True
        users = READ_ONCE(&m.mm_users)
    return False

# Drop a reference. True: it was the last one, and the caller tears the mm down. Context: nothing of the mm is held.
cdef inline bint mmput_last(mm *m) noexcept nogil:
    # [PT-050] pairs with: the same of other users.
    return atomic_add_return(&m.mm_users, <uint64_t>-1) & (MM_BORN - 1) == MM_EXITING

# Let nobody come in any more. False: it is exiting already. The owner's reference stays; *born tells this life of the mm.
cdef inline bint mm_start_exit(mm *m, uint64_t *born) noexcept nogil:
    cdef uint64_t users = READ_ONCE(&m.mm_users)
    while not users & MM_EXITING:
        if cmpxchg(&m.mm_users, users, users | MM_EXITING) == users:
            born[0] = users & ~(MM_BORN - 1)
            return True
        users = READ_ONCE(&m.mm_users)
    return False

# Open the mm, which is empty again, with the owner's reference. Context: the cpu that tore it down.
cdef inline void mm_reborn(mm *m) noexcept nogil:
    atomic_add_mb(&m.mm_users, MM_BORN + 1 - MM_EXITING)     # [PT-051] pairs with: mmget_not_zero, mm_was_reborn.

cdef inline bint mm_was_reborn(mm *m, uint64_t born) noexcept nogil:
    return READ_ONCE(&m.mm_users) & ~(MM_BORN - 1) != born       # [PT-051] pairs with: mm_reborn.
