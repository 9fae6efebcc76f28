# Policy `states`: every state that can be reached, up to the order of steps that do not depend on each other, once. `more` is
# False when there are no others.
#
# A state is the memory of the system, what each fibre has in hand (frames.pxd), and which operation ended before which began.
# Where an execution comes to a state that one before it has been in, it is cut: what can follow has been explored.
# Nobody keeps states: an execution repeats the choices of the one before up to the deepest choice that has an untried branch.
#
# At a state not all fibres have to be tried, but any set of them whose next steps do not depend on what the others do before one
# of the set is chosen (a persistent set). What others may do is learned from executions (footprint.pxd): a pass over all
# states goes by what was known when it began, and if it has taught something, there is another one. The last one is the one
# that counts. The first executions are walks at random, which teach most of it.
#
# Whoever was tried at a state sleeps behind it until somebody makes a step that its own depends on (sleep sets). So a state is
# also known by who slept when it was explored: who comes to it and has others awake goes on with these.
#
# The end of a wait touches nothing, and stores reach memory at once: see dpor.pxd.
#
# Source: Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems", LNCS 1032, 1996 (persistent sets, sleep
# sets, and these with states: section 5.2).
# Departs from it: persistent sets come from a fixed point over executions, not from the text of the program.
# Not modelled: bounds of preemptions; oracles that look, bare, at words which others are about to write.
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from cy.base.explorable cimport explorable
from cy.base.hook cimport PT_KIND_WAIT
from cy.base.rng cimport rng_below, rng_seed
from cy.explore.dependence cimport sleep_on, step, step_begins, step_made
from cy.explore.footprint cimport (
    footprint, footprint_begin, footprint_fini, footprint_init, footprint_meets, footprint_settle, footprint_step)
from cy.explore.growth cimport branching, growth, growth_branch_done, growth_done, growth_node, growth_rest
from cy.explore.policy cimport (
    CUT, NOBODY, access, count_bits, is_in, lowest_bit, moment, nth_fibre, policy_knobs, policy_ops)
from cy.explore.state_set cimport (
    seen_state, state_set, state_set_clear, state_set_find, state_set_fini, state_set_init, state_set_room)

cdef enum:
    WALKS = 256                 # at random, before the first pass
    STAY_ONE_IN = 8             # of such a walk: another fibre
    GIVE_UP = 4                 # a pass that has learned something is worth so many times as long as it took to learn it
    PASS_LEAST = 1024           # executions, even if it is not

# A choice, and the step that it led to.
cdef struct states_node:
    uint64_t past
    uint64_t enabled
    uint64_t todo               # who is still to be tried
    uint64_t set                # who was to be, if nobody slept
    uint64_t asleep             # who need not be
    uint64_t asleep_ends        # those of them whose next step ends an operation
    uint32_t chosen
    branching branches
    step step

cdef struct states:
    const explorable *system
    states_node *nodes          # room for the steps of the longest execution
    uint32_t nr_nodes           # of the path that is repeated
    uint32_t depth              # steps of this execution
    uint32_t accounted          # of them, those that the footprint knows
    uint32_t nr_fibres
    uint32_t max_nodes
    uint32_t walks              # left
    uint64_t rng
    uint64_t passes             # begun
    growth growth               # of this pass
    uint64_t learned            # of them, the last one that taught something
    access first[8]             # the first access of each fibre, once it is known
    state_set seen
    bint no_room                # there is no memory for more states: what is not in there is explored again
    footprint foot

cdef inline void states_ops(policy_ops *ops) noexcept nogil:
    ops.state_bytes = sizeof(states)
    ops.one_seed = True
    ops.every_step = True
    ops.steps_only = True
    ops.keeps_frames = True
    ops.init = states_init
    ops.begin = states_begin
    ops.choose = states_choose
    ops.more = states_more
    ops.done = states_done
    ops.states = states_nr
    ops.passes = states_passes
    ops.fini = states_fini

