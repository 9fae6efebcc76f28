# Reclaim `zero`: scans free pte_tables that map nothing but the zero page too. Seed step 3; no kernel has it.
#
# Producers are reads of memory that nobody writes: ballooned guests, dumps, migration. Reading them again brings the zero
# page back, in another table. Guarantee: what a read returns does not change; that a page is present may.
# A read fault marks its VMA, as does whatever marks it under `async`: frames may have gone and zero pages stayed.
# Source: the mail's third step; the series of 2022 (20220825101037.96517-1). How a table is emptied: cy/core/table_empty.pxd.
# Registered in cy/reclaim/registry.pxd.
from cy.mm.types cimport DETACH_ZERO, reclaim_ops
from cy.reclaim.async cimport async_left_behind, async_scan

cdef inline void reclaim_zero(reclaim_ops *ops) noexcept nogil:
    ops.left_behind = async_left_behind
    ops.zero_mapped = async_left_behind
    ops.scan = async_scan
    ops.scan_mode = DETACH_ZERO
