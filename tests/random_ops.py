"""Long random sequences for one thread, in which most operations find something to do."""

from random import Random

from ptstress.operation import PROTECTING, Op, gup_fast, mmap, read, write
from ptstress.vocabulary import ACCESSES, OPERATIONS, Verb

WEIGHTS = {
    Verb.READ: 6, Verb.WRITE: 8, Verb.WALK: 1, Verb.MMAP: 3, Verb.MUNMAP: 1, Verb.DONTNEED: 3, Verb.GUP_FAST: 2, Verb.EXIT: 0,
    Verb.MPROTECT: 3, Verb.POPULATE: 2, Verb.AGE: 2, Verb.GUARD_INSTALL: 1, Verb.GUARD_REMOVE: 1, Verb.FREE: 3, Verb.DISCARD: 3,
    Verb.SCAN: 2,
}


def random_ops(seed: int, bits: tuple[int, ...], count: int) -> list[Op]:
    """``count`` operations, the first of which maps everything; one in thirty or so is invalid."""
    rng = Random(seed)
    return [mmap(0, 1 << sum(bits)), *(_random_op(rng, bits) for _ in range(count - 1))]


def _random_op(rng: Random, bits: tuple[int, ...]) -> Op:
    pages, table = 1 << sum(bits), 1 << bits[0]
    (verb,) = rng.choices(OPERATIONS, [WEIGHTS[verb] for verb in OPERATIONS])
    if verb in ACCESSES:
        page = rng.randrange(pages + (rng.random() < 0.03))
        return gup_fast(page, rng.random() < 0.5) if verb is Verb.GUP_FAST else (read if verb is Verb.READ else write)(page)
    if rng.random() < 0.03:
        start, end = rng.randrange(pages), rng.randrange(pages + 3)
    elif rng.random() < 0.6:
        # Whole tables, of any level.
        span = table << rng.randrange(sum(bits[1:]))
        start = rng.randrange(pages) // span * span
        end = start + span
    else:
        start = rng.randrange(pages)
        end = min(pages, start + rng.randint(1, 2 * table))
    arg = rng.random() < 0.85 if verb in (*PROTECTING, Verb.POPULATE) else 0
    return Op(verb, start, end, int(arg))
