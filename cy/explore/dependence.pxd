# Which accesses depend on each other: their order may matter. Executions that differ in the order of others only are the same.
#
# Accesses depend on each other if they touch one word and one of them writes, whatever it writes, but for two additions
# whose results nobody looks at. An exchange that fails counts as a write. A fill touches its whole table. A wait may be ended
# by any write. A fence touches nothing: where an order of accesses is all there is, without store buffers, it does nothing.
# Not modelled: what stands between two schedule points and looks at more than the access before it (oracles do, bare).
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy
from cy.base.explorable cimport explorable
from cy.base.hook cimport (
    PT_KIND_ADD, PT_KIND_FILL, PT_KIND_OP, PT_KIND_PLAIN_STORE, PT_KIND_RMW, PT_KIND_STORE, PT_KIND_TEST, PT_KIND_WAIT)
from cy.explore.policy cimport access, is_in, lowest_bit, moment

# Whether the order of `a` and `b`, of two fibres, may matter. An access that is not known yet depends on all.
cdef inline bint depend(const explorable *system, const access *a, const access *b) noexcept nogil:
    if a.site == NULL or b.site == NULL:
        return True
    if a.site.kind == PT_KIND_WAIT:
        return writes(b)
    if b.site.kind == PT_KIND_WAIT:
        return writes(a)
    if a.addr == NULL or b.addr == NULL or not (writes(a) or writes(b)):
        return False
    if <uintptr_t>a.addr >> 3 == <uintptr_t>b.addr >> 3:
        return a.site.kind != PT_KIND_ADD or b.site.kind != PT_KIND_ADD
    return (a.site.kind == PT_KIND_FILL or b.site.kind == PT_KIND_FILL) and _one_table(system, a.addr, b.addr)

# A step that was made.
cdef struct step:
    access made
    bint ends                   # it ends an operation of its fibre
    uint64_t time               # logical, before it
    uint64_t found, left        # what was in its word before and after
    bint valued                 # whether these are known

# Whether the order of two steps of two fibres may matter: `a`, and the access `b`, with its step if it has been made.
cdef inline bint ordered(const explorable *system, const step *a, const access *b, const step *b_step,
                         bint b_ends) noexcept nogil:
    if a.made.site == NULL or b.site == NULL:
        return True
    if a.made.site.kind != PT_KIND_WAIT and b.site.kind != PT_KIND_WAIT and depend(system, &a.made, b):
        if not (b.site.kind == PT_KIND_TEST and _same_to(b, a)) and not (
                b_step != NULL and a.made.site.kind == PT_KIND_TEST and _same_to(&a.made, b_step)):
            return True
    return (a.ends and b.site.kind == PT_KIND_OP) or (b_ends and a.made.site.kind == PT_KIND_OP)

# Whether a test of the word that a step wrote says the same before it and after it.
cdef inline bint _same_to(const access *test, const step *write) noexcept nogil:
    return write.valued and (write.found == 0 or write.found == test.tested) == (write.left == 0 or write.left == test.tested)

# A fibre is about to make step `s`. Context: it was chosen at this moment, and `b` is its next access.
cdef inline void step_begins(const explorable *system, step *s, const access *b, const moment *now) noexcept nogil:
    s.time = now.time
    s.valued = _word(system, b, &s.found)

# It has made it, and stands at its next point. Context: behind step_begins.
cdef inline void step_made(const explorable *system, step *s, const moment *now) noexcept nogil:
    s.made = now.made
    s.valued = s.valued and _word(system, &s.made, &s.left)
    # What has taken a stamp and is no begin of an operation is an end. It is not the last step before the next one begins: in
    # between the fibre waits for grace periods.
    s.ends = now.time - s.time > (2 if s.made.site != NULL and s.made.site.kind == PT_KIND_OP else 1)

# Of those who were asleep before step `s`, who does not depend on it, and sleeps on. `ends`: those of them whose next step ends
# an operation. `first`: the first access of each fibre, for who has not started; its site is NULL as long as nobody knows it.
cdef inline uint64_t sleep_on(const explorable *system, const step *s, uint64_t asleep, uint64_t ends, const access *first,
                              const moment *now) noexcept nogil:
    cdef uint64_t left = asleep
    cdef const access *next
    cdef uint32_t i
    while left:
        i = lowest_bit(left)
        left &= left - 1
        next = &now.pending[i] if now.pending[i].site != NULL else &first[i]
        if ordered(system, s, next, NULL, is_in(ends, i)):
            asleep &= ~(<uint64_t>1 << i)
    return asleep

# The word that an access touches, if it is a whole one. Context: it is known, or site is NULL.
cdef inline bint _word(const explorable *system, const access *a, uint64_t *value) noexcept nogil:
    cdef uint64_t offset = <uintptr_t>a.addr - <uintptr_t>system.base
    if a.site == NULL or offset >= system.bytes or offset & 7 != 0:
        return False
    memcpy(value, a.addr, sizeof(uint64_t))
    return True

cdef inline bint writes(const access *a) noexcept nogil:
    return (a.site.kind == PT_KIND_STORE or a.site.kind == PT_KIND_RMW or a.site.kind == PT_KIND_PLAIN_STORE
            or a.site.kind == PT_KIND_FILL or a.site.kind == PT_KIND_ADD)

cdef inline bint _one_table(const explorable *system, const void *a, const void *b) noexcept nogil:
    cdef uint64_t one = <uintptr_t>a - <uintptr_t>system.tables, other = <uintptr_t>b - <uintptr_t>system.tables
    return (one < system.tables_bytes and other < system.tables_bytes
            and one >> system.table_shift == other >> system.table_shift)
