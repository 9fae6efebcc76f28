"""The page of a comparison: one HTML file with its pictures inside, which needs nothing from anywhere else."""

from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from ptstress.compare_chart import Bar, Series, bar_chart, line_chart, short_text, x_axis, y_axis
from ptstress.compare_summary import Cell, CompareRow, CompareSummary
from ptstress.compare_statistics import Estimate, estimate
from ptstress.compare_table import by_workload, duration_text, figures, rate_text, title_of, verbs_of
from ptstress.units import format_kb
from ptstress.vocabulary import TABLE_BYTES

NO_BREAK_SPACE = "\u00a0"
#: Points of a percentile curve for each factor of ten of rarity.
POINTS_PER_DECADE = 20
MAX_DECADES = 5
#: Of the most bytes under one scheme to the most under another: from here on a linear axis would show the first only.
FAR_APART = 20
KB = 1024
STYLE = """
body { font: 15px/1.45 sans-serif; color: #222; background: #fff; margin: 2em auto; max-width: 62em; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #999 }
.charts { display: flex; flex-wrap: wrap; gap: 1em } svg { max-width: 100%; height: auto }
.scroll { overflow-x: auto } table { border-collapse: collapse; margin: 1em 0; font-size: 0.9em }
th, td { padding: 0.2em 0.8em; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left; white-space: pre } .bad { font-weight: bold; color: #a00 }
ul { padding-left: 1.2em }
"""


def page_text(summary: CompareSummary, cells: Mapping[tuple[str, str], Cell]) -> str:
    """The whole page. ``cells``: by workload and scheme."""
    html = Element("html", {"lang": "en"})
    head = SubElement(html, "head")
    SubElement(head, "meta", {"charset": "utf-8"})
    SubElement(head, "meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"})
    SubElement(head, "title").text = f"ptstress compare: {', '.join(summary.schemes)}"
    SubElement(head, "style").text = STYLE
    body = SubElement(html, "body")
    SubElement(body, "h1").text = f"{', '.join(summary.schemes[1:])} compared with {summary.schemes[0]}"
    _head(body, summary)
    for rows in by_workload(summary):
        SubElement(body, "h2").text = title_of(summary, rows[0])
        charts = SubElement(body, "div", {"class": "charts"})
        measured = {row.scheme: cells[row.workload, row.scheme] for row in rows if row.repetitions}
        charts.extend(_charts(summary, rows, measured))
        _table(body, rows)
    return "<!DOCTYPE html>\n" + tostring(html, encoding="unicode") + "\n"


def _head(body: Element, s: CompareSummary) -> None:
    verdict = SubElement(body, "p", {"class": "bad"} if s.exit_code else {})
    verdict.text = f"Verdict: {s.verdict} (exit {int(s.exit_code)})."
    SubElement(body, "p").text = (
        f"{s.machine}; {s.kernel}; ptstress {s.version}, build {s.build}, seed {s.seed}; {s.date}, "
        f"load {s.load:.1f} when it began."
    )
    SubElement(body, "p").text = (
        "The schemes ran in turns, repetition by repetition; a ratio is the median of the ratios of single repetitions. "
        "Intervals are those of the sign test for the median, with their coverage in the table; circles are single repetitions."
    )
    notes = SubElement(body, "ul")
    for note in [*(f"{row.workload} under {row.scheme}: {note}" for row in s.rows for note in row.notes), *s.notes]:
        SubElement(notes, "li").text = note


def _table(body: Element, rows: Sequence[CompareRow]) -> None:
    table = SubElement(SubElement(body, "div", {"class": "scroll"}), "table")
    lines = [("th", "", [row.scheme for row in rows]), *(("td", label, texts) for label, texts in figures(rows))]
    for tag, label, texts in lines:
        line = SubElement(table, "tr")
        for text in [label, *texts]:
            SubElement(line, tag).text = text or NO_BREAK_SPACE


def _charts(s: CompareSummary, rows: Sequence[CompareRow], cells: Mapping[str, Cell]) -> Iterator[Element]:
    """Nothing for a workload that was not measured."""
    if not cells:
        return
    number = {scheme: i for i, scheme in enumerate(s.schemes)}
    yield bar_chart("Operations per second of racing", "operations/s", [
        _bar(row.scheme, number[row.scheme], row.ops, list(cells[row.scheme].per_second.values())) for row in rows if row.ops
    ], rate_text)
    means = {scheme: [r.mean_bytes / KB for r in cell.repetitions] for scheme, cell in cells.items()}
    yield bar_chart("Table bytes, mean over the racing time", "kB", [
        _bar(scheme, number[scheme], found, values) for scheme, values in means.items() if (found := estimate(values))
    ], lambda kb: format_kb(round(kb) * KB))
    yield _bytes_chart(number, cells)
    for verb in verbs_of(rows):
        yield _latency_chart(verb, number, cells)


def _bar(scheme: str, number: int, value: Estimate, single: list[float]) -> Bar:
    low, high = (value.interval.low, value.interval.high) if value.interval else (None, None)
    return Bar(scheme, number, value.median, low, high, single)


def _bytes_chart(number: Mapping[str, int], cells: Mapping[str, Cell]) -> Element:
    """Of each scheme the repetition whose mean is the median one. A logarithmic axis begins at one table."""
    series = [
        Series(scheme, number[scheme], [(ns / 1e9, size / KB) for ns, size in cell.typical.measured.table_bytes])
        for scheme, cell in cells.items() if cell.typical
    ]
    seconds = max(x for one in series for x, _ in one.points)
    most = [max(TABLE_BYTES / KB, *(kb for _, kb in one.points)) for one in series]
    log = max(most) > FAR_APART * min(most)
    y = y_axis(TABLE_BYTES / KB if log else 0, 1.05 * max(most), short_text, log, list(cells))
    x = x_axis(0, seconds, lambda t: f"{t:g}", lines=len(series))
    return line_chart("Table bytes", "seconds of racing", "kB", x, y, series)


def _latency_chart(verb: str, number: Mapping[str, int], cells: Mapping[str, Cell]) -> Element:
    """Percentiles: the further right, the rarer; each step of the axis is a factor of ten."""
    series = []
    rarities = [10 ** (k / POINTS_PER_DECADE) for k in range(MAX_DECADES * POINTS_PER_DECADE + 1)]
    for scheme, cell in cells.items():
        if histogram := cell.latency.get(verb):
            values = zip(rarities, histogram.percentiles(100 - 100 / r for r in rarities), strict=True)
            series.append(Series(scheme, number[scheme], [(r, max(1, ns)) for r, ns in values if ns is not None]))
    lowest = min(ns for one in series for _, ns in one.points)
    highest = max(ns for one in series for _, ns in one.points)
    x = x_axis(1, max(r for one in series for r, _ in one.points), _percent, log=True, lines=len(series))
    y = y_axis(lowest, highest, duration_text, log=True, names=[s.name for s in series])
    return line_chart(f"Latency of {verb}", "percentile", "latency", x, y, series)


def _percent(rarity: float) -> str:
    """``99.9%`` for 1000: one of so many is longer."""
    return f"{100 - 100 / rarity:.10g}%"
