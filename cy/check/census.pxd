# Invariants at quiescence: all workers are parked and drained, so everything can be counted.
#
# I01 entries refer to live tables of the right level   I19 vm_refcnt is 1         I27 no table leaked
# I02 one parent entry per table                        I20 no VMA is write-locked I28 rss is exact
# I37 every table maps a part of a VMA
# I13 no lock, no RCU section is left                   I25 table bytes are exact  I29 one entry per frame
# I14 entries lie in VMAs, frames with an anon_vma      I22 TLBs agree             I41 zero page read-only
# I03 nothing in use that is not reachable               I55 no table waits to be freed
# I56 no frame leaked                                   I23 no pin is left       I22 free frames hold poison
# I43 entries are writable in writable VMAs only        I57 frames are of their VMA's anon_vma
# Source: mm/vma.c validate_mm, kernel/fork.c check_mm. Online checks stand where the step is made.
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset
from cy.base.build cimport PT_CHECKS
from cy.base.cpu cimport (
    PWC_ENTRIES, RCU_HW, RCU_IRQ, RCU_TABLES, TLB_ENTRIES, cpu, pt_report, pwc_entry, rcu_sections, tlb_entry)
from cy.base.entry cimport (
    PT_DIRTY, is_guard_pte_marker, pmd_is_table, pte_none, pte_pfn, pte_present, pte_special, pte_write)
from cy.base.geometry cimport (
    MM_SHIFT, PAGE_SHIFT, P4D_LEVEL, PMD_LEVEL, PTE_LEVEL, geo_entry_span, geo_fanout, geo_index, geo_table_span)
from cy.base.shm cimport ORACLE_CENSUS, ORACLE_COUNTERS, ORACLE_PROGRESS, ORACLE_STALE_TLB, ORACLE_UAF
from cy.check.machine cimport machine, machine_mm
from cy.mm.arena cimport arena_nr_free
from cy.mm.frame cimport frame_was_written
from cy.mm.rss cimport mm_rss
from cy.mm.types cimport ITEM_FREE, ITEM_LIVE, SECONDARY_ENTRIES, arena, mm, ptdesc, secondary_entry, vma
from cy.mm.vma cimport vma_at, vma_index_after
from cy.mm.table cimport TABLE_BYTES
from cy.sync.srcu cimport srcu_sections

cdef struct census:
    uint64_t tables             # reachable, the pgd included, of one mm or all
    uint64_t counted            # of these, those that pgtables_bytes counts
    uint64_t anon               # entries that map a frame

# Check everything; returns the number of reports made so far. `c` is the cpu that reports.
cdef inline uint64_t check_quiescent(cpu *c, machine *x) noexcept nogil:
    cdef census all, n
    cdef uint32_t i
    cdef uint64_t vmas = 0
    memset(&all, 0, sizeof(all))
    memset(x.marks, 0, x.tables.nr + x.frames.nr)
    for i in range(x.nr_mms):
        memset(&n, 0, sizeof(n))
        _check_mm(c, x, &x.mms[i], &n)
        all.tables += n.tables
        all.anon += n.anon
        vmas += x.mms[i].set.nr
    if x.header.tables_unlinked != 0:
        pt_report(c, ORACLE_CENSUS, 55, b"a tables were unlinked and nobody frees them", 0, x.header.tables_unlinked, 0)
    if _in_use(&x.tables) != all.tables + x.first_pgd:
        pt_report(c, ORACLE_CENSUS, 27, b"a tables are allocated, b are reachable", 0,
                  _in_use(&x.tables) - x.first_pgd, all.tables)
        _find_stray(c, x)
    if _in_use(&x.frames) != all.anon + x.frames.reserved:
        pt_report(c, ORACLE_CENSUS, 56, b"a frames are allocated, b are mapped", 0,
                  _in_use(&x.frames) - x.frames.reserved, all.anon)
    if _in_use(&x.vmas) != vmas:
        pt_report(c, ORACLE_CENSUS, 3, b"a VMAs are allocated, b are in the set", 0, _in_use(&x.vmas), vmas)
    if PT_CHECKS:
        _check_free_frames(c, x)
    _check_cpus(c, x)
    return x.header.nr_reports

cdef inline void _check_mm(cpu *c, machine *x, mm *m, census *n) noexcept nogil:
    n.tables = 1
    _count_tables(c, x, m, n)
    if m.pgtables_bytes != n.counted * TABLE_BYTES:
        pt_report(c, ORACLE_COUNTERS, 25, b"pgtables_bytes is a, the tables make b", 0, m.pgtables_bytes, n.counted * TABLE_BYTES)
    if mm_rss(m) != n.anon:
        pt_report(c, ORACLE_COUNTERS, 28, b"rss is a pages, b entries map a frame", 0, mm_rss(m), n.anon)
    _check_vmas(c, x, m)

