"""What a soak runs in which slice: every workload under every scheme, in a new order in each round.

The slice's number and the soak's seed decide everything, so that any slice can be run again alone.
"""

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from msgspec import Struct, structs

from ptstress.errors import PtstressError, UsageError
from ptstress.job import Job
from ptstress.plan import Overrides, StagePlan, demands_scans, distinct_stages, plan_run
from ptstress.schemes import SCHEMES, find_scheme
from ptstress.units import format_geometry
from ptstress.workload import Source, load_workload, packaged_workloads


NO_SCANS = "it is about scans, and the scheme has none"


class SoakRequest(Struct, frozen=True):
    """The command line of ``soak``. Empty ``workloads`` and ``schemes``: all; no ``duration``: without end."""

    workloads: list[str]
    schemes: list[str]
    slice: str
    seed: int = 1
    threads: int | None = None
    duration: str | None = None
    until: str | None = None
    build: str = "stress"
    bugs: list[str] = []
    geometry: str | None = None

    def command_line(self) -> str:
        """The command that begins this soak."""
        words = ["ptstress", "soak", *self.workloads, "--slice", self.slice, "--seed", str(self.seed)]
        for flag, values in (("--scheme", self.schemes), ("--bug", self.bugs)):
            words += [word for value in values for word in (flag, value)]
        for flag, value in (
            ("--threads", self.threads), ("--duration", self.duration), ("--until", self.until), ("--geometry", self.geometry),
        ):
            words += [flag, str(value)] if value else []
        words += ["--build", self.build] if self.build != "stress" else []
        return shlex.join(words)


@dataclass(frozen=True)
class Combination:
    """A workload's stage under a scheme. ``key`` is its name in logs and summaries."""

    key: str
    source: Source
    plan: StagePlan

    @property
    def canary_key(self) -> str:
        """Combinations with the same one are proved by the same canaries."""
        return f"{self.plan.scheme.name} {format_geometry(self.plan.geometry)} {self.plan.threads}"


@dataclass(frozen=True)
class Rotation:
    """All combinations. ``left_out``: workloads that cannot run here; ``unable``: why not, of combinations by their key."""

    seed: int
    combinations: tuple[Combination, ...]
    left_out: tuple[str, ...]
    unable: Mapping[str, str] = field(default_factory=dict)

    def at(self, slice_number: int) -> Combination:
        """The combination of a slice, with the slice's own seed."""
        turn, index = divmod(slice_number, len(self.combinations))
        order = list(range(len(self.combinations)))
        Random(f"{self.seed}/{turn}").shuffle(order)
        chosen = self.combinations[order[index]]
        return replace(chosen, plan=_with_seed(chosen.plan, slice_seed(self.seed, slice_number)))


def slice_seed(seed: int, slice_number: int) -> int:
    """The seed of a slice."""
    digest = hashlib.blake2b(f"{seed}/{slice_number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def make_rotation(request: SoakRequest) -> Rotation:
    """Plan every combination once. Raises ``UsageError`` if a name is wrong or nothing can run.

    What was named must run; of what was not named, the rest does.
    """
    names = request.workloads or [name for name, _ in packaged_workloads() if "/" not in name]
    schemes = [find_scheme(name) for name in dict.fromkeys(request.schemes)] or list(SCHEMES)
    combinations: list[Combination] = []
    left_out: list[str] = []
    unable: dict[str, str] = {}
    for source in [load_workload(name) for name in dict.fromkeys(names)]:
        able = [scheme for scheme in schemes if scheme.scans or not demands_scans(source)]
        overrides = Overrides(
            (able or schemes)[0].name, request.geometry, request.threads, request.slice, request.seed, request.build,
            tuple(request.bugs),
        )
        try:
            stages = plan_run(source, overrides)
        except PtstressError as error:
            if request.workloads:
                raise
            left_out.append(f"{source.workload.name}: {error}")
            continue
        for plan in [stages[number] for number in distinct_stages(stages)]:
            name = source.workload.name if len(source.stages()) == 1 else f"{source.workload.name}/{plan.name}"
            combinations += [
                Combination(
                    f"{name} {scheme.name}", source,
                    replace(plan, scheme=scheme, job=_with_config(plan.job, scheme.config())))
                for scheme in able
            ]
            unable |= {f"{name} {scheme.name}": NO_SCANS for scheme in schemes if scheme not in able}
    if not combinations:
        raise UsageError(f"no workload can run: {left_out[0]}")
    return Rotation(request.seed, tuple(combinations), tuple(left_out), unable)


def _with_config(job: Job, changes: Mapping[str, object]) -> Job:
    return structs.replace(job, config={**job.config, **changes})


def _with_seed(plan: StagePlan, seed: int) -> StagePlan:
    return replace(plan, job=structs.replace(_with_config(plan.job, {"seed": seed}), seed=seed))
