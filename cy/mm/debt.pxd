# Reclaim debt: tables that were taken out of their parents and whose memory nobody can use yet.
#
# Of each table three times are known: when it was unlinked; when the scheme's grace period was over, so that no walker holds
# it any more; and when it went back to the arena, after that of hardware. Kept of them are the longest waits, their sum
# (tables x time) and how many tables waited at once. The last two times are read once for all callbacks that become due
# together, so a table costs one look at the clock. It stands in a field that a table on its way out does not need.
#
# A table is the debt of the cpu that unlinked it, or of the one that dropped its last reference; one that is kept by the
# references of others is nobody's meanwhile. Guarantee (I55): when an operation begins, no cpu owes more tables than its
# queues may hold (deferred_backpressure); when all rest, none is left. Otherwise: one reader that does not get on, and
# everybody else turns all memory into tables that wait for it.
# Source: rcutorture's test of forward progress (kernel/rcu/rcutorture.c rcu_torture_fwd_prog_cr).
from libc.stdint cimport uint32_t, uint64_t
from cy.base.build cimport PT_CHECKS
from cy.base.clock cimport figure_ns
from cy.base.coordination cimport pt_dec, pt_inc
from cy.base.cpu cimport RCU_HW, RCU_TABLES, count, count_max, cpu, pt_report
from cy.base.shm cimport C_DEBT_AGE_MAX, C_DEBT_AGE_SUM, C_DEBT_GP_MAX, C_DEBT_MAX, C_TABLES_UNLINKED, ORACLE_PROGRESS
from cy.mm.types cimport mm, ptdesc
from cy.sync.cblist cimport cblist_nr

cdef enum:
    DEBT_UNIT_SHIFT = 10        # log2 of DEBT_UNIT_NS: 32 bits of such units are more than an hour

# A reachable table was unlinked. Context: the locks under which its parent entry was cleared.
cdef inline void debt_begin(cpu *c, mm *m, const ptdesc *t) noexcept nogil:
    m.tables.items[t.index].next = <uint32_t>(figure_ns(&c.hook) >> DEBT_UNIT_SHIFT)
    c.debt += 1
    count(c, C_TABLES_UNLINKED)
    count_max(c, C_DEBT_MAX, pt_inc(&c.header.tables_unlinked))

# Others still hold references to it. Context: `c` owes it.
cdef inline void debt_leave(cpu *c) noexcept nogil:
    c.debt -= 1

# The last reference was dropped. Context: nobody owes it.
cdef inline void debt_take(cpu *c) noexcept nogil:
    c.debt += 1

# The scheme's grace period of an unlinked table is over, since c.gp_over_ns. Context: `c` owes it.
cdef inline void debt_gp_over(cpu *c, mm *m, const ptdesc *t) noexcept nogil:
    count_max(c, C_DEBT_GP_MAX, _age(c, m, t))

# It goes back to the arena, as of c.gp_over_ns. Context: `c` owes it.
cdef inline void debt_end(cpu *c, mm *m, const ptdesc *t) noexcept nogil:
    cdef uint32_t age = _age(c, m, t)
    count_max(c, C_DEBT_AGE_MAX, age)
    c.shared.counter[C_DEBT_AGE_SUM] += age
    c.debt -= 1
    pt_dec(&c.header.tables_unlinked)

# Wraps as the stamps do.
cdef inline uint32_t _age(cpu *c, mm *m, const ptdesc *t) noexcept nogil:
    return <uint32_t>(c.gp_over_ns >> DEBT_UNIT_SHIFT) - m.tables.items[t.index].next

# Oracle progress (I55): back-pressure has left no more than the queues that it looked at may hold. Context: after it.
cdef inline void debt_check(cpu *c, mm *m) noexcept nogil:
    cdef uint64_t limit = m.rcu[RCU_TABLES].backlog_max + m.rcu[RCU_HW].backlog_max
    cdef uint32_t i
    if not PT_CHECKS:
        return
    for i in range(m.nr_srcu):          # what waits for walkers of other mms is looked at by who works on these
        limit += m.srcu.backlog_max if &m.srcus[i] == m.srcu else cblist_nr(&m.srcus[i].data[c.id].callbacks)
    if c.debt > limit:
        pt_report(c, ORACLE_PROGRESS, 55, b"a tables that this cpu unlinked wait to be freed, at most b may", 0, c.debt, limit)
