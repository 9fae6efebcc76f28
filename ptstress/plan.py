"""From a stage of a workload to a job: who does what on which thread, and how much memory that needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from msgspec import structs

from ptstress.errors import ResourceError, UsageError
from ptstress.job import Job, Mix, verbs_of
from ptstress.operation import PROTECTING, Op
from ptstress.pages import global_page
from ptstress.schemes import Scheme, find_scheme
from ptstress.trace import Trace, load_trace
from ptstress.units import format_geometry, pages_of, parse_duration, parse_extent, parse_geometry
from ptstress.vocabulary import ACCESSES, WHOLE_MM, Verb
from ptstress.workload import (
    KNOBS_IN_PAGES, Group, Source, Stage, Step, check_geometry, find_trace, knob_pages, mms_of, parse_pair, regions,
)

RING_EVENTS = 1 << 14
BURST_MS = 100
MAX_FRAMES = 1 << 25
# Objects that wait for a grace period, or stay in quarantine, on top of those in use.
TABLES_IN_FLIGHT = 512
FRAMES_IN_FLIGHT = 8192
# Verbs that give frames to their pages, or tables at least; verbs that leave neither pages nor markers behind.
TOUCHING = (*ACCESSES, Verb.POPULATE, Verb.GUARD_INSTALL)
GIVING_BACK = (Verb.DONTNEED, Verb.MUNMAP)


@dataclass(frozen=True)
class Overrides:
    """What the command line says. ``None``: the workload decides."""

    scheme: str | None = None
    geometry: str | None = None
    threads: int | None = None
    duration: str | None = None
    seed: int = 1
    build: str = "stress"
    bugs: tuple[str, ...] = ()


@dataclass(frozen=True)
class StagePlan:
    """One stage, ready to run. ``named``: the pairs of verbs that the workload is about."""

    name: str
    scheme: Scheme
    geometry: tuple[int, ...]
    threads: int
    named: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    job: Job

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of verbs that must have met; under a scheme without scans these meet nothing."""
        return tuple(pair for pair in self.named if self.scheme.scans or Verb.SCAN.label not in pair)


def plan_run(source: Source, overrides: Overrides) -> list[StagePlan]:
    """The stages of a workload as they will run. Raises ``UsageError`` or ``ResourceError``."""
    workload = source.workload
    bits = parse_geometry(overrides.geometry or workload.geometry)
    check_geometry(source, bits)
    return [_plan_stage(source, stage, bits, overrides, i) for i, stage in enumerate(source.stages())]


def distinct_stages(plans: Sequence[StagePlan]) -> list[int]:
    """Numbers of the stages that differ in more than their scheme. ``plans``: the stages of a workload under one scheme."""
    kept: dict[str, int] = {}
    for number, plan in enumerate(plans):
        kept.setdefault(repr(structs.replace(plan.job, seed=0)), number)
    return list(kept.values())


def demands_scans(source: Source) -> bool:
    """Whether a stage's only evidence is that scans met others, which they do under some schemes only."""
    named = [[parse_pair(pair) for pair in stage.pairs or []] for stage in source.stages()]
    return any(pairs and all(Verb.SCAN.label in pair for pair in pairs) for pairs in named)


def _plan_stage(source: Source, stage: Stage, bits: tuple[int, ...], overrides: Overrides, index: int) -> StagePlan:
    scheme = find_scheme(overrides.scheme or stage.scheme or "")
    if demands_scans(source) and not scheme.scans:
        name = source.workload.name
        raise UsageError(f"{name!r} is about scans, and {scheme.name} has none: expected a scheme with async, taskwork or zero")
    threads = overrides.threads or source.workload.threads
    trace_path = find_trace(stage.trace, source.path) if stage.trace else None
    trace = load_trace(trace_path) if trace_path else None
    groups = stage.workers or []
    if trace is not None:
        _check_counts(source, groups, index)
        per_group = [g.count for g in groups]
        trace_workers = max(1, threads - sum(per_group))
        threads = trace_workers + sum(per_group)
    else:
        per_group = share_threads(groups, threads)
        trace_workers = 0
    usage = _Usage(bits, source.workload.mms)
    if trace is not None:
        usage.add_trace(trace)
        if int(trace.ops["end"].max(initial=0)) > pages_of(bits):
            raise UsageError(f"{trace_path}: trace of x86-64 addresses: expected geometry x86-64-4 or x86-64-5")
    mixes = [_mix(g, bits, trace, i, n) for g, n in zip(groups, per_group, strict=True) for i in range(n)]
    for mix in mixes:
        usage.add_mix(mix)
    idle = [g.name or "/".join(g.mix) for g, n in zip(groups, per_group, strict=True) if n == 0]
    job = Job(
        build=overrides.build,
        config=_config(source, scheme, bits, usage, threads, overrides),
        workers=threads,
        ring_events=source.workload.arena.ring_events or RING_EVENTS,
        duration_s=parse_duration(overrides.duration or stage.duration or ""),
        seed=overrides.seed + index,
        setup=[op for step in stage.setup or [] for op in _serial(step, bits)],
        closing=[op for step in stage.closing or [] for op in _serial(step, bits)],
        mixes=mixes,
        trace=str(trace_path) if trace_path else None,
        trace_workers=trace_workers,
        burst_ms=BURST_MS,
    )
    return StagePlan(
        name=stage.name,
        scheme=scheme,
        geometry=bits,
        threads=threads,
        named=tuple(parse_pair(p) for p in stage.pairs or []),
        notes=(f"no thread left for: {', '.join(idle)}",) if idle else (),
        job=job,
    )


