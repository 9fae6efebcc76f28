"""What one worker of a campaign runs next: fresh programs, and mutations of those that brought something new.

Draws come from the seed and the worker's share: the programs of two shares differ, and a share can be drawn
again. What is steered by coverage depends on what was seen, and so on how fast the machine is.
"""

import hashlib
from collections.abc import Sequence
from random import Random

from ptstress.fuzz_example import FuzzExample, Knobs, Trial
from ptstress.fuzz_mutation import mutate
from ptstress.generator import generate
from ptstress.model.geometry import Geometry
from ptstress.program import Program
from ptstress.schemes import SCHEMES

#: Examples of one configuration in a row: machines are made once for them.
BATCH = 16
#: Of each geometry. Older ones go.
MOST_KEPT = 400
#: Digests that are remembered; beyond, programs count as distinct only if two draws can hardly be equal.
MOST_DIGESTS = 1 << 20
MUTATED = 0.5
#: The common one twice.
GEOMETRIES = ((2, 1, 1, 1), (2, 1, 1, 1), (1, 1, 1, 1), (3, 2, 1, 1), (2, 1, 1), (2, 1, 1, 1, 1))
#: Values of each knob, as the common strategies draw them: how rare a rare path is.
ONE_IN = (0, 2, 1, 3, 5)


class Campaign:
    """One worker's share of the programs. ``schedules``: of each. ``rounds``: on threads, of one in ``race_every``."""

    def __init__(
        self, seed: int, share: int, shares: int, schemes: Sequence[str] = (), geometries: Sequence[tuple[int, ...]] = (),
        bugs: Sequence[str] = (), knobs: Knobs | None = None, schedules: int = 100, rounds: int = 5, race_every: int = 32,
    ) -> None:
        self.seed, self.share, self.shares = seed, share, shares
        self.schemes = tuple(schemes) or tuple(scheme.name for scheme in SCHEMES)
        self.geometries = tuple(geometries) or GEOMETRIES
        self.bugs = tuple(bugs)
        self.fixed_knobs = knobs or {}
        self.schedules, self.rounds, self.race_every = schedules, rounds, race_every
        self.rng = Random(mixed(seed, share, "worker"))
        self.drawn = 0
        #: Of each scheme: what was asked for, and what was seen beyond, where something new came.
        self.executions = dict.fromkeys(self.schemes, 0)
        self.corpus: dict[tuple[int, ...], list[Program]] = {bits: [] for bits in self.geometries}
        self.digests: set[tuple[str, int]] = set()
        self.pairs: set[tuple[str, str]] = set()

    def batch(self) -> list[FuzzExample]:
        """The next examples, all of one scheme, geometry and setting of the knobs."""
        scheme = self._next_scheme()
        bits = self.rng.choice(self.geometries)
        knobs = {**self._knobs(), **self.fixed_knobs}
        examples = [self._example(scheme, bits, knobs) for _ in range(BATCH)]
        self.executions[scheme] += sum(map(_asked, examples))
        return examples

    def note(self, example: FuzzExample, trial: Trial) -> list[tuple[str, str]]:
        """Take in what came of an example; returns the pairs of accesses that are new to this campaign."""
        if example.scheme in self.executions:
            self.executions[example.scheme] += max(0, trial.executions - _asked(example))
        new = [pair for pair in trial.pairs if pair not in self.pairs]
        self.pairs.update(new)
        if new:
            self.keep(example.geometry, example.program)
        return new

    def keep(self, bits: tuple[int, ...], program: Program) -> None:
        """Into the corpus: this program is worth mutating."""
        kept = self.corpus.setdefault(bits, [])
        kept.append(program)
        if len(kept) > MOST_KEPT:
            del kept[self.rng.randrange(MOST_KEPT // 2)]

    def is_new(self, example: FuzzExample) -> bool:
        """Whether this worker had not run this program under this scheme before; remembers it."""
        key = (example.scheme, example.digest())
        if key in self.digests or len(self.digests) >= MOST_DIGESTS:
            return False
        self.digests.add(key)
        return True

    def corpus_size(self) -> int:
        """Programs in the corpus."""
        return sum(map(len, self.corpus.values()))

    def _example(self, scheme: str, bits: tuple[int, ...], knobs: Knobs) -> FuzzExample:
        index = self.drawn * self.shares + self.share
        self.drawn += 1
        program = generate(mixed(self.seed, index, "program"), bits)
        kept = self.corpus.get(bits)
        if kept and self.rng.random() < MUTATED:
            # Younger ones more often: what is around them is less known.
            chosen = kept[max(self.rng.randrange(len(kept)), self.rng.randrange(len(kept)))]
            mutant = mutate(chosen, program, self.rng, bits)
            if mutant.end_page() <= Geometry.of(bits).pages:
                program = mutant
        return FuzzExample(
            program=program, scheme=scheme, geometry=bits, knobs=knobs, seed=mixed(self.seed, index, "schedule"),
            executions=self.schedules, rounds=self.rounds if self.race_every and self.drawn % self.race_every == 0 else 0,
            bugs=self.bugs,
        )

    def _next_scheme(self) -> str:
        """The one with the fewest executions, so that all get equal parts. Workers begin with different ones."""
        first = self.share * len(self.schemes) // self.shares
        return min(self.schemes[first:] + self.schemes[:first], key=self.executions.__getitem__)

    def _knobs(self) -> Knobs:
        draw = self.rng.choice
        return {
            "need_resched": draw(ONE_IN), "gather_batch": draw(ONE_IN), "trylock_fail": draw(ONE_IN),
            "flush_delay": draw((0, 3)), "reuse": draw(("lifo", "lifo", "fifo")),
        }


def _asked(example: FuzzExample) -> int:
    return example.executions + example.rounds


def mixed(seed: int, index: int, what: str) -> int:
    """56 bits for the number ``index`` of the things called ``what``."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{index}/{what}".encode(), digest_size=7).digest())
