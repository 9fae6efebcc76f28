# Page-table pages: allocation, lookup by entry, free through the grace periods.
#
# Life of a table: allocated and zeroed, private -> published by a release store into its parent ->
# detached (parent entry cleared under the parent lock and its own) -> queued by a gather -> TLB
# flush -> [last reference, if walkers that sleep hold some] -> grace period of RCU_TABLES -> [grace period of SRCU, if they
# sleep in it], then its lock dies -> grace period of RCU_HW -> free.
# Source: mm/memory.c pmd_install, include/linux/mm.h pagetable_*_ctor and _dtor, mm/mmu_gather.c.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from cy.base.atomics cimport (
    READ_ONCE32, WRITE_ONCE32, atomic_add, atomic_add_mb32, atomic_add_return32, cmpxchg32, peek, peek32, plain_fill, plain_load,
    plain_load32, plain_store, plain_store32)
from cy.base.bugs cimport BUG, BUG_M01_REF, BUG_M07_TABLE, BUG_P05, BUG_P16, BUG_P23
from cy.base.build cimport PT_CHECKS
from cy.base.clock cimport figure_ns
from cy.base.cpu cimport RCU_HW, RCU_TABLES, count, count_max, cpu, delay_point, pt_report, rcu_head
from cy.base.entry cimport PT_POISON, pmd_gen_is, pmd_is_table, pmd_none, pte_none, pte_pfn
from cy.base.flight cimport flight_note
from cy.base.geometry cimport P4D_LEVEL, PAGE_SHIFT, PTE_LEVEL, geo_fanout, geo_table_span
from cy.base.rng cimport rng_one_in
from cy.base.shm cimport (
    C_ALLOC_FAILED, C_REF_LOST, C_TABLES_ALLOCATED, C_TABLES_FREED, C_TABLE_BYTES_PEAK, FLIGHT_FREE, FLIGHT_UNLINK,
    ORACLE_COUNTERS, ORACLE_LOCK_ORDER, ORACLE_UAF)
from cy.mm.arena cimport arena_alloc, arena_free, arena_zapped
from cy.mm.debt cimport debt_begin, debt_end, debt_gp_over, debt_leave, debt_take
from cy.mm.deferred cimport deferred_poll
from cy.mm.pwc cimport check_no_pwc
from cy.mm.types cimport ARENA_NONE, ITEM_FREE, mm, ptdesc
from cy.sync.irq cimport irq_sync_all
from cy.sync.lockclass cimport lock_is_held
from cy.sync.rcu cimport call_rcu
from cy.sync.spinlock cimport spin_lock_destroy
from cy.sync.srcu cimport call_srcu

cdef enum:
    TABLE_BYTES = 4096

# A zeroed table, private to the caller, or NULL. Context: may sleep; no spinlock held.
cdef inline ptdesc *pagetable_alloc(cpu *c, mm *m, uint32_t level, uint64_t addr) noexcept nogil:
    if rng_one_in(&c.rng, m.knobs.alloc_fail):
        count(c, C_ALLOC_FAILED)
        return NULL
    return pagetable_take(c, m, level, addr)

# The same, for who cannot do without: it fails only while all tables are in use or wait for a grace period.
cdef inline ptdesc *pagetable_take(cpu *c, mm *m, uint32_t level, uint64_t addr) noexcept nogil:
    cdef uint32_t i, word
    cdef ptdesc *t
    i = arena_alloc(c, m.tables)
    if i == ARENA_NONE:
        deferred_poll(c, m)
        i = arena_alloc(c, m.tables)
    if i == ARENA_NONE:
        count(c, C_ALLOC_FAILED)
        return NULL
    t = &m.ptdescs[i]
    if PT_CHECKS and t.mm != NULL:
        for word in range(geo_fanout(&m.geo, peek32(&t.level))):
            if peek(&t.entries[word]) != PT_POISON:
                pt_report(c, ORACLE_UAF, 10, b"table a was written after it was freed; entry b", addr, i, word)
                break
    plain_store32(&t.level, level)
    plain_store32(&t.detached, 0)
    plain_store(&t.addr, addr & ~(geo_table_span(&m.geo, level) - 1))
    t.mm = m
    plain_store32(&t.lock.val, 0)
    if m.table_refs:
        plain_store32(&t.refs, 1)
    # [PT-004] pairs with: pmd_install and its kind. The zeroes and the lock come before the entry. (No entry leads to a pgd.)
    plain_fill(t.entries, PT_POISON if BUG(m.bugs, BUG_P16) and level != m.geo.levels - 1 else 0, geo_fanout(&m.geo, level))
    count(c, C_TABLES_ALLOCATED + level)
    return t

