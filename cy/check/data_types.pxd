# Structs of the data oracle, and memory for them. What it checks: cy/check/data.pxd.
#
# An oracle belongs to one thread at a time and shares nothing. Memory is of two kinds: the carried
# state, which grows with the pages in use, and scratch, which grows to the longest burst; both are
# kept from call to call, so that a tiny history allocates nothing and clears only what it touched.
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from cy.base.cpu cimport cpu, pt_report
from cy.base.geometry cimport PAGE_SHIFT
from cy.base.shm cimport ORACLE_DATA, VERB_GUP_FAST, VERB_READ, VERB_WRITE, event
from cy.check.sort cimport span

cdef enum:
    GROUP_SHIFT = 9             # pages are grouped by 512 to share what range operations do
    GROUP_PAGES = 512
    GROUP_WORDS = 8
    SMALL_PAGES = 4             # range operations up to this size are spread over their pages,
    NARROW_GROUPS = 8           # up to this many groups over their groups; others stand in one list
    BLOCK_PAGES = 64            # of a group, looked through together

# What `observe` returns.
cdef enum:
    PAGE_ABSENT = 0             # nothing, or a guard marker: nobody says
    PAGE_ZERO = 1
    PAGE_ANON = 2
    PAGE_UNSEEN = 3
    PAGE_GUARD = 4
    PAGE_NONE = 5               # nothing, and no guard marker either

# What an operation may do to a page of its range.
cdef enum:
    DISCARD = 1                 # its visit may end what is there
    DISCARD_SURE = 2            # ... and it does visit
    DISCARD_IF_MAPPED = 4       # it visits unless the page lies in a hole (dontneed: -ENOMEM)
    MAKES_HOLE = 8
    MAKES_RO = 16
    MAKES_RW = 32
    MAPS = 56                   # any of the last three
    MET_HOLE = 64               # it says that this very page lay in a hole
    DISCARD_LAZY = 128          # its visit ends only what a free marked and no write has touched since
    FREES = 256                 # free: no visit, but it marks
    CHANGES_SURE = 512          # what it makes of each page of the range is so at an instant of it
    MAPS_IF_MAPPED = 1024       # ... but a hole stays one
    MAKES_OPEN = 2048
    MAKES_GUARDED = 4096
    GUARDS = 6144               # any of the last two
    DISCARD_OFTEN = 8192        # it may visit as often as it likes

# Sets of states that a mapping may have, and sets of states that a page of it may be in.
cdef enum:
    MAP_HOLE = 1
    MAP_RO = 2
    MAP_RW = 4
    MAP_ANY = 7
    MAP_OPEN = 8                # no guard lies in it
    MAP_GUARDED = 16
    GUARD_SHIFT = 3             # the last two as states of their own:
    OPEN = 1
    GUARDED = 2
    CHANGE_SURE = 8             # in `changes.made`: the page surely changed
    CHANGE_KEEPS = 16           # ... and what it holds stays
    CHANGE_MET_HOLE = 32        # MET_HOLE: it changed nothing

# Truth of a page while all workers are parked. Fills in both numbers for a frame; returns PAGE_*.
ctypedef int (*observe_t)(void *ctx, uint64_t page, uint64_t *incarnation, uint64_t *value) noexcept nogil

# A page that is present at quiescence or that the burst touched.
cdef struct data_page:
    uint64_t page
    uint64_t incarnation        # at the end of the last burst
    uint64_t value
    uint32_t state              # PAGE_*, at the end of the last burst
    uint32_t lazy               # then: a free may have marked the frame, and no write came after it
    uint32_t next               # of its hash chain, or of the free list
    uint32_t group_next         # next page of its group
    uint32_t first              # its entries in `sorted`, this burst
    uint32_t nr
    uint32_t nr_ranges          # of these, those that discard or change the mapping

cdef struct data_group:
    uint64_t group
    uint32_t next
    uint32_t pages              # first of the chain
    uint32_t first              # its entries in `gsorted`, this burst
    uint32_t nr
    uint32_t touched
    uint32_t live

# Chained hash table of pages or groups. Item 0 stands for "none".
cdef struct data_table:
    uint32_t *heads
    uint64_t nr_heads           # power of two
    uint32_t used               # items 1 .. used - 1 were in use since the reset
    uint32_t free
    uint64_t cap

# One entry: this operation concerns that page (or group).
cdef struct data_entry:
    const event *e
    uint32_t item

# A discard or change of pages [lo, hi) of a group.
cdef struct group_discard:
    uint64_t t0
    uint64_t t1
    uint16_t lo
    uint16_t hi
    uint32_t kind
    uint32_t next_begin         # + 1, of the chains of a block
    uint32_t next_end

# A walk over pages [lo, hi) of a group.
cdef struct group_walk:
    const event *e
    uint16_t lo
    uint16_t hi

