# A machine: its address spaces, its cpus, and the memory that everything lives in.
#
# All engine memory is one region, so that a schedule point can name an address by its offset, and a
# reset needs no free(). Many machines of many builds live in one process. The mms share frames, tables, VMA
# objects, RCU domains and cpus, so that what one gives back the next one gets.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from cy.base.build cimport PT_SCHED
from cy.base.coordination cimport pt_acq
from cy.base.cpu cimport NR_RCU, cpu
from cy.base.entry cimport PT_POISON
from cy.base.geometry cimport MM_SHIFT, PAGE_SHIFT, geo_task_size
from cy.base.rng cimport rng_seed
from cy.base.shm cimport event, shm_header, shm_worker
from cy.mm.arena cimport arena_reset
from cy.mm.mm_list cimport mm_list_init
from cy.mm.mm_users cimport mm_first_init
from cy.mm.table cimport table_entries
from cy.mm.mmu_notifier cimport secondary_mmu_init
from cy.mm.types cimport (
    ARENA_TABLES, ARENA_VMAS, arena, arena_item, mm, mm_list, page, protect_ops, ptdesc, reclaim_ops, sleep_ops, vma)
from cy.sync.spinlock cimport LOCK_DESTROYED
from cy.sync.srcu cimport srcu_struct, srcu_struct_init
from cy.sync.rcu cimport rcu_cpu_init, rcu_domain, rcu_domain_init

cdef struct machine:
    mm mms[8]
    uint32_t nr_mms
    # Table of the first pgd. 0, the table that no entry can name, unless pgds are replaced: then table 0 is nobody's.
    uint32_t first_pgd
    arena frames
    arena tables
    arena vmas
    rcu_domain rcu[3]           # RCU_TABLES, RCU_HW, RCU_IRQ
    srcu_struct srcu[8]         # one for each mm, or one for all; see mm.nr_srcu
    cpu *cpus
    protect_ops protect
    reclaim_ops reclaim
    sleep_ops sleep
    mm_list list                # of mms to scan
    uint32_t nr_workers
    uint32_t delay_interval
    uint64_t seed
    uint64_t clock              # logical time of serial and explored runs
    shm_header *header
    shm_worker *shared
    event *rings
    uint64_t ring_events
    uint64_t *entries           # payload of all tables
    uint8_t *marks              # one per table, then one per frame: for the census
    void *region
    uint64_t region_bytes

# What a machine needs, in bytes from the start of its region.
cdef struct machine_layout:
    uint64_t cpus
    uint64_t frame_items
    uint64_t table_items
    uint64_t vma_items
    uint64_t pages
    uint64_t ptdescs
    uint64_t vmas
    uint64_t slots
    uint64_t marks
    uint64_t entries
    uint64_t total

cdef inline uint64_t _align(uint64_t n) noexcept nogil:
    return (n + 4095) & ~<uint64_t>4095

cdef inline void machine_layout_fill(machine_layout *l, uint32_t mms, uint32_t cpus, uint32_t frames,
                                     uint32_t tables, uint32_t vmas, uint32_t fanout) noexcept nogil:
    l.cpus = _align(sizeof(machine))
    l.frame_items = l.cpus + _align(<uint64_t>cpus * sizeof(cpu))
    l.table_items = l.frame_items + _align(<uint64_t>frames * sizeof(arena_item))
    l.vma_items = l.table_items + _align(<uint64_t>tables * sizeof(arena_item))
    l.pages = l.vma_items + _align(<uint64_t>vmas * sizeof(arena_item))
    l.ptdescs = l.pages + _align(<uint64_t>frames * sizeof(page))
    l.vmas = l.ptdescs + _align(<uint64_t>tables * sizeof(ptdesc))
    l.slots = l.vmas + _align(<uint64_t>vmas * sizeof(vma))
    l.marks = l.slots + _align(<uint64_t>mms * vmas * sizeof(uint64_t))
    l.entries = l.marks + _align(<uint64_t>tables + frames)
    l.total = l.entries + _align(<uint64_t>tables * fanout * 8)

# Point the parts of a zeroed region at each other. Context: nr_mms, nr_workers and the first mm's config are filled in.
cdef inline void machine_wire(machine *x, const machine_layout *l, uint32_t frames, uint32_t tables,
                              uint32_t vmas) noexcept nogil:
    cdef char *base = <char *>x
    cdef mm *first = &x.mms[0]
    cdef mm *m
    cdef uint32_t i
    x.region = base
    x.region_bytes = l.total
    x.entries = <uint64_t *>(base + l.entries)
    x.marks = <uint8_t *>(base + l.marks)
    x.cpus = <cpu *>(base + l.cpus)
    x.frames.items = <arena_item *>(base + l.frame_items)
    x.frames.nr = frames
    x.tables.items = <arena_item *>(base + l.table_items)
    x.tables.nr = tables
    x.tables.holds = ARENA_TABLES
    x.vmas.items = <arena_item *>(base + l.vma_items)
    x.vmas.nr = vmas
    x.vmas.holds = ARENA_VMAS
    x.frames.nr_cpus = x.tables.nr_cpus = x.vmas.nr_cpus = x.nr_workers
    first.cpus = x.cpus
    first.nr_cpus = x.nr_workers
    first.frames = &x.frames
    first.tables = &x.tables
    first.vmas = &x.vmas
    first.rcu = x.rcu
    first.list = &x.list
    first.srcus = x.srcu
    if first.nr_srcu > x.nr_mms:
        first.nr_srcu = x.nr_mms
    first.pages = <page *>(base + l.pages)
    first.ptdescs = <ptdesc *>(base + l.ptdescs)
    first.entries = x.entries
    first.vma_objects = <vma *>(base + l.vmas)
    first.protect = &x.protect
    first.sleep = &x.sleep
    first.reclaim = &x.reclaim if first.reclaim != NULL else NULL
    first.set.capacity = vmas - 1
    x.first_pgd = 1 if x.nr_mms > 1 else 0
    for i in range(x.nr_mms):
        m = &x.mms[i]
        if i != 0:
            memcpy(m, first, sizeof(mm))
        m.index = i
        if m.nr_srcu != 0:
            m.srcu = &x.srcu[i if i < m.nr_srcu else 0]
        m.first_page = <uint64_t>i << MM_SHIFT
        m.end_page = m.first_page + (geo_task_size(&m.geo) >> PAGE_SHIFT)
        m.set.slots = <uint64_t *>(base + l.slots) + <uint64_t>i * vmas
    for i in range(tables):
        first.ptdescs[i].entries = table_entries(first, &first.ptdescs[i])
        first.ptdescs[i].index = i

