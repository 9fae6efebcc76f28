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
    MIX_CHAINS = 24
    CHAIN_MAX = 12

# Operations that one worker does one after the other at one place: an allocation that is touched and given back. Most are one.
cdef struct chain:
    uint32_t upto               # sum of the weights of this chain and those before it
    uint32_t length
    uint32_t unit               # pages of its place: of its longest range
    uint32_t verbs[CHAIN_MAX]

# Random operations: a chain by weight, then a place of its `unit` pages in [start, end), or in one of the `nr_places`
# places, if there are any, all equally often. With `aligned` it begins at a multiple of its length from there, else
# anywhere. It lies in one of `mms` mms, all equally often. Ranges begin where the place does, `unit[verb]` pages long; accesses
# go through its pages in turn, from any on.
cdef struct mix:
    chain chains[MIX_CHAINS]
    uint32_t weight_sum
    uint32_t unit[24]
    uint32_t aligned
    uint64_t start              # in the first mm
    uint64_t end
    const uint64_t *places      # start and end of each; lives as long as the stream
    uint32_t nr_places
    uint32_t mms
    # The chain in progress, how much of it is done, its place and the page that its first access would have.
    uint32_t now
    uint32_t done
    uint64_t place
    uint64_t place_end
    uint64_t page

cdef struct stream:
    uint32_t kind
    const op *ops
    uint64_t nr_ops
    uint64_t pos
    mix mix

# The next operation, or NULL at the end. `scratch` holds it if it had to be made.
# Does not move on: see stream_advance. Called again without that, it may make another one.
cdef inline const op *stream_peek(cpu *c, stream *s, op *scratch) noexcept nogil:
    if s.kind == STREAM_ARRAY:
        return &s.ops[s.pos] if s.pos < s.nr_ops else NULL
    if s.kind == STREAM_MIX:
        _mix_next(c, &s.mix, scratch)
        return scratch
    return NULL

cdef inline void stream_advance(stream *s) noexcept nogil:
    s.pos += 1
    if s.kind == STREAM_MIX:
        s.mix.done += 1
        if s.mix.done == s.mix.chains[s.mix.now].length:
            s.mix.done = 0

cdef inline void _mix_next(cpu *c, mix *x, op *o) noexcept nogil:
    cdef uint32_t verb
    if x.done == 0:
        _mix_draw(c, x)
    verb = x.chains[x.now].verbs[x.done]
    if verb == VERB_EXIT or verb == VERB_SCAN:
        o.start = x.place >> MM_SHIFT << MM_SHIFT
        o.end = o.start
    elif is_access(verb):
        o.start = x.page + x.done
        while o.start >= x.place_end:
            o.start -= x.place_end - x.place
        o.end = o.start + 1
    else:
        o.start = x.place
        o.end = x.place + x.unit[verb]
        if o.end > x.place_end:
            o.end = x.place_end
    # In turns: mprotect would find nothing to take away otherwise.
    if verb == VERB_GUP_FAST or verb == VERB_MPROTECT or verb == VERB_POPULATE:
        o.arg = rng_below(&c.rng, 2)
    else:
        o.arg = verb == VERB_MMAP
    o.verb = verb

# Those that load from one page or store to it.
cdef inline bint is_access(uint32_t verb) noexcept nogil:
    return verb == VERB_READ or verb == VERB_WRITE or verb == VERB_GUP_FAST

# Draw the next chain and its place.
cdef inline void _mix_draw(cpu *c, mix *x) noexcept nogil:
    cdef uint32_t pick = rng_below(&c.rng, x.weight_sum), unit
    cdef uint64_t start = x.start, end = x.end, pages
    x.now = 0
    while pick >= x.chains[x.now].upto:
        x.now += 1
    unit = x.chains[x.now].unit
    if x.nr_places != 0:
        pick = rng_below(&c.rng, x.nr_places)
        start = x.places[2 * pick]
        end = x.places[2 * pick + 1]
    pages = end - start
    if unit >= pages:
        x.place = start
        x.place_end = end
    else:
        if unit != 1 and x.aligned:         # a division, which accesses need not wait for
            x.place = start + <uint64_t>unit * rng_below(&c.rng, <uint32_t>(pages // unit))
        else:
            x.place = start + rng_below(&c.rng, <uint32_t>(pages - unit + 1))
        x.place_end = x.place + unit
    if x.mms > 1:
        pages = <uint64_t>rng_below(&c.rng, x.mms) << MM_SHIFT
        x.place += pages
        x.place_end += pages
    x.page = x.place
    if x.chains[x.now].length != 1 and x.place_end - x.place != 1:
        x.page += rng_below(&c.rng, <uint32_t>(x.place_end - x.place))
