# Tiny systems with known schedules, for testing the explorer.
#
#   fetch_add_2x3    2 fibres x 3 atomic adds                      C(6,3) = 20 schedules, all pass
#   fetch_add_3x2    3 fibres x 2 atomic adds                      90 schedules, all pass
#   fetch_add_2x10   2 fibres x 10 atomic adds                     C(20,10) = 184756 schedules
#   fetch_add_apart_2x3, _3x2   the same, each fibre on a counter of its own: 1 trace
#   blind_add_2x3    the same with additions whose results nobody looks at, one counter: 1 trace
#   test_same        one stores 5, then 0; the other tests the word for 0 or 5, twice: 1 trace
#   test_other       the same, but it tests for 0 or 7, once: 3 traces
#   readers          3 fibres: one stores, two load: 2 loads that are before or behind: 4 traces
#   split_increment  2 fibres: load; store                         6 schedules, 4 lose an update
#   deadlock         2 fibres take two locks in opposite order     deadlock if both hold one
#   livelock         2 fibres wait for each other and yield        livelock always
#   store_buffer     2 fibres: buffer own flag; load the other's   both may read 0 if stores are late
#   half_update      one buffers a, then b; the other reads both   a without b if stores are early
#   abandon          one reports a violation and goes on forever   violation always
#   between_holds    one takes a lock twice, the other waits       never
#   handover         2 fibres take turns through wait()            one order of steps, passes
#   unsteady         as fetch_add_2x3, but one add more in every other execution: must diverge
#
# They call the hook themselves, as the sched build's atomics would. Each access also checks that the
# scheduler wrote the right hook to the right thread's slot.
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset, strcmp
from cy.base.explorable cimport explorable
from cy.base.hash cimport hash_words
from cy.base.hook cimport (
    PT_KIND_ADD, PT_KIND_LOAD, PT_KIND_PLAIN_STORE, PT_KIND_RMW, PT_KIND_STORE, PT_KIND_TEST, PT_KIND_YIELD,
    pt_current_slot, pt_hook)
from cy.base.weak cimport pt_store
from cy.explore.scheduler cimport ready_t

cdef extern from *:
    """
    #define LITMUS_AT(h, kind, addr, wrong) do { \\
        static const struct pt_site site_ = { __FILE__, __func__, __LINE__, (kind) }; \\
        (h)->point((h)->ctx, &site_, (addr)); \\
        if (pt_current != (h)) (wrong)++; } while (0)
    #define LITMUS_WAIT(h, ready, arg) do { \\
        static const struct pt_site site_ = { __FILE__, __func__, __LINE__, PT_KIND_WAIT }; \\
        (h)->wait((h)->ctx, &site_, (ready), (arg)); } while (0)
    """
    # `wrong` is counted up if the hook is not the one in the thread's slot.
    void LITMUS_AT(pt_hook *h, int kind, const void *addr, uint64_t wrong) noexcept nogil
    void LITMUS_WAIT(pt_hook *h, ready_t ready, const void *arg) noexcept nogil

cdef enum:
    LITMUS_FIBRES = 3
    LITMUS_CELLS = 8

cdef struct litmus:
    explorable face
    void (*program)(litmus *l, uint32_t i) noexcept nogil
    bint (*wrong)(litmus *l) noexcept nogil     # judges the final state
    uint32_t adds
    uint64_t violations
    uint32_t resets             # survives reset()
    uint64_t cell[8]            # shared: what points name
    uint64_t seen[3]            # each fibre's own result
    pt_hook hook[3]

