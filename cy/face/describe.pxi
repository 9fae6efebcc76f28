# Names of things in a machine's memory, for stories.

cdef str _table_name(mm *m, uint64_t i):
    if i >= m.tables.nr:
        return f"table {i}"
    if m.ptdescs[i].level == m.geo.levels - 1:
        return "pgd"
    return f"{('pte_table', 'pmd_table', 'pud_table', 'p4d_table')[m.ptdescs[i].level]} {i}"


cdef str _field(uint64_t offset, list fields):
    name = fields[0][1]
    for start, label in fields:
        if offset >= start:
            name = label
    return name


cdef str _ptdesc_field(mm *m, uint64_t i, uint64_t offset):
    cdef ptdesc *t = NULL
    return _field(offset, sorted([
        (0, "rcu head"), (<uint64_t><uintptr_t>&t.lock, "ptl" if m.ptdescs[i].level == PTE_LEVEL else "pml"),
        (<uint64_t><uintptr_t>&t.level, "descriptor"), (<uint64_t><uintptr_t>&t.refs, "references"),
        (<uint64_t><uintptr_t>&t.addr, "descriptor"),
    ]))


cdef str _item_name(machine_layout *l, uint64_t offset):
    cdef arena_item *item = NULL
    cdef uint64_t begin = l.frame_items
    kind = "frame"
    if offset >= l.vma_items:
        begin, kind = l.vma_items, "vma"
    elif offset >= l.table_items:
        begin, kind = l.table_items, "table"
    number, field = divmod(offset - begin, sizeof(arena_item))
    return f"{'state' if field == <uint64_t><uintptr_t>&item.state else 'arena item'} of {kind} {number}"


cdef str _mm_field(uint64_t offset):
    cdef machine *x = NULL
    return _field(offset, sorted([
        (0, "mm"), (<uint64_t><uintptr_t>&x.mms[0].page_table_lock, "page_table_lock"),
        (<uint64_t><uintptr_t>&x.mms[0].mmap_lock, "mmap_lock"),
        (<uint64_t><uintptr_t>&x.mms[0].mm_lock_seq, "mm_lock_seq"),
        (<uint64_t><uintptr_t>&x.mms[0].set, "vma set"),
        (<uint64_t><uintptr_t>&x.mms[0].next_anon_vma, "next_anon_vma"),
        (<uint64_t><uintptr_t>&x.mms[0].mm_users, "mm_users"),
        (<uint64_t><uintptr_t>&x.mms[0].pgtables_bytes, "pgtables_bytes"),
        (<uint64_t><uintptr_t>&x.mms[0].rss_anon, "rss_anon"),
        (<uint64_t><uintptr_t>&x.mms[0].planted, "planted counter"),
        (<uint64_t><uintptr_t>&x.mms[0].list, "place on the mm list"),
        (<uint64_t><uintptr_t>&x.mms[0].tlb_flush_pending, "tlb_flush_pending"),
        (<uint64_t><uintptr_t>&x.mms[0].secondary, "device"),
    ]))


cdef str _machine_field(machine *machine_, uint64_t offset):
    cdef machine *x = NULL
    if offset < <uint64_t><uintptr_t>&x.nr_mms:
        which = f" of m{offset // sizeof(mm)}" if machine_.nr_mms > 1 else ""
        return _mm_field(offset % sizeof(mm)) + which
    return _field(offset, sorted([
        (0, "machine"), (<uint64_t><uintptr_t>&x.frames, "arena"),
        (<uint64_t><uintptr_t>&x.rcu[0], "rcu_domain tables"), (<uint64_t><uintptr_t>&x.rcu[1], "rcu_domain hardware"),
        (<uint64_t><uintptr_t>&x.rcu[2], "rcu_domain interrupts off"), (<uint64_t><uintptr_t>&x.srcu[0], "srcu"),
        (<uint64_t><uintptr_t>&x.cpus, "machine"),
    ]))


cdef str _tlb_field(uint64_t offset):
    cdef tlb_entry *e = NULL
    return f"TLB[{offset // sizeof(tlb_entry)}]." + _field(offset % sizeof(tlb_entry), sorted([
        (<uint64_t><uintptr_t>&e.tag, "tag"), (<uint64_t><uintptr_t>&e.val, "val"), (<uint64_t><uintptr_t>&e.gen, "gen"),
        (<uint64_t><uintptr_t>&e.incarnation, "incarnation"), (<uint64_t><uintptr_t>&e.fills, "fills"),
    ]))


cdef str _pwc_field(uint64_t offset):
    cdef pwc_entry *e = NULL
    return f"paging-structure cache[{offset // sizeof(pwc_entry)}]." + _field(offset % sizeof(pwc_entry), sorted([
        (<uint64_t><uintptr_t>&e.tag, "tag"), (<uint64_t><uintptr_t>&e.pmd, "pmd"), (<uint64_t><uintptr_t>&e.gen, "gen"),
        (<uint64_t><uintptr_t>&e.fills, "fills"),
    ]))


cdef str _cpu_field(uint64_t offset):
    cdef cpu *c = NULL
    cdef uint64_t tlb = <uint64_t><uintptr_t>&c.tlb[0], pwc = <uint64_t><uintptr_t>&c.pwc[0]
    if offset >= pwc and offset < pwc + sizeof(c.pwc):
        return _pwc_field(offset - pwc)
    if offset >= tlb and offset < tlb + sizeof(c.tlb):
        return _tlb_field(offset - tlb)
    return _field(offset, sorted([
        (0, "private"), (<uint64_t><uintptr_t>&c.flush_gen, "flush_gen"),
        (<uint64_t><uintptr_t>&c.full_flushes, "full_flushes"), (<uint64_t><uintptr_t>&c.rcu[0], "rcu tables"),
        (<uint64_t><uintptr_t>&c.rcu[1], "rcu hardware"), (<uint64_t><uintptr_t>&c.rcu[2], "rcu interrupts off"),
    ]))


cdef str _frame_field(uint64_t offset):
    cdef page *p = NULL
    return _field(offset, sorted([
        (<uint64_t><uintptr_t>&p.stamp, "stamp"), (<uint64_t><uintptr_t>&p.incarnation, "incarnation"),
        (<uint64_t><uintptr_t>&p.vpn, "place"), (<uint64_t><uintptr_t>&p.lazyfree, "lazyfree"),
        (<uint64_t><uintptr_t>&p.dirty, "dirty"), (<uint64_t><uintptr_t>&p.pins, "pins"),
        (<uint64_t><uintptr_t>&p.anon_vma, "anon_vma"),
    ]))


cdef str _vma_field(uint64_t offset):
    cdef vma *v = NULL
    return _field(offset, sorted([
        (0, "rcu"), (<uint64_t><uintptr_t>&v.vm_start, "vm_start"), (<uint64_t><uintptr_t>&v.vm_end, "vm_end"),
        (<uint64_t><uintptr_t>&v.writable, "flags"), (<uint64_t><uintptr_t>&v.anon_vma, "anon_vma"),
        (<uint64_t><uintptr_t>&v.vm_refcnt, "vm_refcnt"), (<uint64_t><uintptr_t>&v.vm_lock_seq, "vm_lock_seq"),
        (<uint64_t><uintptr_t>&v.index, "index"),
    ]))
