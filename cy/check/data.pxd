# The data oracle: every recorded operation is checked against what page tables may do to data.
#
# Model. A page is mapped (writable or not) or a hole; a mapped page holds nothing, the zero page or a
# frame. A fresh frame carries an incarnation, its own content until the first write; every write of a
# run stores another value. So each incarnation is a register with unique values, and each page is a
# chain of incarnations, zero periods and absences, moved on by faults and by visits of discards.
# Discards: dontneed, munmap, mmap over something, guard_install, and `discard`, which is memory pressure; mprotect ends nothing.
# Translations may be stale: what a visit
# ended may be used until the discard returns, even beside its successor, never after.
#
# FREE (I39) ends nothing: it marks what is there. `discard` may end, and need not, an incarnation that a free marked and
# no write has touched since; a write that begins after the free returned takes the mark away.
#
# A mapped page may have a guard (I38), and then holds nothing. A guard_install ends what it finds and puts a guard where it finds
# nothing, in any order and as often as it likes while it runs; if it succeeded, every page had a guard at an instant of it, and
# when it returns nobody uses what was there before, whoever ended that. guard_remove, munmap, mmap and exit take the guard away;
# no other operation does. A guard_remove that succeeded left every page without one at an instant of it, and ends nothing.
#
# A populate loads and stores nothing. It may install what an access may, a frame if it is one for writing; and it saw each page
# that it counted in place, for writing with a frame.
#
# A gup_fast is a load or a store. The instant at which both entries were looked at again lies inside the operation, and the
# page was mapped then; what follows through the pin is like an access in flight: the incarnation may end meanwhile. So
# the rules hold as they stand: its begin is not after, and its end not before, an instant at which it was mapped.
#
# Rules, per page; operations are intervals [t0, t1], and "before" means t1 < t0 of the other.
#  (A) I34 An incarnation is linearizable as a register. Decided by zones, which is exact for unique
#      values: no two forward zones overlap, none contains a backward zone, no value is read before
#      its write begins or without one. Gibbons & Korach, Testing Shared Memories, SIAM J. Comput. 26 (1997).
#  (B) I32 If an operation on an incarnation ended before a discard began, none on it begins after that
#      discard returned. I31 An incarnation is installed by a write attempt of its time, or by a populate for writing.
#  (C) I33 Between two incarnations of a page lies a visit of a discard, and each discard visits a page
#      once. Greedy: the k-th change happens after the k-th earliest birth and before the (k+1)-th latest
#      possible one, by the discard that is open then and returns first. A guard_install visits as often as it likes.
#      I39 A `discard` D may end incarnation X only if a free F began before D returned, did not return before X was
#      installed, and no write to X began after F returned: D would have found it dirty. Carried from burst to burst.
#  (D) I33 Once an incarnation is established, zero is read only if discards can have ended all that were
#      established, or if a discard that is still open can have left the old zero page in a TLB. A populate for writing
#      establishes one without a name.
#  (E) I34 A success needs an instant at which the page may be mapped (for a write: writable), -EFAULT one
#      at which it may not be, or at which it may have a guard. -ENOMEM of an access has no effect but needs the mapping.
#      I38 A success also needs an instant at which the page may have no guard. Carried from burst to burst beside the mapping.
#  (F) I46 A walk reports what was present all the time, and nothing that was absent all the time. I38 Nor what had a guard
#      all the time.
#      Where reclaim unmaps the zero page (`zero_goes`), only frames are surely present.
#  (G) An operation fails with -ESRCH only beside an exit of its mm. An exit is a munmap of all of its mm.
# The quiescent page is one more observation at the end of a burst. It shows what was lost, and makes
# the state that is carried to the next burst a single one. I38 A guard marker that it shows was put there and may be there
# still; where it shows none, the page may have none.
#
# An operation of which nobody knows what became of it (STATUS_UNKNOWN) only excuses others.
#
# Costs: near-linear in the history, except that where ranges do more than discard, each stretch of pages that the same ones
# cover makes a list of them. Memory: one burst, plus the pages in use.
#
# Conservative about FREE: where changes are only counted, and for walks (F) and certain zeroes (D), every `discard` counts as
# one that may end what is there; that a free returned 0 over a hole is looked for only if no mapping changed in the burst.
# About guards: changes beside a guard_install are not counted at all, and -ENOMEM of an access says nothing about a guard.
#
# Not modelled: files, shared memory, fork, COW. Taken as possible although no page table could do it: a
# zero page that is read while a discard of the page is open; a gup_fast that pins what a discard has ended but not flushed;
# histories whose incarnations are used in an order that needs more than counting to refute; an order of changes of a
# mapping that no two accesses agree with; a dontneed or mmap that met a hole, as a visit; a guard_install that goes on after
# its range was unmapped; that a guard is lost where the burst did not touch the page by itself.
from libc.stdint cimport uint64_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memset
from cy.base.cpu cimport cpu
from cy.base.shm cimport event
from cy.check.data_exits cimport data_exits_check
from cy.check.data_group cimport data_groups_check, data_groups_touch_wide
from cy.check.data_maps cimport data_claims_check, data_maps_carry
from cy.check.data_scan cimport data_place, data_scan
from cy.check.data_table cimport data_tables_free, data_tables_init, data_tables_reset
from cy.check.data_types cimport data_oracle, observe_t

