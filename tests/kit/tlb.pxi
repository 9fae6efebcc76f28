# Scenes about TLBs and gathers. Page 0 is mapped to a frame; the last cpu has its translation cached.

cdef enum:
    STAMP = 0                   # cell: what the frame of page 0 holds

# BUSTED variants.
cdef enum:
    NO_GEN_RECHECK = 1          # a fill does not look at flush_gen again
    LATE_GEN = 2                # a fill takes flush_gen after its walk
    FREED_BEFORE_FLUSH = 3      # BUG_M10_FRAME
    NO_FLUSH = 4                # frames go to their grace period without a flush
    NO_HW_PERIOD = 5            # frames are free right after the flush
    NO_PENDING_LOOK = 6         # a gather does not care for others that are open

# Map `page` to a fresh frame with these flags. Returns the frame, or ARENA_NONE. Context: cpu 0.
cdef uint32_t add_page(rig *r, uint64_t page, uint64_t flags) noexcept nogil:
    cdef ptdesc *table = add_table(r, page)
    cdef uint32_t pfn = frame_alloc(&r.m.cpus[0], r.m, page << PAGE_SHIFT)
    if table == NULL or pfn == ARENA_NONE:
        return ARENA_NONE
    smp_store_release(pte_index(r.m, table, page << PAGE_SHIFT), mk_pte(pfn, flags | PT_PRESENT | PT_USER))
    return pfn


cdef uint64_t *entry_of(rig *r, cpu *c, uint64_t page) noexcept nogil:
    cdef ptdesc *table
    cdef uint32_t missing
    return entry_offset(c, r.m, page << PAGE_SHIFT, PTE_LEVEL, &table, &missing)


# It caches; in two_gathers it does nothing else.
cdef cpu *last_cpu(rig *r) noexcept nogil:
    return &r.m.cpus[r.m.nr_cpus - 1]


cdef void page_setup(rig *r) noexcept nogil:
    add_page(r, 0, PT_RW | PT_ACCESSED | PT_DIRTY)


cdef void cached_page_setup(rig *r) noexcept nogil:
    cdef uint64_t incarnation = 0
    page_setup(r)
    hw_access(last_cpu(r), r.m, 0, False, &r.board.cell[STAMP], &incarnation)


# -- fill_flush, fill_full_flush: the last cpu walks and fills while cpu 0 clears the entry and flushes

cdef void fill_body(rig *r, cpu *c) noexcept nogil:
    cdef uint64_t *ptep = entry_of(r, c, 0)
    cdef uint64_t gen, pte
    cdef uint32_t n
    for n in range(r.repeats):
        gen = tlb_walk_begin(c)
        pte = READ_ONCE(ptep)
        delay_point(c)
        if r.busted == LATE_GEN:
            gen = tlb_walk_begin(c)
        if not pte_none(pte):
            if r.busted == NO_GEN_RECHECK:
                fill_without_recheck(c, pte)
            else:
                tlb_fill(c, 0, pte, 0, gen)


cdef void fill_without_recheck(cpu *c, uint64_t pte) noexcept nogil:
    cdef tlb_entry *e = tlb_slot(c, 0)
    xchg(&e.tag, 0)
    WRITE_ONCE(&e.val, pte)
    WRITE_ONCE(&e.gen, READ_ONCE(&c.full_flushes[0]))
    xchg(&e.tag, 1)


cdef void fill_flush_body(rig *r, cpu *c) noexcept nogil:
    if c.id != 0:
        fill_body(r, c)
        return
    xchg(entry_of(r, c, 0), 0)
    flush_tlb_range(c, r.m, 0, <uint64_t>1 << PAGE_SHIFT, False)


cdef void fill_full_flush_body(rig *r, cpu *c) noexcept nogil:
    if c.id != 0:
        fill_body(r, c)
        return
    xchg(entry_of(r, c, 0), 0)
    flush_tlb_mm(c, r.m)


cdef bint still_cached(rig *r) noexcept nogil:
    return tlb_lookup(last_cpu(r), 0) != 0


# -- reuse: cpu 0 unmaps page 0 and takes its frame for something else; cpu 1 reads page 0 meanwhile

cdef void reuse_body(rig *r, cpu *c) noexcept nogil:
    cdef uint64_t value = 0, incarnation = 0
    cdef uint32_t n, pfn
    if c.id == 0:
        zap(r, c, 0)
        while c.frames_next.nr + c.frames_wait.nr:
            frames_poll(c, r.m, 0)
            if c.frames_next.nr + c.frames_wait.nr and not sched_wait(rcu_can_advance, &r.m.rcu[RCU_HW]):
                sched_yield()
        pfn = frame_alloc(c, r.m, <uint64_t>1 << PAGE_SHIFT)
        if pfn != ARENA_NONE:
            plain_store(&r.m.pages[pfn].stamp, 1)
        return
    for n in range(r.repeats):
        if hw_access(c, r.m, 0, False, &value, &incarnation) and value != r.board.cell[STAMP]:
            flag(r)


# Unmap one page with a gather of its own.
cdef void zap(rig *r, cpu *c, uint64_t page) noexcept nogil:
    cdef mmu_gather tlb
    tlb_gather_mmu(&tlb, c, r.m)
    zap_into(r, c, &tlb, page)
    if r.busted == NO_FLUSH:
        tlb.start = tlb.end
    elif r.busted == NO_HW_PERIOD:
        tlb_flush_mmu_tlbonly(&tlb)
        frame_free(c, r.m, tlb.frames.head)
        tlb.frames.nr = 0
    elif r.busted == NO_PENDING_LOOK:
        tlb_flush_mmu(&tlb)
        atomic_add_return(&r.m.tlb_flush_pending, <uint64_t>-1)
        return
    tlb_finish_mmu(&tlb)


cdef void zap_into(rig *r, cpu *c, mmu_gather *tlb, uint64_t page) noexcept nogil:
    cdef uint64_t *ptep = entry_of(r, c, page)
    cdef uint64_t pte
    if ptep == NULL:
        return
    pte = xchg(ptep, 0)
    if not pte_none(pte):
        tlb_flush_range_add(tlb, page << PAGE_SHIFT, (page + 1) << PAGE_SHIFT)
        tlb_remove_page(tlb, pte_pfn(pte))


# -- two_gathers: cpus 0 and 1 unmap the same page. Whoever returns leaves no translation behind ---

cdef void two_gathers_body(rig *r, cpu *c) noexcept nogil:
    zap(r, c, 0)
    if still_cached(r):
        flag(r)


# -- names ---------------------------------------------------------------------------------------

cdef bint tlb_scene(rig *r, scene *s, str name) except -1:
    s.setup = cached_page_setup
    if name == "fill_flush":
        s.body = fill_flush_body
        s.setup = page_setup
        s.wrong = still_cached
    elif name == "fill_full_flush":
        s.body = fill_full_flush_body
        s.setup = page_setup
        s.wrong = still_cached
    elif name == "reuse":
        s.nr_cpus = 2
        s.body = reuse_body
        r.m.bugs = <uint64_t>1 << BUG_M10_FRAME if r.busted == FREED_BEFORE_FLUSH else 0
    elif name == "two_gathers":
        s.nr_cpus = 2
        s.body = two_gathers_body
    else:
        s.setup = no_setup
        return False
    return True
