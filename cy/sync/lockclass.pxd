# Lock classes. Their numbers are the lock order: a lock is waited for only while every lock held by
# the cpu has a smaller number. A trylock may go against the order.
#
#   LOCK_MMAP                   mm.mmap_lock                     [ops, protect]
#     LOCK_VMA                  vma.vm_refcnt, read or write     [mm/vma_lock]
#       LOCK_PGL                mm.page_table_lock               [core/populate: upper tables, anon_vma]
#         LOCK_P4D              ptdesc.lock of a p4d_table       [mm/offset_map]
#           LOCK_PUD            ptdesc.lock of a pud_table       [mm/offset_map]
#             LOCK_PML          ptdesc.lock of a pmd_table       [core/populate, protect, mm/offset_map]
#               LOCK_PTL        ptdesc.lock of a pte_table       [protect, core, mm/offset_map]
#                 LOCK_ARENA    arena.lock                       [mm/arena]
#                   LOCK_RCU    rcu_domain.gp_lock, trylock only [sync/rcu]
#                     LOCK_LIST mm_list.lock                     [mm/mm_list]
#                       LOCK_DEVICE secondary_mmu.lock           [mm/mmu_notifier]
#
# The same table is in cy/LOCKING.md; a test compares them. Source: head comment of mm/rmap.c.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.build cimport PT_CHECKS
from cy.base.cpu cimport MAX_HELD, RCU_HW, RCU_IRQ, RCU_TABLES, cpu, pt_report, rcu_sections
from cy.base.flight cimport flight_note
from cy.base.shm cimport C_HELD, C_HELD_NR, MAX_HELD_SHOWN, ORACLE_LOCK_ORDER, ORACLE_SLEEP_IN_RCU

cdef enum:
    LOCK_MMAP = 1
    LOCK_VMA = 2
    LOCK_PGL = 3
    LOCK_P4D = 4
    LOCK_PUD = 5
    LOCK_PML = 6
    LOCK_PTL = 7
    LOCK_ARENA = 8
    LOCK_RCU = 9
    LOCK_LIST = 10
    LOCK_DEVICE = 11

# Context: before waiting for a lock of the class.
cdef inline void lock_check_order(cpu *c, uint32_t lock_class) noexcept nogil:
    cdef uint32_t i
    if not PT_CHECKS:
        return
    for i in range(c.nr_held):
        if c.held[i].lock_class >= lock_class:
            _report_order(c, c.held[i].lock_class, lock_class)
            return

# I48, and of it the two that concern the locks of pte_tables: I07, I08.
cdef inline void _report_order(cpu *c, uint32_t held, uint32_t wanted) noexcept nogil:
    if held == LOCK_PTL and wanted == LOCK_PML:
        pt_report(c, ORACLE_LOCK_ORDER, 7, b"waits for the lock of a pmd_table while holding one of a pte_table", 0, held, wanted)
    elif held == LOCK_PTL and wanted == LOCK_PTL:
        pt_report(c, ORACLE_LOCK_ORDER, 8, b"waits for a pte_table's lock while holding that of another one", 0, held, wanted)
    else:
        pt_report(c, ORACLE_LOCK_ORDER, 48, b"waits for a lock of class b while holding one of class a", 0, held, wanted)

cdef inline void lock_held_push(cpu *c, const void *lock, uint32_t lock_class) noexcept nogil:
    if PT_CHECKS and c.nr_held < MAX_HELD:
        c.held[c.nr_held].lock = lock
        c.held[c.nr_held].lock_class = lock_class
        _show_held(c, c.nr_held)
        c.nr_held += 1
        c.shared.counter[C_HELD_NR] = c.nr_held

# A lock was taken: it is noted with the lock held. Locks behind those of tables are many, and say little of what happened.
cdef inline void lock_note(cpu *c, uint32_t kind, const void *lock, uint32_t lock_class) noexcept nogil:
    if lock_class <= LOCK_PTL:
        flight_note(c, kind, lock_class, lock, 0)

# Show the parent the i-th held lock: it cannot ask a worker that hangs.
cdef inline void _show_held(cpu *c, uint32_t i) noexcept nogil:
    if i < MAX_HELD_SHOWN:
        c.shared.counter[C_HELD + 2 * i] = <uint64_t>c.held[i].lock
        c.shared.counter[C_HELD + 2 * i + 1] = c.held[i].lock_class

# Returns whether this cpu held the lock; True where nobody keeps that.
cdef inline bint lock_held_pop(cpu *c, const void *lock) noexcept nogil:
    cdef uint32_t i
    if not PT_CHECKS:
        return True
    i = c.nr_held
    while i > 0:
        i -= 1
        if c.held[i].lock == lock:
            while i + 1 < c.nr_held:
                c.held[i] = c.held[i + 1]
                _show_held(c, i)
                i += 1
            c.nr_held -= 1
            c.shared.counter[C_HELD_NR] = c.nr_held
            return True
    pt_report(c, ORACLE_LOCK_ORDER, 13, b"releases a lock that it does not hold", 0, 0, 0)
    return False

cdef inline bint lock_is_held(cpu *c, const void *lock) noexcept nogil:
    cdef uint32_t i
    for i in range(c.nr_held):
        if c.held[i].lock == lock:
            return True
    return False

# Context: code that blocks. Reports an RCU read section or a spinlock around it.
cdef inline void might_sleep(cpu *c) noexcept nogil:
    cdef uint32_t i
    if not PT_CHECKS:
        return
    if rcu_sections(c, RCU_TABLES) != 0 or rcu_sections(c, RCU_HW) != 0 or rcu_sections(c, RCU_IRQ) != 0:
        pt_report(c, ORACLE_SLEEP_IN_RCU, 12, b"may sleep inside a read section: a of tables, b of hardware", 0,
                  rcu_sections(c, RCU_TABLES), rcu_sections(c, RCU_HW))
    for i in range(c.nr_held):
        if c.held[i].lock_class >= LOCK_PGL:
            pt_report(c, ORACLE_SLEEP_IN_RCU, 12, b"may sleep while holding a spinlock of class a", 0,
                      c.held[i].lock_class, 0)
            return
