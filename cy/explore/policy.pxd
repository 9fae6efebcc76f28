# What a policy is: it picks the next fibre wherever more than one could run.
#
# A policy is one file that fills a `policy_ops`, and one line in policies.pxd. It owns one block of
# state, which the caller allocates zeroed; it knows nothing of fibres, threads or the engine.
#
# A policy must be a function of its knobs, of the seed and of the choices it was shown: no clock, no
# addresses as numbers (they differ between processes), or a seed would not find the same twice.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from cy.base.hook cimport pt_site

cdef extern from *:
    int lowest_bit "__builtin_ctzll"(uint64_t mask) noexcept nogil
    int count_bits "__builtin_popcountll"(uint64_t mask) noexcept nogil

cdef enum:
    MAX_FIBRES = 64             # one bit each in a mask
    NOBODY = 64                 # no fibre: the scheduler itself; as a choice: none is right

# The access that a fibre makes when it goes on. `site` is NULL if it has not started.
cdef struct access:
    const pt_site *site
    const void *addr

cdef struct policy_knobs:
    double stickiness           # random: chance to stay, [0, 1); negative: drawn per execution
    uint32_t preemption_bound   # dfs: most preemptions in one execution
    uint32_t max_choices        # most choices in one execution
    const uint8_t *choices      # replay: the choices to make; the caller keeps them alive
    uint32_t nr_choices

cdef struct policy_ops:
    size_t state_bytes
    # All executions use one and the same seed: the policy walks a tree that a seed determines.
    bint one_seed
    # Once, before the first execution. Returns 0, or -1 if there is no memory.
    int (*init)(void *state, const policy_knobs *knobs) noexcept nogil
    # Before each execution.
    void (*begin)(void *state, uint64_t seed) noexcept nogil
    # `enabled` has at least two bits. `current` made the last step; it is NOBODY at the start, and
    # its bit is clear if it ended or waits. `past` is the hash over the steps so far. `pending` has
    # an entry for each fibre.
    # Returns a fibre, or NOBODY if no choice is right (replay only).
    uint32_t (*choose)(void *state, uint64_t enabled, uint32_t current, uint64_t past,
                       const access *pending) noexcept nogil
    # After each execution: False if nothing is left to explore.
    bint (*more)(void *state) noexcept nogil
    # Once, at the end; also after init() failed.
    void (*fini)(void *state) noexcept nogil

# Whether going on with `next` takes the processor from a fibre that could have continued.
cdef inline bint is_preemption(uint64_t enabled, uint32_t current, uint32_t next) noexcept nogil:
    return current < MAX_FIBRES and ((enabled >> current) & 1) != 0 and next != current

# The `n`-th fibre of a mask, counted from 0; n < count_bits(mask).
cdef inline uint32_t nth_fibre(uint64_t mask, uint32_t n) noexcept nogil:
    while n:
        mask &= mask - 1
        n -= 1
    return lowest_bit(mask)