def share_threads(groups: list[Group], threads: int) -> list[int]:
    """Threads of each group: its ``count``, or its part of the rest, every group one if they suffice."""
    counts, left = [0] * len(groups), threads
    for i, group in enumerate(groups):
        counts[i] = min(group.count, left)
        left -= counts[i]
    sharing = [i for i, group in enumerate(groups) if group.count == 0]
    for _ in range(left if sharing else 0):
        # Most wanted first: a group without any thread, then the one furthest below its share.
        i = min(sharing, key=lambda k: (counts[k] > 0, (counts[k] + 1) / groups[k].share))
        counts[i] += 1
    if sum(counts) == 0 or (not sharing and left):
        raise UsageError(f"{threads} threads: the workload's groups take {sum(counts)}; give one of them a share")
    return counts


def _check_counts(source: Source, groups: list[Group], index: int) -> None:
    for i, group in enumerate(groups):
        if group.count == 0:
            key = ("stages", index, "workers", i) if source.workload.stages else ("workers", i)
            source.refuse(key, "workers beside a trace: expected count = N, the trace takes the other threads")


def _mix(group: Group, bits: tuple[int, ...], trace: Trace | None, worker: int, of: int) -> Mix:
    places = _places(group, bits, trace)
    if group.apart:
        places = [part_of(place, worker, of, bits[0]) for place in places]
    room = max(end - start for start, end in places)
    unit = {verb: min(room, parse_extent(length, 1 << bits[0])) for verb, length in group.unit.items()}
    mms = mms_of(group)
    places = [(global_page(mms[0], start), global_page(mms[0], end)) for start, end in places]
    return Mix(
        weights=dict(group.mix), start=places[0][0], end=places[-1][1], unit=unit, aligned=group.aligned, mms=len(mms),
        places=places if len(places) > 1 else [],
    )


def _places(group: Group, bits: tuple[int, ...], trace: Trace | None) -> list[tuple[int, int]]:
    """Where a group works, ascending."""
    places = regions(group, bits)
    if not places and trace is not None and isinstance(group.beside_trace, str):
        places = trace.tables_of(Verb[group.beside_trace.upper()], bits[0])
        if not places:
            raise UsageError(f"workers {group.name!r}: beside_trace expects a trace with {group.beside_trace} of what it uses")
    elif not places and trace is not None and trace.footprint(bits)["frames"]:
        places = [whole_tables(*trace.busiest_span(), bits[0])]
    if not places:
        raise UsageError(f"workers {group.name!r}: beside_trace expects a trace with faults")
    return places


def part_of(place: tuple[int, int], worker: int, of: int, table_bits: int) -> tuple[int, int]:
    """One of ``of`` equal parts of pages ``[start, end)``: whole tables if there are enough, all pages if there are too few."""
    start, end = place
    shift = table_bits if (end - start) >> table_bits >= of else 0
    size = ((end - start) >> shift) // of << shift
    return (start + worker * size, start + (worker + 1) * size) if size else place


@cache
def _serial(step: Step, bits: tuple[int, ...]) -> tuple[Op, ...]:
    # The same for every stage, scheme and repetition, and tens of thousands at narrow strides.
    verb = Verb[step.verb.upper()]
    arg = int(step.writable) if verb in (*PROTECTING, Verb.POPULATE) else 0
    places = [(0, 0)] if verb in WHOLE_MM else regions(step, bits)
    return tuple(Op(verb, start, end, arg).moved(mm) for mm in mms_of(step) for start, end in places)


