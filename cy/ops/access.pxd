# `read` and `write`: one load or store of the stamp of a page, faults and all.
#
# Source: what a user-mode access does on x86: translate, fault, execute again.
# Not modelled: accesses that cross a page.
from libc.errno cimport EFAULT
from libc.stdint cimport uint32_t, uint64_t
from cy.base.build cimport likely
from cy.base.cpu cimport cpu, pt_report
from cy.base.geometry cimport PAGE_SHIFT
from cy.base.shm cimport ORACLE_PROGRESS
from cy.core.fault cimport handle_mm_fault
from cy.mm.hw cimport hw_access, hw_access_again
from cy.mm.types cimport mm

cdef enum:
    MAX_RETRIES = 1000000       # more changes under one access are no bad luck (I47)

# Context: no lock, no RCU. Returns 0, -EFAULT (no VMA, not writable, a guard marker) or -ENOMEM.
# *value: to store, or what was loaded. *incarnation: the frame's; 0 for the zero page.
cdef inline int do_access(cpu *c, mm *m, uint64_t vpn, bint write, uint64_t *value, uint64_t *incarnation) noexcept nogil:
    if vpn >= m.end_page:
        return -EFAULT
    if likely(hw_access(c, m, vpn << PAGE_SHIFT, write, value, incarnation)):
        return 0
    return _fault_and_access(c, m, vpn << PAGE_SHIFT, write, value, incarnation)

# The access faulted. Apart from the above, so that an access that does not costs little.
cdef inline int _fault_and_access(cpu *c, mm *m, uint64_t addr, bint write, uint64_t *value,
                                  uint64_t *incarnation) noexcept nogil:
    cdef uint32_t turn
    cdef int rc
    for turn in range(<uint32_t>MAX_RETRIES):
        rc = handle_mm_fault(c, m, addr, write)
        if rc != 0:
            return rc
        if hw_access_again(c, m, addr, write, value, incarnation):
            return 0
    pt_report(c, ORACLE_PROGRESS, 47, b"an access faulted a times and never went through", addr, MAX_RETRIES, 0)
    return -EFAULT