# Changes of what a page is, by t0: `made` is the state that each may have left, with CHANGE_*.
#   latest[k][i]   latest t1 of those of 0..i that make state 1 << k      smin[i]   earliest t1 of the sure ones of i..
cdef struct changes:
    uint64_t n
    uint64_t makes              # set of the states that any of them makes
    uint64_t *t0
    uint64_t *t1
    uint64_t *made
    uint64_t *smin
    uint64_t *latest[3]

# Discards of one page, by t0, and the changes of its mapping and its guard; most of these are discards too. Arrays of one block.
#   pmax[i]   latest t1 of 0..i                smin[i]   earliest t1 of the sure ones of i..
#   hmax[i]   as pmax, of those that are not lazy   l0, lmax   the lazy ones, as t0 and pmax
#   f0, f1, fmax   the frees, which are no discards, as t0, t1 and pmax
cdef struct discards:
    uint64_t n
    uint64_t nr_maybe
    uint64_t latest                 # t1 of all
    uint64_t latest_hard            # of those that are not lazy
    uint64_t latest_lazy
    uint64_t latest_free
    uint64_t cap
    uint64_t *t0
    uint64_t *t1
    uint64_t *pmax
    uint64_t *smin
    uint64_t *kind
    uint64_t nr_lazy
    uint64_t nr_frees
    uint64_t *hmax
    uint64_t *l0
    uint64_t *lmax
    uint64_t *f0
    uint64_t *f1
    uint64_t *fmax
    changes maps                    # states: MAP_HOLE, MAP_RO, MAP_RW
    changes guards                  # states: OPEN, GUARDED

# A value of a register: its write and its reads. Zone: [first, last], Gibbons & Korach.
cdef struct cluster:
    uint64_t incarnation
    uint64_t value
    uint64_t write_t0
    uint64_t first              # least t1 of its operations
    uint64_t last               # greatest t0
    uint32_t owner              # index of the incarnation
    uint32_t next               # of the same incarnation
    uint32_t written

# An incarnation of a page in this burst.
cdef struct life:
    uint64_t incarnation
    uint64_t first              # least t1 of its operations: installed by then
    uint64_t last               # greatest t0: not ended by a discard that returned before
    uint64_t since              # not installed before
    uint32_t clusters
    uint32_t carried
    uint32_t lazy               # carried, and a free of an earlier burst may have marked it last
    uint32_t last_of            # of those that were there by its `first`, the one that ended last
    uint64_t last_store         # latest t0 of this burst, 0: none

# A stretch of the address space with the same possible mappings.
cdef struct mapping:
    uint64_t start
    uint64_t end
    uint32_t states             # set of MAP_*

# An exit of an mm that succeeded. `until`: latest t1 of it and those before it.
cdef struct data_exit:
    uint64_t t0
    uint64_t until
    uint64_t mm

# Disjoint stretches of time, ascending; both ends are outside.
cdef struct stretch_list:
    uint64_t n
    uint64_t *lo
    uint64_t *hi

cdef struct data_oracle

# Looks closer at a page that no rule objected to. `state`, `incarnation`: what it holds at the end, PAGE_UNSEEN if
# nobody looked. The page's entries, o.walks and o.lives are as the rules saw them.
ctypedef void (*decide_t)(data_oracle *o, const data_page *p, const discards *d, uint32_t state,
                          uint64_t incarnation) noexcept nogil