cdef inline uint32_t states_choose(void *state, const moment *now) noexcept nogil:
    cdef states *d = <states *>state
    cdef states_node *node = &d.nodes[d.depth]
    _account(d, now)
    if d.depth < d.nr_nodes:
        if node.past != now.past or node.enabled != now.enabled:
            return NOBODY
    else:
        node.past = now.past
        node.enabled = now.enabled
        node.asleep = 0
        node.asleep_ends = 0
        growth_node(&d.growth, &node.branches)
        if d.walks:
            node.chosen = _walk(d, now)
            node.set = node.todo = 0
        else:
            if d.depth:
                _sleep_on(d, node, &d.nodes[d.depth - 1], now)
            node.set = _persistent(d, node, now)
            node.todo = node.set & ~node.asleep
            if node.set & (node.set - 1):
                _where_known(d, node, now)
            if node.todo == 0:
                return CUT
            node.chosen = now.current if is_in(node.todo, now.current) else lowest_bit(node.todo)
        d.nr_nodes += 1
    d.depth += 1
    step_begins(d.system, &node.step, &now.pending[node.chosen], now)
    return node.chosen

# The step that was chosen last has been made, and its fibre stands at its next one.
cdef inline void _account(states *d, const moment *now) noexcept nogil:
    cdef states_node *node
    if d.accounted == d.depth:
        return
    node = &d.nodes[d.accounted]
    d.accounted += 1
    step_made(d.system, &node.step, now)
    if d.first[node.chosen].site == NULL:
        d.first[node.chosen] = now.made
    footprint_step(&d.foot, node.chosen, &node.step, &now.pending[node.chosen] if is_in(now.live, node.chosen) else NULL)

cdef inline uint32_t _walk(states *d, const moment *now) noexcept nogil:
    if is_in(now.enabled, now.current) and rng_below(&d.rng, STAY_ONE_IN) != 0:
        return now.current
    return nth_fibre(now.enabled, rng_below(&d.rng, count_bits(now.enabled)))

# Who slept before the step and does not depend on it sleeps on.
cdef inline void _sleep_on(states *d, states_node *node, const states_node *before, const moment *now) noexcept nogil:
    node.asleep = sleep_on(
        d.system, &before.step, before.asleep & ~(<uint64_t>1 << before.chosen), before.asleep_ends, d.first, now)
    node.asleep_ends = before.asleep_ends & node.asleep

# The smallest set that has to be tried; who sleeps is not counted.
cdef inline uint64_t _persistent(states *d, const states_node *node, const moment *now) noexcept nogil:
    cdef uint64_t best = node.enabled, left = node.enabled, found
    cdef uint32_t i
    while left:
        i = now.current if is_in(left, now.current) else lowest_bit(left)
        left &= ~(<uint64_t>1 << i)
        found = _closed(d, i, now)
        if count_bits(found & ~node.asleep) < count_bits(best & ~node.asleep):
            best = found
        if best & ~node.asleep & ((best & ~node.asleep) - 1) == 0:
            break
    return best

# The least set with fibre `i` in it that no step of another depends on, all of whom are enabled; otherwise all who are.
cdef inline uint64_t _closed(states *d, uint32_t i, const moment *now) noexcept nogil:
    cdef uint64_t inside = <uint64_t>1 << i, fresh = inside, outside
    cdef uint32_t k
    if now.pending[i].site != NULL and now.pending[i].site.kind == PT_KIND_WAIT:
        return inside
    while fresh:
        i = lowest_bit(fresh)
        fresh &= fresh - 1
        outside = now.live & ~inside
        while outside:
            k = lowest_bit(outside)
            outside &= outside - 1
            if footprint_meets(&d.foot, i, k):
                if not is_in(now.enabled, k):
                    return now.enabled
                inside |= <uint64_t>1 << k
                fresh |= <uint64_t>1 << k
    return inside

