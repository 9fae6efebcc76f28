# One stream of operations per worker, whatever feeds it: an array (recorded trace, text program,
# Hypothesis program) or a mix of random operations.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.cpu cimport cpu
from cy.base.geometry cimport MM_SHIFT
from cy.base.rng cimport rng_below
from cy.base.shm cimport VERB_EXIT, VERB_GUP_FAST, VERB_MMAP, VERB_MPROTECT, VERB_POPULATE, VERB_READ, VERB_SCAN, VERB_WRITE, op

cdef enum:
    STREAM_NONE = 0
    STREAM_ARRAY = 1
    STREAM_MIX = 2

# Random operations: verb by weight, then a range of `unit[verb]` pages in [start, end), or in one of the `nr_places`
# places, if there are any, all equally often. With `aligned` it begins at a multiple of its length from there, else
# anywhere. The range lies in one of `mms` mms, all equally often.
cdef struct mix:
    uint32_t weight_sum
    uint32_t upto[24]           # sum of the weights of this verb and those before it
    uint32_t unit[24]
    uint32_t aligned[24]
    uint64_t start              # in the first mm
    uint64_t end
    const uint64_t *places      # start and end of each; lives as long as the stream
    uint32_t nr_places
    uint32_t mms

cdef struct stream:
    uint32_t kind
    const op *ops
    uint64_t nr_ops
    uint64_t pos
    mix mix

# The next operation, or NULL at the end. `scratch` holds it if it had to be made.
# Does not move on: see stream_advance.
cdef inline const op *stream_peek(cpu *c, stream *s, op *scratch) noexcept nogil:
    if s.kind == STREAM_ARRAY:
        return &s.ops[s.pos] if s.pos < s.nr_ops else NULL
    if s.kind == STREAM_MIX:
        _mix_next(c, &s.mix, scratch)
        return scratch
    return NULL

cdef inline void stream_advance(stream *s) noexcept nogil:
    s.pos += 1

cdef inline void _mix_next(cpu *c, mix *x, op *o) noexcept nogil:
    cdef uint32_t pick = rng_below(&c.rng, x.weight_sum), verb = 0, unit
    cdef uint64_t start = x.start, end = x.end, pages
    while pick >= x.upto[verb]:
        verb += 1
    unit = x.unit[verb]
    if verb == VERB_READ or verb == VERB_WRITE or verb == VERB_GUP_FAST:
        unit = 1
    if x.nr_places != 0:
        pick = rng_below(&c.rng, x.nr_places)
        start = x.places[2 * pick]
        end = x.places[2 * pick + 1]
    pages = end - start
    if unit >= pages:
        o.start = start
        o.end = end
    elif unit != 1 and x.aligned[verb]:     # a division, which accesses need not wait for
        o.start = start + <uint64_t>unit * rng_below(&c.rng, <uint32_t>(pages // unit))
        o.end = o.start + unit
    else:
        o.start = start + rng_below(&c.rng, <uint32_t>(pages - unit + 1))
        o.end = o.start + unit
    if x.mms > 1:
        pages = <uint64_t>rng_below(&c.rng, x.mms) << MM_SHIFT
        o.start += pages
        o.end += pages
    if verb == VERB_EXIT or verb == VERB_SCAN:
        o.start = o.start >> MM_SHIFT << MM_SHIFT
        o.end = o.start
    # In turns: mprotect would find nothing to take away otherwise.
    if verb == VERB_GUP_FAST or verb == VERB_MPROTECT or verb == VERB_POPULATE:
        o.arg = rng_below(&c.rng, 2)
    else:
        o.arg = verb == VERB_MMAP
    o.verb = verb
