# Paging-structure cache: what a cpu remembers of pmd entries, so that a walk needs no upper table.
#
# One direct-mapped array per cpu: the region of a pte_table -> the pmd entry that referred to it. Filled by its
# owner, flushed by anyone. A fill is part of the TLB fill that ends the same walk: its tag is stored before the
# TLB's, so that one full barrier and one look at flush_gen decide about both ([PT-020]). An entry is valid
# while `tag` matches and `gen` is the cpu's current full_flushes of the mm.
#
# A flush of a range drops entries only where tables were freed (gather.freed_tables), a full flush drops all. A page
# fault drops the entry of its region, so that a walk through a detached table happens once and no more.
# Source: Intel SDM 3A 4.10.3 (PDE cache), 4.10.4.1 (a page fault drops what it used); arch/x86/mm/tlb.c.
# Not modelled: caches of pud and p4d entries. x86's INVLPG drops all paging-structure caches; here, as with arm64's
# leaf-only TLBI, a flush of leaf entries keeps them, so that a missing freed_tables shows.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE, WRITE_ONCE, cmpxchg, peek, peek32, smp_rmb, smp_wmb
from cy.base.build cimport PT_CHECKS
from cy.base.cpu cimport PWC_ENTRIES, cpu, pt_report, pwc_entry
from cy.base.entry cimport pmd_gen_is, pte_pfn
from cy.base.geometry cimport PAGE_SHIFT, PMD_LEVEL
from cy.base.shm cimport ORACLE_STALE_TLB
from cy.mm.arena cimport zap_owner
from cy.mm.types cimport ITEM_ZAPPED, mm, ptdesc

# The number of the region that one pte_table maps; global, as the page number `vpn` is.
cdef inline uint64_t pwc_region(const mm *m, uint64_t vpn) noexcept nogil:
    return vpn >> (m.geo.shift[PMD_LEVEL] - PAGE_SHIFT)

cdef inline pwc_entry *pwc_slot(cpu *c, uint64_t region) noexcept nogil:
    return &c.pwc[region & (PWC_ENTRIES - 1)]

# The cached pmd entry of the region, or 0. Context: in a hardware section of cpu c.
cdef inline uint64_t pwc_lookup(cpu *c, const mm *m, uint64_t region) noexcept nogil:
    cdef pwc_entry *e = pwc_slot(c, region)
    if READ_ONCE(&e.tag) == region + 1 and READ_ONCE(&e.gen) == READ_ONCE(&c.full_flushes[m.index]):
        return READ_ONCE(&e.pmd)
    return 0

# Cache a pmd entry. Context: own cpu; a tlb_fill follows, and pwc_settle with what it said.
cdef inline pwc_entry *pwc_fill(cpu *c, const mm *m, uint64_t region, uint64_t pmd) noexcept nogil:
    cdef pwc_entry *e = pwc_slot(c, region)
    if PT_CHECKS:
        WRITE_ONCE(&e.fills, peek(&e.fills) + 1)
    WRITE_ONCE(&e.tag, 0)
    smp_wmb()                                # before the rest, for oracles. [PT-151] pairs with: _reaches.
    WRITE_ONCE(&e.pmd, pmd)
    WRITE_ONCE(&e.gen, READ_ONCE(&c.full_flushes[m.index]))
    WRITE_ONCE(&e.tag, region + 1)           # [PT-020] the barrier is the exchange of tlb_fill.
    return e

# The fill is over. `kept`: no flush came since the walk began.
cdef inline void pwc_settle(pwc_entry *e, bint kept) noexcept nogil:
    if not kept:
        WRITE_ONCE(&e.tag, 0)
    if PT_CHECKS:
        smp_wmb()                            # behind the rest, for oracles. [PT-151] pairs with: _reaches.
        WRITE_ONCE(&e.fills, peek(&e.fills) + 1)

# A page fault drops what it used. Context: own cpu.
cdef inline void pwc_drop(cpu *c, uint64_t region) noexcept nogil:
    cdef pwc_entry *e = pwc_slot(c, region)
    if READ_ONCE(&e.tag) == region + 1:
        WRITE_ONCE(&e.tag, 0)

# Drop what `target` caches of pages [first, last). Context: any; flush_gen of the target was raised.
cdef inline void pwc_flush_range(cpu *target, const mm *m, uint64_t first, uint64_t last) noexcept nogil:
    cdef uint64_t region
    cdef pwc_entry *e
    for region in range(pwc_region(m, first), pwc_region(m, last - 1) + 1):
        e = pwc_slot(target, region)
        if READ_ONCE(&e.tag) == region + 1:
            cmpxchg(&e.tag, region + 1, 0)

# Oracle stale-tlb when an operation of cpu c that freed tables has flushed (I22): no cache reaches one of
# them. A scan frees tables of one mm after the other, and flushes for each. Checking builds only.
cdef inline void check_stale_pwc(cpu *c, mm *m) noexcept nogil:
    cdef uint32_t i, slot, table
    for i in range(m.nr_cpus):
        for slot in range(PWC_ENTRIES):
            table = pte_pfn(peek(&m.cpus[i].pwc[slot].pmd))
            if table < m.tables.nr and peek32(&m.tables.items[table].state) == ITEM_ZAPPED \
                    and peek32(&m.tables.items[table].owner) == zap_owner(c) and m.ptdescs[table].mm == m \
                    and _reaches(m, &m.cpus[i], &m.cpus[i].pwc[slot], &m.ptdescs[table]):
                pt_report(c, ORACLE_STALE_TLB, 22, b"after the flush the paging-structure cache of cpu b reaches table a",
                          m.ptdescs[table].addr, table, i)

# Oracle stale-tlb when a table is freed (I22): no cache reaches it any more. Checking builds only.
cdef inline void check_no_pwc(cpu *c, mm *m, ptdesc *t) noexcept nogil:
    cdef uint32_t i, slot
    for i in range(m.nr_cpus):
        for slot in range(PWC_ENTRIES):
            if _reaches(m, &m.cpus[i], &m.cpus[i].pwc[slot], t):
                pt_report(c, ORACLE_STALE_TLB, 22, b"table a is freed while the paging-structure cache of cpu b reaches it",
                          t.addr, t.index, i)
                return

# `t` is a table of m.
cdef inline bint _reaches(mm *m, cpu *target, pwc_entry *e, ptdesc *t) noexcept nogil:
    cdef uint64_t fills = peek(&e.fills), tag = peek(&e.tag), pmd, gen
    smp_rmb()
    pmd = peek(&e.pmd)
    gen = peek(&e.gen)
    smp_rmb()
    return (fills & 1) == 0 and tag != 0 and gen == peek(&target.full_flushes[m.index]) and pte_pfn(pmd) == t.index \
        and pmd_gen_is(pmd, peek32(&m.tables.items[t.index].gen)) and peek(&e.tag) == tag and peek(&e.fills) == fills
