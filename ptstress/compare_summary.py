"""The figures of ``ptstress compare``: one row for each workload and scheme, made of the repetitions that ended by themselves."""

import dataclasses
from dataclasses import dataclass
from statistics import median

from msgspec import Struct, field, structs

from ptstress.compare_statistics import Estimate, estimate, ratios
from ptstress.errors import ExitCode
from ptstress.histogram import Histogram
from ptstress.job import Measured
from ptstress.results import Checked, Failure, StageSummary
from ptstress.verdict import VERDICTS, pool, worst

PERCENTS = (50.0, 99.0, 99.9)


@dataclass(frozen=True)
class Repetition:
    """One run. ``raced``: operations of the workers; ``stalls``: times that one waited because its backlog was full.

    ``start_s``: since the comparison began. ``latency``: by operation.
    """

    number: int
    start_s: float
    race_s: float
    raced: int
    stalls: int
    stage: StageSummary
    measured: Measured
    latency: dict[str, Histogram]

    @property
    def per_second(self) -> float:
        """Operations in a second of racing."""
        return self.raced / self.race_s if self.race_s else 0.0

    @property
    def byte_seconds(self) -> float:
        """Area under the table bytes over the racing time."""
        return self.measured.table_byte_ns / 1e9

    @property
    def mean_bytes(self) -> float:
        """Table bytes, averaged over the racing time."""
        return self.byte_seconds / self.race_s if self.race_s else 0.0


