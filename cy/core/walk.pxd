# Page-table walks: the tables of a range one after the other, each under its lock, and what `walk` and `age` report of
# them.
#
# Guarantee (I46): a page that was present during the whole walk is reported, one that was absent during
# the whole walk is not. Source: mm/pagewalk.c (PGWALK_RDLOCK), fs/proc/task_mmu.c.
from libc.errno cimport EINVAL
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport cmpxchg, peek32, plain_store
from cy.base.bugs cimport BUG, BUG_M11_AGE
from cy.base.build cimport PT_CHECKS, PT_SCHED
from cy.base.clock cimport now_ns, sleep_us
from cy.base.coordination cimport pt_acq
from cy.base.cpu cimport RCU_TABLES, cpu, delay_point, pt_report
from cy.base.entry cimport PT_ACCESSED, pte_present
from cy.base.geometry cimport PAGE_SHIFT
from cy.base.rng cimport rng_one_in
from cy.base.shm cimport ORACLE_UAF
from cy.mm.cursor cimport cursor_begin, cursor_end, cursor_enter_vma, cursor_next_vma, cursor_unlock
from cy.mm.map cimport ptep_get
from cy.mm.mmu_notifier cimport secondary_batch, secondary_batch_add, secondary_batch_begin, secondary_fill
from cy.mm.types cimport INTENT_WALK, PAUSE_BEGUN, PAUSE_LOCKED, cursor, mm
from cy.sync.rcu cimport rcu_domain, rcu_read_lock, rcu_read_unlock

# What to do with the entries of [cur.addr, cur.table_end). Context: their table is locked; moves nothing of the cursor.
ctypedef void (*table_visit)(cursor *cur, void *ctx) noexcept nogil

# What report_table and age_table report to: walk_pages.
cdef struct walk_report:
    uint64_t first          # page
    uint64_t *bits
    uint64_t nr_bits
    uint64_t nr
    secondary_batch device  # what a walk has read for it

# Visit the tables of [cur.addr, end). Context: the cursor has begun for it, nothing was done since. Only VMAs are
# entered: what lies between them may be under teardown by a munmap that has downgraded its lock.
cdef inline void walk_tables(cursor *cur, uint64_t end, table_visit visit, void *ctx) noexcept nogil:
    cdef uint64_t slept = cur.addr      # the walk has slept for what lies below
    while cursor_enter_vma(cur, end):
        if not _visit_tables(cur, end, &slept, visit, ctx):
            cursor_next_vma(cur, end)

# Visit those of [cur.addr, cur.end). Returns True if the cursor has begun anew where it stands.
cdef inline bint _visit_tables(cursor *cur, uint64_t end, uint64_t *slept, table_visit visit, void *ctx) noexcept nogil:
    cdef int how
    while cur.ops.next(cur):
        # Once for each part of a table, however often it is looked for: so the walk gets on.
        if cur.sleep_one_in != 0 and cur.addr >= slept[0]:
            slept[0] = cur.table_end
            if rng_one_in(&cur.cpu.rng, cur.sleep_one_in):
                how = cur.mm.sleep.pause(cur, end)
                if how != PAUSE_LOCKED:
                    if how == PAUSE_BEGUN:
                        return True
                    continue
                _check_attached(cur)
        visit(cur, ctx)
        cur.addr = cur.table_end
        cursor_unlock(cur)
        delay_point(cur.cpu)
        if rng_one_in(&cur.cpu.rng, cur.mm.knobs.walk_stall):
            _stall(cur)
    return False

# A reader that is preempted inside its section, as PREEMPT_RCU allows: whoever unlinks tables waits for it in the end.
# Context: no table locked.
cdef inline void _stall(cursor *cur) noexcept nogil:
    cdef rcu_domain *d = &cur.mm.rcu[RCU_TABLES]
    cdef uint64_t end = 0
    rcu_read_lock(cur.cpu, d)
    if not PT_SCHED:            # there a section is as long as the scheduler wants
        end = now_ns() + 1000000 * <uint64_t>cur.mm.knobs.walk_stall_ms
    while now_ns() < end and pt_acq(&cur.cpu.header.stop) == 0:        # who stops a run does not wait for it
        sleep_us(1000)
    rcu_read_unlock(cur.cpu, d)

