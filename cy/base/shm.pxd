# The region that a run's child shares with its parent: counters, reports and history rings.
#
# The parent maps the same memory and reads it at any time, also after a crash of the child, so
# everything here has a fixed layout (ptstress/layout.py reads it back; a test compares both).
# Order in memory: one shm_header, then per worker one shm_worker, then per worker its events.
from libc.stdint cimport int32_t, uint16_t, uint32_t, uint64_t

cdef enum:
    MAX_CPUS = 64
    MAX_REPORTS = 32
    NR_COUNTERS = 120
    NR_VERBS = 24
    WHAT_BYTES = 96
    MAX_HELD_SHOWN = 6
    MAX_FLIGHT = 256            # a power of two

# What a worker does. The numbers are part of the file formats.
cdef enum:
    VERB_NONE = 0
    VERB_READ = 1
    VERB_WRITE = 2
    VERB_WALK = 3
    VERB_MMAP = 4
    VERB_MUNMAP = 5
    VERB_DONTNEED = 6
    VERB_GUP_FAST = 7
    VERB_MPROTECT = 8
    VERB_POPULATE = 9
    VERB_GUARD_INSTALL = 10
    VERB_GUARD_REMOVE = 11
    VERB_AGE = 12
    VERB_EXIT = 13
    VERB_FREE = 14
    VERB_DISCARD = 15
    VERB_SCAN = 16
    VERB_SYNC = 23       # not an operation: wait until another worker has done `end` operations

# The status of an operation of which nobody knows what became of it (-ECANCELED, which no operation returns).
cdef enum:
    STATUS_UNKNOWN = -125

# Oracles: who found a violation.
cdef enum:
    ORACLE_NONE = 0
    ORACLE_UAF = 1               # use-after-free
    ORACLE_CENSUS = 2
    ORACLE_DATA = 3
    ORACLE_STALE_TLB = 4
    ORACLE_COUNTERS = 5
    ORACLE_PROGRESS = 6
    ORACLE_LOCK_ORDER = 7
    ORACLE_SLEEP_IN_RCU = 8
    ORACLE_MODEL = 9
    ORACLE_RACE = 10

# Counters of one worker. Written by that worker only; read by anyone at any time.
cdef enum:
    C_OPS = 0                    # .. C_OPS + NR_VERBS: operations done, by verb
    C_MAP_FAILED = 24            # near misses: pte_offset_map* returned NULL
    C_RECHECK_LOST = 25          # an entry or its parent changed before the lock was taken
    C_TRYLOCK_FAILED = 26
    C_VMA_LOCK_FALLBACK = 27     # lock_vma_under_rcu failed, mmap_lock taken
    C_INSTALL_LOST = 28          # another cpu installed the table first
    C_WP_LOST = 29               # the entry changed while a write upgrade had dropped the lock
    C_FILL_DROPPED = 30          # a TLB fill met a flush
    C_HW_RETRY = 31              # setting A or D lost its compare-exchange
    C_LOCK_CONTENDED = 32
    C_FAULTS = 33
    C_ZAP_BREAK = 34             # the PTL was dropped midway (need_resched or a full batch)
    C_FAST_DETACH = 35
    C_SLOW_DETACH = 36
    C_DETACH_NOT_EMPTY = 37      # the slow path found an entry and gave up
    C_FLUSHES = 38
    C_FULL_FLUSHES = 39
    C_ALLOC_FAILED = 40
    C_GRACE_PERIODS = 41
    C_RCU_CALLBACKS = 42
    C_RCU_BACKPRESSURE = 43      # times a worker waited because its backlog was full
    C_RCU_BACKLOG_MAX = 44       # most callbacks that were queued at once
    C_RCU_GP_MAX_NS = 45         # longest grace period
    C_TABLES_ALLOCATED = 46      # .. + MAX_LEVELS, by level
    C_TABLES_FREED = 51          # .. + MAX_LEVELS, by level
    C_TABLES_RECLAIMED = 56      # tables detached by a reclaim policy
    C_EVENTS = 57                # operations recorded
    C_VERB_NOW = 58              # verb in progress, 0 between operations
    C_WAIT_ADDR = 59             # address of the lock that the worker waits for, or 0
    C_WAIT_CLASS = 60            # its class
    C_WAIT_SINCE = 114           # when a wait for a lock of mmap_lock's or a VMA's class began, ns
    C_MM_WAITS = 112             # such waits that are over
    C_MM_WAIT_MAX_NS = 113       # the longest of them
    C_PARKED = 61                # 1 while parked
    C_RCU_STALL_NS = 62          # age of the oldest reader seen, when over the stall limit
    C_RCU_STALL_CPU = 63
    C_RCU_STALL_SITE = 64        # verb in whose read section the stalled reader was
    C_TABLE_BYTES_PEAK = 65      # of one mm
    C_STREAM_DONE = 66           # operations of the stream done, VERB_SYNC not counted
    C_HELD_NR = 67               # locks held (builds with checks): a hang shows who holds what
    C_GUARD_FAULTS = 85          # touches of a guard marker
    C_GUARD_ZAPS = 86            # times guard_install found a page mapped, and unmapped the range first
    C_GUARDS_KEPT = 87           # guard markers that a DONTNEED passed over
    C_GATHER_FALLBACK = 90       # tables that found no batch: flushed for and freed alone
    C_SYNC_ONE = 91              # IPIs to all cpus that were waited for
    C_GUP_FAST = 92              # pages pinned without a lock
    C_GUP_SLOW = 93              # ... and those that took the slow way
    C_GUP_LOST = 94              # an entry changed between the look and the pin
    C_PINNED_KEPT = 95           # a frame was pinned when its grace period was over
    C_HELD = 68                  # .. + 2 * MAX_HELD_SHOWN: their addresses and classes, first taken first
    C_WALK_SLEEPS = 82           # tables in which a walk slept
    C_WALK_LOST = 83             # ... and that were not there afterwards
    C_SRCU_PERIODS = 96
    C_SRCU_GP_MAX_NS = 97        # longest grace period of SRCU
    C_SRCU_BACKLOG_MAX = 98      # most callbacks that were queued for it at once
    C_REF_LOST = 110             # a walk found a table that was being freed, and got no reference
    C_TABLES_UNLINKED = 111      # tables of any level taken out of their parents
    C_DEBT_MAX = 115             # most that were unlinked and not free at once, of all workers
    C_DEBT_GP_MAX = 116          # longest from unlink to the end of the scheme's grace period, in units of DEBT_UNIT_NS
    C_DEBT_AGE_MAX = 117         # ... and until the table was free
    C_DEBT_AGE_SUM = 118         # ... of all tables together
    C_NOTIFIED = 84              # invalidations that a device was told of
    C_DEVICE_FILLS = 88          # translations that walks gave a device
    C_DEVICE_RETRIES = 89        # ... and those that an invalidation forbade
    C_VMA_RECYCLED = 80          # a lockless reader met a VMA object that had become another mm's
    C_EXIT_BY_OTHER = 81         # an mm was torn down by the last operation in it, not by its exit
    C_LAZYFREE = 99              # pages marked by FREE
    C_LAZYFREED = 100            # pages that a discard dropped
    C_LAZYFREE_KEPT = 101        # pages that a discard had unmapped and mapped again: dirty, or pinned
    C_BATCHED_FLUSHES = 102      # flushes that were deferred and made up for
    C_SCANS = 104                # scans for tables to free
    C_SCANNED = 105              # tables that they looked at
    C_SCAN_EMPTY = 106           # ... and that looked empty without a lock
    C_SCAN_BUSY = 107            # an mm whose locks somebody else had
    C_ZEROES_UNMAPPED = 109      # tables that mapped nothing but the zero page, and went
    C_VMAS_MARKED = 108          # VMAs marked for a scan
    C_BATCHED_DRAINS = 103       # times somebody else made up for them under a ptl