# Returns False if there is no such litmus system.
cdef inline bint litmus_init(litmus *l, const char *name) noexcept nogil:
    memset(l, 0, sizeof(litmus))
    l.face.self = l
    l.face.nr_fibres = 2
    l.face.base = &l.cell[0]
    l.face.bytes = sizeof(l.cell)
    l.face.reset = litmus_reset
    l.face.body = litmus_body
    l.face.finish = litmus_finish
    l.face.state = litmus_state
    l.face.violations = &l.violations
    l.face.hook = litmus_hook
    l.face.current_slot = pt_current_slot
    l.wrong = never_wrong
    if strcmp(name, "fetch_add_2x3") == 0:
        __fetch_add(l, 2, 3)
    elif strcmp(name, "fetch_add_3x2") == 0:
        __fetch_add(l, 3, 2)
    elif strcmp(name, "fetch_add_2x10") == 0:
        __fetch_add(l, 2, 10)
    elif strcmp(name, "fetch_add_apart_2x3") == 0:
        __fetch_add_apart(l, 2, 3)
    elif strcmp(name, "fetch_add_apart_3x2") == 0:
        __fetch_add_apart(l, 3, 2)
    elif strcmp(name, "blind_add_2x3") == 0:
        __fetch_add(l, 2, 3)
        l.program = blind_add
    elif strcmp(name, "test_same") == 0:
        l.program = test_same
    elif strcmp(name, "test_other") == 0:
        l.program = test_other
    elif strcmp(name, "readers") == 0:
        l.face.nr_fibres = 3
        l.program = readers
    elif strcmp(name, "split_increment") == 0:
        l.program = split_increment
        l.wrong = split_increment_wrong
    elif strcmp(name, "deadlock") == 0:
        l.program = deadlock
    elif strcmp(name, "livelock") == 0:
        l.program = livelock
    elif strcmp(name, "store_buffer") == 0:
        l.program = store_buffer
        l.wrong = store_buffer_wrong
    elif strcmp(name, "between_holds") == 0:
        l.program = between_holds
    elif strcmp(name, "half_update") == 0:
        l.program = half_update
        l.wrong = half_update_wrong
    elif strcmp(name, "abandon") == 0:
        l.program = abandon
    elif strcmp(name, "handover") == 0:
        l.program = handover
    elif strcmp(name, "unsteady") == 0:
        l.adds = 3
        l.program = unsteady
    else:
        return False
    return True

cdef inline void __fetch_add(litmus *l, uint32_t fibres, uint32_t adds) noexcept nogil:
    l.face.nr_fibres = fibres
    l.adds = adds
    l.program = fetch_add
    l.wrong = fetch_add_wrong

cdef inline void __fetch_add_apart(litmus *l, uint32_t fibres, uint32_t adds) noexcept nogil:
    l.face.nr_fibres = fibres
    l.adds = adds
    l.program = fetch_add_apart
    l.wrong = fetch_add_apart_wrong

# -- programs ----------------------------------------------------------------------------------

cdef inline void fetch_add(litmus *l, uint32_t i) noexcept nogil:
    cdef uint32_t n
    for n in range(l.adds):
        LITMUS_AT(&l.hook[i], PT_KIND_RMW, &l.cell[0], l.violations)
        l.cell[0] += 1

cdef inline void fetch_add_apart(litmus *l, uint32_t i) noexcept nogil:
    cdef uint32_t n
    for n in range(l.adds):
        LITMUS_AT(&l.hook[i], PT_KIND_RMW, &l.cell[i], l.violations)
        l.cell[i] += 1

cdef inline bint fetch_add_apart_wrong(litmus *l) noexcept nogil:
    cdef uint32_t i
    for i in range(l.face.nr_fibres):
        if l.cell[i] != l.adds:
            return True
    return False

cdef inline void blind_add(litmus *l, uint32_t i) noexcept nogil:
    cdef uint32_t n
    for n in range(l.adds):
        LITMUS_AT(&l.hook[i], PT_KIND_ADD, &l.cell[0], l.violations)
        l.cell[0] += 1

cdef inline void test_same(litmus *l, uint32_t i) noexcept nogil:
    __test_or_store(l, i, 5, 2)

