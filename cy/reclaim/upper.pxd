# Reclaim `upper`: free the upper tables that the end of a table has emptied, from the pmd_table up to below the pgd.
#
# It looks at parents of tables that reclaim has unlinked, and at nothing else: an upper table that teardown or a failed fault
# left empty goes with the last VMA of its span. Both locks are taken in order, then all entries are looked at.
# Needs a protection under which nobody relies on upper tables (protect_ops.detach_upper).
# Source: nowhere yet; the pmd_table half of page-table reclaim. Registered in cy/reclaim/registry.pxd.
from libc.stdint cimport uint32_t, uint64_t
from cy.mm.types cimport cursor, reclaim_ops

cdef inline void upper_unlinked(cursor *cur, uint64_t addr, uint32_t level) noexcept nogil:
    if level + 1 < cur.mm.geo.levels - 1:            # the pgd stays
        cur.ops.detach_upper(cur, addr, level + 1)

cdef inline void reclaim_upper(reclaim_ops *ops) noexcept nogil:
    ops.unlinked = upper_unlinked