cdef struct data_oracle:
    # Totals since init or reset.
    uint64_t checked            # operations
    uint64_t unchecked          # operations without a rule, or all of a burst for which there was no memory
    uint64_t violations
    bint zero_goes              # the zero page may be unmapped at any time; set it after init
    uint64_t task_pages         # size of each address space, 0: unknown; set it after init
    decide_t decide             # or NULL; set it after init
    void *decide_ctx
    # The caller's, for one call.
    cpu *reporter
    observe_t observe
    void *ctx
    uint64_t *stop              # or NULL: STOP_AT_ONCE there gives up the burst that is being checked
    uint32_t shard
    uint32_t nr_shards
    uint32_t out_of_memory      # or out of time: a burst was not checked, so what is carried is not true
    # Carried from burst to burst.
    data_table ptable
    data_page *pages
    data_table gtable
    data_group *groups
    mapping *maps
    uint64_t nr_maps
    uint64_t cap_maps
    uint64_t map_hint
    uint32_t guarded            # a guard may have been installed since the reset
    # Scratch of a burst.
    data_entry *entries
    uint64_t nr_entries
    uint64_t cap_entries
    const event **sorted
    uint64_t cap_sorted
    data_entry *gentries
    uint64_t nr_gentries
    uint64_t cap_gentries
    const event **gsorted
    uint64_t cap_gsorted
    const event **wide
    uint64_t nr_wide
    uint64_t cap_wide
    uint32_t *tpages
    uint64_t nr_tpages
    uint64_t cap_tpages
    uint32_t *tgroups
    uint64_t nr_tgroups
    uint64_t cap_tgroups
    uint32_t nr_workers         # of this burst
    data_entry *map_ops         # item: worker
    uint64_t nr_map_ops
    uint64_t cap_map_ops
    const event **claims        # operations whose status says something about holes
    uint64_t nr_claims
    uint64_t cap_claims
    data_exit *exits            # that succeeded, by t0
    uint64_t nr_exits
    uint64_t cap_exits
    uint64_t exits_until[8]     # by mm: latest t1
    const event **shut_out      # operations that found their mm exiting
    uint64_t nr_shut_out
    uint64_t cap_shut_out
    uint64_t *cuts
    uint64_t cap_cuts
    uint64_t *paint
    uint64_t cap_paint
    mapping *maps_new
    uint64_t cap_maps_new
    # Scratch of a group: its ranges and walks, of these those of a block, and of these those of a stretch.
    group_discard *granges
    uint64_t cap_granges
    uint64_t nr_granges
    group_walk *gwalks
    uint64_t nr_gwalks
    uint64_t cap_gwalks
    group_discard *branges
    uint64_t cap_branges
    uint64_t nr_branges
    group_walk *bwalks
    uint64_t nr_bwalks
    uint64_t cap_bwalks
    const event **walks
    uint64_t nr_walks
    uint64_t cap_walks
    uint32_t slot[512]
    uint64_t need[8]
    uint64_t block_lo           # first page of the block
    uint64_t block_hi           # its last page + 1
    uint64_t edges              # its pages, by bit, at which something begins or ends
    uint32_t laid_out           # o.shared has all ranges of the block: discards_lay_out
    uint32_t begins[64]         # ... then the first of them that begins at this page, + 1
    uint32_t ends[64]
    uint64_t laid_hi            # what begins or ends at the pages before this one was turned
    discards shared             # of the stretch
    uint64_t shared_hi          # its last page + 1
    uint32_t shared_checked     # rule E, by a page of the stretch that has no others
    # Scratch of a page.
    discards own
    uint64_t *words             # all arrays of 64-bit numbers below
    uint64_t cap_words
    uint64_t *a0                # attempts to access: t0, latest t1 so far
    uint64_t *amax
    uint64_t nr_a
    uint64_t *w0                # attempts to write
    uint64_t *wmax
    uint64_t nr_w
    uint64_t *p0                # populates for writing that saw a frame
    uint64_t *p1
    uint64_t nr_p
    uint64_t *z0                # reads of zero
    uint64_t *z1
    uint64_t *zmin
    uint64_t nr_z
    uint64_t *e0                # evidence for a stretch
    uint64_t *e1
    uint64_t *heap
    uint64_t *dead
    uint64_t *sinces
    stretch_list present
    stretch_list absent
    life *lives
    uint64_t nr_lives
    uint64_t cap_lives
    cluster *clusters
    uint64_t nr_clusters
    uint64_t cap_clusters
    uint32_t *map
    uint64_t cap_map
    uint64_t map_mask
    uint32_t *map_epochs
    uint64_t cap_map_epochs
    uint32_t epoch
    span *spans
    uint64_t cap_spans
    span *spans_tmp
    uint64_t cap_spans_tmp
    uint32_t states             # of the page at the start of the burst: set of MAP_HOLE, MAP_RO, MAP_RW
    uint32_t guards             # ... set of OPEN, GUARDED


# Loads and stores, by hardware or through a pin.
cdef inline bint data_is_access(const event *e) noexcept nogil:
    return e.verb == VERB_READ or e.verb == VERB_WRITE or e.verb == VERB_GUP_FAST

cdef inline bint data_is_write(const event *e) noexcept nogil:
    return e.verb == VERB_WRITE or (e.verb == VERB_GUP_FAST and e.aux != 0)

# Make room for `need` items of `size` bytes at *p; what is there stays. Returns False without memory, and then changes nothing.
cdef inline bint grow(void **p, uint64_t *cap, uint64_t need, size_t size) noexcept nogil:
    cdef uint64_t n
    cdef void *q
    if need <= cap[0]:
        return True
    n = cap[0] * 2
    if n < 64:
        n = 64
    while n < need:
        n *= 2
    q = realloc(p[0], n * size)
    if q == NULL:
        return False
    p[0] = q
    cap[0] = n
    return True

# The same for an oracle: without memory the rest of the burst counts as unchecked.
cdef inline bint data_room(data_oracle *o, void **p, uint64_t *cap, uint64_t need, size_t size) noexcept nogil:
    if grow(p, cap, need, size):
        return True
    o.out_of_memory = 1
    return False

cdef inline void data_report(data_oracle *o, uint32_t invariant, const char *what, uint64_t page,
                             uint64_t a, uint64_t b) noexcept nogil:
    o.violations += 1
    pt_report(o.reporter, ORACLE_DATA, invariant, what, page << PAGE_SHIFT, a, b)

# Does this shard look after the page?
cdef inline bint data_owns(data_oracle *o, uint64_t page) noexcept nogil:
    cdef uint64_t h
    if o.nr_shards == 1:
        return True
    h = (page * <uint64_t>0x9E3779B97F4A7C15ULL) >> 32
    return (h * o.nr_shards) >> 32 == o.shard
