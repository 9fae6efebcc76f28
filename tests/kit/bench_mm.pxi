# One Python thread acts for several cpus, one call at a time: arenas, VMA lock, tables, TLBs, gathers.

NONE = <uint32_t>ARENA_NONE

cdef class MmBench(Rig):
    """The mm, one call at a time. ``cpu`` says who acts; pages are numbers, as in the command line."""

    cdef mmu_gather gather

    # -- arenas, frames, private tables ------------------------------------------------------

    def take(self, cpu: int) -> int:
        """A frame number from the arena, or ``NONE``."""
        return arena_alloc(self.at(cpu), self.r.m.frames)

    def give(self, cpu: int, item: int) -> None:
        """Give it back."""
        arena_free(self.at(cpu), self.r.m.frames, self.frame(item))

    def free_frames(self) -> int:
        """How many the arena has left."""
        return arena_nr_free(self.r.m.frames)

    def generation(self, item: int) -> int:
        """How often a frame number was given out, modulo 2**32."""
        return self.r.m.frames.items[self.frame(item)].gen

    def frame_state(self, item: int) -> int:
        """0 free, 1 live, 2 zapped."""
        return self.r.m.frames.items[self.frame(item)].state

    def frame_alloc(self, cpu: int, page: int = 0) -> int:
        """A frame with a fresh incarnation stamp."""
        return frame_alloc(self.at(cpu), self.r.m, <uint64_t>page << PAGE_SHIFT)

    def frame_free(self, cpu: int, item: int) -> None:
        """Free it at once."""
        frame_free(self.at(cpu), self.r.m, self.frame(item))

    def stamp(self, item: int) -> int:
        """What a frame holds."""
        return self.r.m.pages[self.frame(item)].stamp

    def incarnation(self, item: int) -> int:
        """The incarnation of a frame."""
        return self.r.m.pages[self.frame(item)].incarnation

    def scribble(self, item: int) -> None:
        """Write to a frame, whoever owns it."""
        self.r.m.pages[self.frame(item)].stamp = 1

    def rest(self) -> None:
        """Check everything, as when all workers have parked."""
        check_quiescent(self.at(0), self.r.x)

    def table_alloc(self, cpu: int) -> int:
        """A private table; its number."""
        cdef ptdesc *t = pagetable_alloc(self.at(cpu), self.r.m, PTE_LEVEL, 0)
        return <uint32_t>ARENA_NONE if t == NULL else t.index

    def table_free(self, cpu: int, table: int) -> None:
        """Free a private table at once."""
        pagetable_free_private(self.at(cpu), self.r.m, self.table(table))

    def entries(self, table: int) -> list:
        """All entries of a table."""
        return [self.table(table).entries[i] for i in range(geo_fanout(&self.r.m.geo, PTE_LEVEL))]

    def scribble_table(self, table: int) -> None:
        """Write to a table, whoever owns it."""
        self.table(table).entries[0] = 1

    # -- VMA lock ----------------------------------------------------------------------------

    def add_vma(self, first: int, end: int) -> int:
        """A VMA over pages [first, end); its number."""
        cdef vma *v = add_vma(self.r, first, end)
        if v == NULL:
            raise MemoryError("no VMA left")
        return v.index

    def mmap_write_lock(self, cpu: int) -> None:
        """Take mmap_lock for writing; nobody may hold it."""
        mmap_write_lock(self.at(cpu), self.r.m)

    def mmap_write_unlock(self, cpu: int) -> None:
        """Release it."""
        mmap_write_unlock(self.at(cpu), self.r.m)

    def mmap_write_downgrade(self, cpu: int) -> None:
        """Keep it for reading."""
        mmap_write_downgrade(self.at(cpu), self.r.m)

    def mmap_read_unlock(self, cpu: int) -> None:
        """Release it as a reader."""
        mmap_read_unlock(self.at(cpu), self.r.m)

    def vma_start_write(self, cpu: int, v: int) -> None:
        """Write-lock a VMA without readers."""
        vma_start_write(self.at(cpu), self.r.m, self.vma(v))

    def vma_start_read(self, cpu: int, v: int) -> bool:
        """Try to lock a VMA for reading."""
        cdef bint locked
        rcu_read_lock(self.at(cpu), tables_rcu(self.r))
        locked = vma_start_read(self.at(cpu), self.r.m, self.vma(v))
        rcu_read_unlock(self.at(cpu), tables_rcu(self.r))
        return locked

    def vma_end_read(self, cpu: int, v: int) -> None:
        """Release it."""
        vma_end_read(self.at(cpu), self.vma(v))

    def vma_detach(self, cpu: int, v: int) -> None:
        """Take a write-locked VMA without readers out of the set, which holds no other."""
        vma_set_remove(self.r.m, 0, 1)
        vma_mark_detached(self.at(cpu), self.vma(v))

    def vma_attach(self, v: int) -> None:
        """Put it into the set again."""
        vma_set_insert(self.r.m, self.vma(v))
        vma_mark_attached(self.vma(v))

    def lock_vma_under_rcu(self, cpu: int, page: int) -> int:
        """Number of the VMA that is now locked for reading, or -1."""
        cdef vma *v = lock_vma_under_rcu(self.at(cpu), self.r.m, <uint64_t>page << PAGE_SHIFT)
        return -1 if v == NULL else v.index

    # -- tables ------------------------------------------------------------------------------

    def add_page(self, page: int, clean: bool = False, read_only: bool = False) -> int:
        """Map a page to a fresh frame; its number, or ``NONE``."""
        cdef uint64_t flags = PT_ACCESSED | (0 if clean else PT_DIRTY) | (0 if read_only else PT_RW)
        return add_page(self.r, page, flags)

    def dirty(self, page: int) -> bool:
        """Whether D is set in the entry of a page."""
        return (self.entry(page)[0] & PT_DIRTY) != 0

    def clean(self, page: int) -> None:
        """Clear D in the entry of a page."""
        self.entry(page)[0] &= ~PT_DIRTY

    def attached_by_pte(self, cpu: int, page: int, expect: int) -> bool:
        """The proof of attachment by an entry."""
        return attached_by_pte(self.at(cpu), self.entry(page), expect)

    def attached_by_pml(self, cpu: int, locked: bool) -> bool:
        """The proof by the pml of the tables at page 0."""
        cdef ptdesc *pmd_table
        cdef uint32_t missing
        cdef bint proved
        entry_offset(self.at(cpu), self.r.m, 0, PMD_LEVEL, &pmd_table, &missing)
        if locked:
            spin_lock(self.at(cpu), &pmd_table.lock, LOCK_PML)
        proved = attached_by_pml(self.at(cpu), pmd_table)
        if locked:
            spin_unlock(self.at(cpu), &pmd_table.lock)
        return proved

    # -- hardware and TLBs -------------------------------------------------------------------

    def read(self, cpu: int, page: int):
        """What a load sees; None: page fault."""
        cdef uint64_t value = 0, incarnation = 0
        return value if hw_access(self.at(cpu), self.r.m, <uint64_t>page << PAGE_SHIFT, False, &value, &incarnation) else None

    def write(self, cpu: int, page: int, value: int) -> bool:
        """Store; False: page fault."""
        cdef uint64_t v = value, incarnation = 0
        return hw_access(self.at(cpu), self.r.m, <uint64_t>page << PAGE_SHIFT, True, &v, &incarnation)

    def hw_begin(self, cpu: int) -> None:
        """An access is in flight."""
        rcu_read_lock(self.at(cpu), &self.r.m.rcu[RCU_HW])

    def hw_end(self, cpu: int) -> None:
        """It is over."""
        rcu_read_unlock(self.at(cpu), &self.r.m.rcu[RCU_HW])

    def walk_begin(self, cpu: int) -> int:
        """A hardware walk begins: the number for ``fill``."""
        return tlb_walk_begin(self.at(cpu))

    def fill(self, cpu: int, page: int, walk: int) -> None:
        """Cache some translation of a page."""
        tlb_fill(self.at(cpu), page, mk_pte(1, PT_PRESENT), self.r.m.pages[1].incarnation, walk)

    def cached(self, cpu: int, page: int) -> bool:
        """Whether the TLB of a cpu has a translation."""
        return tlb_lookup(self.at(cpu), page) != 0

    def flush(self, cpu: int, first: int, end: int) -> None:
        """Flush pages [first, end) on all cpus."""
        flush_tlb_range(self.at(cpu), self.r.m, <uint64_t>first << PAGE_SHIFT, <uint64_t>end << PAGE_SHIFT, False)

    def flush_all(self, cpu: int) -> None:
        """Flush everything on all cpus."""
        flush_tlb_mm(self.at(cpu), self.r.m)

    # -- gather ------------------------------------------------------------------------------

    def gather_begin(self, cpu: int) -> None:
        """Begin to unmap; there is one gather per bench."""
        tlb_gather_mmu(&self.gather, self.at(cpu), self.r.m)

    def gather_page(self, page: int) -> None:
        """Clear the entry of a page and queue its frame."""
        zap_into(self.r, self.gather.cpu, &self.gather, page)

    def gather_finish(self) -> None:
        """Flush, and hand the frames to their grace period."""
        tlb_finish_mmu(&self.gather)

    def frames_poll(self, cpu: int) -> None:
        """Free what is due."""
        frames_poll(self.at(cpu), self.r.m, 0)

    # -- numbers, checked --------------------------------------------------------------------

    cdef uint32_t frame(self, item) except 0:
        if not 0 < item < self.r.m.frames.nr:
            raise IndexError(f"frame {item}: there are {self.r.m.frames.nr}")
        return item

    cdef ptdesc *table(self, item) except NULL:
        if not 0 < item < self.r.m.tables.nr:
            raise IndexError(f"table {item}: there are {self.r.m.tables.nr}")
        return &self.r.m.ptdescs[<uint32_t>item]

    cdef vma *vma(self, item) except NULL:
        if not 0 <= item < self.r.m.vmas.nr:
            raise IndexError(f"VMA {item}: there are {self.r.m.vmas.nr}")
        return &self.r.m.vma_objects[<uint32_t>item]

    cdef uint64_t *entry(self, page) except NULL:
        cdef uint64_t *ptep = entry_of(self.r, &self.r.m.cpus[0], page)
        if ptep == NULL:
            raise ValueError(f"no table maps page {page}")
        return ptep
