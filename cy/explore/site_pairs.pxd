# Which accesses of different fibres followed each other: the coverage of interleavings.
#
# A pair is two places in the source: fibre i made the access A to an object, and the next access to that
# object was B, made by another fibre. The order counts. An object is a table with all its entries, or any
# other shared word: a lock, a field of a VMA, a counter. Accesses outside the system's memory are no pairs.
#
# The set grows for as long as its owner lives: over executions, programs and machines of one extension.
# It only looks; an execution is the same with it and without it.
# Cost: an eighth of the speed of an execution that is looked at, which every fourth one is. Off: one branch.
# Lossy, also where objects whose last accesses share a slot push each other out: the count is a lower bound.
#
# Source: Bron, Farchi, Magid, Nir, Ur, "Applications of synchronization coverage", PPoPP 2005; Lu, Jiang,
# Zhou, "A study of interleaving coverage criteria", ESEC/FSE 2007 (define-use pairs of threads).
# Departs from both: all accesses to one table count as accesses to one object.
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from cy.base.build cimport unlikely
from cy.base.explorable cimport explorable
from cy.base.hook cimport pt_site
from cy.explore.distinct cimport distinct_add, distinct_fini, distinct_init, distinct_set

cdef enum:
    FIBRE_BITS = 6              # MAX_FIBRES is 2^6
    OBJECT_BITS = 10            # slots for last accesses: 2^10
    MAX_PAIRS = 1 << 16         # more than `seen` can hold: it is full at three quarters of its slots

# The last access to an object.
cdef struct last_access:
    uint64_t key                # execution (26 bits, it wraps), object (32), fibre (6)
    const pt_site *site

cdef struct site_pair:
    const pt_site *first
    const pt_site *second

cdef struct site_pairs:
    last_access *last
    distinct_set seen           # the pairs by their hash
    site_pair *pairs            # seen.count of them, in the order in which they were seen
    uint64_t execution
    # Of the system that is explored now.
    uint64_t tables             # offset of the first table from explorable.base
    uint64_t tables_bytes
    uint32_t table_shift

# Returns 0, or -1 if there is no memory; site_pairs_fini must be called all the same.
cdef inline int site_pairs_init(site_pairs *p) noexcept nogil:
    p.last = <last_access *>calloc(1 << OBJECT_BITS, sizeof(last_access))
    p.pairs = <site_pair *>calloc(MAX_PAIRS, sizeof(site_pair))
    return 0 if distinct_init(&p.seen, MAX_PAIRS >> 1) == 0 and p.last != NULL and p.pairs != NULL else -1

cdef inline void site_pairs_fini(site_pairs *p) noexcept nogil:
    free(p.last)
    distinct_fini(&p.seen)
    free(p.pairs)

# Another system, or the same one anew.
cdef inline void site_pairs_enter(site_pairs *p, const explorable *system) noexcept nogil:
    p.tables = <uintptr_t>system.tables - <uintptr_t>system.base
    p.tables_bytes = system.tables_bytes
    p.table_shift = system.table_shift
    p.execution = (p.execution + 3) & ~<uint64_t>3

# An execution begins. Returns whether to look at it: at every fourth one, the first one included.
cdef inline bint site_pairs_begin(site_pairs *p) noexcept nogil:
    p.execution += 1
    return p.execution & 3 == 1

# Fibre `me` accesses `offset` now. Context: offset lies inside the system's memory.
cdef inline void site_pairs_note(site_pairs *p, uint32_t me, const pt_site *site, uint64_t offset) noexcept nogil:
    cdef uint64_t inside = offset - p.tables
    cdef uint64_t object = (p.tables >> 3) + (inside >> p.table_shift) if inside < p.tables_bytes else offset >> 3
    cdef uint64_t key
    cdef last_access *last
    key = (p.execution << (32 + FIBRE_BITS)) | ((object & <uint64_t>0xffffffff) << FIBRE_BITS) | me
    last = &p.last[(object * <uint64_t>0x9E3779B97F4A7C15ULL) >> (64 - OBJECT_BITS)]
    # The same but for the fibre. One branch: which fibre was here last is hard to predict.
    if unlikely((last.key ^ key) - 1 < (1 << FIBRE_BITS) - 1):
        _add(p, last.site, site)
    last.key = key
    last.site = site

cdef inline void _add(site_pairs *p, const pt_site *first, const pt_site *second) noexcept nogil:
    cdef uint64_t before = p.seen.count
    distinct_add(&p.seen, ((<uint64_t><uintptr_t>first << 20) ^ <uint64_t><uintptr_t>second) * <uint64_t>0x9FB21C651E98DF25ULL)
    if p.seen.count != before:
        p.pairs[before].first = first
        p.pairs[before].second = second