# One operation to do, as streams and programs hold it. read, write, gup_fast: [start, start + 1). mmap, mprotect: `arg`
# is 1 if writable; gup_fast: 1 to store; populate: 1 to write; walk: 1 to sleep in each table. exit,
# scan: `start` is the first page of the mm. sync: wait until worker `start` has done `end` operations.
# `worker` matters in serial runs.
cdef struct op:
    uint64_t start
    uint64_t end
    uint64_t arg
    uint16_t verb
    uint16_t flags
    uint32_t worker

# One operation of one worker. t1 is 0 while it is in flight. Times are cy/base/clock stamps.
#
# start, end: pages, [start, end).   value: what was written or read.
# incarnation: of the frame that was used; 0 for the zero page and for failed accesses.
# status: 0 or -errno.   aux: walk: present pages; mmap, mprotect: 1 if writable; gup_fast: 1 for a store;
# scan: start and end are what it looked at.
# populate: 1 for writing, and `value` is the number of pages that were brought in; age: young pages.
# A walk or an age is followed by one line of verb VERB_NONE for every 512 pages, which holds one bit for each
# page in its first 512 bits (t0 .. aux): see ptstress/layout.py.
cdef struct event:
    uint64_t t0
    uint64_t t1
    uint64_t start
    uint64_t end
    uint64_t value
    uint64_t incarnation
    uint32_t seq
    int32_t status
    uint16_t verb
    uint16_t lines          # further lines that belong to this operation
    uint32_t aux

cdef struct report:
    uint32_t oracle
    uint32_t invariant      # number of I01 .. I56, or 0
    uint32_t cpu
    uint32_t verb           # in progress on that cpu
    uint64_t seq            # of that cpu's operation
    uint64_t addr           # address in the mm, if one is concerned
    uint64_t a              # details, explained by `what`
    uint64_t b
    uint64_t stamp
    char what[96]

# What a flight recorder notes: see cy/base/flight.pxd.
cdef enum:
    FLIGHT_LOCK = 1         # a lock was waited for, if need be, and taken
    FLIGHT_TRYLOCK = 2
    FLIGHT_RECHECK = 3      # an entry, or a table, was looked at again under a lock
    FLIGHT_UNLINK = 4       # a table was taken out of its parent
    FLIGHT_FREE = 5         # ... and its memory is free

cdef struct flight_entry:
    uint64_t stamp
    uint64_t what
    uint64_t value
    uint32_t seq            # of the cpu's operation
    uint16_t kind
    uint16_t detail

cdef struct shm_worker:
    uint64_t counter[120]
    uint64_t nr_events      # lines written to the ring in this burst; store-release
    uint64_t nr_flight      # notes made so far; the last MAX_FLIGHT are there
    uint64_t pad[6]
    flight_entry flight[256]

cdef enum:
    STOP_REQUESTED = 1      # end the run
    STOP_AT_ONCE = 2        # and do not finish the check of its last burst

cdef struct shm_header:
    uint64_t magic
    uint64_t nr_workers
    uint64_t ring_events    # lines of each ring
    uint64_t stop           # set by the parent: STOP_*, or 0
    uint64_t burst          # number of the burst that runs or ran last
    uint64_t phase          # 0 idle, 1 racing, 2 checking, 3 done
    uint64_t table_bytes    # of the mm, sampled at the end of a burst
    uint64_t nr_reports     # reports made; the first MAX_REPORTS are kept
    uint64_t tables_unlinked    # and not free yet, of all mms; on a line of its own, as every reclaim writes it
    uint64_t pad[7]
    report reports[32]
