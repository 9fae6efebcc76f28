# Policy `dpor`: one execution, or few, of each class of executions that differ only in the order of steps that do not depend on
# each other (Mazurkiewicz traces), and all classes. `more` is False when there are no others.
#
# Each execution is looked at for races: two steps of two fibres that depend on each other, with nothing between them that
# orders them. Where the first of the two was chosen, somebody has to be tried who leads to the other order: a member of the
# source set. What was tried at a choice sleeps below it until somebody makes a step that its own depends on; if all who
# are enabled sleep, the execution is cut, because it would be one that has been made.
#
# A history also says which operation ended before another began, and oracles judge by that. So the step that ends an operation
# and the one that begins another's depend on each other too.
#
# The end of a wait touches nothing, whatever its condition looks at: it only comes after the step that made the condition true.
# A step that makes it false again need not be tried before it, because who waits on could as well have gone on and not been
# chosen: the accesses are the same ones, in the same order. So who can go on does so at once, and what made the condition
# true first is all that the end comes after.
#
# A test of a word, as grace periods make of readers, depends on a write to it only if it would say something else behind it.
#
# Stores reach memory at once here: what is explored is sequential consistency. Where nobody of a source set is enabled, all
# who are are tried.
#
# Source: Abdulla, Aronis, Jonsson, Sagonas, "Optimal dynamic partial order reduction", POPL 2014 (source sets, algorithm 1);
# Flanagan, Godefroid, POPL 2005 (races by vector clocks).
# Not modelled: wakeup trees. Executions that are cut are the price: they are counted apart.
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from cy.base.explorable cimport explorable
from cy.base.hook cimport PT_KIND_WAIT
from cy.explore.dependence cimport ordered, sleep_on, step, step_begins, step_made
from cy.explore.growth cimport branching, growth, growth_branch_done, growth_done, growth_node, growth_rest
from cy.explore.policy cimport (
    CUT, NOBODY, access, count_bits, is_in, lowest_bit, moment, policy_knobs, policy_ops)

cdef enum:
    MAX_CLOCKS = 8              # fibres of a system that this policy takes

# A choice, and the step that it led to.
cdef struct dpor_node:
    uint64_t past
    uint64_t enabled
    uint64_t source             # who has to be tried here
    uint64_t asleep             # who need not be: tried here, or above and nothing has woken it
    uint64_t asleep_ends        # those of them whose next step ends an operation
    uint64_t tried
    uint32_t chosen
    branching branches
    step step
    uint32_t clock[8]           # how many steps of each fibre happen before this one, itself included

cdef struct dpor:
    const explorable *system
    dpor_node *nodes            # room for the steps of the longest execution
    uint32_t nr_nodes           # of the path that is repeated
    uint32_t depth              # steps of this execution
    uint32_t nr_fibres
    growth growth
    access first[8]             # the first access of each fibre, once it is known: nothing shared comes before it

cdef inline void dpor_ops(policy_ops *ops) noexcept nogil:
    ops.state_bytes = sizeof(dpor)
    ops.one_seed = True
    ops.every_step = True
    ops.steps_only = True
    ops.init = dpor_init
    ops.begin = dpor_begin
    ops.choose = dpor_choose
    ops.more = dpor_more
    ops.done = dpor_done
    ops.fini = dpor_fini

cdef inline uint32_t dpor_choose(void *state, const moment *now) noexcept nogil:
    cdef dpor *d = <dpor *>state
    cdef dpor_node *node = &d.nodes[d.depth]
    cdef uint64_t awake
    if d.depth:
        _step_made(d, &d.nodes[d.depth - 1], now)
    if d.depth < d.nr_nodes:
        if node.past != now.past or node.enabled != now.enabled:
            return NOBODY
    else:
        node.past = now.past
        node.enabled = now.enabled
        node.tried = 0
        growth_node(&d.growth, &node.branches)
        node.asleep = 0
        node.asleep_ends = 0
        if d.depth:
            _sleep_on(d, node, &d.nodes[d.depth - 1], now)
        awake = node.enabled & ~node.asleep
        if awake == 0:
            return CUT
        node.chosen = _first_choice(awake, now)
        node.source = <uint64_t>1 << node.chosen
        d.nr_nodes += 1
    d.depth += 1
    step_begins(d.system, &node.step, &now.pending[node.chosen], now)
    return node.chosen

