# What a system under exploration gives to a controlled scheduler. The sched build of the engine
# fills one in; cy/explore knows nothing else about it.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.hook cimport pt_hook

cdef struct explorable:
    void *self
    uint32_t nr_fibres
    bint instrumented           # compiled with -fsanitize=thread: race_watch.pxd tells the sanitizer of fibres
    # Memory that schedule points name lies in [base, base + bytes), so that offsets from base are
    # the same in every process.
    const void *base
    uint64_t bytes
    # Page tables lie in [tables, tables + tables_bytes), each 1 << table_shift bytes. Empty: there are none.
    const void *tables
    uint64_t tables_bytes
    uint32_t table_shift
    # Bring the system to its initial state. `seed` feeds the random streams of all cpus.
    # Context: no fibre exists. Makes no schedule points.
    void (*reset)(void *self, uint64_t seed) noexcept nogil
    # The whole program of fibre `i`; returns when it is done. Makes schedule points through the
    # hook of fibre `i`. May be abandoned at any schedule point; reset() must cope.
    void (*body)(void *self, uint32_t i) noexcept nogil
    # The hash over everything outside the stacks of fibres that what they do from here on, or finish(), may depend on; but not
    # over logical time itself, only over which operation ended before which began. Context: no fibre is in the middle of a step.
    # Makes no schedule points. NULL: nobody knows.
    uint64_t (*state)(void *self) noexcept nogil
    # All fibres returned: check the final state. Returns the number of violations so far.
    uint32_t (*finish)(void *self) noexcept nogil
    # Violations so far, looked at at each schedule point: non-zero ends the execution.
    const uint64_t *violations
    # The hook of fibre `i`, and where to write it when fibre `i` runs on the calling thread.
    pt_hook *(*hook)(void *self, uint32_t i) noexcept nogil
    pt_hook **(*current_slot)() noexcept nogil
