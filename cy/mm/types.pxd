# The structures of an address space. Functions on them are in the files named beside each.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.cpu cimport cpu, rcu_head
from cy.base.geometry cimport geometry
from cy.sync.rcu cimport rcu_domain
from cy.sync.rwsem cimport rw_semaphore
from cy.sync.seqcount cimport seqcount_t
from cy.sync.spinlock cimport spinlock_t
from cy.sync.srcu cimport srcu_struct

# ---- arena.pxd ------------------------------------------------------------------------------

cdef enum:
    ITEM_FREE = 0
    ITEM_LIVE = 1
    ITEM_ZAPPED = 2         # unlinked; waits for its flush and its grace periods
    MAGAZINE = 32           # the least of arena.batch where there is no shortage
    ARENA_NONE = 0xffffffff

cdef struct arena_item:
    uint32_t next           # link of the list that it is on; of a table that waits to be freed: since when, see debt.pxd
    uint32_t gen            # how often it was allocated; starts near its wrap. Table entries carry it
    # Written: own cpu (LIVE), the cpu that zaps (ZAPPED), the cpu that frees. Read as a hint by oracles.
    uint32_t state
    uint32_t owner          # who zapped it: cpu and operation, see zap_owner()

# What an arena's items are.
cdef enum:
    ARENA_FRAMES = 0
    ARENA_TABLES = 1
    ARENA_VMAS = 2

cdef struct magazine:
    uint32_t head
    uint32_t nr
    uint64_t pad[15]

cdef struct arena:
    arena_item *items
    uint32_t nr
    uint32_t reserved       # items [0, reserved) are never handed out: the zero page, the first pgd
    uint32_t fifo           # 1: reuse the item that was freed longest ago
    uint32_t batch          # free items that a cpu takes from or gives to the common list at once
    uint32_t high           # a cpu that has so many gives some back
    uint32_t nr_cpus        # that have a magazine
    uint32_t holds          # ARENA_...
    uint32_t pad0
    uint64_t pad[8]         # what is read at each allocation does not share a cache line with the lock
    spinlock_t lock
    # Common free list. Written and read: lock held.
    uint32_t head
    uint32_t tail
    uint32_t nr_free
    uint32_t nr_untouched   # the last so many items, but for the very last one, are as arena_reset() made them
    magazine mags[64]

# ---- frame.pxd ------------------------------------------------------------------------------

cdef enum:
    LAZYFREE = 1            # given to FREE and not known to be written since
    LAZYFREE_DROPPED = 2    # memory pressure took it, for an oracle

# A data frame. Its contents are one 64-bit stamp.
cdef struct page:
    # Written: hardware accesses, marked; allocation and poison, plain. Read: hardware accesses.
    uint64_t stamp
    uint64_t incarnation    # unique for this allocation; the stamp of a frame never written
    uint64_t vpn            # global page number it was mapped at
    # 0 or LAZYFREE*. Written and read: ptl of the entry that maps it; read as a hint by an oracle.
    uint32_t lazyfree
    # Written since FREE, as far as entries that are gone told. Written and read: marked.
    uint32_t dirty
    uint64_t pins           # atomic: see cy/mm/pin.pxd
    # Of the VMA that it was mapped in first, for an oracle. Written: ptl of the entry that maps it. Read: when all rest.
    uint32_t anon_vma

# ---- table.pxd ------------------------------------------------------------------------------

# A page-table page. `lock` is the pml of a pmd_table, the ptl of a pte_table, and lives as long as
# the table does: a walker that found the table under RCU may still take it after the detach.
cdef struct ptdesc:
    rcu_head rcu            # first: callbacks get it back by a cast
    uint64_t *entries       # table_entries() of it; never changes
    spinlock_t lock
    uint32_t level
    uint32_t index          # number in the table arena; never changes
    uint32_t next           # link in a gather
    # Written: parent lock and own lock held. Read reliably: own lock. Read unreliably: RCU, as a
    # hint only (oracles).
    uint32_t detached
    # Atomic, where mm.table_refs: one for its place in the page table, until it is freed, and one for each walker that sleeps
    # in it. 0: on its way to be freed, for ever in this life.
    uint32_t refs
    uint64_t addr           # first address it maps
    void *mm                # for callbacks, which get nothing but the rcu_head

