"""What the engine costs, as a table of rows: measured, judged against a target, printed.

Everything that a row compares is measured in one run, in turns, and the medians of the repetitions are shown: a
machine changes its speed from minute to minute, a ratio of one run does not. Times are CPU times of the thread that
does the work wherever a row counts nanoseconds; rates are per second of wall time.
"""

import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median, quantiles

from msgspec import Struct
from rich.table import Table

from ptstress import __version__
from ptstress.errors import ExitCode, UsageError

#: A row whose repetitions spread wider than this says so, and so does the head of the table.
NOISY_SPREAD = 0.25
#: Runnable threads for each core, from which on the machine counts as busy with something else.
BUSY_LOAD = 0.5


class Row(Struct):
    """One figure. ``reference``: what it is compared with; ``ratio``: value over reference.

    ``target``: what it must be, as text, empty for information; ``met``: None without target or value.
    ``spread``: half of the range that the middle half of the repetitions takes, over their median.
    ``note``: what is compared, or why there is no value.
    """

    name: str
    value: float | None
    unit: str
    reference: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    spread: float | None = None
    note: str = ""


class BenchReport(Struct):
    """All rows, and where and when they were measured. Exit code 0 whatever the figures are."""

    rows: list[Row]
    machine: str
    kernel: str
    date: str
    version: str
    load: float
    quick: bool
    warnings: list[str]
    verdict: str = "pass"
    exit_code: int = ExitCode.PASS
    schema: str = "ptstress.bench/1"


def measured(
    name: str, values: Sequence[float], unit: str, *, references: Sequence[float] = (), at_most: float | None = None,
    at_least: float | None = None, ratio_at_most: float | None = None, ratio_at_least: float | None = None, note: str = "",
) -> Row:
    """A row of medians; the ratio is the median of the ratios, each of one repetition."""
    row = Row(name, median(values), unit, spread=spread_of(values), note=note)
    if references:
        row.reference = median(references)
        row.ratio = median(v / r for v, r in zip(values, references, strict=True))
    judged = ((at_most, "<=", row.value, f" {unit}"), (at_least, ">=", row.value, f" {unit}"),
              (ratio_at_most, "<=", row.ratio, ""), (ratio_at_least, ">=", row.ratio, ""))
    wanted = [(limit, sign, value, suffix) for limit, sign, value, suffix in judged if limit is not None]
    for limit, sign, value, suffix in wanted:
        what = "" if suffix else "ratio "
        row.target += f"{', ' if row.target else ''}{what}{sign} {limit:g}{suffix}"
        fits = value is not None and (value <= limit if sign == "<=" else value >= limit)
        row.met = fits if row.met is None else row.met and fits
    return row


def absent(name: str, unit: str, why: str) -> Row:
    """A row that cannot be measured here."""
    return Row(name, None, unit, note=why)


def spread_of(values: Sequence[float]) -> float | None:
    """Half the range of the middle half of the values, over their median; None for fewer than 3."""
    if len(values) < 3 or not median(values):
        return None
    low, _, high = quantiles(values, n=4)
    return (high - low) / 2 / median(values)


def report_on(
    groups: Iterable[tuple[str, Callable[[bool], Iterable[Row]]]], quick: bool, on_row: Callable[[str], None]
) -> BenchReport:
    """Measure the groups one after the other. ``on_row`` hears what is being measured."""
    load = os.getloadavg()[0]
    rows: list[Row] = []
    for name, group in groups:
        on_row(name)
        rows += group(quick)
    return BenchReport(
        rows=rows, machine=machine_name(), kernel=f"{platform.system()} {platform.release()}",
        date=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), version=__version__, load=load, quick=quick,
        warnings=list(_warnings(rows, load)),
    )


def _warnings(rows: list[Row], load: float) -> Iterable[str]:
    if busy := busy_warning(load):
        yield busy
    noisy = [row.name for row in rows if row.spread is not None and row.spread > NOISY_SPREAD]
    if noisy:
        yield f"noisy, repetitions spread by more than {NOISY_SPREAD:.0%}: {', '.join(noisy)}"


def busy_warning(load: float) -> str:
    """That something else ran when the measurement began, or nothing. ``load``: the load average at that time."""
    cores = len(os.sched_getaffinity(0))
    return f"the machine was busy when this began: load {load:.1f} on {cores} cores" if load > BUSY_LOAD * cores else ""


def machine_name() -> str:
    """Processor, cores and memory, in one line."""
    fields = dict(
        line.replace("\t", "").split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line
    )
    memory_kb = int(Path("/proc/meminfo").read_text().split(maxsplit=2)[1])
    guest = ", virtual" if "hypervisor" in fields.get("flags", "") else ""
    name = fields.get("model name", platform.machine()).strip()
    model = fields.get("model", "?").strip()
    return f"{name} (model {model}{guest}), {len(os.sched_getaffinity(0))} cores, {memory_kb >> 20} GiB"


def choose(names: Sequence[str], groups: Sequence[tuple[str, Callable]]) -> list[tuple[str, Callable]]:
    """The groups named, in their order; all if none is. Raises ``UsageError``."""
    known = [name for name, _ in groups]
    for name in names:
        if name not in known:
            raise UsageError(f"bench {name!r}: expected one of {', '.join(known)}")
    return [group for group in groups if not names or group[0] in names]


# ---- what people read ----------------------------------------------------------------------------

_COLUMNS = ("row", "value", "unit", "reference", "ratio", "target", "met", "spread")


def _cells(row: Row) -> tuple[str, ...]:
    met = {None: "", True: "yes", False: "no"}[row.met]
    spread = "" if row.spread is None else f"{row.spread:.0%}"
    return (row.name, _number(row.value), row.unit, _number(row.reference), _number(row.ratio), row.target, met, spread)


def _number(value: float | None) -> str:
    """Three digits that matter; large ones in full."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def terminal_table(report: BenchReport) -> Table:
    """The table for a terminal; what the rows are is below it."""
    title = f"{report.machine}, {report.kernel}, {report.date}, load {report.load:.1f}"
    table = Table(title=title, title_justify="left", caption="\n".join(report.warnings) or None, caption_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in ("row", "unit", "target", "met") else "right", overflow="fold")
    for row in report.rows:
        style = "red" if row.met is False else "green" if row.met else None
        table.add_row(*_cells(row), style=style)
    return table


def markdown_lines(report: BenchReport) -> list[str]:
    """The same as the file BENCHMARKS.md holds it."""
    lines = [
        f"Machine: {report.machine}, {report.kernel}. Date: {report.date}. Load when it began: {report.load:.1f}."
        + (" Quick run." if report.quick else ""),
        *(f"Warning: {warning}." for warning in report.warnings),
        "",
        f"| {' | '.join(_COLUMNS)} | note |",
        f"|{'---|' * (len(_COLUMNS) + 1)}",
    ]
    return lines + [f"| {' | '.join(_cells(row))} | {row.note} |" for row in report.rows]