# I03: the first table that is in use although no entry refers to it and nobody has unlinked it.
cdef inline void _find_stray(cpu *c, machine *x) noexcept nogil:
    cdef uint32_t i
    for i in range(x.nr_mms):
        x.marks[x.mms[i].pgd.index] = 1
    for i in range(1, x.tables.nr):
        if x.tables.items[i].state == ITEM_LIVE and not x.marks[i]:
            pt_report(c, ORACLE_CENSUS, 3, b"table a is in use, and no entry refers to it", x.mms[0].ptdescs[i].addr, i, 0)
            return

# I22: what is free holds its poison. A store that came late shows here, although nobody has got the frame since.
cdef inline void _check_free_frames(cpu *c, machine *x) noexcept nogil:
    cdef mm *m = &x.mms[0]
    cdef uint32_t i
    for i in range(x.frames.reserved, x.frames.nr - x.frames.nr_untouched):
        if x.frames.items[i].state == ITEM_FREE and frame_was_written(&m.pages[i]):
            pt_report(c, ORACLE_UAF, 22, b"frame a was written after it was freed; it holds b", m.pages[i].vpn << PAGE_SHIFT, i,
                      m.pages[i].stamp)
            return

# Reserved items are never free: the pgds, the zero page.
cdef inline uint64_t _in_use(arena *a) noexcept nogil:
    return a.nr - arena_nr_free(a)

# All tables in depth-first order, without recursion: a stack of positions, one per level.
cdef inline void _count_tables(cpu *c, machine *x, mm *m, census *n) noexcept nogil:
    cdef ptdesc *stack[5]
    cdef uint32_t at[5]
    cdef uint32_t top = m.geo.levels - 1, level = top, i
    cdef uint64_t entry
    cdef ptdesc *child
    stack[level] = m.pgd
    at[level] = 0
    while True:
        if at[level] == geo_fanout(&m.geo, level):
            if level == top:
                return
            level += 1
            continue
        i = at[level]
        at[level] += 1
        entry = stack[level].entries[i]
        if pte_none(entry):
            continue
        if level == PTE_LEVEL:
            _check_leaf(c, x, m, n, entry, stack[level].addr + (<uint64_t>i << PAGE_SHIFT))
            continue
        child = _check_upper(c, x, m, n, entry, level - 1, stack[level].addr + i * geo_entry_span(&m.geo, level))
        if child != NULL:
            level -= 1
            stack[level] = child
            at[level] = 0

# An upper entry: I01, I02. Returns the table it refers to, or NULL.
cdef inline ptdesc *_check_upper(cpu *c, machine *x, mm *m, census *n, uint64_t entry, uint32_t level,
                                  uint64_t addr) noexcept nogil:
    cdef uint32_t i = pte_pfn(entry)
    cdef ptdesc *t
    if not pmd_is_table(entry) or i < m.tables.reserved or i >= m.tables.nr:
        pt_report(c, ORACLE_CENSUS, 1, b"an upper entry holds a, which is no table", addr, entry, 0)
        return NULL
    t = &m.ptdescs[i]
    if x.marks[i]:
        pt_report(c, ORACLE_CENSUS, 2, b"table a has two parent entries", addr, i, 0)
        return NULL
    x.marks[i] = 1
    if m.tables.items[i].state != ITEM_LIVE or t.level != level or t.addr != addr or t.detached:
        pt_report(c, ORACLE_CENSUS, 1, b"an entry refers to table a, which is in state b or of another place",
                  addr, i, m.tables.items[i].state)
        return NULL
    i = vma_index_after(&m.set, addr)
    if i == m.set.nr or vma_at(&m.set, i).vm_start >= addr + geo_table_span(&m.geo, level):
        pt_report(c, ORACLE_CENSUS, 37, b"table a of level b maps no VMA and was not freed", addr, t.index, level)
    n.tables += 1
    if level < P4D_LEVEL:
        n.counted += 1
    return t