# For the flight recorder: which table, and in which of its lives.
cdef inline void _table_note(cpu *c, mm *m, ptdesc *t, uint32_t kind) noexcept nogil:
    flight_note(c, kind, t.level, &t.lock, <uint64_t>m.tables.items[t.index].gen << 32 | t.index)

# Free a table that was never published.
cdef inline void pagetable_free_private(cpu *c, mm *m, ptdesc *t) noexcept nogil:
    _table_release(c, m, t)

# Account a table that is about to become reachable, or one that no longer is.
# mm.pgtables_bytes counts pte, pmd and pud tables (I25, I26).
cdef inline void mm_inc_nr_tables(cpu *c, mm *m, uint32_t level) noexcept nogil:
    if level < P4D_LEVEL:
        count_max(c, C_TABLE_BYTES_PEAK, _pgtables_add(c, m, TABLE_BYTES))

cdef inline void mm_dec_nr_tables(cpu *c, mm *m, uint32_t level) noexcept nogil:
    if level < P4D_LEVEL:
        _pgtables_add(c, m, <uint64_t>-TABLE_BYTES)

cdef inline uint64_t _pgtables_add(cpu *c, mm *m, uint64_t bytes) noexcept nogil:
    cdef uint64_t v
    if BUG(m.bugs, BUG_P23):
        v = plain_load(&m.pgtables_bytes) + bytes
        delay_point(c)
        plain_store(&m.pgtables_bytes, v)
    else:
        v = atomic_add(&m.pgtables_bytes, bytes)
    if PT_CHECKS and <int64_t>v < 0:
        pt_report(c, ORACLE_COUNTERS, 26, b"pgtables_bytes fell below 0, to a", m.first_page << PAGE_SHIFT, v, 0)
    return v

# The entries of a table by its number. A walk goes from entry to entry by it, and its loads wait for nothing else.
cdef inline uint64_t *table_row(mm *m, uint32_t number) noexcept nogil:
    return m.entries + (<uint64_t>number << m.geo.max_bits)

cdef inline uint32_t table_number(const mm *m, const ptdesc *t) noexcept nogil:
    return <uint32_t>(t - m.ptdescs)

cdef inline uint64_t *table_entries(mm *m, ptdesc *t) noexcept nogil:
    return table_row(m, table_number(m, t))

# The number of the table that a parent entry refers to, or 0, which no entry holds, if it refers to none.
# Context: RCU, or the table cannot go away. Oracle use-after-free: the table is in use (I01, I11).
cdef inline uint32_t table_number_of(cpu *c, mm *m, uint64_t entry) noexcept nogil:
    cdef uint32_t i
    if not pmd_is_table(entry):
        if PT_CHECKS and not pmd_none(entry):
            pt_report(c, ORACLE_UAF, 1, b"an upper entry holds a, which is neither none nor a table", 0, entry, 0)
        return 0
    i = pte_pfn(entry)
    if PT_CHECKS:
        if i < m.tables.reserved or i >= m.tables.nr:
            pt_report(c, ORACLE_UAF, 1, b"an upper entry refers to table a of b", 0, i, m.tables.nr)
            return 0
        table_check_live(c, m, &m.ptdescs[i], entry)
    return i

# The same table's descriptor, or NULL.
cdef inline ptdesc *table_of(cpu *c, mm *m, uint64_t entry) noexcept nogil:
    cdef uint32_t i = table_number_of(c, m, entry)
    return &m.ptdescs[i] if i != 0 else NULL