# ---- vma.pxd, vma_lock.pxd ------------------------------------------------------------------

# Type-stable (SLAB_TYPESAFE_BY_RCU): a lockless reader may hold the pointer while the object becomes another VMA, also
# one of another mm; it is a VMA all the time, and vm_refcnt is 0 in between.
cdef struct vma:
    rcu_head rcu            # first; used where VMAs are freed by RCU
    # Written: mmap_lock held for writing and the VMA write-locked. Read: mmap_lock, or the VMA
    # locked for reading.
    uint64_t vm_start
    uint64_t vm_end
    uint32_t writable
    # Written: page_table_lock and mmap_lock held for reading. Read: as above, or READ_ONCE.
    uint32_t anon_vma       # 0: none yet
    # Written: mmap_lock held for writing and readers drained. Read reliably: mmap_lock for writing,
    # or vm_refcnt raised. Read unreliably: anyone; a wrong value costs a fallback to mmap_lock.
    uint32_t vm_lock_seq
    uint32_t index
    uint32_t next           # link in a munmap
    # Atomic: tables of it may be empty. Written and read: the VMA is stable; see cy/reclaim/async.pxd.
    uint32_t marked
    # How often it was write-locked, in all its lives; starts near its wrap. Only where mm.lockless. Written: mmap_lock held
    # for writing and page_table_lock. Read: anyone; see vma_snapshot.pxd.
    uint32_t vm_seq
    uint32_t pad2
    uint64_t vm_mm          # mm *. Written before it is attached; read: vm_refcnt raised
    uint64_t pad0[7]
    # 0 detached, 1 attached, 1 + n readers; VMA_EXCLUDE_READERS added while a writer drains them.
    # Alone on its cache line, as in the kernel: every fault writes it, and lookups of other VMAs read the rest.
    uint32_t vm_refcnt
    uint32_t pad1[15]

cdef struct vma_set:
    # Sorted by address. Written: mmap_lock held for writing, inside `seq`. Read: mmap_lock, or
    # lockless under RCU and checked by `seq`.
    seqcount_t seq
    uint32_t nr
    uint32_t capacity
    uint64_t *slots         # vma *

# ---- the address space ----------------------------------------------------------------------

# One cpu's part of a counter, alone on its cache line. Their sum is the count.
cdef struct cpu_counter:
    uint64_t n
    uint64_t pad[7]

# One in N: on average once in N chances; 0: never.
cdef struct knobs:
    uint32_t need_resched   # zap drops the PTL at an entry
    uint32_t gather_batch   # pages until zap must drop the PTL to flush; 0: no limit
    uint32_t trylock_fail   # one in N: a trylock of the pml fails
    uint32_t alloc_fail     # one in N: an allocation in a fault fails
    uint32_t gather_alloc_fail  # one in N: a gather gets no further batch, for pages or for tables
    uint32_t flush_delay    # one in N: a pause before a flush
    uint32_t flush_ceiling  # pages; larger ranges flush the whole TLB
    uint32_t gp_batch       # callbacks that a cpu queues before it drives a grace period
    uint32_t tsan_plant     # 1: a plain counter is raced on, to prove that the tsan lane is alive
    uint32_t crash_plant    # number of a verb: an operation of that kind kills the process; 0: none
    uint32_t table_free_ipi # 1: tables are freed after an IPI to all cpus, not after a grace period
    uint32_t scan_batch     # tables that a scan looks at before it lets others have the locks; 0: no limit
    uint32_t hang_plant     # number of a verb: an operation of that kind never ends; 0: none
    uint32_t walk_sleep     # one in N: what a walk does in a table sleeps
    uint32_t sleep_us       # for so long, on average; 0: it yields
    uint32_t walk_stall     # one in N: a walk stays in an RCU section between two tables
    uint32_t walk_stall_ms  # for so long

# ---- mm_list.pxd ----------------------------------------------------------------------------