# Who waits and can go on does so at once: nobody makes its condition false again before it.
cdef inline uint32_t _first_choice(uint64_t awake, const moment *now) noexcept nogil:
    cdef uint64_t left = awake
    cdef uint32_t i
    while left:
        i = lowest_bit(left)
        left &= left - 1
        if now.pending[i].site != NULL and now.pending[i].site.kind == PT_KIND_WAIT:
            return i
    return now.current if is_in(awake, now.current) else lowest_bit(awake)

# The step that was chosen at `node` has been made, and its fibre stands at its next one.
cdef inline void _step_made(dpor *d, dpor_node *node, const moment *now) noexcept nogil:
    step_made(d.system, &node.step, now)
    if d.first[node.chosen].site == NULL:
        d.first[node.chosen] = now.made

# Who slept before the step and does not depend on it sleeps on.
cdef inline void _sleep_on(dpor *d, dpor_node *node, const dpor_node *before, const moment *now) noexcept nogil:
    node.asleep = sleep_on(
        d.system, &before.step, before.asleep & ~(<uint64_t>1 << before.chosen), before.asleep_ends, d.first, now)
    node.asleep_ends = before.asleep_ends & node.asleep

# Find the races of this execution, and go back to the deepest choice where somebody has still to be tried.
cdef inline bint dpor_more(void *state, const moment *now) noexcept nogil:
    cdef dpor *d = <dpor *>state
    cdef dpor_node *node
    cdef uint64_t left
    cdef uint32_t at
    if d.depth:
        _step_made(d, &d.nodes[d.depth - 1], now)
    for at in range(d.depth):
        _clock_and_races(d, at)
    d.nr_nodes = d.depth
    d.growth.executions += 1
    while d.nr_nodes:
        node = &d.nodes[d.nr_nodes - 1]
        growth_branch_done(&d.growth, &node.branches)
        node.tried |= <uint64_t>1 << node.chosen
        node.asleep |= <uint64_t>1 << node.chosen
        if node.step.ends:
            node.asleep_ends |= <uint64_t>1 << node.chosen
        left = node.source & ~node.asleep
        if left:
            node.chosen = lowest_bit(left)
            return True
        d.nr_nodes -= 1
    return False

# Set the clock of step `at`, and let each step that it races with be tried behind it.
cdef inline void _clock_and_races(dpor *d, uint32_t at) noexcept nogil:
    cdef dpor_node *here = &d.nodes[at]
    cdef uint32_t last[8]           # of each other fibre: its last step that this one depends on; `at`: none
    cdef uint32_t me = here.chosen, i, other
    cdef uint32_t before = _own_step_before(d, at)
    cdef uint32_t enabler = _enabler(d, at, before)
    for i in range(d.nr_fibres):
        here.clock[i] = 0 if before == at else d.nodes[before].clock[i]
        if enabler != at and d.nodes[enabler].clock[i] > here.clock[i]:
            here.clock[i] = d.nodes[enabler].clock[i]
        last[i] = at
    for other in range(d.nr_fibres):
        if other != me:
            last[other] = _last_dependent(d, at, other, here.clock[other])
    for other in range(d.nr_fibres):
        if last[other] != at:
            for i in range(d.nr_fibres):
                if d.nodes[last[other]].clock[i] > here.clock[i]:
                    here.clock[i] = d.nodes[last[other]].clock[i]
    here.clock[me] += 1
    for other in range(d.nr_fibres):
        if last[other] != at and not _ordered_by_others(d, last, at, other):
            _try_reversed(d, last[other], at)

# The step of the same fibre before step `at`; `at` if there is none.
cdef inline uint32_t _own_step_before(const dpor *d, uint32_t at) noexcept nogil:
    cdef uint32_t i = at
    while i:
        i -= 1
        if d.nodes[i].chosen == d.nodes[at].chosen:
            return i
    return at

