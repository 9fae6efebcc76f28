# Reclaim `taskwork`: as `async`, but who left tables behind scans for them itself, on its way out of the system call.
#
# Nobody else has to find time for it; the cost is the caller's, and grows with the VMA. Source: the series of June 2024
# (cover letter "asynchronously scan and free empty user PTE pages"). Registered in cy/reclaim/registry.pxd.
from cy.mm.types cimport reclaim_ops
from cy.reclaim.async cimport reclaim_async

cdef inline void reclaim_taskwork(reclaim_ops *ops) noexcept nogil:
    reclaim_async(ops)
    ops.task_work = 1