class _Usage:
    """Tables, frames and VMAs that a stage can have in use at once, at most."""

    def __init__(self, bits: tuple[int, ...], mms: int) -> None:
        self.bits = bits
        self.mms = mms
        self.touched: list[tuple[int, int]] = []
        self.kept: list[tuple[int, int]] = []
        self.passing = 0
        self.trace = {"frames": 0, "tables": 0, "vmas": 0}

    def add_mix(self, mix: Mix) -> None:
        spans = [
            (global_page(i, start), global_page(i, end))
            for i in range(mix.mms) for start, end in mix.places or [(mix.start, mix.end)]
        ]
        chains = [verbs_of(chain) for chain, weight in mix.weights.items() if weight]
        chains = [verbs for verbs in chains if any(verb in TOUCHING for verb in verbs)]
        lengths = [[1 if verb in ACCESSES else mix.unit.get(verb.label, 1) for verb in verbs] for verbs in chains]
        self.touched += spans if chains else []
        # A chain that gives its whole place back keeps no frame for longer.
        passing = [max(units) for verbs, units in zip(chains, lengths, strict=True)
                   if verbs[-1] in GIVING_BACK and units[-1] == max(units)]
        self.passing += max(passing, default=0)
        self.kept += spans if len(passing) < len(chains) else []

    def add_trace(self, trace: Trace) -> None:
        self.trace = trace.footprint(self.bits)

    @property
    def tables(self) -> int:
        """Tables of all levels with every page of every region present."""
        spans = merge_spans(self.touched)
        total, shift = self.mms + self.trace["tables"], 0
        for level_bits in self.bits[:-1]:
            shift += level_bits
            tables = merge_spans([(start >> shift, ((end - 1) >> shift) + 1) for start, end in spans])
            total += sum(end - start for start, end in tables)
        return total

    @property
    def frames(self) -> int:
        """Frames with every page present, and the zero page."""
        return 1 + self.trace["frames"] + self.passing + sum(end - start for start, end in merge_spans(self.kept))


def merge_spans(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same pages as disjoint ascending spans."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def whole_tables(first: int, behind: int, table_bits: int) -> tuple[int, int]:
    """Pages ``[first, behind)`` widened to whole pte_tables."""
    return first >> table_bits << table_bits, ((behind - 1 >> table_bits) + 1) << table_bits


def _config(
    source: Source, scheme: Scheme, bits: tuple[int, ...], usage: _Usage, threads: int, overrides: Overrides
) -> dict:
    arena = source.workload.arena
    for key, given, needed in (("tables", arena.tables, usage.tables), ("frames", arena.frames, usage.frames)):
        if given and given < needed:
            raise ResourceError(
                f"{source.path}: arena: {key} = {given} is too small: this workload can have {needed} in use "
                f"under geometry {format_geometry(bits)}"
            )
    if usage.frames > MAX_FRAMES:
        raise ResourceError(f"{source.path}: the regions have {usage.frames} pages, this tool handles {MAX_FRAMES}")
    knobs = {k: v for k, v in structs.asdict(source.workload.knobs).items() if v is not None}
    for name in KNOBS_IN_PAGES:
        if name in knobs:
            knobs[name] = knob_pages(knobs[name], 1 << bits[0])
    return {
        **scheme.config(),
        "geometry": list(bits),
        "workers": threads,
        "mms": source.workload.mms,
        "tables": arena.tables or 2 * usage.tables + TABLES_IN_FLIGHT,
        "frames": arena.frames or usage.frames + usage.frames // 4 + FRAMES_IN_FLIGHT,
        "vmas": arena.vmas or 1024 + 2 * usage.trace["vmas"],
        "ring_events": arena.ring_events or RING_EVENTS,
        "seed": overrides.seed,
        "bugs": list(overrides.bugs),
        "knobs": knobs,
    }


def operations_in(stream: np.ndarray) -> int:
    """Operations of a stream, without those that only wait for another worker."""
    return int(np.count_nonzero(stream["verb"] != Verb.SYNC))


def trace_streams(path: str, workers: int) -> list[np.ndarray]:
    """Operations of each replaying worker. Raises ``UsageError``."""
    return load_trace(Path(path)).streams(workers)
