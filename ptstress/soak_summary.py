"""The verdict on a soak: the sum of its combinations, what is doubtful, and ``summary.json``."""

from msgspec import Struct, structs

from ptstress.errors import ExitCode
from ptstress.memory import common_slope
from ptstress.results import Canaries, Checked, Debt, Failure, Ops, Overlaps, Rcu, RunSummary, StageSummary, Tables
from ptstress.soak_evidence import parse_until, until_text
from ptstress.soak_matrix import Cell
from ptstress.soak_state import Found, Part, SoakState
from ptstress.units import format_count
from ptstress.verdict import VERDICTS, confidence, pool, worst


class Slope(Struct):
    """Resident memory; growth is in MiB per hour, ``None`` while there is nothing to compare.

    ``parent``: this process, from its minute 10 on. ``children``: from one slice to later ones of the same workload
    and scheme, from minute 10 on. ``inside``: a child while it runs, from its minute 1 on, which short slices do
    not reach. ``_mib``: the highest that was seen.
    """

    parent_mib_per_hour: float | None = None
    children_mib_per_hour: float | None = None
    inside_mib_per_hour: float | None = None
    parent_mib: float = 0.0
    children_mib: float = 0.0


class SoakSummary(RunSummary, kw_only=True):
    """As of a run; ``stages`` are the combinations that ran, ``matrix`` has all of them.

    ``slices``: that ended; ``killed``: that died or hung.
    """

    slices: int
    killed: int
    combinations: int
    elapsed_s: float
    canary_share: float
    slope: Slope
    failures: list[Found]
    until: str | None
    left_out: list[str]
    notes: list[str]
    ended: str
    matrix: list[Cell] = []
    schema: str = "ptstress.soak/1"


def summarize_soak(state: SoakState, combinations: int, results: str, unwritten: bool = False) -> SoakSummary:
    """``unwritten``: the disk is still full, findings are in memory only."""
    stages = [_stage(state, key, part) for key, part in state.parts.items() if part.summary is not None]
    doubts = [f"{key}: {note}" for key, stage in zip(state.parts, stages, strict=False) for note in stage.notes]
    doubts += _doubts(state, combinations)
    codes = [ExitCode(found.exit_code) for found in state.found] + [ExitCode.UNTRUSTWORTHY] * bool(doubts)
    codes += [ExitCode.KILLED] * bool(state.killed)
    code = worst(codes)
    first = next((f for f in state.found if f.exit_code == ExitCode.VIOLATION), next(iter(state.found), None))
    request = state.request
    fields = pool(stages) if stages else _nothing()
    fields |= {
        "canaries": state.canaries,
        "failure": Failure(first.oracle, f"ptstress again {first.path}", first.path, first.what) if first else None,
        "confidence": _confidence(fields["checked"].violations or len(state.found), state.trusted_overlaps, fields["overlaps"]),
        "duration_s": round(state.elapsed_s, 3),
    }
    return SoakSummary(
        verdict=VERDICTS[code],
        exit_code=ExitCode.RESOURCE if unwritten and code != ExitCode.VIOLATION else code,
        workload=", ".join(request.workloads) or "all",
        scheme=", ".join(request.schemes) or "all",
        build=request.build,
        seed=request.seed,
        stages=stages,
        results=results,
        slices=sum(part.slices for part in state.parts.values()),
        killed=state.killed,
        combinations=combinations,
        elapsed_s=round(state.elapsed_s, 3),
        canary_share=round(state.canary_s / state.elapsed_s, 4) if state.elapsed_s else 0.0,
        slope=_slope(state),
        failures=state.found,
        until=_until(state, combinations)[1] if request.until else None,
        left_out=state.left_out,
        notes=doubts,
        ended=state.ended,
        **fields,
    )


def _stage(state: SoakState, key: str, part: Part) -> StageSummary:
    """A combination with the verdict on all its slices."""
    s = part.summary
    mine = [f for f in state.found if f.key == key]
    notes = []
    if s.checked.ops < s.checked.of and not part.killed:
        notes.append(f"{format_count(s.checked.of - s.checked.ops)} operations were not checked")
    notes += [f"no {pair} ever met on a table" for pair, count in s.overlaps.named.items() if not count]
    notes += [f"canary {item.bug}: {item.note}" for item in s.canaries.items if not item.found]
    codes = [ExitCode(f.exit_code) for f in mine] + [ExitCode.KILLED] * bool(part.killed)
    code = worst([*codes, *[ExitCode.UNTRUSTWORTHY] * bool(notes)])
    return structs.replace(
        s, name=key.rpartition(" ")[0], verdict=VERDICTS[code], exit_code=code, notes=notes,
        confidence=_confidence(s.checked.violations or len(mine), part.trusted_overlaps, s.overlaps),
    )


def _confidence(failures: int, trusted: int, overlaps: Overlaps) -> str:
    """Silence is worth its trusted overlaps; a failure came in all of them."""
    return confidence(failures, overlaps.total if failures else trusted)


def _until(state: SoakState, combinations: int) -> tuple[bool, str]:
    """Whether there is what ``--until`` asks for, and how far it has come."""
    until = parse_until(state.request.until or "")
    if until.each_once:
        return state.next_slice >= combinations, f"{until.text}: {min(state.next_slice, combinations)} of {combinations} ran"
    reached = state.trusted_overlaps >= until.overlaps
    return reached, until_text(until, state.trusted_overlaps, state.elapsed_s)


def _doubts(state: SoakState, combinations: int) -> list[str]:
    doubts = [] if state.parts else ["stopped before a slice ended"]
    doubts += state.errors
    if state.request.until:
        reached, how_far = _until(state, combinations)
        doubts += [] if reached else [how_far]
    return doubts


def _slope(state: SoakState) -> Slope:
    parent, children, inside = state.parent_rss.values(), [part.rss for part in state.parts.values()], state.child_rss.values()
    slopes = [common_slope(series) for series in (parent, children, inside)]
    rounded = [None if slope is None else round(slope, 3) for slope in slopes]
    highest = [round(max((one.high for one in series), default=0.0), 1) for series in (parent, children)]
    return Slope(*rounded, *highest)


def _nothing() -> dict[str, object]:
    return {
        "threads": 0, "duration_s": 0.0, "ops": Ops(), "checked": Checked(), "overlaps": Overlaps(), "near_misses": {},
        "tables": Tables(), "rcu": Rcu(), "debt": Debt(), "canaries": Canaries(), "confidence": "", "racing_share": 0.0,
        "failure": None,
    }
