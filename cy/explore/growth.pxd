# How much of a tree is still to come, from what has come of it.
#
# Where sleep sets leave out what was seen, what lies below a later branch of a node is smaller than what lies below its
# first one, and by how much differs from tree to tree. So that is measured: of all branches that are done, how large the
# later ones were next to the first one of their node. A branch that is untried is taken for as large as the first one of
# its node, times that.
# Source: our own; Knuth, "Estimating the efficiency of backtrack programs", 1975, takes all branches of a node for equal.
from libc.stdint cimport uint32_t, uint64_t

# Of a node.
cdef struct branching:
    uint64_t since              # executions before the branch that is being explored
    uint64_t first              # of its first branch; 0: that is the one

cdef struct growth:
    uint64_t executions         # so far
    double later                # executions of later branches that are done
    double compared             # for each of them, those of the first one of its node

cdef inline void growth_node(const growth *g, branching *b) noexcept nogil:
    b.since = g.executions
    b.first = 0

# The branch of a node that was explored is done.
cdef inline void growth_branch_done(growth *g, branching *b) noexcept nogil:
    if b.first == 0:
        b.first = g.executions - b.since
    else:
        g.later += g.executions - b.since
        g.compared += b.first
    b.since = g.executions

# Executions still to come below a node: `rest` below the branch that is being explored, and its untried ones.
cdef inline double growth_rest(const growth *g, const branching *b, double rest, uint32_t untried) noexcept nogil:
    cdef double first = b.first if b.first != 0 else g.executions - b.since + rest
    return rest + untried * first * (g.later / g.compared if g.compared != 0 else 1)

# What part of the tree is done, if so many are still to come.
cdef inline double growth_done(const growth *g, double rest) noexcept nogil:
    return g.executions / (g.executions + rest) if g.executions != 0 else 0
