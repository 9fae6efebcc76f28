# Which accesses depend on each other: their order may matter. Executions that differ in the order of others only are the same.
#
# Accesses depend on each other if they touch one word and one of them writes, whatever it writes, but for two additions
# whose results nobody looks at. An exchange that fails counts as a write. A fill touches its whole table. A wait may be ended
# by any write. A fence touches nothing: where an order of accesses is all there is, without store buffers, it does nothing.
# Not modelled: what stands between two schedule points and looks at more than the access before it (oracles do, bare).
from libc.stdint cimport uint64_t, uintptr_t
from cy.base.explorable cimport explorable
from cy.base.hook cimport (
    PT_KIND_ADD, PT_KIND_FILL, PT_KIND_PLAIN_STORE, PT_KIND_RMW, PT_KIND_STORE, PT_KIND_WAIT)
from cy.explore.policy cimport access

# Whether the order of `a` and `b`, of two fibres, may matter. An access that is not known yet depends on all.
cdef inline bint depend(const explorable *system, const access *a, const access *b) noexcept nogil:
    if a.site == NULL or b.site == NULL:
        return True
    if a.site.kind == PT_KIND_WAIT:
        return writes(b)
    if b.site.kind == PT_KIND_WAIT:
        return writes(a)
    if a.addr == NULL or b.addr == NULL or not (writes(a) or writes(b)):
        return False
    if <uintptr_t>a.addr >> 3 == <uintptr_t>b.addr >> 3:
        return a.site.kind != PT_KIND_ADD or b.site.kind != PT_KIND_ADD
    return (a.site.kind == PT_KIND_FILL or b.site.kind == PT_KIND_FILL) and _one_table(system, a.addr, b.addr)

cdef inline bint writes(const access *a) noexcept nogil:
    return (a.site.kind == PT_KIND_STORE or a.site.kind == PT_KIND_RMW or a.site.kind == PT_KIND_PLAIN_STORE
            or a.site.kind == PT_KIND_FILL or a.site.kind == PT_KIND_ADD)

cdef inline bint _one_table(const explorable *system, const void *a, const void *b) noexcept nogil:
    cdef uint64_t one = <uintptr_t>a - <uintptr_t>system.tables, other = <uintptr_t>b - <uintptr_t>system.tables
    return (one < system.tables_bytes and other < system.tables_bytes
            and one >> system.table_shift == other >> system.table_shift)