cdef struct mm_list:
    spinlock_t lock
    # Written and read: lock held.
    mm *head
    mm *tail

# ---- mmu_notifier.pxd -----------------------------------------------------------------------

cdef enum:
    SECONDARY_ENTRIES = 16

# A translation that a device keeps.
cdef struct secondary_entry:
    uint64_t tag            # page number + 1; 0: none
    uint64_t val            # leaf entry that it was made from
    uint64_t incarnation    # of the frame at that time

# The device's own page table over one mm. Written and read: its lock held, but for `present`.
cdef struct secondary_mmu:
    spinlock_t lock
    uint32_t present        # 0: the mm has no device; never changes
    uint64_t invalidate_seq     # invalidations that ended. Read: marked, too
    uint64_t in_progress        # invalidations that began and did not end; they lie in [start, end)
    uint64_t start
    uint64_t end
    secondary_entry entries[16]

# ---- the address space itself ---------------------------------------------------------------

cdef struct mm:
    geometry geo
    knobs knobs
    uint64_t bugs
    uint32_t dontneed_vma_lock          # DONTNEED takes the VMA lock (6.17 and later)
    uint32_t drop_lock_before_flush     # and drops it before tlb_finish_mmu
    # No operation but mmap, munmap and mprotect holds a lock over a VMA or an upper table (cy/protect/rcu.pxd). So VMAs count
    # their changes, teardown takes table locks, and no table is freed without a grace period of RCU_TABLES.
    uint32_t lockless
    uint32_t vma_typesafe               # VMA objects are reused at once (6.15 and later), else after a grace period
    const protect_ops *protect
    const reclaim_ops *reclaim          # NULL: never
    const sleep_ops *sleep
    uint32_t table_refs                 # walkers that sleep hold references to tables
    uint32_t nr_srcu                    # of the machine: none, one, or one for each mm
    srcu_struct *srcus                  # all of them
    srcu_struct *srcu                   # NULL, or in which walkers of this mm sleep: a table waits for it before it is freed
    # What all mms of a machine share: frames, tables and VMA objects move between them, and a cpu runs any of them.
    arena *frames
    arena *tables
    arena *vmas
    page *pages
    ptdesc *ptdescs
    uint64_t *entries                   # payload of all tables, by number; see table_entries()
    vma *vma_objects
    rcu_domain *rcu                     # RCU_TABLES, RCU_HW, RCU_IRQ
    cpu *cpus
    uint32_t nr_cpus
    uint32_t index                      # of this mm in its machine
    uint64_t first_page                 # its global page numbers are [first_page, end_page)
    uint64_t end_page
    ptdesc *pgd
    uint64_t pad2[8]        # what every access reads does not share a cache line with the locks
    # Guards entries of all tables above the pmd_table, and the first setting of vma.anon_vma.
    spinlock_t page_table_lock
    rw_semaphore mmap_lock
    seqcount_t mm_lock_seq              # odd while mmap_lock is held for writing
    vma_set set
    uint32_t next_anon_vma
    uint64_t pad0[8]
    # Atomic. pte, pmd and pud tables, 4096 each; raised before a table is reachable, lowered after.
    uint64_t mm_users                   # see mm_users.pxd
    uint64_t pgtables_bytes
    uint64_t tlb_flush_pending          # atomic: gathers begun and not finished
    uint32_t tlb_flush_batched          # atomic: flushes that reclaim deferred, and how many are made up for; see batch.pxd
    uint32_t pad3
    cpu_counter rss_anon[64]            # atomic; each cpu counts on its own line, as percpu_counter does
    uint64_t planted                    # see knobs.tsan_plant
    # The list of mms to scan, and this one's place on it. Written: the list's lock. Read: that, or marked.
    mm_list *list
    mm *list_next
    uint32_t on_list
    uint32_t marked                     # atomic; as vma.marked, where mm.lockless
    uint32_t pad4
    uint32_t scanning                   # a scan is at it
    # Where the last scan stopped: it has still to look at [scan_at, scan_until). Written and read: by the scan.
    uint64_t scan_at
    uint64_t scan_until
    uint64_t pad1
    secondary_mmu secondary