@dataclass
class Cell:
    """One workload under one scheme while it is measured. ``stages``: all its runs; ``repetitions``: those that are figures."""

    workload: str
    scheme: str
    parts: str
    geometry: str
    threads: int
    repetitions: list[Repetition] = dataclasses.field(default_factory=list)
    stages: list[StageSummary] = dataclasses.field(default_factory=list)

    @property
    def failed(self) -> bool:
        """A run of it ended badly: its figures mean nothing."""
        return any(s.exit_code in (ExitCode.VIOLATION, ExitCode.KILLED) for s in self.stages)

    @property
    def per_second(self) -> dict[int, float]:
        """Operations in a second of racing, by repetition."""
        return {r.number: r.per_second for r in self.repetitions}

    @property
    def latency(self) -> dict[str, Histogram]:
        """By operation, over all repetitions."""
        merged: dict[str, Histogram] = {}
        for repetition in self.repetitions:
            for verb, histogram in repetition.latency.items():
                merged.setdefault(verb, Histogram()).merge(histogram)
        return merged

    @property
    def typical(self) -> Repetition | None:
        """The repetition with the median of the mean table bytes: the lower one of two."""
        ordered = sorted(self.repetitions, key=lambda r: r.mean_bytes)
        return ordered[(len(ordered) - 1) // 2] if ordered else None


class Latency(Struct):
    """Of one operation over all repetitions, in nanoseconds. ``None``: too few to tell it from the longest."""

    count: int
    p50_ns: int | None
    p99_ns: int | None
    p999_ns: int | None
    max_ns: int


class CompareRow(Struct):
    """One workload under one scheme. Medians over the repetitions, unless said otherwise.

    ``ops_per_second``: operations in a second of racing. ``ratio``: to the first scheme, of the same repetitions.
    ``tables_byte_seconds``: the area under the table bytes over the racing time; ``tables_mean_bytes``: that divided by the
    time; ``tables_byte_seconds_per_op``: by the operations.
    Sums over all repetitions: ``race_s``, ``operations``, ``checked``, ``tables_allocated``, ``tables_reclaimed``,
    ``grace_periods``, ``reclaim_stalls`` (a worker waited because its queue for grace periods was full), ``near_misses``,
    ``retries`` (near misses but lock waits), ``lock_waits``.
    Largest of all: ``grace_period_max_ms``, ``backlog_max`` (objects that waited for one at once).
    Of tables that were unlinked and not free yet (``Debt``): ``debt_max_tables``, ``debt_max_gp_ms``, ``debt_max_age_ms``;
    ``debt_table_ms`` is the sum.
    """

    workload: str
    scheme: str
    parts: str
    geometry: str
    threads: int
    repetitions: int = 0
    verdict: str = "none"
    notes: list[str] = []
    ops_per_second: float | None = None
    ops: Estimate | None = None
    ratio: Estimate | None = None
    race_s: float = 0.0
    operations: int = 0
    checked: Checked = field(default_factory=Checked)
    latency: dict[str, Latency] = {}
    tables_peak_bytes: int | None = None
    tables_end_bytes: int | None = None
    tables_mean_bytes: float | None = None
    tables_byte_seconds: float | None = None
    tables_byte_seconds_per_op: float | None = None
    tables_allocated: int = 0
    tables_reclaimed: int = 0
    grace_periods: int = 0
    grace_period_max_ms: float = 0.0
    backlog_max: int = 0
    debt_max_tables: int = 0
    debt_max_gp_ms: float = 0.0
    debt_max_age_ms: float = 0.0
    debt_table_ms: float = 0.0
    reclaim_stalls: int = 0
    near_misses: dict[str, int] = {}
    retries: int = 0
    lock_waits: int = 0
    histograms: str = ""
    failure: Failure | None = None


class CompareSummary(Struct):
    """The whole comparison; the first of ``schemes`` is what the others are compared with."""

    verdict: str
    exit_code: int
    workloads: list[str]
    schemes: list[str]
    build: str
    seed: int
    repeat: int
    duration_s: float
    rows: list[CompareRow]
    machine: str
    kernel: str
    date: str
    version: str
    load: float
    notes: list[str]
    failure: Failure | None
    results: str
    page: str
    schema: str = "ptstress.compare/1"


def summarize_row(cell: Cell, reference: Cell, histograms: str = "") -> CompareRow:
    """The figures of a cell. ``histograms``: the file that has its latencies."""
    row = CompareRow(cell.workload, cell.scheme, cell.parts, cell.geometry, cell.threads, histograms=histograms)
    if cell.stages:
        everything = pool(cell.stages)
        row.verdict = VERDICTS[worst(ExitCode(s.exit_code) for s in cell.stages)]
        row.notes = list(dict.fromkeys(note for s in cell.stages for note in s.notes))
        row.checked, row.failure = everything["checked"], everything["failure"]
    done = cell.repetitions
    if not done:
        return row
    pooled = pool([r.stage for r in done])
    row.repetitions, row.race_s, row.operations = len(done), sum(r.race_s for r in done), sum(r.raced for r in done)
    row.ops, row.ratio = estimate(list(cell.per_second.values())), estimate(ratios(cell.per_second, reference.per_second))
    row.ops_per_second = row.ops.median if row.ops else None
    row.latency = {verb: summarize_latency(histogram) for verb, histogram in cell.latency.items()}
    row.tables_peak_bytes = int(median(r.stage.tables.peak_bytes for r in done))
    row.tables_end_bytes = int(median(r.stage.tables.end_bytes for r in done))
    row.tables_mean_bytes = median(r.mean_bytes for r in done)
    row.tables_byte_seconds = median(r.byte_seconds for r in done)
    row.tables_byte_seconds_per_op = median(r.byte_seconds / r.raced for r in done) if all(r.raced for r in done) else None
    row.tables_allocated, row.tables_reclaimed = pooled["tables"].allocated, pooled["tables"].reclaimed
    row.grace_periods, row.grace_period_max_ms, row.backlog_max = structs.astuple(pooled["rcu"])
    debt = pooled["debt"]
    row.debt_max_tables, row.debt_max_gp_ms, row.debt_max_age_ms = debt.max_tables, debt.max_gp_ms, debt.max_age_ms
    row.debt_table_ms = debt.table_ms
    row.reclaim_stalls = sum(r.stalls for r in done)
    row.near_misses = pooled["near_misses"]
    row.lock_waits = row.near_misses.get("lock_contended", 0)
    row.retries = sum(row.near_misses.values()) - row.lock_waits
    return row


def summarize_latency(histogram: Histogram) -> Latency:
    """The percentiles that a table has room for."""
    return Latency(histogram.total, *histogram.percentiles(PERCENTS), histogram.max_ns)