# A leaf entry: I14, I29, I41, I43, I57. A guard marker has no frame, but lies in a VMA like any. Builds without checks note
# no anon_vma in a frame.
cdef inline void _check_leaf(cpu *c, machine *x, mm *m, census *n, uint64_t pte, uint64_t addr) noexcept nogil:
    cdef uint32_t pfn = pte_pfn(pte), i
    i = vma_index_after(&m.set, addr)
    if i == m.set.nr or vma_at(&m.set, i).vm_start > addr:
        pt_report(c, ORACLE_CENSUS, 14, b"entry a lies in no VMA", addr, pte, 0)
    elif pte_write(pte) and not vma_at(&m.set, i).writable:
        pt_report(c, ORACLE_CENSUS, 43, b"entry a is writable, its VMA is not", addr, pte, 0)
    if is_guard_pte_marker(pte):
        return
    if pte_special(pte):
        if pfn != 0 or pte_write(pte) or (pte & PT_DIRTY) != 0:
            pt_report(c, ORACLE_CENSUS, 41, b"the zero page is mapped writable or dirty: a", addr, pte, 0)
        return
    n.anon += 1
    if not pte_present(pte) or pfn == 0 or pfn >= m.frames.nr:
        pt_report(c, ORACLE_CENSUS, 1, b"a leaf entry holds a, which is no frame", addr, pte, 0)
        return
    if x.marks[m.tables.nr + pfn]:
        pt_report(c, ORACLE_CENSUS, 29, b"frame a is mapped twice", addr, pfn, 0)
    x.marks[m.tables.nr + pfn] = 1
    if i < m.set.nr and vma_at(&m.set, i).vm_start <= addr and vma_at(&m.set, i).anon_vma == 0:
        pt_report(c, ORACLE_CENSUS, 14, b"frame a is mapped in a VMA that has no anon_vma", addr, pfn, 0)
    elif (PT_CHECKS and i < m.set.nr and vma_at(&m.set, i).vm_start <= addr
            and vma_at(&m.set, i).anon_vma != m.pages[pfn].anon_vma):
        pt_report(c, ORACLE_CENSUS, 57, b"a frame belongs to anon_vma a, and the VMA that maps it to b", addr,
                  m.pages[pfn].anon_vma, vma_at(&m.set, i).anon_vma)
    if m.frames.items[pfn].state != ITEM_LIVE:
        pt_report(c, ORACLE_CENSUS, 29, b"frame a is mapped and in state b", addr, pfn, m.frames.items[pfn].state)

# I19, I20, and order and count of the set.
cdef inline void _check_vmas(cpu *c, machine *x, mm *m) noexcept nogil:
    cdef uint32_t i
    cdef uint64_t end = 0
    cdef vma *v
    if m.mm_lock_seq.sequence & 1 or m.mmap_lock.count != 0:
        pt_report(c, ORACLE_COUNTERS, 20, b"mmap_lock is left at a, mm_lock_seq at b", 0, m.mmap_lock.count,
                  m.mm_lock_seq.sequence)
    for i in range(m.set.nr):
        v = vma_at(&m.set, i)
        if v.vm_refcnt != 1:
            pt_report(c, ORACLE_COUNTERS, 19, b"vm_refcnt is a", v.vm_start, v.vm_refcnt, 0)
        if v.vm_lock_seq == m.mm_lock_seq.sequence:
            pt_report(c, ORACLE_COUNTERS, 20, b"a VMA is left write-locked", v.vm_start, v.vm_lock_seq, 0)
        if v.vm_start >= v.vm_end or v.vm_start < end:
            pt_report(c, ORACLE_CENSUS, 18, b"VMAs overlap or are empty: a to b", v.vm_start, v.vm_start, v.vm_end)
        if (v.marked or m.marked) and not _is_listed(x, m):
            pt_report(c, ORACLE_CENSUS, 50, b"a VMA is marked for a scan, but no scan will find its mm", v.vm_start, 0, 0)
        end = v.vm_end
    for i in range(<uint32_t>SECONDARY_ENTRIES):
        if m.secondary.entries[i].tag != 0 and not _secondary_agrees(x, &m.secondary.entries[i]):
            pt_report(c, ORACLE_STALE_TLB, 22, b"a device translates by a, which the tables do not hold",
                      (m.secondary.entries[i].tag - 1) << PAGE_SHIFT, m.secondary.entries[i].val, 0)
    if m.secondary.in_progress != 0:
        pt_report(c, ORACLE_COUNTERS, 22, b"a invalidations are left in progress", 0, m.secondary.in_progress, 0)
    if m.tlb_flush_pending != 0:
        pt_report(c, ORACLE_COUNTERS, 22, b"tlb_flush_pending is left at a", 0, m.tlb_flush_pending, 0)

