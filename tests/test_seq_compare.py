"""The verb ``compare``: statistics, rows, table and page, and what it refuses. What something costs is never asserted."""

import re
from html.parser import HTMLParser
from math import comb
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from rich.console import Console

from ptstress.cli import main
from ptstress.compare import CompareRequest, plan_cases
from ptstress.compare_chart import Bar, Series, bar_chart, line_chart, round_up, x_axis, y_axis
from ptstress.compare_markdown import markdown_text
from ptstress.compare_page import page_text
from ptstress.compare_statistics import estimate, median_interval, ratios
from ptstress.compare_summary import Cell, CompareSummary, Repetition, summarize_row
from ptstress.compare_table import duration_text, figures, rate_text, tables
from ptstress.histogram import Histogram
from ptstress.job import Measured
from ptstress.plan import Overrides, distinct_stages, plan_run
from ptstress.results import Canaries, Checked, Debt, Ops, Overlaps, Rcu, StageSummary, Tables
from ptstress.workload import load_workload

SVG = "{http://www.w3.org/2000/svg}"


# ---- statistics ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), [(4, 1), (5, 1), (6, 1), (8, 1), (9, 2), (15, 4), (20, 6), (100, 40)])
def test_the_interval_is_that_of_the_sign_test(n, k):
    """k: from the usual tables of the sign test, or 1 where there are too few values for 95 %."""
    found = median_interval([float(v) for v in reversed(range(n))])
    assert (found.low, found.high) == (k - 1, n - k)
    assert found.coverage == pytest.approx(1 - 2 * sum(comb(n, i) for i in range(k)) / 2**n, abs=1e-4)
    assert found.coverage >= 0.95 or n < 6


def test_few_values_have_no_interval():
    assert median_interval([1.0, 2.0, 3.0]) is None
    assert estimate([3.0, 1.0]).median == 2.0 and estimate([3.0, 1.0]).interval is None
    assert estimate([]) is None


def test_ratios_are_of_the_same_repetition():
    assert ratios({0: 2.0, 1: 9.0, 3: 5.0}, {0: 4.0, 1: 3.0, 2: 1.0}) == [0.5, 3.0]


# ---- rows ----------------------------------------------------------------------------------------


def stage(scheme: str, code: int = 0, notes: tuple[str, ...] = ()) -> StageSummary:
    return StageSummary(
        name="w", verdict="pass", exit_code=code, scheme=scheme, parts="vma_lock x sync", build="fast", geometry="x86-64-4",
        seed=1, threads=4,
        duration_s=2.0, ops=Ops(1000, 500.0, {"write": 1000}), checked=Checked(1000, 1000, 0), overlaps=Overlaps(),
        near_misses={"map_failed": 6, "lock_contended": 4}, tables=Tables(0, 80 * 1024, 8 * 1024, 30, 28, 20),
        rcu=Rcu(50, 3.0, 9), debt=Debt(40, 0, 7, 1.5, 2.5, 20.0, 3),
        canaries=Canaries(), confidence="", racing_share=0.5, notes=list(notes), reason="duration")


def repetition(scheme: str, number: int, raced: int) -> Repetition:
    histogram = Histogram()
    for k in range(1, 2001):
        histogram.add(k * 10)
    measured = Measured({}, 0.4, [(0, 4096), (10**9, 40960)], 20480 * 10**9)
    return Repetition(number, float(number), 1.0, raced, 3, stage(scheme), measured, {"write": histogram, "dontneed": histogram})


def cell(scheme: str, rates: list[int]) -> Cell:
    repetitions = [repetition(scheme, n, raced) for n, raced in enumerate(rates)]
    return Cell("w", scheme, "vma_lock x sync", "x86-64-4", 4, repetitions, [r.stage for r in repetitions])


def comparison(*cells: Cell) -> CompareSummary:
    rows = [summarize_row(c, cells[0], f"w-{c.scheme}.hlog") for c in cells]
    return CompareSummary(
        verdict="pass", exit_code=0, workloads=["w"], schemes=[c.scheme for c in cells], build="fast", seed=1, repeat=5,
        duration_s=2.0, rows=rows, machine="a <machine>", kernel="Linux", date="today", version="0", load=0.1, notes=["a & b"],
        failure=None, results="results/x", page="compare.html")


RATES = {
    "linux-6.12": [1000, 1100, 900, 1000, 1050], "linux-6.18": [500, 550, 450, 520, 500],
    "seed-async": [2000, 2200, 1800, 2000, 2100],
}


