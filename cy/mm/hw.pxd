# Hardware: an access goes TLB -> walk -> fault and takes no lock.
#
# It runs in a section of RCU_HW, its own domain: a frame or table is reused only after a flush and a
# grace period of that domain, which stands for "no access is in flight". A and D are set by
# compare-exchange on the entry that was read, still present and, for D, writable; failure walks again.
# An access in flight may complete on an incarnation that a discard is just ending.
# Source: Intel SDM 3A 4.8, 4.10. Not modelled: speculation, torn accesses.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE, WRITE_ONCE, cmpxchg, smp_load_acquire
from cy.base.build cimport PT_CHECKS, unlikely
from cy.base.cpu cimport RCU_HW, count, cpu, delay_point, pt_report, pwc_entry
from cy.base.entry cimport (
    PT_ACCESSED, PT_DIRTY, PT_POISON, PT_RW, pte_pfn, pte_present, pte_write)
from cy.base.geometry cimport PAGE_SHIFT, PMD_LEVEL
from cy.base.shm cimport C_HW_RETRY, ORACLE_UAF
from cy.mm.map cimport entry_offset, pte_index, ptep_get_lockless
from cy.mm.pwc cimport pwc_drop, pwc_fill, pwc_lookup, pwc_region, pwc_settle
from cy.mm.table cimport table_of
from cy.mm.tlb cimport tlb_fill, tlb_lookup, tlb_walk_begin
from cy.mm.types cimport mm, page, ptdesc
from cy.sync.rcu cimport rcu_read_lock, rcu_read_unlock

# Load or store the stamp of the page at addr.
# Context: no lock, no RCU. Returns True when done: for a load *value is what was read; *incarnation is
# the frame's, 0 for the zero page. False: page fault.
cdef inline bint hw_access(cpu *c, mm *m, uint64_t addr, bint write, uint64_t *value, uint64_t *incarnation) noexcept nogil:
    cdef uint64_t val
    rcu_read_lock(c, &m.rcu[RCU_HW])
    val = tlb_lookup(c, addr >> PAGE_SHIFT)
    if unlikely(val == 0 or (write and (val & (PT_RW | PT_DIRTY)) != (PT_RW | PT_DIRTY))):
        return _hw_access_walk(c, m, addr, write, value, incarnation)
    _hw_transfer(c, m, addr, val, write, value, incarnation)
    rcu_read_unlock(c, &m.rcu[RCU_HW])
    return True

# The same after a fault, which says that the TLB has no translation that will do: only the own cpu fills it.
cdef inline bint hw_access_again(cpu *c, mm *m, uint64_t addr, bint write, uint64_t *value, uint64_t *incarnation) noexcept nogil:
    rcu_read_lock(c, &m.rcu[RCU_HW])
    return _hw_access_walk(c, m, addr, write, value, incarnation)

# The TLB has no translation that will do. Apart from the above, so that a hit is short enough for every caller to inline.
# Context: in the hardware section, which ends here.
cdef inline bint _hw_access_walk(cpu *c, mm *m, uint64_t addr, bint write, uint64_t *value, uint64_t *incarnation) noexcept nogil:
    cdef uint64_t val = _hw_walk(c, m, addr, write)
    if val != 0:
        _hw_transfer(c, m, addr, val, write, value, incarnation)
    else:
        pwc_drop(c, pwc_region(m, addr >> PAGE_SHIFT))
    rcu_read_unlock(c, &m.rcu[RCU_HW])
    return val != 0

# Load or store through the translation `val`. Context: in the hardware section.
cdef inline void _hw_transfer(cpu *c, mm *m, uint64_t addr, uint64_t val, bint write, uint64_t *value,
                              uint64_t *incarnation) noexcept nogil:
    cdef page *p
    delay_point(c)
    if pte_pfn(val) == 0:
        value[0] = 0
        incarnation[0] = 0
    else:
        p = &m.pages[pte_pfn(val)]
        incarnation[0] = READ_ONCE(&p.incarnation)
        if write:
            WRITE_ONCE(&p.stamp, value[0])
        else:
            value[0] = READ_ONCE(&p.stamp)
            if PT_CHECKS and value[0] == PT_POISON:
                pt_report(c, ORACLE_UAF, 22, b"an access read frame a after it was freed", addr, pte_pfn(val), 0)

# Walk the tables, set A (and D for a store), fill the caches. Returns the leaf entry, or 0: fault.
cdef inline uint64_t _hw_walk(cpu *c, mm *m, uint64_t addr, bint write) noexcept nogil:
    cdef uint64_t gen = tlb_walk_begin(c), vpn = addr >> PAGE_SHIFT
    cdef uint64_t pmd, pte, new, incarnation = 0
    cdef uint64_t *ptep
    cdef ptdesc *table
    cdef pwc_entry *filled = NULL
    cdef bint cached, kept
    while True:
        pmd = pwc_lookup(c, m, pwc_region(m, vpn))
        cached = pmd != 0
        if not cached:
            pmd = _hw_pmd(c, m, addr)
        table = table_of(c, m, pmd)
        if table == NULL:
            return 0
        ptep = pte_index(m, table, addr)
        delay_point(c)
        pte = ptep_get_lockless(c, m, table, ptep)    # [PT-009]
        if not pte_present(pte) or (write and not pte_write(pte)):
            return 0
        if PT_CHECKS and pte_pfn(pte) >= m.frames.nr:
            pt_report(c, ORACLE_UAF, 1, b"a leaf entry refers to frame a of b", addr, pte_pfn(pte), m.frames.nr)
            return 0
        new = pte | PT_ACCESSED | (PT_DIRTY if write else 0)
        if new == pte or cmpxchg(ptep, pte, new) == pte:
            break
        count(c, C_HW_RETRY)
    if PT_CHECKS:
        incarnation = READ_ONCE(&m.pages[pte_pfn(new)].incarnation)     # for oracles
    if not cached:
        filled = pwc_fill(c, m, pwc_region(m, vpn), pmd)
    kept = tlb_fill(c, vpn, new, incarnation, gen)
    if filled != NULL:
        pwc_settle(filled, kept)
    return new

# The pmd entry of addr, by all upper tables; 0 if one is missing.
cdef inline uint64_t _hw_pmd(cpu *c, mm *m, uint64_t addr) noexcept nogil:
    cdef ptdesc *table
    cdef uint32_t missing
    cdef uint64_t *pmdp = entry_offset(c, m, addr, PMD_LEVEL, &table, &missing)
    return smp_load_acquire(pmdp) if pmdp != NULL else 0     # [PT-005] pairs with: pmd_install.
