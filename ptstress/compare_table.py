"""The figures of a comparison as text: one column for each scheme, one line for each figure; for terminal and page."""

from collections.abc import Callable, Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ptstress.compare_statistics import Estimate
from ptstress.compare_summary import CompareRow, CompareSummary
from ptstress.units import format_count, format_kb, format_seconds

#: More columns than this do not fit into 100 characters; the first scheme then stands in each table.
MAX_COLUMNS = 4
NONE = "-"
#: Labels that begin a new part of the table.
SECTIONS = ("operations/s", "latency", "tables, peak", "grace periods", "debt", "retries")
LATENCY_HEAD = "latency p50/99/99.9"


def tables(summary: CompareSummary) -> Iterator[Table]:
    """One table for each workload, or several if there are many schemes."""
    for rows in by_workload(summary):
        first, others = rows[0], rows[1:]
        step = MAX_COLUMNS - 1
        for at in range(0, len(others), step):
            yield _table(summary, [first, *others[at : at + step]])


def by_workload(summary: CompareSummary) -> list[list[CompareRow]]:
    """The rows of each workload, in the order of the schemes."""
    return [[row for row in summary.rows if row.workload == workload] for workload in summary.workloads]


def _table(summary: CompareSummary, rows: Sequence[CompareRow]) -> Table:
    table = Table(
        title=title_of(summary, rows[0]), title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 0, 0, 1),
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    for row in rows:
        table.add_column(row.scheme, justify="right", overflow="fold")
    lines = figures(rows)
    for (label, cells), behind in zip(lines, [*(label for label, _ in lines[1:]), ""], strict=True):
        table.add_row(label, *cells, end_section=behind.startswith(SECTIONS))
    return table


def title_of(summary: CompareSummary, row: CompareRow) -> str:
    """What the figures of a workload are."""
    runs = f"{summary.repeat} x {format_seconds(summary.duration_s)}"
    return f"{row.workload}  {row.geometry}, {row.threads} threads, build {summary.build}, {runs}"


def figures(rows: Sequence[CompareRow]) -> list[tuple[str, list[str]]]:
    """Label and one cell for each row; figures that no row has are left out."""
    coverage = next((f" {row.ops.interval.coverage:.0%}" for row in rows if row.ops and row.ops.interval), "")
    lines: list[tuple[str, Callable[[CompareRow], str]]] = [
        ("verdict", _verdict),
        ("operations/s", lambda r: rate_text(r.ops_per_second)),
        (f"  interval{coverage}", lambda r: interval_text(r.ops, rate_text)),
        ("ratio to the first", lambda r: f"{r.ratio.median:.3f}" if r.ratio else NONE),
        (f"  interval{coverage}", lambda r: interval_text(r.ratio, "{:.3f}".format) if r is not rows[0] else NONE),
        (LATENCY_HEAD, lambda r: ""),
        *((f"  {verb}", lambda r, verb=verb: latency_text(r, verb)) for verb in verbs_of(rows)),
        ("tables, peak", lambda r: kb_text(r.tables_peak_bytes)),
        ("tables, at end", lambda r: kb_text(r.tables_end_bytes)),
        ("tables, mean", lambda r: kb_text(r.tables_mean_bytes)),
        ("  kB x s per M ops", _area),
        ("tables allocated /s", lambda r: per_second(r, r.tables_allocated)),
        ("tables reclaimed /s", lambda r: per_second(r, r.tables_reclaimed)),
        ("grace periods /s", lambda r: per_second(r, r.grace_periods)),
        ("  longest", lambda r: format_seconds(r.grace_period_max_ms / 1e3) if r.repetitions else NONE),
        ("  longest queue", lambda r: format_count(r.backlog_max) if r.repetitions else NONE),
        ("  full queue /s", lambda r: per_second(r, r.reclaim_stalls)),
        ("debt, most tables", lambda r: format_count(r.debt_max_tables) if r.repetitions else NONE),
        ("  grace period after", lambda r: format_seconds(r.debt_max_gp_ms / 1e3) if r.repetitions else NONE),
        ("  oldest", lambda r: format_seconds(r.debt_max_age_ms / 1e3) if r.repetitions else NONE),
        ("  table-ms per M ops", lambda r: f"{1e6 * r.debt_table_ms / r.operations:,.1f}" if r.operations else NONE),
        ("retries /1000 ops", lambda r: per_thousand(r, r.retries)),
        ("lock waits /1000 ops", lambda r: per_thousand(r, r.lock_waits)),
        ("checked", lambda r: f"{format_count(r.checked.ops)} of {format_count(r.checked.of)}"),
    ]
    shown = [(label, [cell(row) for row in rows]) for label, cell in lines]
    return [(label, cells) for label, cells in shown if label == LATENCY_HEAD or set(cells) != {NONE}]


def verbs_of(rows: Sequence[CompareRow]) -> list[str]:
    """Operations that any of the rows did, the most frequent ones first."""
    counts: dict[str, int] = {}
    for row in rows:
        for verb, latency in row.latency.items():
            counts[verb] = counts.get(verb, 0) + latency.count
    return sorted(counts, key=lambda verb: -counts[verb])


def _verdict(row: CompareRow) -> str:
    return f"{row.verdict}, runs: {row.repetitions}" if row.repetitions else row.verdict


def interval_text(value: Estimate | None, form: Callable[[float], str]) -> str:
    """``90.0 k to 110 k``."""
    if value is None or value.interval is None:
        return NONE
    return f"{form(value.interval.low)} to {form(value.interval.high)}"


def latency_text(row: CompareRow, verb: str) -> str:
    """Three percentiles: ``76ns/908ns/3.9us``."""
    latency = row.latency.get(verb)
    if latency is None:
        return NONE
    return "/".join(duration_text(ns) for ns in (latency.p50_ns, latency.p99_ns, latency.p999_ns))


def duration_text(ns: float | None) -> str:
    """``310ns``, ``1.2us``, ``15ms``: one to three digits, no blank."""
    if ns is None:
        return NONE
    for factor, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if ns >= factor:
            value = ns / factor
            return f"{value:.2g}{unit}" if value < 10 else f"{value:.0f}{unit}"
    return f"{ns:.0f}ns"


def _area(row: CompareRow) -> str:
    """For the same work: a scheme that does more in a second holds its tables for less of it."""
    per_op = row.tables_byte_seconds_per_op
    return NONE if per_op is None else f"{per_op * 1e6 / 1024:,.1f}"


def rate_text(value: float | None) -> str:
    """``1.28 M``, ``743 k``, ``9,876``: three digits, so that an interval is seen."""
    if value is None:
        return NONE
    for factor, unit in ((1e6, " M"), (1e4, " k")):
        if value >= factor:
            scaled = value / (1e3 if factor == 1e4 else factor)
            return f"{scaled:,.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}{unit}"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


def kb_text(size_bytes: float | None) -> str:
    """``2,056 kB``."""
    return NONE if size_bytes is None else format_kb(int(size_bytes))


def per_second(row: CompareRow, count: int) -> str:
    """Of a sum over all repetitions."""
    return format_count(count / row.race_s) if row.race_s else NONE


def per_thousand(row: CompareRow, count: int) -> str:
    """Operations."""
    return f"{1000 * count / row.operations:.2f}" if row.operations else NONE