def test_a_row_has_medians_sums_and_maxima():
    slow = summarize_row(cell("linux-6.18", RATES["linux-6.18"]), cell("linux-6.12", RATES["linux-6.12"]))
    assert slow.ops_per_second == 500 and (slow.ops.interval.low, slow.ops.interval.high) == (450, 550)
    assert slow.ratio.median == 0.5 and slow.ratio.interval.coverage == 0.9375
    write = slow.latency["write"]
    assert write.count == 10_000
    assert (write.p50_ns, write.p999_ns) == (pytest.approx(10_000, rel=2e-3), pytest.approx(19_980, rel=2e-3))
    assert (slow.tables_peak_bytes, slow.tables_end_bytes, slow.tables_mean_bytes) == (80 * 1024, 8 * 1024, 20480)
    assert (slow.tables_allocated, slow.tables_reclaimed, slow.grace_periods) == (150, 100, 250)
    assert (slow.grace_period_max_ms, slow.backlog_max, slow.reclaim_stalls) == (3.0, 9, 15)
    assert (slow.debt_max_tables, slow.debt_max_gp_ms, slow.debt_max_age_ms, slow.debt_table_ms) == (7, 1.5, 2.5, 100.0)
    assert (slow.retries, slow.lock_waits, slow.repetitions, slow.verdict) == (30, 20, 5, "pass")
    assert slow.checked == Checked(5000, 5000, 0)


def test_a_scheme_that_failed_or_never_ran_has_no_figures():
    failed = Cell("w", "linux-6.18", "", "x86-64-4", 4, [], [stage("linux-6.18", 2, ("why",))])
    row = summarize_row(failed, cell("linux-6.12", [1000]))
    assert (row.verdict, row.ops_per_second, row.ratio, row.repetitions, row.notes) == ("violation", None, None, 0, ["why"])
    assert summarize_row(Cell("w", "s", "", "", 4), failed).verdict == "none"
    assert summarize_row(cell("linux-6.12", [1000]), failed).ratio is None


# ---- table and page ------------------------------------------------------------------------------


def printed(summary: CompareSummary) -> list[str]:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))
    for table in tables(summary):
        console.print(table)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_the_table_has_a_column_for_each_scheme_and_100_characters():
    lines = printed(comparison(*(cell(s, rates) for s, rates in RATES.items())))
    assert max(map(len, lines)) <= 100
    (head,) = [line.split() for line in lines if "seed-async" in line]
    assert head == ["linux-6.12", "linux-6.18", "seed-async"]
    by_label = {line[:21].strip(): line[21:].split() for line in lines}
    assert by_label["ratio to the first"] == ["1.000", "0.500", "2.000"]
    assert by_label["write"] == ["10us/20us/20us"] * 3
    assert any(line.split()[:2] == ["interval", "94%"] and "450 to 550" in line for line in lines)


def test_many_schemes_take_several_tables_with_the_first_in_each():
    lines = printed(comparison(*(cell(f"scheme-{i}", [100 + i]) for i in range(6))))
    heads = [line.split() for line in lines if "scheme-0" in line]
    assert heads == [["scheme-0", "scheme-1", "scheme-2", "scheme-3"], ["scheme-0", "scheme-4", "scheme-5"]]


def test_a_figure_that_nobody_has_is_left_out():
    labels = [label for label, _ in figures(comparison(cell("linux-6.12", [1000]), cell("linux-6.18", [500])).rows)]
    assert "operations/s" in labels and not any("interval" in label for label in labels)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (None, "-"), (0.4, "0.40"), (9_999, "9,999"), (12_345, "12.3 k"), (999_999, "1,000 k"), (1_284_000, "1.28 M"),
        (1.3e6, "1.30 M"), (25e6, "25.0 M"),
    ],
)
def test_rates_have_three_digits(rate, text):
    assert rate_text(rate) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [(None, "-"), (7, "7ns"), (999, "999ns"), (1000, "1us"), (1540, "1.5us"), (99_000, "99us"), (2e9, "2s")],
)
def test_durations_are_short(ns, text):
    assert duration_text(ns) == text


class Links(HTMLParser):
    """Everything that a browser would fetch."""

    found: list[str]

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found += [f"{tag} {name}={value}" for name, value in attrs if name in ("src", "href", "srcset", "data", "poster")]
        self.found += [tag] * (tag in ("script", "link", "iframe", "object", "embed", "img"))


@pytest.fixture(scope="module")
def page() -> str:
    cells = [cell(scheme, rates) for scheme, rates in RATES.items()]
    return page_text(comparison(*cells), {("w", c.scheme): c for c in cells})


def test_the_page_is_well_formed_and_needs_nothing_else(page):
    first, _, rest = page.partition("\n")
    assert first == "<!DOCTYPE html>"
    root = ElementTree.fromstring(rest)
    assert Links(page).found == [] and "url(" not in page and "@import" not in page
    titles = [svg.find(f"{SVG}title").text for svg in root.iter(f"{SVG}svg")]
    assert titles == [
        "Operations per second of racing", "Table bytes, mean over the racing time", "Table bytes", "Latency of write",
        "Latency of dontneed",
    ]
    assert all(element.text for element in root.iter("td")), "an empty cell would be read as an open one"
    assert "a <machine>" in "".join(root.itertext())


