# Recording: one 64-byte line per operation in the worker's ring, which the parent maps too.
#
# The line exists before the operation starts, with t1 == 0, so that a crash shows what was in flight, and with the value
# that it stores, so that others that read it before the crash can be judged.
# Context: own cpu. The ring is private to the worker until it parks; its stores are bare.
from libc.stdint cimport int32_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from cy.base.atomics cimport op_point, prefetchw
from cy.base.clock cimport stamp_begin, stamp_end
from cy.base.cpu cimport cpu
from cy.base.coordination cimport pt_rel
from cy.base.shm cimport C_EVENTS, C_OPS, C_VERB_NOW, event
from cy.check.latency cimport latency_count

cdef enum:
    BITS_PER_LINE = 512
    PREFETCH_LINES = 4          # the check phase left the ring's lines in other cpus' caches

cdef inline uint32_t walk_lines(uint64_t nr_pages) noexcept nogil:
    return <uint32_t>((nr_pages + BITS_PER_LINE - 1) >> 9)

# Is there room for one operation with `lines` further lines?
cdef inline bint record_room(cpu *c, uint32_t lines) noexcept nogil:
    return c.shared.nr_events + 1 + lines <= c.ring_events

# Context: record_room said yes. `value`: what the operation stores, or 0.
cdef inline event *record_begin(cpu *c, uint32_t verb, uint64_t start, uint64_t end, uint32_t lines,
                               uint64_t value) noexcept nogil:
    cdef event *e = &c.events[c.shared.nr_events]
    prefetchw(e + PREFETCH_LINES)            # behind the end of the ring it asks for what it will not get
    c.verb = verb
    c.seq += 1
    pt_rel(&c.shared.counter[C_VERB_NOW], verb)      # whoever waits for its read section reads it
    e.t0 = 0
    e.t1 = 0
    e.start = start
    e.end = end
    e.value = value
    e.incarnation = 0
    e.seq = c.seq
    e.status = 0
    e.verb = <uint16_t>verb
    e.lines = <uint16_t>lines
    e.aux = 0
    if lines:
        memset(e + 1, 0, lines * sizeof(event))
    pt_rel(&c.shared.nr_events, c.shared.nr_events + 1 + lines)     # the parent reads it at any time
    op_point(e)
    e.t0 = stamp_begin(&c.hook)
    return e

cdef inline void record_end(cpu *c, event *e, int status) noexcept nogil:
    e.status = <int32_t>status
    e.t1 = stamp_end(&c.hook)
    if c.latency != NULL:
        latency_count(c.latency, c.verb, e.t0, e.t1)
    c.shared.counter[C_OPS + c.verb] += 1
    c.shared.counter[C_EVENTS] += 1
    pt_rel(&c.shared.counter[C_VERB_NOW], 0)
    c.verb = 0