cdef inline void test_other(litmus *l, uint32_t i) noexcept nogil:
    __test_or_store(l, i, 7, 1)

cdef inline void __test_or_store(litmus *l, uint32_t i, uint64_t tested, uint32_t times) noexcept nogil:
    cdef uint32_t n
    if i == 0:
        # The first access of a fibre is not known before it is made.
        LITMUS_AT(&l.hook[i], PT_KIND_LOAD, &l.cell[1], l.violations)
        LITMUS_AT(&l.hook[i], PT_KIND_STORE, &l.cell[0], l.violations)
        l.cell[0] = 5
        LITMUS_AT(&l.hook[i], PT_KIND_STORE, &l.cell[0], l.violations)
        l.cell[0] = 0
        return
    l.hook[i].tested = tested
    for n in range(times):
        LITMUS_AT(&l.hook[i], PT_KIND_TEST, &l.cell[0], l.violations)

cdef inline void readers(litmus *l, uint32_t i) noexcept nogil:
    if i == 0:
        LITMUS_AT(&l.hook[i], PT_KIND_STORE, &l.cell[0], l.violations)
        l.cell[0] = 1
    else:
        LITMUS_AT(&l.hook[i], PT_KIND_LOAD, &l.cell[0], l.violations)
        l.seen[i] = l.cell[0]

cdef inline bint fetch_add_wrong(litmus *l) noexcept nogil:
    return l.cell[0] != l.face.nr_fibres * l.adds

cdef inline void unsteady(litmus *l, uint32_t i) noexcept nogil:
    if i == 0 and l.resets % 2 == 0:
        LITMUS_AT(&l.hook[i], PT_KIND_RMW, &l.cell[1], l.violations)
    fetch_add(l, i)

cdef inline void split_increment(litmus *l, uint32_t i) noexcept nogil:
    cdef uint64_t v
    LITMUS_AT(&l.hook[i], PT_KIND_LOAD, &l.cell[0], l.violations)
    v = l.cell[0]
    LITMUS_AT(&l.hook[i], PT_KIND_STORE, &l.cell[0], l.violations)
    l.cell[0] = v + 1

cdef inline bint split_increment_wrong(litmus *l) noexcept nogil:
    return l.cell[0] != 2

cdef inline void deadlock(litmus *l, uint32_t i) noexcept nogil:
    __lock(l, i, &l.cell[i])
    __lock(l, i, &l.cell[1 - i])
    __unlock(l, i, &l.cell[1 - i])
    __unlock(l, i, &l.cell[i])

cdef inline void livelock(litmus *l, uint32_t i) noexcept nogil:
    while True:
        LITMUS_AT(&l.hook[i], PT_KIND_LOAD, &l.cell[1 - i], l.violations)
        if l.cell[1 - i] != 0:
            break
        LITMUS_AT(&l.hook[i], PT_KIND_YIELD, NULL, l.violations)
    LITMUS_AT(&l.hook[i], PT_KIND_STORE, &l.cell[i], l.violations)
    l.cell[i] = 1

cdef inline void store_buffer(litmus *l, uint32_t i) noexcept nogil:
    __store_late(l, i, &l.cell[i])
    LITMUS_AT(&l.hook[i], PT_KIND_LOAD, &l.cell[1 - i], l.violations)
    l.seen[i] = l.cell[1 - i]

cdef inline bint store_buffer_wrong(litmus *l) noexcept nogil:
    return l.seen[0] == 0 and l.seen[1] == 0

cdef inline void half_update(litmus *l, uint32_t i) noexcept nogil:
    if i == 0:
        __store_late(l, i, &l.cell[0])
        __store_late(l, i, &l.cell[1])
    else:
        LITMUS_AT(&l.hook[i], PT_KIND_LOAD, &l.cell[0], l.violations)
        l.seen[0] = l.cell[0]
        l.seen[1] = l.cell[1]

