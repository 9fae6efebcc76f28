# Sequence counter: readers retry, the one writer never waits. Odd while the writer is inside.
# [PT-003] pairs with: the reader's acquire load in seq_begin and its recheck in seq_retry; a reader
# that sees the same even number twice saw none of the stores made between write_begin and write_end.
# Source: include/linux/seqlock.h. Starts near its wrap.
from libc.stdint cimport uint32_t
from cy.base.atomics cimport READ_ONCE32, peek32, smp_load_acquire32, smp_rmb, smp_store_release32, xchg32

cdef struct seqcount_t:
    uint32_t sequence

cdef inline void seqcount_init(seqcount_t *s) noexcept nogil:
    s.sequence = <uint32_t>-20

cdef inline uint32_t seq_begin(seqcount_t *s) noexcept nogil:
    # [PT-003] pairs with: seq_write_end.
    return smp_load_acquire32(&s.sequence)

# True if what was read since seq_begin may be torn. `seq` odd counts as torn.
cdef inline bint seq_retry(seqcount_t *s, uint32_t seq) noexcept nogil:
    # Loads of the section stay before the recheck: x86 keeps load order, elsewhere a full barrier.
    smp_rmb()                                               # [PT-003] pairs with: seq_write_begin.
    return (seq & 1) != 0 or READ_ONCE32(&s.sequence) != seq

# Context: the one writer. Full barrier: the odd number is visible before the first store inside.
cdef inline void seq_write_begin(seqcount_t *s) noexcept nogil:
    xchg32(&s.sequence, peek32(&s.sequence) + 1)            # [PT-003] pairs with: seq_retry.

cdef inline void seq_write_end(seqcount_t *s) noexcept nogil:
    smp_store_release32(&s.sequence, peek32(&s.sequence) + 1)       # [PT-003] pairs with: seq_begin.