def test_nothing_is_drawn_outside_a_picture(page):
    for svg in ElementTree.fromstring(page.partition("\n")[2]).iter(f"{SVG}svg"):
        width, height = (float(svg.get(name)) for name in ("width", "height"))
        for text in svg.iter(f"{SVG}text"):
            reach = 6.6 * len(text.text)
            left = float(text.get("x")) - {"start": 0, "middle": reach / 2, "end": reach}[text.get("text-anchor")]
            assert -3 <= left and left + reach <= width + 12 and 0 < float(text.get("y")) < height, text.text
        for line in svg.iter(f"{SVG}polyline"):
            for x, y in re.findall(r"([\d.]+),([\d.]+)", line.get("points")):
                assert 0 <= float(x) <= width and 0 <= float(y) <= height


def test_a_scheme_looks_the_same_in_every_picture_and_unlike_the_others(page):
    looks = {}
    for svg in ElementTree.fromstring(page.partition("\n")[2]).iter(f"{SVG}svg"):
        lines = [(line.get("stroke"), line.get("stroke-dasharray")) for line in svg.iter(f"{SVG}polyline")]
        bars = [(bar.get("stroke"), bar.get("stroke-dasharray")) for bar in svg.iter(f"{SVG}rect")]
        looks[svg.find(f"{SVG}title").text] = lines or bars
    assert len({tuple(look) for look in looks.values()}) == 1
    (look,) = {tuple(look) for look in looks.values()}
    assert len({colour for colour, _ in look}) == len({dash for _, dash in look}) == 3


def test_bars_begin_at_zero_and_are_as_long_as_their_values():
    svg = bar_chart("t", "u", [Bar("a", 0, 100.0, 90.0, 110.0, [90.0, 110.0]), Bar("b", 1, 50.0, None, None)], str)
    long, short = (float(bar.get("width")) for bar in svg.iter("rect"))
    assert long == pytest.approx(2 * short, abs=0.3)
    assert len(list(svg.iter("circle"))) == 2


def test_many_schemes_look_different_too():
    svg = bar_chart("t", "u", [Bar(str(i), i, 1.0, None, None) for i in range(20)], str)
    assert len({(bar.get("stroke"), bar.get("stroke-dasharray")) for bar in svg.iter("rect")}) == 20


def test_lines_rise_from_the_bottom_left_to_the_top_right():
    y = y_axis(1, 1000, str, log=True)
    svg = line_chart("t", "x", "y", x_axis(0, 10, str), y, [Series("a", 0, [(0, 1), (5, 31.6227766), (10, 1000)])])
    points = [tuple(map(float, p.split(","))) for p in svg.find("polyline").get("points").split()]
    assert points == [(64, y.begin), (247, (y.begin + y.end) / 2), (430, y.end)]
    assert y.ticks() == [1, 10, 100, 1000]