cdef inline bint half_update_wrong(litmus *l) noexcept nogil:
    return l.seen[0] != l.seen[1]

cdef inline void abandon(litmus *l, uint32_t i) noexcept nogil:
    while True:
        LITMUS_AT(&l.hook[i], PT_KIND_RMW, &l.cell[i], l.violations)
        l.cell[i] += 1
        if l.cell[i] == 3:
            l.violations += 1

# Who waits for the first hold to end may get the lock before the second one. seen[1]: holds before it, and 16 if it has waited.
cdef inline void between_holds(litmus *l, uint32_t i) noexcept nogil:
    cdef uint32_t n
    if i == 1:
        while True:
            LITMUS_AT(&l.hook[i], PT_KIND_RMW, &l.cell[0], l.violations)
            if l.cell[0] == 0:
                l.cell[0] = 1
                l.seen[i] += l.cell[1]
                break
            LITMUS_WAIT(&l.hook[i], is_zero, &l.cell[0])
            l.seen[i] = 16
        __unlock(l, i, &l.cell[0])
        return
    for n in range(2):
        __lock(l, i, &l.cell[0])
        l.cell[1] += 1
        __unlock(l, i, &l.cell[0])

cdef inline void handover(litmus *l, uint32_t i) noexcept nogil:
    cdef uint32_t n
    for n in range(4):
        LITMUS_WAIT(&l.hook[i], is_even if i == 0 else is_odd, &l.cell[0])
        l.cell[0] += 1

# -- accesses ----------------------------------------------------------------------------------

cdef inline void __store_late(litmus *l, uint32_t i, uint64_t *p) noexcept nogil:
    LITMUS_AT(&l.hook[i], PT_KIND_PLAIN_STORE, p, l.violations)
    pt_store(&l.hook[i], p, 1, sizeof(uint64_t))

cdef inline void __lock(litmus *l, uint32_t i, uint64_t *lock) noexcept nogil:
    while True:
        LITMUS_AT(&l.hook[i], PT_KIND_RMW, lock, l.violations)
        if lock[0] == 0:
            lock[0] = 1
            return
        LITMUS_WAIT(&l.hook[i], is_zero, lock)

cdef inline void __unlock(litmus *l, uint32_t i, uint64_t *lock) noexcept nogil:
    LITMUS_AT(&l.hook[i], PT_KIND_STORE, lock, l.violations)
    lock[0] = 0

cdef inline int is_zero(const void *arg) noexcept nogil:
    return (<const uint64_t *>arg)[0] == 0

cdef inline int is_even(const void *arg) noexcept nogil:
    return (<const uint64_t *>arg)[0] % 2 == 0

cdef inline int is_odd(const void *arg) noexcept nogil:
    return (<const uint64_t *>arg)[0] % 2 == 1

# -- explorable --------------------------------------------------------------------------------

cdef inline void litmus_reset(void *self, uint64_t seed) noexcept nogil:
    cdef litmus *l = <litmus *>self
    memset(l.cell, 0, sizeof(l.cell))
    memset(l.seen, 0, sizeof(l.seen))
    l.violations = 0
    l.resets += 1

cdef inline void litmus_body(void *self, uint32_t i) noexcept nogil:
    cdef litmus *l = <litmus *>self
    l.program(l, i)

cdef inline uint32_t litmus_finish(void *self) noexcept nogil:
    cdef litmus *l = <litmus *>self
    l.violations += l.wrong(l)
    return <uint32_t>l.violations

cdef inline uint64_t litmus_state(void *self) noexcept nogil:
    cdef litmus *l = <litmus *>self
    return hash_words(hash_words(0, l.cell, sizeof(l.cell)), l.seen, sizeof(l.seen))

cdef inline pt_hook *litmus_hook(void *self, uint32_t i) noexcept nogil:
    return &(<litmus *>self).hook[i]

cdef inline bint never_wrong(litmus *l) noexcept nogil:
    return False
