# Rule G: an operation fails with -ESRCH only beside an exit of its mm that succeeded. It had no effect then, and is looked
# at nowhere else.
from libc.stdint cimport uint64_t
from cy.base.geometry cimport MAX_MMS, MM_SHIFT
from cy.base.shm cimport event
from cy.check.data_types cimport data_exit, data_oracle, data_report, data_room

cdef inline void data_exits_begin(data_oracle *o) noexcept nogil:
    cdef uint64_t i
    o.nr_exits = 0
    o.nr_shut_out = 0
    for i in range(<uint64_t>MAX_MMS):
        o.exits_until[i] = 0

# An exit that succeeded, or may have. Context: in the order of t0.
cdef inline void data_exit_add(data_oracle *o, const event *e) noexcept nogil:
    cdef uint64_t mm = (e.start >> MM_SHIFT) & (MAX_MMS - 1)
    if not data_room(o, <void **>&o.exits, &o.cap_exits, o.nr_exits + 1, sizeof(data_exit)):
        return
    if e.t1 > o.exits_until[mm]:
        o.exits_until[mm] = e.t1
    o.exits[o.nr_exits].t0 = e.t0
    o.exits[o.nr_exits].until = o.exits_until[mm]
    o.exits[o.nr_exits].mm = mm
    o.nr_exits += 1

# An operation that found its mm exiting.
cdef inline void data_shut_out_add(data_oracle *o, const event *e) noexcept nogil:
    if data_room(o, <void **>&o.shut_out, &o.cap_shut_out, o.nr_shut_out + 1, sizeof(event *)):
        o.shut_out[o.nr_shut_out] = e
        o.nr_shut_out += 1

# Context: all events of the burst were added.
cdef inline void data_exits_check(data_oracle *o) noexcept nogil:
    cdef uint64_t i
    cdef const event *e
    for i in range(o.nr_shut_out):
        e = o.shut_out[i]
        if not _beside_exit(o, e):
            data_report(o, 34, b"an operation (verb a) found its mm exiting, but no exit of it was under way", e.start, e.verb, 0)

# Of the exits that began before the operation ended, did one of its mm end after it began?
cdef inline bint _beside_exit(const data_oracle *o, const event *e) noexcept nogil:
    cdef uint64_t lo = 0, n = o.nr_exits, half
    while n > 0:
        half = n >> 1
        if o.exits[lo + half].t0 <= e.t1:
            lo += half + 1
            n -= half + 1
        else:
            n = half
    while lo > 0:
        lo -= 1
        if o.exits[lo].mm == e.start >> MM_SHIFT:
            return o.exits[lo].until >= e.t0
    return False
