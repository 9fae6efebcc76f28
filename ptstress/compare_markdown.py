"""The figures of a comparison as Markdown: a line for each scheme, to be quoted in a document or a mail."""

from collections.abc import Iterator

from ptstress.compare_summary import CompareRow, CompareSummary
from ptstress.compare_table import (
    NONE, by_workload, interval_text, kb_text, latency_text, per_second, per_thousand, rate_text, title_of, verbs_of)
from ptstress.units import format_count, format_seconds

#: Operations whose latencies are shown: the most frequent ones.
VERBS = 2


def markdown_text(s: CompareSummary) -> str:
    """One table for each workload, and what they were made on."""
    coverage = next((f", {row.ratio.interval.coverage:.0%}" for row in s.rows if row.ratio and row.ratio.interval), "")
    made = (
        f"{s.machine}; {s.kernel}; ptstress {s.version}, build {s.build}, seed {s.seed}; {s.date}, load {s.load:.1f} when it "
        f"began. Intervals: sign test{coverage}. Latencies: p50/99/99.9. kB: peak, mean, end.\n"
    )
    return "\n".join(["\n".join(_table(s, rows)) + "\n" for rows in by_workload(s)] + [made])


def _table(s: CompareSummary, rows: list[CompareRow]) -> Iterator[str]:
    verbs = verbs_of(rows)[:VERBS]
    heads = [
        "scheme", "operations/s", "to the first", *verbs, "tables, kB", "allocated, reclaimed /s",
        "grace periods /s, longest, queue", "retries, lock waits /1000",
    ]
    yield f"{title_of(s, rows[0])}\n"
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join([f'`{row.scheme}`', *_cells(row, rows[0], verbs)])} |"


def _cells(row: CompareRow, first: CompareRow, verbs: list[str]) -> list[str]:
    if not row.repetitions:
        return [row.verdict, *[NONE] * (len(verbs) + 5)]
    ratio = f"{row.ratio.median:.2f}" if row.ratio else NONE
    interval = interval_text(row.ratio, "{:.2f}".format)
    sizes = (row.tables_peak_bytes, row.tables_mean_bytes, row.tables_end_bytes)
    return [
        rate_text(row.ops_per_second),
        ratio if row is first or interval == NONE else f"{ratio} ({interval})",
        *(latency_text(row, verb) for verb in verbs),
        ", ".join(kb_text(size).removesuffix(" kB") for size in sizes),
        f"{per_second(row, row.tables_allocated)}, {per_second(row, row.tables_reclaimed)}",
        f"{per_second(row, row.grace_periods)}, {format_seconds(row.grace_period_max_ms / 1e3)}, {format_count(row.backlog_max)}",
        f"{per_thousand(row, row.retries)}, {per_thousand(row, row.lock_waits)}",
    ]
