# Structs of the history checker, and memory for them. What it decides: cy/history/search.pxd.
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from cy.check.data_types cimport grow
from cy.check.sort cimport span

# What the page holds. Frames are numbered from ENTRY_FRAME, in the order of the oracle's lives.
cdef enum:
    ENTRY_GUARD = 0
    ENTRY_NONE = 1
    ENTRY_ZERO = 2          # from here on it is present
    ENTRY_UNNAMED = 3       # a frame that no operation names
    ENTRY_FRAME = 4

# What an operation saw, or what it does.
cdef enum:
    SAW_NOTHING = 0         # an attempt that says nothing
    SAW_FRAME = 1
    SAW_ZERO = 2
    SAW_FORBIDDEN = 3       # -EFAULT: an instant at which the mapping or a guard forbade it
    SAW_ALLOWED = 4         # -ENOMEM of an access: one at which it allowed it
    SAW_PRESENT = 5         # walk
    SAW_ABSENT = 6
    DOES_RANGE = 7          # visits the page or changes its mapping; `kind` says how

# What an access may install while it runs.
cdef enum:
    MAY_ZERO = 1
    MAY_FRAME = 2

cdef enum:
    MAX_STALE = 4           # ended frames that later operations still use
    STALE_RO = 0x80000000   # with a frame: what is left of its translations only reads
    STALE_FRAME = 0x7fffffff
    NO_OP = 0xffffffff

# One operation, as one page sees it.
cdef struct page_op:
    uint64_t t0
    uint64_t t1
    uint32_t what
    uint32_t entry          # SAW_FRAME: which
    uint32_t kind           # DISCARD.., MAKES..: cy/check/data_types.pxd
    uint32_t may            # MAY_ZERO or MAY_FRAME
    uint32_t wanted         # set of MAP_* that the operation must meet, 0: any
    uint32_t optional       # it may as well have done nothing
    uint16_t stores         # SAW_FRAME: it needs a translation that allows it
    uint16_t cached         # SAW_FRAME, SAW_ZERO: it may use a TLB, and so what a discard has ended

# One state that the page can be in, given what ended so far.
#
# done: open operations, by slot, that took effect or saw what they report.
# zero_until: a zero page that a discard ended can be used until this time.
# write_until: until then the frame's translations may allow stores, although its mapping does not.
# freed: t1 + 1 of the last one of the frees that marked the frame; 0: none, 1: before the history.
# stale: frames that discards ended, which operations still to come use, with STALE_RO; descending, then zeroes.
cdef struct config:
    uint64_t done
    uint64_t zero_until
    uint64_t write_until
    uint64_t freed
    uint32_t entry
    uint32_t map            # one of MAP_*
    uint32_t stale[4]

cdef struct config_set:
    config *items
    uint64_t n
    uint64_t cap
    uint64_t *table         # epoch << 32 | item
    uint64_t mask
    uint32_t epoch

# When a frame is used, and when it can have been installed.
cdef struct frame_span:
    uint64_t last           # greatest t0
    uint64_t last_store     # ... of a store, 0: none
    uint64_t since          # behind the begin of a discard that would surely have ended it too early
    uint32_t ended          # one of its operations returned
    uint32_t lazy           # a free before the history may have marked it

# The search of one page.
cdef struct page_search:
    page_op *ops            # by t0
    uint64_t nr_ops
    uint64_t cap_ops
    span *ends              # lo: t1, tag: which operation
    span *ends_tmp
    uint64_t cap_ends
    uint64_t cap_ends_tmp
    frame_span *frames
    uint64_t nr_frames
    uint64_t cap_frames
    span *by_since          # lo: since, tag: which frame
    span *by_since_tmp
    uint64_t cap_by_since
    uint64_t cap_by_since_tmp
    uint32_t *candidates    # frames that can be installed about now
    uint64_t nr_candidates
    uint64_t cap_candidates
    uint64_t next_candidate
    uint32_t slot[64]       # open operations; more at once are too many
    uint64_t open           # sets of slots
    uint64_t observers      # ... that must see something
    uint64_t ranges         # ... that visit the page once
    uint64_t installs       # ... that may do so as often as they like: guard_install
    uint64_t readers        # ... that may install the zero page
    uint64_t writers        # ... that may install a frame
    uint32_t *slot_of       # by operation
    uint64_t cap_slot_of
    uint32_t zeroes         # somebody may see the zero page
    uint32_t unnamed        # ... or a frame that no operation names
    uint32_t gave_up        # budget, memory, or too much open at once
    uint64_t steps          # states looked at
    uint64_t budget
    config_set now
    config_set next
    config_set seen
    # Why there is no execution: the operation that cannot end, and what was possible then.
    uint32_t failed         # NO_OP: the page at the end
    uint64_t entries        # set of ENTRY_*, those below 64
    uint32_t maps           # set of MAP_*

# Room for `need` items; what is there stays. Returns False without memory.
cdef inline bint search_room(page_search *s, void **p, uint64_t *cap, uint64_t need, size_t size) noexcept nogil:
    if grow(p, cap, need, size):
        return True
    s.gave_up = 1
    return False

cdef inline void search_free(page_search *s) noexcept nogil:
    free(s.ops)
    free(s.ends)
    free(s.ends_tmp)
    free(s.frames)
    free(s.by_since)
    free(s.by_since_tmp)
    free(s.candidates)
    free(s.slot_of)
    free(s.now.items)
    free(s.now.table)
    free(s.next.items)
    free(s.next.table)
    free(s.seen.items)
    free(s.seen.table)
