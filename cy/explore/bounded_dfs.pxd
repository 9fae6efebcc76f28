# Policy `dfs`: every schedule with at most `preemption_bound` preemptions, each exactly once.
#
# A preemption is a switch away from a fibre that could have gone on; switches at the end of a fibre
# or at a wait cost nothing. `more` is False when the tree is finished.
#
# The tree is walked without stored states: an execution repeats the choices of the one before up to
# the deepest node that has an untried branch, takes that, and then stays on the running fibre as
# long as it can. The walk is exact only if the system does the same again after the same choices, so
# all executions share one seed; a node with another past or other fibres than last time is a divergence.
#
# Source: Musuvathi, Qadeer, "Iterative context bounding for systematic testing of multithreaded
# programs", PLDI 2007. Departs from it: the bound is fixed, not iterated.
# Not modelled: fairness. A loop that spins without wait() or a yield point runs into the step bound.
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from cy.explore.policy cimport (
    NOBODY, count_bits, is_in, is_preemption, lowest_bit, moment, policy_knobs, policy_ops)

cdef struct dfs_node:
    uint64_t past
    uint64_t enabled
    uint64_t untried            # branches left, cheap enough or not
    uint32_t current
    uint32_t chosen
    uint32_t preemptions        # before this node

cdef struct bounded_dfs:
    dfs_node *nodes             # room for the choices of the longest execution
    uint32_t nr_nodes           # of the path that is repeated
    uint32_t depth              # in this execution
    uint32_t preemptions        # so far in this execution
    uint32_t bound

cdef inline void bounded_dfs_ops(policy_ops *ops) noexcept nogil:
    ops.state_bytes = sizeof(bounded_dfs)
    ops.one_seed = True
    ops.init = bounded_dfs_init
    ops.begin = bounded_dfs_begin
    ops.choose = bounded_dfs_choose
    ops.more = bounded_dfs_more
    ops.done = bounded_dfs_done
    ops.fini = bounded_dfs_fini

cdef inline uint32_t bounded_dfs_choose(void *state, const moment *now) noexcept nogil:
    cdef bounded_dfs *dfs = <bounded_dfs *>state
    cdef dfs_node *node = &dfs.nodes[dfs.depth]
    if dfs.depth < dfs.nr_nodes:
        if node.past != now.past or node.enabled != now.enabled or node.current != now.current:
            return NOBODY
    else:
        node.past = now.past
        node.enabled = now.enabled
        node.current = now.current
        node.preemptions = dfs.preemptions
        node.chosen = now.current if is_in(now.enabled, now.current) else lowest_bit(now.enabled)
        node.untried = now.enabled & ~(<uint64_t>1 << node.chosen)
        dfs.nr_nodes += 1
    dfs.depth += 1
    dfs.preemptions = node.preemptions + is_preemption(now.enabled, now.current, node.chosen)
    return node.chosen

# Go back to the deepest node with a branch that the bound allows, and take it.
cdef inline bint bounded_dfs_more(void *state, const moment *now) noexcept nogil:
    cdef bounded_dfs *dfs = <bounded_dfs *>state
    cdef dfs_node *node
    cdef uint32_t next
    dfs.nr_nodes = dfs.depth    # shorter than before only if the execution diverged
    while dfs.nr_nodes:
        node = &dfs.nodes[dfs.nr_nodes - 1]
        while node.untried:
            next = lowest_bit(node.untried)
            node.untried &= node.untried - 1
            if node.preemptions + is_preemption(node.enabled, node.current, next) <= dfs.bound:
                node.chosen = next
                return True
        dfs.nr_nodes -= 1
    return False

# The tree as if below a node there were as many choices as in the last execution, and what lies below an untried branch were
# as large as what lies below its tried neighbours, but for the preemptions that are left to it.
# Source: Knuth, "Estimating the efficiency of backtrack programs", Mathematics of Computation 1975; the weights are our own.
cdef inline double bounded_dfs_done(void *state) noexcept nogil:
    cdef bounded_dfs *dfs = <bounded_dfs *>state
    cdef dfs_node *node
    cdef double part = 1, done = 0, whole
    cdef uint64_t chosen
    cdef uint32_t at
    for at in range(dfs.nr_nodes):
        node = &dfs.nodes[at]
        chosen = <uint64_t>1 << node.chosen
        whole = _weight(dfs, at, node.enabled)
        done += part * _weight(dfs, at, node.enabled & ~(node.untried | chosen)) / whole
        part *= _weight(dfs, at, chosen) / whole
    return done + part

# How much lies below these branches of a node, next to the others of it.
cdef inline double _weight(bounded_dfs *dfs, uint32_t at, uint64_t branches) noexcept nogil:
    cdef const dfs_node *node = &dfs.nodes[at]
    cdef uint32_t below = dfs.depth - at - 1 if dfs.depth > at else 0
    cdef uint32_t left = dfs.bound - node.preemptions, others = count_bits(node.enabled) - 1
    cdef uint64_t stay = branches & (<uint64_t>1 << node.current)
    if left > below or not is_in(node.enabled, node.current):
        return count_bits(branches)             # they have the same below them
    if left == 0:
        return count_bits(stay)
    return (count_bits(stay) * _executions(below, left, others)
            + count_bits(branches & ~stay) * _executions(below, left - 1, others))

# Of so many choices, each for the fibre that runs or one of `others`, who preempt it, with at most so many preemptions.
cdef inline double _executions(uint32_t choices, uint32_t preemptions, uint32_t others) noexcept nogil:
    cdef double term = 1, total = 1
    cdef uint32_t i
    for i in range(min(choices, preemptions)):
        term *= <double>others * (choices - i) / (i + 1)
        total += term
        if total > 1e300:
            break
    return min(total, 1e300)

cdef inline int bounded_dfs_init(void *state, const policy_knobs *knobs) noexcept nogil:
    cdef bounded_dfs *dfs = <bounded_dfs *>state
    dfs.bound = knobs.preemption_bound
    dfs.nodes = <dfs_node *>malloc(knobs.max_choices * sizeof(dfs_node))
    return 0 if dfs.nodes != NULL else -1

cdef inline void bounded_dfs_begin(void *state, uint64_t seed) noexcept nogil:
    cdef bounded_dfs *dfs = <bounded_dfs *>state
    dfs.depth = 0
    dfs.preemptions = 0

cdef inline void bounded_dfs_fini(void *state) noexcept nogil:
    free((<bounded_dfs *>state).nodes)