# Oracle use-after-free: the table that `entry` refers to is neither free nor another one by now (I01, I11).
# Context: where a table is about to be used.
cdef inline void table_check_live(cpu *c, mm *m, ptdesc *t, uint64_t entry) noexcept nogil:
    if PT_CHECKS and (peek32(&m.tables.items[t.index].state) == ITEM_FREE
                      or not pmd_gen_is(entry, peek32(&m.tables.items[t.index].gen))):
        pt_report(c, ORACLE_UAF, 11, b"table a is used after it was freed; level b", t.addr, t.index, t.level)

# A reachable table was unlinked. Context: the locks under which its parent entry was cleared.
cdef inline void table_unlinked(cpu *c, mm *m, ptdesc *t) noexcept nogil:
    WRITE_ONCE32(&t.detached, 1)
    _table_note(c, m, t, FLIGHT_UNLINK)
    if arena_zapped(c, m.tables, t.index):
        debt_begin(c, m, t)

# Oracle use-after-free where a table has just been unlinked: it is empty. `invariant` says so of the caller: I04, for munmap I15,
# for a scan I50, for upper tables I53. Where nobody locks VMAs its lock is held, too (I05). Context: as table_unlinked.
cdef inline void table_check_unlinked(cpu *c, mm *m, ptdesc *t, uint32_t invariant) noexcept nogil:
    if not PT_CHECKS:
        return
    if m.lockless and not lock_is_held(c, &t.lock):
        pt_report(c, ORACLE_LOCK_ORDER, 5, b"table a of level b is unlinked without its lock", t.addr, t.index, t.level)
    _check_empty(c, m, t, invariant)

# Free an unlinked table after the grace periods. Context: after its TLB flush.
cdef inline void table_free_rcu(cpu *c, mm *m, ptdesc *t) noexcept nogil:
    if PT_CHECKS:
        t.next = <uint32_t>peek(&m.rcu[RCU_TABLES].gp_seq)
    if BUG(m.bugs, BUG_M07_TABLE):
        _table_release_now(c, m, t)
        return
    if BUG(m.bugs, BUG_P05):
        c.gp_over_ns = figure_ns(&c.hook)
        _table_gp_over(c, &t.rcu)
        return
    if m.table_refs:
        debt_leave(c)
        table_put(c, m, t)
        return
    call_rcu(c, &m.rcu[RCU_TABLES], &t.rcu, _table_gp_over)

# Keep the memory and the lock of a table that was found under RCU, beyond that section. False: it is being freed.
# It may be detached, and may be so any time: who comes back looks under its lock. Context: RCU_TABLES.
cdef inline bint table_tryget(cpu *c, mm *m, ptdesc *t) noexcept nogil:
    cdef uint32_t refs = READ_ONCE32(&t.refs), seen
    if BUG(m.bugs, BUG_M01_REF):
        refs = atomic_add_return32(&t.refs, 1) - 1
        return _check_not_revived(c, t, refs)
    while refs != 0:
        seen = cmpxchg32(&t.refs, refs, refs + 1)
        if seen == refs:
            return True
        refs = seen
    count(c, C_REF_LOST)
    return False

# Oracle use-after-free: a count goes from 0 to nothing else (I54). It is put right, or the table would be queued twice.
cdef inline bint _check_not_revived(cpu *c, ptdesc *t, uint32_t before) noexcept nogil:
    if before != 0:
        return True
    pt_report(c, ORACLE_UAF, 54, b"a reference to table a of level b, which is being freed, was taken", t.addr, t.index, t.level)
    atomic_add_mb32(&t.refs, <uint32_t>-1)
    return False

# Give it back, or take the table out of use: the last one frees it. Context: any.
cdef inline void table_put(cpu *c, mm *m, ptdesc *t) noexcept nogil:
    # [PT-034] pairs with: the last put. What a holder did with the table comes before its end.
    if atomic_add_return32(&t.refs, <uint32_t>-1) == 0:
        # [PT-034] pairs with: the puts before it, of other holders.
        debt_take(c)
        call_rcu(c, &m.rcu[RCU_TABLES], &t.rcu, _table_gp_over)

