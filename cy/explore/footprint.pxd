# What fibres may still do, as far as executions have shown.
#
# A place is where a fibre stands: before which access in the source, and how often it has passed that one. From execution to
# execution it is learned which words are touched at a place, and which place follows. What lies ahead of a place is all
# that is touched there and at whatever can follow.
#
# Guarantee: once every execution of a search, among them one for each way in which conflicting steps can follow each other
# where that search did not keep them apart, has taught nothing new, nothing touches a word that did not lie ahead. For let an
# execution of the system be the shortest that ends with a step that did not. All its steps before are such that the search has
# seen them, up to the order of independent ones; and so it has seen that fibre where it makes that step.
# `taught` says whether there was something new. `ahead` is made anew by footprint_settle alone: in between it does not move.
#
# Word number 0 stands for the order of operations: that one ends is an addition to it, that one begins reads it.
from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from cy.base.explorable cimport explorable
from cy.base.hash cimport hash_word
from cy.base.hook cimport PT_KIND_ADD, PT_KIND_FILL, PT_KIND_OP, PT_KIND_WAIT, pt_site
from cy.explore.dependence cimport step, writes
from cy.explore.policy cimport access

cdef enum:
    FOOT_READS = 0
    FOOT_WRITES = 1
    FOOT_ADDS = 2
    FOOT_MASKS = 32
    MAX_WORDS = 2048            # FOOT_MASKS * 64
    MAX_PLACES = 8192
    MAX_SITES = 1024
    MAX_EDGES = 32768
    MAX_LESSONS = 131072
    MAX_PASSES = 15             # of one site that are told apart
    MAX_FILLED = 8              # words of a fill that is not taken for all words

# Words by number, one set for each way to touch them.
cdef struct touched:
    uint64_t by[3][32]

cdef struct place:
    touched made
    touched ahead
    bint ends                   # an operation, sometimes

# Where a fibre stands, and what it is about to do there.
cdef struct standing:
    uint32_t place
    bint known                  # the rest
    bint begins                 # an operation
    uint32_t how                # FOOT_*
    uint32_t nr_words
    uint32_t words[8]           # numbers

# Numbers for keys, from 0 on. Key 0 is none.
cdef struct numbering:
    uint64_t *keys
    uint32_t *numbers
    uint32_t mask
    uint32_t nr
    uint32_t most

cdef struct footprint:
    const explorable *system
    place *places
    uint32_t *frm               # edges
    uint32_t *to
    uint32_t nr_edges
    uint32_t settled            # places whose `ahead` is made
    numbering by_site
    numbering by_place
    numbering by_word
    numbering lessons
    uint8_t passed[8][1024]     # in this execution
    standing at[8]
    bint full                   # there was no room: everything lies ahead of every place
    bint taught

cdef inline int footprint_init(footprint *f, const explorable *system) noexcept nogil:
    f.system = system
    f.places = <place *>calloc(MAX_PLACES, sizeof(place))
    f.frm = <uint32_t *>calloc(2 * MAX_EDGES, sizeof(uint32_t))
    f.to = f.frm + MAX_EDGES
    if f.places == NULL or f.frm == NULL or _numbering_init(&f.by_site, MAX_SITES) or _numbering_init(&f.by_place, MAX_PLACES) \
            or _numbering_init(&f.by_word, MAX_WORDS) or _numbering_init(&f.lessons, MAX_LESSONS):
        return -1
    _number(f, &f.by_word, 1)       # the word in the place of operations
    return 0

cdef inline void footprint_fini(footprint *f) noexcept nogil:
    free(f.places)
    free(f.frm)
    _numbering_fini(&f.by_site)
    _numbering_fini(&f.by_place)
    _numbering_fini(&f.by_word)
    _numbering_fini(&f.lessons)

# An execution begins. `first`: of each fibre, as far as it is known.
cdef inline void footprint_begin(footprint *f, const access *first) noexcept nogil:
    cdef uint32_t i
    memset(f.passed, 0, sizeof(f.passed))
    for i in range(f.system.nr_fibres):
        f.at[i].place = _place(f, i, NULL)
        _stand(f, &f.at[i], &first[i])

# Fibre `i` has made step `s`, and `next` is what comes then; NULL: nothing, it is done.
cdef inline void footprint_step(footprint *f, uint32_t i, const step *s, const access *next) noexcept nogil:
    cdef standing *at = &f.at[i]
    cdef uint32_t before = at.place, n
    cdef uint64_t lesson
    cdef bint known
    _stand(f, at, &s.made)          # of a fresh fibre it was not known
    at.place = _place(f, i, next.site if next != NULL else <const pt_site *>&f.system)
    lesson = hash_word(hash_word(1, <uint64_t>before << 32 | at.place), <uintptr_t>s.made.addr)
    lesson = hash_word(lesson, <uint64_t>s.made.site.kind << 1 | s.ends if s.made.site != NULL else 0)
    n = f.lessons.nr
    _number(f, &f.lessons, lesson | 1)
    if f.lessons.nr != n:
        f.taught = True
        for n in range(at.nr_words):
            _set(&f.places[before].made, at.how, at.words[n])
        if at.begins:
            _set(&f.places[before].made, FOOT_READS, 0)
        if s.ends:
            f.places[before].ends = True
            _set(&f.places[before].made, FOOT_ADDS, 0)
        if f.nr_edges == MAX_EDGES:
            f.full = True
        else:
            f.frm[f.nr_edges] = before
            f.to[f.nr_edges] = at.place
            f.nr_edges += 1
    if next != NULL:
        _stand(f, at, next)

