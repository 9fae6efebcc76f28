# A policy of another package: what one of its modules hands to the engine, in a capsule called PT_POLICY_CAPSULE.
#
# Guarantee: with the same `abi` both sides were compiled from the same headers for the same build, so they agree about every
# structure and function of cy/. The name of the capsule changes if `abi` itself moves. How it is made: cy/face/policy.pxi.
from cy.base.hook cimport pt_hook
from cy.mm.types cimport mm, protect_ops, reclaim_ops

cdef extern from *:
    """
    #define PT_POLICY_CAPSULE "ptstress.policy/1"
    """
    const char *PT_POLICY_CAPSULE

ctypedef void (*policy_protect_t)(mm *m, protect_ops *ops) noexcept nogil
ctypedef void (*policy_reclaim_t)(mm *m, reclaim_ops *ops) noexcept nogil

cdef struct policy:
    const char *abi         # first: PT_ABI of the module
    # Called before the others: where the engine keeps pt_current.
    void (*share)(pt_hook **(*slot)() noexcept nogil) noexcept nogil
    # Fill in functions, as protect_fill and reclaim_fill do; NULL: no such policy. Context: the machine is being made. `ops` is
    # empty, or has what the policies of cy/reclaim filled in that the scheme names too.
    policy_protect_t protect
    policy_reclaim_t reclaim
