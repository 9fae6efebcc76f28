# Named bugs: each re-creates a real one by one extra condition at the faulty line.
# BUG(mask, BUG_x) is constant 0 in the fast build. The Python registry is ptstress/bugs.py.
from libc.stdint cimport uint64_t
from cy.base.build cimport PT_CHECKS

cdef enum:
    BUG_P01 = 0          # fast detach although the PTL was dropped midway (f39edcf6349a)
    BUG_P23 = 1          # the table counter is not atomic (e1f56c89b040)
    BUG_M07_TABLE = 2    # a table is freed without its grace period
    BUG_M10_FRAME = 3    # a frame is freed before the flush
    BUG_M07_SCAN = 4     # a scan does not pin the mm that it is at
    BUG_M01_SCAN = 5          # a scan takes a table for empty that looked so without a lock
    BUG_M08_ZERO = 6     # a table goes with its entries for the zero page in it
    BUG_M10_ZERO = 7     # the zero page is unmapped, and TLBs are flushed when the locks are gone
    BUG_M15_SLEEP = 8    # a walk sleeps inside its RCU section
    BUG_M08_IPI = 9      # tables are freed after an IPI, which does not wait for RCU readers
    BUG_M15_LOCK_ORDER = 10  # fast detach waits for the pml with the ptl held
    BUG_M01_RECYCLED = 11    # vma_start_read does not look whose VMA it has counted itself on
    BUG_M07_EXIT = 12        # exit tears the mm down while operations are still in it
    BUG_MX_DROP_MARKERS = 13 # DONTNEED drops guard markers
    BUG_M01_GUARD = 14 # a fault that has the lock asks whether the entry is not present, not whether it is none
    BUG_M10_MPROTECT = 15  # mprotect returns without a flush
    BUG_M11_MPROTECT = 16  # mprotect takes the write bit by load and store, so that a D of that moment is lost
    BUG_M11_AGE = 17     # age clears A by load and store, likewise
    BUG_M01_GUP_PTE = 19  # gup_fast does not look at the leaf entry again after it has pinned (the kind of 70cbc3cc78a9)
    BUG_P04 = 60         # a scan takes the table that it saw before it had the parent's lock (the kind of 11e43c5d7554)
    BUG_P02 = 32         # a table's lock dies at the unlink, not after the grace period
    BUG_P05 = 35         # a table is freed without waiting for walkers that hold no lock (2ba99c5e0881)
    BUG_P07 = 37         # a fault locks the table that it saw before its RCU section ended (CVE-2024-42233)
    BUG_P08 = 38         # guard_install and guard_remove take the mm's lock instead of the table's (the kind of CVE-2024-45024)
    BUG_P16 = 46         # a table is published before it is zeroed (362a61ad6119)
    BUG_P20 = 50         # a walk tests one reading of an entry and maps another one (688272809fcc)
    BUG_P24 = 54         # the flush for a freed table leaves paging-structure caches (d86564a2f085)
    BUG_P24_BATCH = 55   # a table that finds no batch is freed without a flush (0ed1325967ab)
    BUG_P21 = 24         # munmap gives mmap_lock back before it has torn down (246c320a8cfe)
    BUG_M15_DIRTY = 25   # discard looks at D before it clears the entry
    BUG_M09_FREE = 26    # FREE clears D and does not flush
    BUG_M10_DISCARD = 27 # discard frees a frame before the deferred flush
    BUG_P13 = 43         # zap does not drain the flushes that reclaim deferred (3ea277194daa)
    BUG_P13_LOCAL = 44   # the drain flushes the calling cpu only (4b634918384c)
    BUG_P17 = 47         # a VMA is unlocked before its flags are seen to change (b1f02b95758d)
    BUG_P18 = 48         # a VMA's bounds are looked at before its lock is held, and not again (657b5146955e)
    BUG_P19 = 49         # mmap publishes a VMA before it write-locks it, and changes it afterwards (33313a747e81)
    BUG_M13_SRCU = 20    # a walk leaves SRCU by the index that is there now, not by the one that it got
    BUG_M01_REF = 21     # a reference to a table is taken even if the last one is gone
    BUG_M01_RELOCK = 22  # who slept in a table does not look whether it was detached meanwhile
    BUG_MX_BACKPRESSURE = 28 # nobody waits for grace periods, however many tables wait for one
    BUG_M03_NOTIFIER = 29 # a device is told that an invalidation is over before anything was unmapped
    BUG_M05_MMAP_READ = 30 # a fault takes mmap_lock for reading to set the first anon_vma, where page tables do without it
    BUG_M08_SRCU_SCAN = 31 # a grace period of SRCU does not look at the half that readers had left before
    BUG_M01_INSTALL = 56 # who installs a table does not look whether its parent is still attached
    BUG_M04_R11 = 57     # a populate looks whether its VMA has changed before it has the table's lock, not afterwards
    BUG_M02_TEARDOWN = 58 # teardown unlinks tables without their locks where VMAs are not locked
    BUG_M01_UPPER = 59   # an upper table is looked at before its lock is held, and not again
    # Rules that no bug of Linux breaks here by itself: one for each.
    BUG_MX_INSTALL_LEAK = 18 # who lost the race to install a table does not free its own
    BUG_M15_PIN = 23     # discard looks at pins before it clears the entry
    BUG_MX_ZAP_AGAIN = 33 # a zap that let go of its table begins again at the start of it
    BUG_MX_ZERO_WRITABLE = 34 # a read fault maps the zero page as the VMA allows it
    BUG_M10_WP = 36      # a write maps its frame over the zero page, and flushes afterwards
    BUG_MX_WALK_HOLE = 39 # a walk that meets a missing pte_table skips all that its pmd_table maps
    BUG_MX_REF_LEAK = 40 # a walk keeps its reference to a table that it has lost
    BUG_M02_RETRY = 41   # who finds the table that it has locked detached looks for the next one without unlocking it
    BUG_MX_QUEUED_TWICE = 42 # a zap queues a page again when the batch is full
    BUG_MX_TWO_PARENTS = 51 # who installs a table enters it for the neighbouring range, too
    BUG_M15_TRYLOCK = 52 # fast detach tries the pml until it gets it, with the ptl held: a deadlock
    BUG_MX_FRAME_LEAK = 53 # who lost the race to fill an entry does not free its frame
    BUG_MX_FREED_TWICE = 61 # who lost the race to fill an entry frees its frame twice
    BUG_M02_ANON_VMA = 63 # the first anon_vma of a VMA is set without page_table_lock
    BUG_MX_MADVISE_RELOCK = 62 # madvise lets go of its locks between two VMAs of its range
    BUG_MX_VMA_PUT = 45  # who finds a VMA write-locked keeps the count that it has raised

cdef inline bint BUG(uint64_t mask, int bug) noexcept nogil:
    return PT_CHECKS and ((mask >> bug) & 1) != 0
