# What a policy is: it picks the next fibre wherever more than one could run.
#
# A policy is one file that fills a `policy_ops`, and one line in policies.pxd. It owns one block of
# state, which the caller allocates zeroed; it knows nothing of fibres, threads or the engine.
#
# A policy must be a function of its knobs, of the seed and of the choices it was shown: no clock, no
# addresses as numbers (they differ between processes), or a seed would not find the same twice.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from cy.base.explorable cimport explorable
from cy.base.hook cimport pt_site

cdef extern from *:
    int lowest_bit "__builtin_ctzll"(uint64_t mask) noexcept nogil

cdef enum:
    MAX_FIBRES = 64             # one bit each in a mask
    NOBODY = 64                 # no fibre: the scheduler itself; as a choice: none is right
    CUT = 65                    # as a choice: whatever follows has been explored

# The access that a fibre makes when it goes on. `site` is NULL if it has not started.
cdef struct access:
    const pt_site *site
    const void *addr
    uint64_t tested             # of kind test: it asks whether it finds 0 or this

# Where an execution stands when somebody has to be chosen.
cdef struct moment:
    uint64_t enabled            # who can go on
    uint64_t live               # who has not ended: can go on, or waits
    uint64_t past               # the hash over the steps so far
    uint64_t time               # logical: steps, and stamps that they have taken
    uint32_t current            # who made the last step; NOBODY at the start
    access made                 # the last step; only with every_step
    const access *pending       # one for each fibre
    # With keeps_frames: the state of the system and of all fibres as one number, which those that behave alike from here on
    # share. A step may lie between two moments with the same.
    uint64_t (*state)(void *ctx) noexcept nogil
    void *ctx

cdef struct policy_knobs:
    const explorable *system
    double stickiness           # random: chance to stay, [0, 1); negative: drawn per execution
    uint32_t depth              # pct: bugs of that many constraints; 0: one after the other
    uint32_t preemption_bound   # dfs: most preemptions in one execution
    uint32_t max_choices        # most choices in one execution
    const uint8_t *choices      # replay, follow: the choices to make; recorded: marks; the caller keeps them alive
    uint32_t nr_choices
    bint walks                  # follow: go on at random behind them

cdef struct policy_ops:
    size_t state_bytes
    # All executions use one and the same seed: the policy walks a tree that a seed determines.
    bint one_seed
    # Asked before every step, also where only one fibre can go on.
    bint every_step
    # The order of steps is all there is: no store is buffered, and nobody gives way at a yield point.
    bint steps_only
    # moment.state is asked for.
    bint keeps_frames
    # Once, before the first execution. Returns 0, or -1 if there is no memory.
    int (*init)(void *state, const policy_knobs *knobs) noexcept nogil
    # Before each execution.
    void (*begin)(void *state, uint64_t seed) noexcept nogil
    # At least two fibres are enabled, or one if every_step.
    # Returns a fibre, NOBODY if no choice is right, or CUT.
    uint32_t (*choose)(void *state, const moment *now) noexcept nogil
    # After each execution, with the moment behind its last step: False if nothing is left to explore.
    bint (*more)(void *state, const moment *now) noexcept nogil
    # What part of the tree is done, in (0, 1]; 0 if the policy knows of no tree.
    double (*done)(void *state) noexcept nogil
    # How many states it has come to; NULL: it does not look.
    uint64_t (*states)(void *state) noexcept nogil
    # How many times it has begun the tree anew, because what it had seen of it did not count; NULL: it never does.
    uint64_t (*passes)(void *state) noexcept nogil
    # Once, at the end; also after init() failed.
    void (*fini)(void *state) noexcept nogil

# A loop: masks have few bits, and without a machine's own instruction the compiler calls a function.
cdef inline uint32_t count_bits(uint64_t mask) noexcept nogil:
    cdef uint32_t n = 0
    while mask:
        mask &= mask - 1
        n += 1
    return n

# Whether `fibre` is in the mask. NOBODY is in none.
cdef inline bint is_in(uint64_t mask, uint32_t fibre) noexcept nogil:
    return fibre < MAX_FIBRES and (mask >> fibre) & 1 != 0

# Whether going on with `next` takes the processor from a fibre that could have continued.
cdef inline bint is_preemption(uint64_t enabled, uint32_t current, uint32_t next) noexcept nogil:
    return is_in(enabled, current) and next != current

# For policies that know of no tree.
cdef inline bint always_more(void *state, const moment *now) noexcept nogil:
    return True

cdef inline double never_done(void *state) noexcept nogil:
    return 0

# The `n`-th fibre of a mask, counted from 0; n < count_bits(mask).
cdef inline uint32_t nth_fibre(uint64_t mask, uint32_t n) noexcept nogil:
    while n > 1:
        mask &= mask - 1
        n -= 1
    # The first or the second one, whatever `n` is: no branch can be guessed here.
    return lowest_bit(mask & (mask - n))