# ---- cursor.pxd: what a protection policy fills in ------------------------------------------

cdef enum:
    INTENT_FAULT = 1
    INTENT_ZAP = 2
    INTENT_WALK = 3
    INTENT_UNMAP = 4        # the VMAs are detached and the caller holds mmap_lock: nothing to lock
    INTENT_SCAN = 6         # as WALK, but who would have to wait is told so
    INTENT_PROTECT = 5      # the VMAs are write-locked, and mmap_lock is held for writing: nothing to lock
    INTENT_SLEEP = 7        # as WALK, by who may keep the lock of a VMA for long and leaves mmap_lock alone if it can
    DETACH_TRY = 1          # the table is locked and known to be empty; do not wait
    DETACH_SCAN = 2         # nothing is locked; lock, look whether it is empty, detach
    DETACH_ZERO = 3         # as SCAN, and what maps the zero page does not count: it is unmapped first

cdef enum:
    HELD_MMAP = 1           # mmap_lock for reading
    HELD_VMA = 2            # one VMA for reading
    HELD_TABLE = 4          # the ptl of cur.table
    HELD_RCU = 8            # an RCU_TABLES read section
    HELD_COVER = 16         # a lock that covers several tables

# A position in the page table of one mm, with the locks that its policy holds there.
cdef struct cursor:
    mm *mm
    cpu *cpu
    vma *vma                # covers addr, or the first behind it; NULL: none. What is known of it stands in the next four
    uint64_t vma_start
    uint64_t vma_end
    uint32_t vma_writable
    uint32_t vma_seq        # vma.vm_seq when this was so, where nothing keeps it so
    uint32_t anon_vma       # as a fault has found or set it
    uint32_t vma_stale      # it has changed since: next and lock give up until next_vma was called
    const protect_ops *ops
    uint64_t addr           # next address to look at
    uint64_t end
    uint32_t intent
    uint32_t held
    uint64_t *pmdp          # entry that maps `table`
    uint64_t pmdval         # its value when the table was mapped
    ptdesc *pmd_table       # holds pmdp
    ptdesc *table           # the locked pte_table, or NULL
    uint64_t *ptep          # its entry for addr
    uint64_t table_end      # end of what `table` maps of [addr, end)
    ptdesc *detached        # set by detach: the table that was unlinked
    ptdesc *peeked          # what cursor_peek saw at addr: nothing is known of it by now
    # Found by cursor_pmd, and as good until end: the entry of the pmd_table for this address, as vmf->pmd.
    uint64_t found_addr
    uint64_t *found_pmdp
    ptdesc *found_table
    uint64_t installed      # address whose tables install has made, and nobody has proved to lie in a VMA yet, + 1; or 0
    uint32_t sleep_one_in   # in how many tables of a walk its visitor sleeps; 0: in none
    uint32_t srcu_idx       # to leave mm.srcu with