def test_the_table_to_be_quoted_has_a_line_for_each_scheme():
    failed = Cell("w", "rcu", "", "x86-64-4", 4, [], [stage("rcu", 2)])
    text = markdown_text(comparison(*(cell(s, rates) for s, rates in RATES.items()), failed))
    lines = [[part.strip() for part in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    head, _, first, second, _, last = lines
    assert head[:5] == ["scheme", "operations/s", "to the first", "write", "dontneed"]
    assert first[:4] == ["`linux-6.12`", "1,000", "1.00", "10us/20us/20us"]
    assert second[:3] == ["`linux-6.18`", "500", "0.50 (0.48 to 0.52)"]
    assert second[5:] == ["80, 20, 8", "30, 20", "50, 3.0 ms, 9", "11.90, 7.94"]
    assert last[:3] == ["`rcu`", "violation", "-"]
    assert "a <machine>; Linux; ptstress 0, build fast, seed 1; today, load 0.1" in text and "sign test, 94%" in text


@pytest.fixture(scope="module")
def crowded() -> str:
    """Twelve schemes, of which one keeps its tables."""
    cells = [cell(f"scheme-{i}", RATES["linux-6.12"]) for i in range(12)]
    for repetition_ in cells[3].repetitions:
        repetition_.measured.table_bytes[:] = [(0, 4096), (10**9, 100 << 20)]
    return page_text(comparison(*cells), {("w", c.scheme): c for c in cells})


def test_many_lines_have_more_room(crowded):
    test_nothing_is_drawn_outside_a_picture(crowded)
    pictures = {svg.find(f"{SVG}title").text: svg for svg in ElementTree.fromstring(crowded.partition("\n")[2]).iter(f"{SVG}svg")}
    sizes = {title: (svg.get("width"), svg.get("height")) for title, svg in pictures.items()}
    assert sizes["Table bytes"] == sizes["Latency of write"] == ("920", "440")
    assert sizes["Table bytes, mean over the racing time"][0] == "460"


def test_bytes_that_are_far_apart_have_a_logarithmic_axis(crowded, page):
    """Else 40 kB would lie on the axis beside 100 MiB."""
    def ends(text: str) -> list[float]:
        (svg,) = [s for s in ElementTree.fromstring(text.partition("\n")[2]).iter(f"{SVG}svg")
                  if s.find(f"{SVG}title").text == "Table bytes"]
        return [float(line.get("points").split()[-1].partition(",")[2]) for line in svg.iter(f"{SVG}polyline")]

    most, least = ends(crowded)[3], ends(crowded)[0]
    assert most < least < 440 - 44 - 50
    assert len(set(ends(page))) == 1


@pytest.mark.parametrize(("value", "rounded"), [(1, 1), (1.1, 2), (3, 5), (0.06, 0.1), (700, 1000), (50, 50)])
def test_ticks_are_round(value, rounded):
    assert round_up(value) == pytest.approx(rounded)


def test_the_summary_is_json_of_its_schema():
    data = msgspec.to_builtins(comparison(cell("linux-6.12", [1000] * 5), cell("linux-6.18", [500] * 5)))
    assert data["schema"] == "ptstress.compare/1"
    expected = {"workload", "scheme", "ops_per_second", "tables_peak_bytes", "tables_end_bytes", "latency", "ratio"}
    assert expected <= set(data["rows"][1])


# ---- what is compared ----------------------------------------------------------------------------


def test_stages_that_differ_in_their_scheme_only_are_one():
    plans = plan_run(load_workload("headline"), Overrides(scheme="linux-6.18", build="fast", duration="1s"))
    assert distinct_stages(plans) == [0, 2]
    two = ("linux-6.12", "linux-6.18")
    request = CompareRequest(("headline",), two, 1, Overrides(build="fast", duration="1s"), Path("results"))
    assert [(case.name, case.stage) for case in plan_cases(request)] == [("headline", 0), ("headline/jemalloc-16m", 2)]


def test_stages_that_differ_in_more_go_by_their_own_names():
    request = CompareRequest(("headline_50g",), ("linux-6.12", "linux-6.18"), 1, Overrides(build="fast"), Path("results"))
    names = ["headline_50g/units-4k", "headline_50g/units-64k", "headline_50g/units-2m"]
    assert [case.name for case in plan_cases(request)] == names


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--schemes", "linux-6.12,linux-6.18"], 1, "missing argument 'WORKLOAD...'"),
        (["hot_page"], 1, "missing option '--schemes'"),
        (["hot_page", "--schemes", "linux-6.18"], 1, "nothing to compare: expected two schemes or more"),
        (["hot_page", "--schemes", "linux-6.18,linux-6.18"], 1, "nothing to compare"),
        (["hot_page", "--schemes", "a,b,a"], 1, "expected each scheme once"),
        (["hot_page", "--schemes", ","], 1, "nothing to compare"),
        (["scan_vs_fault", "--schemes", "seed-async,linux-6.12"], 1, "is about scans, and linux-6.12 has none"),
        (["hot_page", "--schemes", "linux-6.18,linux-9"], 1, "scheme 'linux-9': expected one of linux-6.3"),
        (["hot_pag", "--schemes", "linux-6.12,linux-6.18"], 1, "did you mean 'hot_page'?"),
        (["hot_page", "--schemes", "linux-6.12,linux-6.18", "--repeat", "0"], 1, "repeat"),
        (["hot_page", "--schemes", "linux-6.12,linux-6.18", "--duration", "5x"], 1, "duration '5x'"),
        (["hot_page", "--schemes", "linux-6.12,linux-6.18", "--geometry", "7"], 1, "geometry '7'"),
        (["hot_page", "--schemes", "linux-6.12,linux-6.18", "--build", "nope"], 1, "build 'nope'"),
        (["hot_page", "--schemes", "linux-6.12,linux-6.18", "--build", "sched"], 4, "build sched runs one worker at a time"),
        (["hot_page", "--schemes", "linux-6.12,linux-6.18", "--bug", "P01"], 4, "build fast has no bugs"),
        (["hot_page", "--schemes", "linux-6.12,linux-6.3", "--build", "stress", "--bug", "P01"], 1, "bug P01 sits in code that"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, code, expected):
    assert main(["compare", *arguments]) == code
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith("ptstress: ") and expected in line
    assert output.out == ""
