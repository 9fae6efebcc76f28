# `gup_fast`: pin the frame of a page, load or store through the pin, let it go. get_user_pages_fast().
#
# Guarantee (I23): the frame was mapped at the page, by a reachable table and with the needed permission, at one instant
# after the pin was taken and before the operation returned. What is loaded or stored after that instant may belong to
# an incarnation that a discard ends meanwhile, as with an access in flight; the pin keeps the frame from any other use.
#
# Fast, with interrupts off and no lock: down the tables with one load of each entry, to the pte_table through the copy of
# the pmd entry; pin; then both entries must be what was loaded. Otherwise slow, under the VMA lock and the table's
# lock, with faults in between. That no table is freed under the walk is what the section is for (cy/sync/irq.pxd).
# As long as a table is empty when it is unlinked, the pte entry alone proves both; collapse and mremap, which unlink full
# ones, are why the kernel looks at the pmd entry too (70cbc3cc78a9).
# Source: mm/gup.c gup_fast_pte_range, follow_page_pte, faultin_page.
# Not modelled: write_protect_seq, huge entries, FOLL_LONGTERM, several pages at once.
from libc.errno cimport EFAULT
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE, WRITE_ONCE, WRITE_ONCE32, peek, peek32, smp_load_acquire
from cy.base.bugs cimport BUG, BUG_M01_GUP_PTE
from cy.base.build cimport PT_CHECKS
from cy.base.cpu cimport count, cpu, delay_point, pt_report
from cy.base.entry cimport PT_POISON, pte_pfn, pte_present, pte_special, pte_write
from cy.base.geometry cimport PAGE_SHIFT, PMD_LEVEL
from cy.base.shm cimport C_GUP_FAST, C_GUP_LOST, C_GUP_SLOW, ORACLE_DATA, ORACLE_PROGRESS, ORACLE_UAF
from cy.core.fault cimport handle_mm_fault
from cy.mm.cursor cimport cursor_begin, cursor_end, cursor_unlock
from cy.mm.map cimport entry_offset, pte_index, ptep_get, ptep_get_lockless
from cy.mm.pin cimport page_pin, page_unpin
from cy.mm.table cimport table_of
from cy.mm.types cimport INTENT_FAULT, LAZYFREE_DROPPED, cursor, mm, page, ptdesc
from cy.sync.irq cimport irq_off_begin, irq_off_end

cdef enum:
    MAX_FAULTS = 1000000        # of one page; more changes under one operation are no bad luck (I47)
    FOLLOW_FAULT = 1            # nothing there that allows the access: fault, then look again
    ZERO_PFN = 0                # the zero page, which needs no pin

# Context: no lock, no RCU; may sleep. Returns 0, -EFAULT (no VMA, not writable, a guard marker) or -ENOMEM.
# *value: to store, or what was loaded. *incarnation: the frame's; 0 for the zero page, which is only ever loaded from.
cdef inline int do_gup_fast(cpu *c, mm *m, uint64_t vpn, bint write, uint64_t *value, uint64_t *incarnation) noexcept nogil:
    cdef uint64_t addr = vpn << PAGE_SHIFT
    cdef uint32_t pfn
    cdef int rc
    if vpn >= m.end_page:
        return -EFAULT
    irq_off_begin(c, m.rcu)
    pfn = _pin_lockless(c, m, addr, write)
    irq_off_end(c, m.rcu)
    if pfn != ZERO_PFN:
        count(c, C_GUP_FAST)
    else:
        count(c, C_GUP_SLOW)
        rc = _pin_slow(c, m, addr, write, &pfn)
        if rc != 0:
            return rc
    _use_pin(c, m, addr, pfn, write, value, incarnation)
    return 0