# Does a scan that goes through its list find the mm? No more steps than there are mms: the list may be broken.
cdef inline bint _is_listed(const machine *x, const mm *m) noexcept nogil:
    cdef const mm *at = m.list.head
    cdef uint32_t i
    for i in range(x.nr_mms):
        if at == NULL or at == m:
            break
        at = at.list_next
    return at == m and m.on_list != 0

# I13 and I22: no lock or section left; every TLB entry says what the tables say.
cdef inline void _check_cpus(cpu *reporter, machine *x) noexcept nogil:
    cdef uint32_t i, k, slot, sections
    cdef cpu *c
    cdef tlb_entry *e
    for i in range(x.nr_workers):
        c = &x.cpus[i]
        sections = rcu_sections(c, RCU_TABLES) + rcu_sections(c, RCU_HW) + rcu_sections(c, RCU_IRQ)
        if c.nr_held != 0 or sections != 0:
            pt_report(reporter, ORACLE_PROGRESS, 13, b"a cpu ended an operation with a locks held and b read sections", 0,
                      c.nr_held, sections)
        for k in range(x.mms[0].nr_srcu):
            if srcu_sections(&x.srcu[k], i) != 0:
                pt_report(reporter, ORACLE_PROGRESS, 13, b"cpu a ended an operation inside b sections of SRCU", 0, i,
                          srcu_sections(&x.srcu[k], i))
        if c.nr_pins != 0:
            pt_report(reporter, ORACLE_COUNTERS, 23, b"cpu a ended an operation with b frames pinned", 0, i, c.nr_pins)
        for slot in range(PWC_ENTRIES):
            if not _pwc_agrees(x, c, &c.pwc[slot]):
                pt_report(reporter, ORACLE_STALE_TLB, 22, b"the paging-structure cache of cpu a holds b, which the tables do not",
                          (c.pwc[slot].tag - 1) << x.mms[0].geo.shift[PMD_LEVEL], i, c.pwc[slot].pmd)
        for slot in range(TLB_ENTRIES):
            e = &c.tlb[slot]
            if e.tag != 0 and e.gen == c.full_flushes[(e.tag - 1) >> MM_SHIFT] and not _tlb_agrees(x, e):
                pt_report(reporter, ORACLE_STALE_TLB, 22, b"the TLB of cpu a holds b, which the tables do not",
                          (e.tag - 1) << PAGE_SHIFT, i, e.val)

cdef inline bint _tlb_agrees(machine *x, tlb_entry *e) noexcept nogil:
    cdef uint64_t pte = quiescent_pte(x, e.tag - 1)
    return (
        pte_present(pte) and pte_pfn(pte) == pte_pfn(e.val) and (pte_write(pte) or not pte_write(e.val))
        and (pte & PT_DIRTY or not e.val & PT_DIRTY))

cdef inline bint _secondary_agrees(machine *x, const secondary_entry *e) noexcept nogil:
    cdef uint64_t pte = quiescent_pte(x, e.tag - 1)
    return pte_present(pte) and pte_pfn(pte) == pte_pfn(e.val) and (pte_write(pte) or not pte_write(e.val))

# All mms have one geometry.
cdef inline bint _pwc_agrees(machine *x, cpu *c, pwc_entry *e) noexcept nogil:
    cdef uint64_t vpn = (e.tag - 1) << (x.mms[0].geo.shift[PMD_LEVEL] - PAGE_SHIFT)
    return e.tag == 0 or e.gen != c.full_flushes[vpn >> MM_SHIFT] or quiescent_entry(x, PMD_LEVEL, vpn) == e.pmd

# The leaf entry of a page, 0 if none. Context: quiescent.
cdef inline uint64_t quiescent_pte(machine *x, uint64_t vpn) noexcept nogil:
    return quiescent_entry(x, PTE_LEVEL, vpn)

# The entry of a level that covers a page, 0 if there is none. Context: quiescent.
cdef inline uint64_t quiescent_entry(machine *x, uint32_t wanted, uint64_t vpn) noexcept nogil:
    cdef mm *m = machine_mm(x, vpn)
    cdef ptdesc *t = m.pgd
    cdef uint32_t level = m.geo.levels - 1
    cdef uint64_t entry
    if vpn >= m.end_page:
        return 0
    while True:
        entry = t.entries[geo_index(&m.geo, level, vpn << PAGE_SHIFT)]
        if level == wanted:
            return entry
        if not pmd_is_table(entry) or pte_pfn(entry) >= m.tables.nr:
            return 0
        t = &m.ptdescs[pte_pfn(entry)]
        level -= 1