# Empty address spaces, idle cpus. Context: no worker runs. Makes no schedule points.
cdef inline void machine_reset(machine *x, uint64_t seed) noexcept nogil:
    cdef mm *first = &x.mms[0]
    cdef uint32_t i, touched
    x.seed = seed
    x.clock = 0
    # In explored runs an early load (cy/base/weak.pxd) sees what was there before the first store of the run. So that runs do
    # not differ in that, and that it shows, everything is as it is after a life and its end.
    for i in range(arena_reset(&x.frames, 1, 0)):
        memset(&first.pages[i], 0, sizeof(page))
        if PT_SCHED:
            first.pages[i].stamp = PT_POISON
    for i in range(arena_reset(&x.tables, 1, x.first_pgd + x.nr_mms - 1)):
        first.ptdescs[i].mm = NULL
        if PT_SCHED:
            _bury_table(first, &first.ptdescs[i])
    touched = arena_reset(&x.vmas, 0, 0)
    for i in range(touched):
        memset(&first.vma_objects[i], 0, sizeof(vma))
        first.vma_objects[i].vm_seq = <uint32_t>-3
    for i in range(x.nr_mms):
        mm_first_init(&x.mms[i], &first.ptdescs[x.first_pgd + i])
        if PT_SCHED:
            _fill_slots(&x.mms[i], touched)
        secondary_mmu_init(&x.mms[i].secondary)
    for i in range(NR_RCU):
        rcu_domain_init(&x.rcu[i], i, x.cpus, x.nr_workers)
    for i in range(first.nr_srcu):
        srcu_struct_init(&x.srcu[i], x.nr_workers)
    mm_list_init(&x.list)
    x.header.nr_reports = 0
    x.header.tables_unlinked = 0
    for i in range(x.nr_workers):
        _cpu_reset(x, &x.cpus[i], i)

# Who meets a slot of the set that does not count yet, because an ordering was left out on purpose, meets some VMA.
# `vmas`: as many may have stood in the set, and one of them twice.
cdef inline void _fill_slots(mm *m, uint32_t vmas) noexcept nogil:
    cdef uint32_t i
    for i in range(vmas + 1 if vmas < m.set.capacity else m.set.capacity):
        m.set.slots[i] = <uint64_t>m.vma_objects

cdef inline void _bury_table(mm *m, ptdesc *t) noexcept nogil:
    cdef uint32_t i
    for i in range(<uint32_t>1 << m.geo.max_bits):
        t.entries[i] = PT_POISON
    t.level = 0
    t.detached = 1
    t.refs = 0
    t.addr = 0
    t.lock.val = LOCK_DESTROYED

# The mm of a global page number. A page of an mm that does not exist lies behind the end of the first one.
cdef inline mm *machine_mm(machine *x, uint64_t page) noexcept nogil:
    return &x.mms[page >> MM_SHIFT if page >> MM_SHIFT < x.nr_mms else 0]

# pte, pmd and pud tables of all mms. Context: a hint while workers run.
cdef inline uint64_t machine_table_bytes(machine *x) noexcept nogil:
    cdef uint64_t n = 0
    cdef uint32_t i
    for i in range(x.nr_mms):
        n += pt_acq(&x.mms[i].pgtables_bytes)
    return n

cdef inline void _cpu_reset(machine *x, cpu *c, uint32_t id) noexcept nogil:
    cdef uint32_t i
    c.id = id
    c.hook.sb_n = 0
    c.nr_held = 0
    rng_seed(&c.rng, x.seed, id)
    c.delay_interval = x.delay_interval
    c.delay_left = x.delay_interval
    c.next_incarnation = <uint64_t>0xfffffffff0
    c.next_value = <uint64_t>0xfffffffff0
    c.header = x.header
    c.shared = &x.shared[id]
    c.events = x.rings + <uint64_t>id * x.ring_events
    c.ring_events = x.ring_events
    c.verb = 0
    c.seq = <uint32_t>-16
    c.nr_pins = 0
    c.debt = 0
    c.task_work = 0
    memset(&c.frames_next, 0, sizeof(c.frames_next))
    memset(&c.frames_wait, 0, sizeof(c.frames_wait))
    c.flush_gen = <uint64_t>-5
    for i in range(x.nr_mms):
        c.full_flushes[i] = <uint64_t>-5
    for i in range(NR_RCU):
        rcu_cpu_init(&c.rcu[i])
    memset(c.tlb, 0, sizeof(c.tlb))
    memset(c.pwc, 0, sizeof(c.pwc))
    memset(c.shared, 0, sizeof(shm_worker))
