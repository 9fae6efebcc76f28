# `scan`: what a scanner thread does in one turn, and memory pressure besides: take mms from the list and let their policies
# look for tables to free, until the list is empty or knobs.scan_batch tables were looked at.
#
# Context: no lock; may sleep. Without a policy that scans it does nothing.
from libc.stdint cimport uint64_t
from cy.base.bugs cimport BUG, BUG_M07_SCAN
from cy.base.cpu cimport count, cpu, delay_point
from cy.base.geometry cimport PAGE_SHIFT
from cy.base.shm cimport C_SCANS
from cy.mm.mm_list cimport mm_list_put, mm_list_take
from cy.mm.types cimport mm, scan_report
from cy.ops.exit cimport mmput
from cy.sync.lockclass cimport might_sleep

# `m`: any mm of the machine. Returns what was looked at of the last mm that had a table; nothing: an empty range of `m`.
cdef inline scan_report do_scan(cpu *c, mm *m) noexcept nogil:
    cdef scan_report r, seen
    cdef bint again
    might_sleep(c)
    seen.start = m.first_page << PAGE_SHIFT
    seen.end = seen.start
    seen.left = 0
    if m.reclaim == NULL or m.reclaim.scan == NULL:
        return seen
    count(c, C_SCANS)
    r.left = m.knobs.scan_batch if m.knobs.scan_batch else <uint64_t>-1
    while r.left:
        m = mm_list_take(c, m.list)
        if m == NULL:
            break
        delay_point(c)
        r.start = 0
        r.end = 0
        again = m.reclaim.scan(c, m, &r)
        if r.start < r.end:
            seen = r
        mm_list_put(c, m, again)
        if not BUG(m.bugs, BUG_M07_SCAN):
            mmput(c, m)
        if again and r.start == r.end:
            break                                   # somebody else has its locks: try later
    return seen