# Make `ahead` of what was learned.
cdef inline void footprint_settle(footprint *f) noexcept nogil:
    cdef uint32_t i, edge
    cdef bint grew = True
    f.settled = f.by_place.nr
    for i in range(f.settled):
        f.places[i].ahead = f.places[i].made
    while grew:
        grew = False
        edge = f.nr_edges
        while edge:
            edge -= 1
            grew |= _unite(&f.places[f.frm[edge]].ahead, &f.places[f.to[edge]].ahead)
    f.taught = False

# Whether what fibre `i` is about to do may depend on anything that fibre `k` does from here on.
cdef inline bint footprint_meets(const footprint *f, uint32_t i, uint32_t k) noexcept nogil:
    cdef const standing *at = &f.at[i]
    cdef const place *other = &f.places[f.at[k].place]
    cdef uint32_t n
    if f.full or not at.known or f.at[k].place >= f.settled or at.place >= f.settled:
        return True
    if (at.begins and _has(&other.ahead, FOOT_ADDS, 0)) or (f.places[at.place].ends and _has(&other.ahead, FOOT_READS, 0)):
        return True
    for n in range(at.nr_words):
        if _has(&other.ahead, FOOT_WRITES, at.words[n]) \
                or (at.how != FOOT_READS and _has(&other.ahead, FOOT_READS, at.words[n])) \
                or (at.how != FOOT_ADDS and _has(&other.ahead, FOOT_ADDS, at.words[n])):
            return True
    return False

cdef inline void _stand(footprint *f, standing *at, const access *next) noexcept nogil:
    cdef uint64_t first = <uintptr_t>next.addr >> 3, bytes
    cdef uint32_t n = 1, i
    at.known = next.site != NULL
    at.nr_words = 0
    if not at.known:
        return
    at.begins = next.site.kind == PT_KIND_OP
    if next.addr == NULL or next.site.kind == PT_KIND_WAIT:
        return
    at.how = FOOT_ADDS if next.site.kind == PT_KIND_ADD else FOOT_WRITES if writes(next) else FOOT_READS
    bytes = <uintptr_t>next.addr - <uintptr_t>f.system.tables
    if next.site.kind == PT_KIND_FILL and bytes < f.system.tables_bytes:
        first = (<uintptr_t>f.system.tables + (bytes >> f.system.table_shift << f.system.table_shift)) >> 3
        n = <uint32_t>1 << (f.system.table_shift - 3)
        if n > MAX_FILLED:
            f.full = True
            return
    for i in range(n):
        at.words[i] = _number(f, &f.by_word, first + i)
    at.nr_words = n

# `site`: NULL before the first point.
cdef inline uint32_t _place(footprint *f, uint32_t fibre, const pt_site *site) noexcept nogil:
    cdef uint32_t number = _number(f, &f.by_site, <uintptr_t>site | 1)
    cdef uint8_t *passed = &f.passed[fibre][number]
    cdef uint32_t place = _number(f, &f.by_place, <uint64_t>fibre << 32 | number << 8 | passed[0] | <uint64_t>1 << 40)
    if passed[0] < MAX_PASSES:
        passed[0] += 1
    return place

cdef inline void _set(touched *t, uint32_t how, uint32_t word) noexcept nogil:
    t.by[how][word >> 6] |= <uint64_t>1 << (word & 63)

cdef inline bint _has(const touched *t, uint32_t how, uint32_t word) noexcept nogil:
    return (t.by[how][word >> 6] >> (word & 63)) & 1 != 0

# Returns whether `into` grew.
cdef inline bint _unite(touched *into, const touched *other) noexcept nogil:
    cdef uint64_t *a = &into.by[0][0]
    cdef const uint64_t *b = &other.by[0][0]
    cdef uint64_t grew = 0
    cdef uint32_t i
    for i in range(3 * FOOT_MASKS):
        grew |= b[i] & ~a[i]
        a[i] |= b[i]
    return grew != 0

cdef inline int _numbering_init(numbering *n, uint32_t most) noexcept nogil:
    n.mask = 2 * most - 1
    n.most = most
    n.nr = 0
    n.keys = <uint64_t *>calloc(2 * most, sizeof(uint64_t))
    n.numbers = <uint32_t *>calloc(2 * most, sizeof(uint32_t))
    return 0 if n.keys != NULL and n.numbers != NULL else -1

cdef inline void _numbering_fini(numbering *n) noexcept nogil:
    free(n.keys)
    free(n.numbers)

# The number of a key, a new one if it has none. 0, and f.full, where no number is left.
cdef inline uint32_t _number(footprint *f, numbering *n, uint64_t key) noexcept nogil:
    cdef uint32_t i = <uint32_t>hash_word(0, key) & n.mask
    while n.keys[i] != 0:
        if n.keys[i] == key:
            return n.numbers[i]
        i = (i + 1) & n.mask
    if n.nr == n.most:
        f.full = True
        return 0
    n.keys[i] = key
    n.numbers[i] = n.nr
    n.nr += 1
    return n.numbers[i]