# One oracle looks after the pages of one shard. Returns False without memory or with bad arguments.
# Context: any. `o` may hold anything; afterwards data_oracle_destroy must be called.
cdef inline bint data_oracle_init(data_oracle *o, uint32_t shard, uint32_t nr_shards) noexcept nogil:
    memset(o, 0, sizeof(data_oracle))
    o.shard = shard
    o.nr_shards = nr_shards
    return shard < nr_shards and data_tables_init(o)

cdef inline void data_oracle_destroy(data_oracle *o) noexcept nogil:
    free(o.maps)
    free(o.entries)
    free(o.sorted)
    free(o.gentries)
    free(o.gsorted)
    free(o.wide)
    free(o.tpages)
    free(o.tgroups)
    free(o.map_ops)
    free(o.claims)
    free(o.exits)
    free(o.shut_out)
    free(o.cuts)
    free(o.paint)
    free(o.maps_new)
    free(o.granges)
    free(o.gwalks)
    free(o.branges)
    free(o.bwalks)
    free(o.walks)
    free(o.shared.t0)
    free(o.own.t0)
    free(o.words)
    free(o.lives)
    free(o.clusters)
    free(o.map)
    free(o.map_epochs)
    free(o.spans)
    free(o.spans_tmp)
    data_tables_free(o)

# An empty address space again, totals 0. Costs what the history since the last reset touched.
cdef inline void data_oracle_reset(data_oracle *o) noexcept nogil:
    data_tables_reset(o)
    o.nr_maps = 0
    o.guarded = 0
    o.checked = 0
    o.unchecked = 0
    o.violations = 0
    o.out_of_memory = 0

# Check one burst: rings[w] holds counts[w] lines of worker w, in program order, all complete. Every shard
# gets all of them. Violations are reported by `c`; the totals of `o` grow.
# `observe` NULL: the history ends here; reset before the next one.
# Context: all workers are parked and drained, the rings do not change; at most MAX_CPUS. No lock; allocates when a burst
# is longer than any before.
cdef inline void data_oracle_burst(data_oracle *o, cpu *c, event **rings, const uint64_t *counts, uint32_t nr_workers,
                                   observe_t observe, void *ctx) noexcept nogil:
    o.reporter = c
    o.nr_workers = nr_workers
    o.observe = observe
    o.ctx = ctx
    cdef uint64_t checked = o.checked
    data_scan(o, rings, counts, nr_workers)
    if not o.out_of_memory:
        data_claims_check(o)
        data_exits_check(o)
        data_groups_touch_wide(o)
    if not o.out_of_memory and data_place(o):
        data_groups_check(o)
        data_maps_carry(o)
    if o.out_of_memory:
        # What is carried is no longer true: nothing is checked until the next reset.
        o.unchecked += o.checked - checked
        o.checked = checked
