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

# The tree as if what lies below an untried branch were as large as what lies below its tried neighbours.
# Source: Knuth, "Estimating the efficiency of backtrack programs", Mathematics of Computation 1975.
cdef inline double bounded_dfs_done(void *state) noexcept nogil:
    cdef bounded_dfs *dfs = <bounded_dfs *>state
    cdef dfs_node *node
    cdef double part = 1, done = 0
    cdef uint32_t at, left, branches
    for at in range(dfs.nr_nodes):
        node = &dfs.nodes[at]
        left = _affordable(dfs, node, node.untried)
        branches = _affordable(dfs, node, node.enabled)
        part /= branches
        done += part * (branches - left - 1)
    return done + part

# How many of these branches the bound allows.
cdef inline uint32_t _affordable(bounded_dfs *dfs, const dfs_node *node, uint64_t branches) noexcept nogil:
    if node.preemptions == dfs.bound and is_in(node.enabled, node.current):
        branches &= <uint64_t>1 << node.current
    return count_bits(branches)

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
