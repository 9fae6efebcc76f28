# What an execution came to, as words, and a table of all that it may come to.
#
# The sequential model computes the table once for each small program (ptstress/model/outcomes.py); every explored execution
# that the oracles let pass is then looked up in it. Rows hold whole outcomes, not hashes of them, so that no two can be taken
# for each other. The words are those of ptstress/model/outcome_words.py: a stamp is replaced by a number that says what kind
# it is of and how many different ones come before it, because an execution is free to choose its stamps, but not which of
# them are equal.
#
# Not modelled: when an operation ran. The data oracle judges that, page by page.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp
from cy.base.cpu cimport cpu, pt_report
from cy.base.hash cimport hash_words
from cy.base.shm cimport ORACLE_MODEL, VERB_GUP_FAST, VERB_POPULATE, VERB_READ, VERB_WALK, VERB_WRITE, event
from cy.check.data_types cimport PAGE_GUARD, PAGE_NONE
from cy.check.judge cimport observe_page
from cy.check.machine cimport machine

cdef enum:
    OUTCOME_NONE = 1            # in place of an incarnation: there is no page
    OUTCOME_MARKER = 2          # ... but a guard marker
    OUTCOME_FIRST_NAME = 16

cdef struct outcome_table:
    const uint64_t *rows        # nr_rows of `width` words, all different; the caller keeps them and `pages` alive
    uint32_t nr_rows
    uint32_t width
    const uint64_t *pages       # those whose end is part of the outcome
    uint32_t nr_pages
    uint64_t nr_prefix          # operations of the prefix, in front of those of cpu 0
    uint64_t max_stamps
    uint32_t *slots             # open addressing: a row's number + 1, or 0
    uint64_t mask
    uint8_t *seen               # of each row: an execution came to it
    uint64_t *words             # of the execution that was read last
    uint64_t *stamps            # that were named in it, in that order
    uint64_t nr_stamps
    uint32_t filled             # words so far

# Context: the table is zeroed but for rows, pages, their numbers, width, nr_prefix and max_stamps. Returns False without memory;
# outcome_table_fini must be called all the same.
cdef inline bint outcome_table_init(outcome_table *t) noexcept nogil:
    cdef uint64_t n = 4, i
    cdef uint32_t row
    while n < 2 * <uint64_t>t.nr_rows:
        n <<= 1
    t.mask = n - 1
    t.slots = <uint32_t *>calloc(n, sizeof(uint32_t))
    t.seen = <uint8_t *>calloc(t.nr_rows + 1, 1)
    t.words = <uint64_t *>calloc(t.width + 1, sizeof(uint64_t))
    t.stamps = <uint64_t *>calloc(t.max_stamps + 1, sizeof(uint64_t))
    if t.slots == NULL or t.seen == NULL or t.words == NULL or t.stamps == NULL:
        return False
    for row in range(t.nr_rows):
        i = hash_words(0, &t.rows[<uint64_t>row * t.width], t.width * sizeof(uint64_t)) & t.mask
        while t.slots[i] != 0:
            i = (i + 1) & t.mask
        t.slots[i] = row + 1
    return True

cdef inline void outcome_table_fini(outcome_table *t) noexcept nogil:
    free(t.slots)
    free(t.seen)
    free(t.words)
    free(t.stamps)
    t.slots = NULL
    t.seen = NULL
    t.words = t.stamps = NULL
    t.nr_rows = 0

# The row that t.words equals, or -1.
cdef inline int64_t outcome_find(const outcome_table *t) noexcept nogil:
    cdef uint64_t i = hash_words(0, t.words, t.width * sizeof(uint64_t)) & t.mask
    cdef uint32_t row
    while t.slots[i] != 0:
        row = t.slots[i] - 1
        if memcmp(&t.rows[<uint64_t>row * t.width], t.words, t.width * sizeof(uint64_t)) == 0:
            return row
        i = (i + 1) & t.mask
    return -1

# I58. Look up what the machine has done, and report it if it is not there.
# Context: quiescent; the rings hold the prefix and one branch for each of the first `nr_branches` cpus, whole.
cdef inline void outcome_judge(outcome_table *t, machine *x, uint32_t nr_branches) noexcept nogil:
    cdef cpu *c = &x.cpus[0]
    cdef int64_t row = outcome_find(t) if outcome_read(t, x, nr_branches) else -1
    if row >= 0:
        t.seen[row] = 1
    else:
        pt_report(c, ORACLE_MODEL, 58, b"results and pages at the end are no outcome that the model allows: it allows a",
                  0, t.nr_rows, 0)

# What the machine has done, as t.words. Returns False if it is more or less than an outcome of this program has.
# Context: as outcome_judge.
cdef inline bint outcome_read(outcome_table *t, machine *x, uint32_t nr_branches) noexcept nogil:
    cdef const event *e
    cdef uint64_t at, n, incarnation, value
    cdef uint32_t w, k
    cdef int page
    t.nr_stamps = 0
    t.filled = 0
    for w in range(nr_branches):
        n = at = 0
        while at < x.shared[w].nr_events:
            e = x.rings + w * x.ring_events + at
            if w == 0 and n < t.nr_prefix:
                _name_results(t, e)
            else:
                _put_results(t, e)
            at += 1 + e.lines
            n += 1
    for k in range(t.nr_pages):
        page = observe_page(x, t.pages[k], &incarnation, &value)
        if page == PAGE_NONE or page == PAGE_GUARD:
            _put(t, OUTCOME_NONE if page == PAGE_NONE else OUTCOME_MARKER)
            _put(t, 0)
        else:
            _put(t, _name(t, incarnation))
            _put(t, _name(t, value))
    return t.filled == t.width

cdef inline bint _is_access(uint32_t verb) noexcept nogil:
    return verb == VERB_READ or verb == VERB_WRITE or verb == VERB_GUP_FAST

# The prefix runs alone: what it returns is no part of the outcome, but names its stamps.
cdef inline void _name_results(outcome_table *t, const event *e) noexcept nogil:
    if _is_access(e.verb):
        _name(t, e.value)
        _name(t, e.incarnation)

cdef inline void _put_results(outcome_table *t, const event *e) noexcept nogil:
    cdef uint64_t i
    _put(t, <uint64_t><int64_t>e.status)
    if _is_access(e.verb):
        _put(t, _name(t, e.value))
        _put(t, _name(t, e.incarnation))
    elif e.verb == VERB_POPULATE:
        _put(t, e.value)
    elif e.verb == VERB_WALK:
        _put(t, e.aux)
        i = 0
        while e.start + 64 * i < e.end:
            _put(t, (<const uint64_t *>(e + 1))[i] if e.lines else 0)
            i += 1

cdef inline void _put(outcome_table *t, uint64_t word) noexcept nogil:
    if t.filled < t.width:
        t.words[t.filled] = word
    t.filled += 1

# There are few stamps: a search among them is faster than a table.
cdef inline uint64_t _name(outcome_table *t, uint64_t stamp) noexcept nogil:
    cdef uint64_t i = 0
    if stamp == 0:
        return 0
    while i < t.nr_stamps and t.stamps[i] != stamp:
        i += 1
    if i == t.nr_stamps and i < t.max_stamps:
        t.stamps[i] = stamp
        t.nr_stamps += 1
    return OUTCOME_FIRST_NAME + 2 * i + (stamp >> 63)