# The number of the frame that is mapped at addr, pinned; ZERO_PFN: bail. Context: interrupts off.
cdef inline uint32_t _pin_lockless(cpu *c, mm *m, uint64_t addr, bint write) noexcept nogil:
    cdef ptdesc *table
    cdef uint32_t missing
    cdef uint64_t pmd, pte
    cdef uint64_t *ptep
    cdef uint64_t *pmdp = entry_offset(c, m, addr, PMD_LEVEL, &table, &missing)
    cdef page *p
    if pmdp == NULL:
        return ZERO_PFN
    pmd = smp_load_acquire(pmdp)             # [PT-005] pairs with: pmd_install.
    table = table_of(c, m, pmd)              # through the copy: *pmdp may be another table's by now
    if table == NULL:
        return ZERO_PFN
    ptep = pte_index(m, table, addr)
    delay_point(c)
    pte = ptep_get_lockless(c, m, table, ptep)
    if not pte_present(pte) or pte_special(pte) or (write and not pte_write(pte)):
        return ZERO_PFN
    if PT_CHECKS and pte_pfn(pte) >= m.frames.nr:
        pt_report(c, ORACLE_UAF, 1, b"a leaf entry refers to frame a of b", addr, pte_pfn(pte), m.frames.nr)
        return ZERO_PFN
    delay_point(c)
    p = &m.pages[pte_pfn(pte)]
    page_pin(c, p)
    if READ_ONCE(pmdp) == pmd and (READ_ONCE(ptep) == pte or BUG(m.bugs, BUG_M01_GUP_PTE)):
        return pte_pfn(pte)
    page_unpin(c, p)
    count(c, C_GUP_LOST)
    return ZERO_PFN

# The same with locks and faults. Returns 0 with *pfn pinned unless it is the zero page, or what do_gup_fast returns.
cdef inline int _pin_slow(cpu *c, mm *m, uint64_t addr, bint write, uint32_t *pfn) noexcept nogil:
    cdef uint32_t turn
    cdef int rc
    for turn in range(<uint32_t>MAX_FAULTS):
        rc = _follow_page(c, m, addr, write, pfn)
        if rc != FOLLOW_FAULT:
            return rc
        rc = handle_mm_fault(c, m, addr, write)
        if rc != 0:
            return rc
    pt_report(c, ORACLE_PROGRESS, 47, b"an access faulted a times and never went through", addr, MAX_FAULTS, 0)
    return -EFAULT

# Pin what is mapped, under the table's lock: the entry cannot go before the pin is there.
cdef inline int _follow_page(cpu *c, mm *m, uint64_t addr, bint write, uint32_t *pfn) noexcept nogil:
    cdef cursor cur
    cdef uint64_t pte
    cdef int rc = cursor_begin(&cur, c, m, addr, addr + ((<uint64_t>1) << PAGE_SHIFT), INTENT_FAULT)
    if rc != 0:
        return rc
    rc = FOLLOW_FAULT
    if write and not cur.vma_writable:
        rc = -EFAULT
    elif cur.ops.lock(&cur, 0):
        pte = ptep_get(c, m, cur.table, cur.ptep)
        if pte_present(pte) and (pte_write(pte) or not write):
            pfn[0] = pte_pfn(pte)
            if pfn[0] != ZERO_PFN:
                page_pin(c, &m.pages[pfn[0]])
            rc = 0
        cursor_unlock(&cur)
    cursor_end(&cur)
    return rc

# Load or store through the pin, then let it go. Context: any; nothing else keeps the frame.
cdef inline void _use_pin(cpu *c, mm *m, uint64_t addr, uint32_t pfn, bint write, uint64_t *value,
                          uint64_t *incarnation) noexcept nogil:
    cdef page *p = &m.pages[pfn]
    if pfn == ZERO_PFN:
        value[0] = 0
        incarnation[0] = 0
        return
    delay_point(c)
    incarnation[0] = READ_ONCE(&p.incarnation)
    if PT_CHECKS and peek(&p.stamp) == PT_POISON:
        pt_report(c, ORACLE_UAF, 23, b"frame a was freed while it was pinned", addr, pfn, 0)
    if PT_CHECKS and peek32(&p.lazyfree) == LAZYFREE_DROPPED:
        pt_report(c, ORACLE_DATA, 24, b"memory pressure took frame a while it was pinned", addr, pfn, 0)
    if write:
        WRITE_ONCE(&p.stamp, value[0])
        WRITE_ONCE32(&p.dirty, 1)            # set_page_dirty: D in the entry knows nothing of this store
    else:
        value[0] = READ_ONCE(&p.stamp)
    page_unpin(c, p)