# Free an unlinked table when all cpus have taken an IPI, as kernels without page-table reclaim do where they have no
# room to queue it: no section with interrupts off and no hardware access holds it. Software walkers do not count: only
# munmap frees tables there, and it has shut them out. Context: after the TLB flush; may sleep.
cdef inline void table_free_sync(cpu *c, mm *m, ptdesc *t) noexcept nogil:
    irq_sync_all(c, m.rcu)
    pagetable_dtor(t)
    _table_release_now(c, m, t)

# The end of what a table is besides its memory: its lock. Context: no walker can find it any more.
cdef inline void pagetable_dtor(ptdesc *t) noexcept nogil:
    spin_lock_destroy(&t.lock)

# After the scheme's grace period no walker holds the table or its lock, but one that sleeps in it. Hardware may still do.
cdef inline void _table_gp_over(cpu *c, rcu_head *head) noexcept nogil:
    cdef ptdesc *t = <ptdesc *>head
    cdef mm *m = <mm *>t.mm
    if PT_CHECKS and m.table_refs and peek32(&t.refs) != 0 and not BUG(m.bugs, BUG_P05):
        pt_report(c, ORACLE_UAF, 54, b"table a is freed with b references to it", t.addr, t.index, t.refs)
    if m.srcu != NULL and not BUG(m.bugs, BUG_P05):
        call_srcu(c, m.srcu, head, _table_srcu_over)
    else:
        _table_srcu_over(c, head)

# Nor does one that sleeps.
cdef inline void _table_srcu_over(cpu *c, rcu_head *head) noexcept nogil:
    cdef ptdesc *t = <ptdesc *>head
    cdef mm *m = <mm *>t.mm
    debt_gp_over(c, m, t)
    pagetable_dtor(t)
    call_rcu(c, &m.rcu[RCU_HW], head, _table_hw_gp_over)

cdef inline void _table_hw_gp_over(cpu *c, rcu_head *head) noexcept nogil:
    cdef ptdesc *t = <ptdesc *>head
    cdef mm *m = <mm *>t.mm
    if PT_CHECKS:
        _check_grace_period(c, m, t)
    debt_end(c, m, t)
    _table_release(c, m, t)

# Release an unlinked table that waits for no grace period, or no longer.
cdef inline void _table_release_now(cpu *c, mm *m, ptdesc *t) noexcept nogil:
    c.gp_over_ns = figure_ns(&c.hook)
    debt_gp_over(c, m, t)
    debt_end(c, m, t)
    _table_release(c, m, t)

# Oracle use-after-free: a detached table is empty.
cdef inline void _check_empty(cpu *c, mm *m, ptdesc *t, uint32_t invariant) noexcept nogil:
    cdef uint32_t i
    for i in range(geo_fanout(&m.geo, t.level)):
        if not pte_none(peek(&t.entries[i])):
            pt_report(c, ORACLE_UAF, invariant, b"table a was detached and holds an entry: b", t.addr, t.index, t.entries[i])
            return

# Oracle use-after-free: a grace period of RCU_TABLES began after unlink and flush, and is over (I10). table_free_rcu left the
# number of the newest one in the link that the gather has no more use for.
cdef inline void _check_grace_period(cpu *c, mm *m, ptdesc *t) noexcept nogil:
    cdef uint32_t needed = t.next + 2
    cdef uint32_t over = <uint32_t>peek(&m.rcu[RCU_TABLES].gp_completed)
    if <int32_t>(over - needed) < 0:
        pt_report(c, ORACLE_UAF, 10, b"table a is freed b grace periods too early", t.addr, t.index, (needed - over) >> 1)

# The poison is a plain store, so that a race detector sees a reader that came too late.
cdef inline void _table_release(cpu *c, mm *m, ptdesc *t) noexcept nogil:
    cdef uint32_t level = plain_load32(&t.level)     # a private table's may still be in the store buffer
    count(c, C_TABLES_FREED + level)
    _table_note(c, m, t, FLIGHT_FREE)
    if PT_CHECKS:
        if peek32(&t.detached):
            _check_empty(c, m, t, 4)     # nobody stored into it since
            if level == PTE_LEVEL:
                check_no_pwc(c, m, t)
        plain_fill(t.entries, PT_POISON, geo_fanout(&m.geo, level))
    arena_free(c, m.tables, t.index)
