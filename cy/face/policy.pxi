# For policies of other packages: `include "cy/face/policy.pxi"` in the .pyx of a policy, then
#
#     policy = policy_capsule(NULL, lazy_fill)          # a protection, a reclaim policy; NULL: none
#
# The module variable `policy` is what the engine looks for.
from cpython.pycapsule cimport PyCapsule_Destructor, PyCapsule_GetPointer, PyCapsule_New
from libc.stdlib cimport calloc, free
from cy.base.build cimport PT_ABI
from cy.base.hook cimport pt_share_current
from cy.mm.policy cimport PT_POLICY_CAPSULE, policy as policy_table, policy_protect_t, policy_reclaim_t

cdef extern from *:
    """
    #ifndef PT_POLICY
    #error "a policy needs the macros of a build: make it with ptstress.plugin.extensions"
    #endif
    """


cdef void free_policy(object capsule) noexcept:
    free(PyCapsule_GetPointer(capsule, PT_POLICY_CAPSULE))


cdef object policy_capsule(policy_protect_t protect, policy_reclaim_t reclaim):
    """What the engine takes the functions from. Raises MemoryError."""
    cdef policy_table *p = <policy_table *>calloc(1, sizeof(policy_table))
    if p == NULL:
        raise MemoryError("cannot allocate the policy")
    p.abi = PT_ABI
    p.share = pt_share_current
    p.protect = protect
    p.reclaim = reclaim
    return PyCapsule_New(p, PT_POLICY_CAPSULE, <PyCapsule_Destructor>free_policy)
