# The policies that explore() offers, by name. A new one: its file, and its lines here.
from libc.string cimport strcmp
from cy.explore.bounded_dfs cimport bounded_dfs_ops
from cy.explore.dpor cimport dpor_ops
from cy.explore.pct cimport pct_ops
from cy.explore.policy cimport policy_ops
from cy.explore.pos cimport pos_ops
from cy.explore.random_walk cimport random_walk_ops
from cy.explore.recorded cimport recorded_ops
from cy.explore.states cimport states_ops

cdef inline const char *policy_names() noexcept nogil:
    return "random pct pos dfs dpor states"

# Returns False if there is no such policy. `recorded` is not among the names: it needs an order that something has seen.
cdef inline bint find_policy(const char *name, policy_ops *ops) noexcept nogil:
    if strcmp(name, "random") == 0:
        random_walk_ops(ops)
    elif strcmp(name, "pct") == 0:
        pct_ops(ops)
    elif strcmp(name, "pos") == 0:
        pos_ops(ops)
    elif strcmp(name, "dfs") == 0:
        bounded_dfs_ops(ops)
    elif strcmp(name, "dpor") == 0:
        dpor_ops(ops)
    elif strcmp(name, "states") == 0:
        states_ops(ops)
    elif strcmp(name, "recorded") == 0:
        recorded_ops(ops)
    else:
        return False
    return True