# Every function: may not be called with a table locked unless it says so. Errors are negative errno.
cdef struct protect_ops:
    # Make VMA and upper tables stable for [start, end). Context: may sleep.
    # FAULT: -EFAULT if no VMA covers start. ZAP, WALK: always 0; cur.vma is the first VMA or NULL. SCAN: likewise, or
    # -EAGAIN: somebody else has the locks, nothing is held.
    int (*begin)(cursor *cur, uint64_t start, uint64_t end, uint32_t intent) noexcept nogil
    # Go on to the first VMA that ends behind cur.addr. Context: begun for ZAP or WALK.
    void (*next_vma)(cursor *cur) noexcept nogil
    # Map and lock the next pte_table that maps a part of [cur.addr, cur.end). Moves addr, sets table,
    # ptep, table_end. Returns 0 when there is none left: addr is at end then, unless the VMA has changed.
    int (*next)(cursor *cur) noexcept nogil
    # Map and lock the table at cur.addr. `expect` 0: proof that it is attached by its parent entry.
    # Otherwise: the caller saw the entry `expect`, which was not none; proof by that. Returns 0 if
    # there is no table, or the entry changed.
    int (*lock)(cursor *cur, uint64_t expect) noexcept nogil
    # Lock `table`, in which the cursor was at cur.addr before it slept, again. 0: it was detached meanwhile. The entry that
    # referred to it is not looked at, nor is the table that holds it. NULL: lock has to do. Context: something kept it.
    int (*relock)(cursor *cur, ptdesc *table) noexcept nogil
    # Make sure that a table maps cur.addr. 0 or -ENOMEM. Context: may sleep.
    int (*install)(cursor *cur) noexcept nogil
    # Unlink the table at cur.addr if it is empty; see DETACH_*. Returns 1 and sets cur.detached, or 0.
    # With DETACH_TRY the table stays locked in either case.
    int (*detach)(cursor *cur, uint32_t mode) noexcept nogil
    # Unlink the table of `level`, above the pte_table, that maps `addr`, if it is empty, and set cur.detached then. NULL: upper
    # tables stay until teardown. Context: no table locked.
    void (*detach_upper)(cursor *cur, uint64_t addr, uint32_t level) noexcept nogil
    # Give cur.vma, which has none, an anon_vma. NULL: under mmap_lock (cy/core/fault.pxd).
    void (*anon_vma_prepare)(cursor *cur) noexcept nogil
    # A place where the operation may sleep or be preempted: drop what forbids it.
    void (*sleep)(cursor *cur) noexcept nogil
    # Drop everything that begin took.
    void (*end)(cursor *cur) noexcept nogil

cdef enum:
    PAUSE_LOCKED = 0        # the table at cur.addr is locked, as next left it
    PAUSE_LOST = 1          # nothing is locked; no table maps cur.addr, or it may be another one: ask next again
    PAUSE_BEGUN = 2         # the cursor has begun anew at cur.addr

# How a walk sleeps in the middle of a table, and what keeps the table meanwhile: see cy/protect/sleep.pxd.
cdef struct sleep_ops:
    uint32_t intent         # of the cursor of such a walk: WALK or SLEEP
    # The walk begins. Context: the cursor has begun, nothing locked.
    void (*enter)(cursor *cur) noexcept nogil
    # Sleep, and get hold of the table again. Context: it is locked. `end`: of the whole walk. Returns PAUSE_*.
    int (*pause)(cursor *cur, uint64_t end) noexcept nogil
    # The walk ends. Context: as enter.
    void (*leave)(cursor *cur) noexcept nogil

# What a scan looked at.
cdef struct scan_report:
    uint64_t start          # addresses; nothing: both 0
    uint64_t end
    uint64_t left           # tables that may still be looked at

# What the reclaim policies of a scheme fill in, each its own events; NULL: nobody is interested.
cdef struct reclaim_ops:
    # A zap emptied the whole table in one hold of its lock. Context: table locked.
    int (*emptied_locked)(cursor *cur) noexcept nogil
    # A zap emptied the whole table, but not in one hold. Context: nothing locked.
    int (*emptied)(cursor *cur) noexcept nogil
    # The table of `level` that mapped `addr` was unlinked and queued. The policy may unlink the one above it, and sets
    # cur.detached then. Context: between begin and end of the cursor, nothing locked.
    void (*unlinked)(cursor *cur, uint64_t addr, uint32_t level) noexcept nogil
    # An operation left a table behind in v that may be empty, or pages that memory pressure may take. Context: the mm is
    # in use, the VMA is stable; nothing locked that forbids LOCK_LIST.
    void (*left_behind)(cpu *c, mm *m, vma *v) noexcept nogil
    # The zero page was mapped in v. Context: as left_behind, nothing locked.
    void (*zero_mapped)(cpu *c, mm *m, vma *v) noexcept nogil
    # DETACH_SCAN or DETACH_ZERO: what a scan takes.
    uint32_t scan_mode
    # Free empty tables of the mm, at most knobs.scan_batch. Returns True if something is left to do, and in the
    # scan what was looked at. Context: a scan that mm_list_take gave the mm to; may sleep.
    bint (*scan)(cpu *c, mm *m, scan_report *r) noexcept nogil
    # What left tables behind scans for them itself, when its operation is over.
    uint32_t task_work