# The last step of `other` before step `at` that it depends on and that is not among the first `known` ones of `other`.
cdef inline uint32_t _last_dependent(dpor *d, uint32_t at, uint32_t other, uint32_t known) noexcept nogil:
    cdef dpor_node *here = &d.nodes[at]
    cdef dpor_node *node
    cdef uint32_t i = at
    while i:
        i -= 1
        node = &d.nodes[i]
        if node.chosen == other:
            if node.clock[other] <= known:
                return at
            if ordered(d.system, &node.step, &here.step.made, &here.step, here.step.ends):
                return i
    return at

# The first step that would have let the fibre of step `at` go on, if that ends a wait, which began behind step `before`; `at` if
# there is none.
cdef inline uint32_t _enabler(const dpor *d, uint32_t at, uint32_t before) noexcept nogil:
    cdef uint32_t i = 0 if before == at else before + 1
    if d.nodes[at].step.made.site == NULL or d.nodes[at].step.made.site.kind != PT_KIND_WAIT:
        return at
    if is_in(d.nodes[i].enabled, d.nodes[at].chosen):
        return at
    while not is_in(d.nodes[i + 1].enabled, d.nodes[at].chosen):
        i += 1
    return i

# Whether the last step of `other` that step `at` depends on happens before that of a third fibre.
cdef inline bint _ordered_by_others(const dpor *d, const uint32_t *last, uint32_t at, uint32_t other) noexcept nogil:
    cdef uint32_t third
    for third in range(d.nr_fibres):
        if third != other and last[third] != at:
            if d.nodes[last[third]].clock[other] >= d.nodes[last[other]].clock[other]:
                return True
    return False

# Steps `first` and `second` race. Where `first` was chosen somebody must be tried who can begin what does not depend on it:
# the steps between them that do not happen after it, then `second`.
cdef inline void _try_reversed(dpor *d, uint32_t first, uint32_t second) noexcept nogil:
    cdef dpor_node *node = &d.nodes[first]
    cdef uint32_t own = node.clock[node.chosen]
    cdef uint64_t seen = 0, initials = 0
    cdef uint32_t begins[8]         # of the fibres in `seen`: their first such step
    cdef uint32_t i, fibre
    for i in range(first + 1, second + 1):
        fibre = d.nodes[i].chosen
        if not is_in(seen, fibre) and (i == second or d.nodes[i].clock[node.chosen] < own):
            begins[fibre] = i
            if not _behind_any(d, begins, seen, i):
                initials |= <uint64_t>1 << fibre
            seen |= <uint64_t>1 << fibre
    if node.source & initials:
        return
    initials &= node.enabled
    node.source |= initials & (~initials + 1) if initials else node.enabled

# Whether a step happens after the first one of any fibre in `seen`.
cdef inline bint _behind_any(const dpor *d, const uint32_t *begins, uint64_t seen, uint32_t at) noexcept nogil:
    cdef uint32_t fibre
    while seen:
        fibre = lowest_bit(seen)
        seen &= seen - 1
        if d.nodes[at].clock[fibre] >= d.nodes[begins[fibre]].clock[fibre]:
            return True
    return False

# Sources still grow, so it is what is known of the tree that is done.
cdef inline double dpor_done(void *state) noexcept nogil:
    cdef dpor *d = <dpor *>state
    cdef const dpor_node *node
    cdef double rest = 1 if d.nr_nodes else 0
    cdef uint32_t at = d.nr_nodes
    while at:
        at -= 1
        node = &d.nodes[at]
        rest = growth_rest(
            &d.growth, &node.branches, rest, count_bits(node.source & ~node.asleep & ~(<uint64_t>1 << node.chosen)))
    return growth_done(&d.growth, rest)

cdef inline int dpor_init(void *state, const policy_knobs *knobs) noexcept nogil:
    cdef dpor *d = <dpor *>state
    d.system = knobs.system
    d.nr_fibres = knobs.system.nr_fibres
    d.nodes = <dpor_node *>malloc(knobs.max_choices * sizeof(dpor_node))
    return 0 if d.nodes != NULL else -1

cdef inline void dpor_begin(void *state, uint64_t seed) noexcept nogil:
    (<dpor *>state).depth = 0

cdef inline void dpor_fini(void *state) noexcept nogil:
    free((<dpor *>state).nodes)
