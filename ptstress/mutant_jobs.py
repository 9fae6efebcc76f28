"""What mutants are hunted with: the programs of the registered bugs, the small scopes, and generated ones, small and larger,
under many schemes.

Which job reaches the place of which mutant is measured once, on the engine without any. What is written for a window of one
function is for mutants of that function alone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType

from ptstress.bugs import BUGS
from ptstress.generator import generate
from ptstress.lab import ARENA, KNOBS, PREEMPTIONS, Lab
from ptstress.mutant_programs import RACES, SCARCE_RACES, small_program
from ptstress.mutant_windows import QUIET, WINDOWS
from ptstress.program import Program, parse
from ptstress.schemes import SCHEMES, SLEEP_MODES, Scheme, find_scheme
from ptstress.scopes import load_scopes, why_not
from ptstress.units import parse_geometry
from ptstress.weaken_aims import AIMS, POLLS

GEOMETRY = parse_geometry("2x2x2x4")
#: Generated programs for each scheme: small ones, and those of the common generator.
SMALL = 100
GENERATED = 8
#: Beside the schemes with a name: a device and walks that sleep in each way; one VMA object after the other; one reclaim alone.
_FURTHER = (*(f"linux-6.18@{mode}" for mode, _ in SLEEP_MODES), "mmap_lock+async", "covering+async", "covering+zero", "rcu+zero",
            "covering@refcount", "covering@srcu", "rcu@vma_lock", "rcu@revalidate")
#: So little of everything that what one frees another one gets at once, where tables need no grace period.
SCARCE = (("tables", 5), ("frames", 6), ("vmas", 5))
#: What makes other paths frequent than the usual knobs do, and under which schemes: an IPI is no grace period where reclaim
#: frees tables.
_SOME = ("linux-6.3", "linux-6.12", "linux-6.18", "seed-zero", "seed-rcu", "covering")
_VARIANTS: tuple[tuple[str, dict[str, int | str], tuple[str, ...]], ...] = (
    ("ipi", {"table_free": "ipi"}, ("linux-6.3", "linux-6.12")), ("fifo", {"reuse": "fifo"}, _SOME),
    ("ceiling", {"flush_ceiling": 1}, _SOME), ("alloc", {"alloc_fail": 4}, _SOME),
)


@dataclass(frozen=True)
class Job:
    """One program under one scheme. ``kind`` and ``label`` tell where it comes from.

    ``function``: it is for mutants of this one, which want so many ``preemptions`` of a policy that counts them.
    """

    kind: str               # bug, scope, race, scarce, aim, window, small, generated
    label: str
    scheme: str
    program: Program
    geometry: tuple[int, ...] = GEOMETRY
    knobs: tuple[tuple[str, int | str], ...] = KNOBS
    arena: tuple[tuple[str, int], ...] = ARENA
    function: str = ""
    preemptions: int = PREEMPTIONS

    @property
    def written(self) -> bool:
        """By somebody, for one race."""
        return self.kind in ("bug", "scope", "race", "scarce", "aim", "window")


def all_jobs(seed: int) -> list[Job]:
    """All jobs, in an order that is always the same."""
    jobs = [Job("bug", bug.id, bug.scheme, parse(bug.program, "<bug>")) for bug in BUGS]
    for name, scope in load_scopes().items():
        jobs += [Job("scope", name, scheme.name, parse(scope.program, "<scope>"), parse_geometry(scope.geometry),
                     tuple({**dict(KNOBS), **scope.knobs}.items()))
                 for scheme in SCHEMES if not why_not(scope, scheme)]
    for text in RACES:
        jobs += [Job("race", "race", scheme.name, parse(text, "<race>")) for scheme in (*SCHEMES, *map(find_scheme, _FURTHER))]
    for turn, scheme in enumerate((*SCHEMES, *map(find_scheme, _FURTHER))):
        jobs += [Job("small", f"small {number}", scheme.name, small_program((seed << 32) + number))
                 for number in range(turn * SMALL, (turn + 1) * SMALL)]
        jobs += _generated(scheme, "", KNOBS, range(GENERATED), seed)
    for name, knobs, scheme_names in _VARIANTS:
        for scheme_name in scheme_names:
            mixed = tuple({**dict(KNOBS), **knobs}.items())
            jobs += [Job("race", f"race/{name}", scheme_name, parse(text, "<race>"), knobs=mixed) for text in RACES]
            jobs += _generated(find_scheme(scheme_name), name, mixed, range(GENERATED, GENERATED + 4), seed)
    for scheme_name in ("linux-6.3", "linux-6.12"):
        mixed = tuple({**dict(KNOBS), "reuse": "fifo", "table_free": "ipi", "gather_alloc_fail": 2}.items())
        jobs += [Job("scarce", "scarce", scheme_name, program, knobs=mixed, arena=SCARCE)
                 for program in map(parse, SCARCE_RACES)]
    return jobs + list(_aimed())


def _aimed() -> Iterator[Job]:
    """Programs that are aimed at one ordering, as they are for ``explore --weaken``, or at one window."""
    for aim in AIMS:
        knobs = dict(KNOBS) | (dict(POLLS) if aim.polls else {})
        yield Job("aim", f"{aim.label} {aim.function}", aim.scheme, parse(aim.program, "<aim>"), knobs=tuple(knobs.items()))
    for window in WINDOWS:
        knobs = dict(KNOBS) | dict(QUIET) | dict(window.knobs)
        yield Job("window", f"window {window.function}", window.scheme, parse(window.program, "<window>"),
                  knobs=tuple(knobs.items()), function=window.function, preemptions=window.preemptions)


def _generated(scheme: Scheme, variant: str, knobs: tuple, numbers: Iterable[int], seed: int) -> list[Job]:
    label = f"generated/{variant}" if variant else "generated"
    programs = [(number, generate((seed << 32) + number, GEOMETRY)) for number in numbers]
    return [Job("generated", f"{label} {number}", scheme.name, program, knobs=knobs) for number, program in programs]


class Labs:
    """Labs over one engine, kept for as long as the same scheme is asked for."""

    def __init__(self, engine: ModuleType, seed: int) -> None:
        self.engine = engine
        self.seed = seed
        self._key: tuple = ()
        self._lab: Lab | None = None

    def load(self, job: Job) -> Lab:
        """The lab of a job, with its program."""
        key = (job.scheme, job.geometry, job.knobs, job.arena)
        if self._lab is None or key != self._key:
            self._lab = Lab(job.scheme, job.geometry, (), dict(job.knobs), self.seed, arena=job.arena)
            self._lab.engine = self.engine
            self._key = key
        self._lab.load(job.program)
        return self._lab