# Oracle use-after-free: what a walk goes on with is attached (I06). Context: the table's lock.
cdef inline void _check_attached(cursor *cur) noexcept nogil:
    if PT_CHECKS and peek32(&cur.table.detached):
        pt_report(cur.cpu, ORACLE_UAF, 6, b"a walk slept in table a and goes on in it, though it was detached", cur.addr,
                  cur.table.index, 0)

# Look through pages [first, last). `visit` sets bit i of `bits` if it reports page first + i, for i < nr_bits; *nr is how
# many it reports. A device gets what report_table reads. `sleep_one_in`: in how many tables the walk sleeps; 0: in none.
# Context: no lock; may sleep. Policies hold mmap_lock meanwhile, or no lock at all; while the walk sleeps, what the sleep
# mode says. Returns 0, or -EINVAL and reports nothing.
cdef inline int walk_pages(cpu *c, mm *m, uint64_t first, uint64_t last, uint32_t sleep_one_in, table_visit visit,
                           uint64_t *bits, uint64_t nr_bits, uint64_t *nr) noexcept nogil:
    cdef cursor cur
    cdef walk_report r
    if first > last or last > m.end_page:
        return -EINVAL
    r.first = first
    r.bits = bits
    r.nr_bits = nr_bits
    r.nr = 0
    r.device.nr = 0
    cursor_begin(&cur, c, m, first << PAGE_SHIFT, last << PAGE_SHIFT, m.sleep.intent if sleep_one_in != 0 else INTENT_WALK)
    if sleep_one_in != 0:
        cur.sleep_one_in = sleep_one_in
        m.sleep.enter(&cur)
    walk_tables(&cur, last << PAGE_SHIFT, visit, &r)
    if sleep_one_in != 0:
        m.sleep.leave(&cur)
    cursor_end(&cur)
    secondary_fill(c, m, &r.device)
    nr[0] = r.nr
    return 0

# A visit of walk_pages: report what is present.
cdef inline void report_table(cursor *cur, void *ctx) noexcept nogil:
    cdef walk_report *r = <walk_report *>ctx
    cdef uint64_t addr = cur.addr, pte
    cdef uint64_t *ptep = cur.ptep
    secondary_fill(cur.cpu, cur.mm, &r.device)
    secondary_batch_begin(&r.device, cur.mm)
    while addr != cur.table_end:
        pte = ptep_get(cur.cpu, cur.mm, cur.table, ptep)
        if pte_present(pte):
            _report(r, addr)
            secondary_batch_add(&r.device, cur.mm, addr >> PAGE_SHIFT, pte)
        ptep += 1
        addr += <uint64_t>1 << PAGE_SHIFT

# A visit of walk_pages: report what was accessed since the last such visit, as far as its entry tells; from now on it counts
# as not accessed. Source: mm/vmscan.c walk_pte_range, mm/damon/vaddr.c.
cdef inline void age_table(cursor *cur, void *ctx) noexcept nogil:
    cdef uint64_t addr = cur.addr
    cdef uint64_t *ptep = cur.ptep
    while addr != cur.table_end:
        if _test_and_clear_young(cur, ptep):
            _report(<walk_report *>ctx, addr)
        ptep += 1
        addr += <uint64_t>1 << PAGE_SHIFT

cdef inline void _report(walk_report *r, uint64_t addr) noexcept nogil:
    cdef uint64_t bit = (addr >> PAGE_SHIFT) - r.first
    r.nr += 1
    if bit < r.nr_bits:
        r.bits[bit >> 6] |= <uint64_t>1 << (bit & 63)

# ptep_test_and_clear_young. Context: the table's lock. By exchange: hardware may set D at this moment.
cdef inline bint _test_and_clear_young(cursor *cur, uint64_t *ptep) noexcept nogil:
    cdef uint64_t pte = ptep_get(cur.cpu, cur.mm, cur.table, ptep), seen
    while pte_present(pte) and pte & PT_ACCESSED:
        if BUG(cur.mm.bugs, BUG_M11_AGE):
            delay_point(cur.cpu)
            plain_store(ptep, pte & ~PT_ACCESSED)
            return True
        seen = cmpxchg(ptep, pte, pte & ~PT_ACCESSED)
        if seen == pte:
            return True
        pte = seen
    return False