# Leave out what was explored when somebody came to this state before.
cdef inline void _where_known(states *d, states_node *node, const moment *now) noexcept nogil:
    cdef uint64_t hash = now.state(now.ctx)
    cdef seen_state *known = state_set_find(&d.seen, hash if hash else 1)
    cdef uint64_t asleep
    if known.hash != 0:
        asleep = node.asleep & known.slept
        node.todo = known.slept & ~node.asleep
        node.asleep = asleep
        node.asleep_ends &= asleep
        known.slept = asleep
    elif not d.no_room:
        known.hash = hash if hash else 1
        known.slept = node.asleep & node.set
        d.seen.nr += 1

# Go back to the deepest choice where somebody has still to be tried.
cdef inline bint states_more(void *state, const moment *now) noexcept nogil:
    cdef states *d = <states *>state
    cdef states_node *node
    _account(d, now)
    d.growth.executions += 1
    if d.foot.taught:
        d.foot.taught = False
        d.learned = d.growth.executions
    if d.walks:
        d.walks -= 1
        if d.walks == 0:
            _new_pass(d)
        d.nr_nodes = 0
        return True
    if state_set_room(&d.seen, d.max_nodes) != 0:
        d.no_room = True
    if d.learned == 0 or d.growth.executions < GIVE_UP * d.learned + PASS_LEAST:
        d.nr_nodes = d.depth
        while d.nr_nodes:
            node = &d.nodes[d.nr_nodes - 1]
            growth_branch_done(&d.growth, &node.branches)
            node.asleep |= <uint64_t>1 << node.chosen
            if node.step.ends:
                node.asleep_ends |= <uint64_t>1 << node.chosen
            node.todo &= ~(<uint64_t>1 << node.chosen)
            if node.todo:
                node.chosen = lowest_bit(node.todo)
                return True
            d.nr_nodes -= 1
        if d.learned == 0:
            return False
    d.nr_nodes = 0
    _new_pass(d)
    return True

cdef inline void _new_pass(states *d) noexcept nogil:
    footprint_settle(&d.foot)
    state_set_clear(&d.seen)
    memset(&d.growth, 0, sizeof(growth))
    d.learned = 0
    d.passes += 1

# Of this pass.
cdef inline double states_done(void *state) noexcept nogil:
    cdef states *d = <states *>state
    cdef const states_node *node
    cdef double rest = 1 if d.nr_nodes else 0
    cdef uint32_t at = d.nr_nodes
    while at:
        at -= 1
        node = &d.nodes[at]
        rest = growth_rest(&d.growth, &node.branches, rest, count_bits(node.todo & ~(<uint64_t>1 << node.chosen)))
    return growth_done(&d.growth, rest)

cdef inline uint64_t states_nr(void *state) noexcept nogil:
    return (<states *>state).seen.nr

cdef inline uint64_t states_passes(void *state) noexcept nogil:
    return (<states *>state).passes

cdef inline int states_init(void *state, const policy_knobs *knobs) noexcept nogil:
    cdef states *d = <states *>state
    d.system = knobs.system
    d.nr_fibres = knobs.system.nr_fibres
    d.max_nodes = knobs.max_choices
    d.walks = WALKS
    rng_seed(&d.rng, 1, 0)
    d.nodes = <states_node *>malloc(knobs.max_choices * sizeof(states_node))
    if d.nodes == NULL or state_set_init(&d.seen) != 0 or state_set_room(&d.seen, d.max_nodes) != 0:
        return -1
    return footprint_init(&d.foot, knobs.system)

cdef inline void states_begin(void *state, uint64_t seed) noexcept nogil:
    cdef states *d = <states *>state
    d.depth = 0
    d.accounted = 0
    footprint_begin(&d.foot, d.first)

cdef inline void states_fini(void *state) noexcept nogil:
    cdef states *d = <states *>state
    free(d.nodes)
    state_set_fini(&d.seen)
    footprint_fini(&d.foot)
