# The judge of a machine: its data oracles, one per share of the pages, and the count of overlaps.
#
# Context of all: workers parked and drained. Shares are independent and may be judged by several
# threads at once; in explored runs there is one share, because histories are tiny.
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from cy.base.cpu cimport cpu
from cy.base.entry cimport is_guard_pte_marker, pte_pfn, pte_present, pte_special
from cy.base.geometry cimport PAGE_SHIFT, PTE_LEVEL, geo_task_size
from cy.base.shm cimport event
from cy.check.census cimport quiescent_pte
from cy.check.data cimport data_oracle_burst, data_oracle_destroy, data_oracle_init, data_oracle_reset
from cy.check.data_types cimport PAGE_ANON, PAGE_GUARD, PAGE_NONE, PAGE_ZERO, data_oracle
from cy.check.machine cimport machine
from cy.check.overlap cimport overlaps_count
from cy.mm.types cimport DETACH_ZERO, mm

cdef struct share:
    data_oracle oracle
    uint64_t overlaps[576]      # NR_VERBS squared

cdef struct judge:
    machine *machine
    share *shares
    uint32_t nr_shares

# Returns False without memory; judge_destroy must be called all the same.
cdef inline bint judge_init(judge *j, machine *x, uint32_t nr_shares) noexcept nogil:
    cdef uint32_t i
    j.machine = x
    j.nr_shares = nr_shares
    j.shares = <share *>calloc(nr_shares, sizeof(share))
    if j.shares == NULL:
        j.nr_shares = 0
        return False
    for i in range(nr_shares):
        if not data_oracle_init(&j.shares[i].oracle, i, nr_shares):
            return False
        j.shares[i].oracle.zero_goes = x.mms[0].reclaim != NULL and x.mms[0].reclaim.scan_mode == DETACH_ZERO
        j.shares[i].oracle.task_pages = geo_task_size(&x.mms[0].geo) >> PAGE_SHIFT
    return True

cdef inline void judge_destroy(judge *j) noexcept nogil:
    cdef uint32_t i
    for i in range(j.nr_shares):
        data_oracle_destroy(&j.shares[i].oracle)
    free(j.shares)
    j.nr_shares = 0

# The machine was reset: history begins again. Costs what was touched.
cdef inline void judge_reset(judge *j) noexcept nogil:
    cdef uint32_t i
    for i in range(j.nr_shares):
        data_oracle_reset(&j.shares[i].oracle)

# The count of overlaps begins again.
cdef inline void judge_forget_overlaps(judge *j) noexcept nogil:
    cdef uint32_t i
    for i in range(j.nr_shares):
        memset(j.shares[i].overlaps, 0, sizeof(j.shares[i].overlaps))

# Judge one share of what the rings hold; shares beyond the last do nothing. Reports are made by `c`.
cdef inline void judge_share(void *ctx, uint32_t i, uint32_t nr_threads, cpu *c) noexcept nogil:
    cdef judge *j = <judge *>ctx
    cdef machine *x = j.machine
    cdef event *rings[64]
    cdef uint64_t counts[64]
    cdef uint32_t w
    if i >= j.nr_shares:
        return
    for w in range(x.nr_workers):
        rings[w] = x.rings + w * x.ring_events
        counts[w] = x.shared[w].nr_events
    j.shares[i].oracle.stop = &x.header.stop
    data_oracle_burst(&j.shares[i].oracle, c, rings, counts, x.nr_workers, observe_page, x)
    overlaps_count(rings, counts, x.nr_workers, x.mms[0].geo.bits[PTE_LEVEL], i, j.nr_shares, j.shares[i].overlaps)

cdef inline void judge_all(judge *j) noexcept nogil:
    cdef uint32_t i
    for i in range(j.nr_shares):
        judge_share(j, i, 1, &j.machine.cpus[0])

# What the tables say about a page: PAGE_*, and for a frame its incarnation and stamp.
cdef inline int observe_page(void *ctx, uint64_t vpn, uint64_t *incarnation, uint64_t *value) noexcept nogil:
    cdef machine *x = <machine *>ctx
    cdef mm *m = &x.mms[0]         # frames are the same for all
    cdef uint64_t pte = quiescent_pte(x, vpn)
    incarnation[0] = 0
    value[0] = 0
    if not pte_present(pte):
        return PAGE_GUARD if is_guard_pte_marker(pte) else PAGE_NONE
    if pte_special(pte) or pte_pfn(pte) >= m.frames.nr:
        return PAGE_ZERO
    incarnation[0] = m.pages[pte_pfn(pte)].incarnation
    value[0] = m.pages[pte_pfn(pte)].stamp
    return PAGE_ANON
