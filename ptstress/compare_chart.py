"""Pictures as SVG elements: bars with intervals, and lines over linear or logarithmic axes.

What belongs to one scheme looks the same everywhere: colour (Okabe and Ito's, which most people tell apart) and dashes, which are
seen without colours too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from xml.etree.ElementTree import Element, SubElement

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9")
DASHES = ("", "8 3", "2 2", "10 3 2 3", "5 2 2 2 2 2", "14 4", "4 4")
INK, GRID = "#222222", "#dddddd"
FONT = "12px sans-serif"
#: Width of a character of that font, about.
CHARACTER = 6.6
WIDTH, HEIGHT = 460, 300
#: Of a picture whose lines would not be told apart in that.
WIDE, TALL, CROWD = 920, 440, 6
LEFT, RIGHT, TOP, BOTTOM = 64, 30, 28, 44
BAR, BAR_GAP = 26, 14
LEGEND_LINE = 18
MAX_TICKS = 6


@dataclass(frozen=True)
class Series:
    """One line. ``number``: of its scheme, which decides what it looks like."""

    name: str
    number: int
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Bar:
    """One bar. ``low`` and ``high``: its interval, if there is one; ``single``: single values."""

    name: str
    number: int
    value: float
    low: float | None
    high: float | None
    single: Sequence[float] = ()


class Axis:
    """Values ``[low, high]`` on ``[begin, end]`` pixels; ``form``: how a value is written."""

    def __init__(
        self, low: float, high: float, begin: float, end: float, form: Callable[[float], str], log: bool = False
    ) -> None:
        self.log = log
        self.low, self.high = (10.0 ** floor(log10(low)), 10.0 ** ceil(log10(high))) if log else (low, high)
        if self.high <= self.low:
            self.high = self.low * 10 if log else self.low + 1
        self.begin, self.end, self.form = begin, end, form

    def at(self, value: float) -> float:
        """Where a value lies; one outside lies at the border."""
        value = min(max(value, self.low), self.high)
        low, high, value = (log10(self.low), log10(self.high), log10(value)) if self.log else (self.low, self.high, value)
        return round(self.begin + (value - low) / (high - low) * (self.end - self.begin), 1)

    def ticks(self) -> list[float]:
        """Round values, few enough to be read."""
        if self.log:
            return [10.0**k for k in range(round(log10(self.low)), round(log10(self.high)) + 1)]
        step = round_up((self.high - self.low) / MAX_TICKS)
        return [k * step for k in range(ceil(self.low / step), floor(self.high / step + 1e-9) + 1)]


def round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 …"""
    power = 10.0 ** floor(log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value * (1 - 1e-9))


def short_text(value: float) -> str:
    """A round number: ``500 k``, ``1.5 M``."""
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:g}{unit}"
    return f"{value:g}"


def bar_chart(title: str, unit: str, bars: Sequence[Bar], form: Callable[[float], str]) -> Element:
    """Horizontal bars from zero, each with its name, its value and the interval of it as a whisker; dots are single runs.

    ``form``: how a value is written.
    """
    left = 12 + CHARACTER * max(len(bar.name) for bar in bars)
    bottom = TOP + BAR_GAP + len(bars) * (BAR + BAR_GAP)
    svg = _canvas(title, bottom + BOTTOM)
    highest = max((v for bar in bars for v in (bar.value, bar.high or 0.0, *bar.single)), default=0.0) or 1.0
    room = 10 + CHARACTER * max(len(form(bar.value)) for bar in bars)
    axis = Axis(0, highest, left, WIDTH - RIGHT - room, short_text)
    _x_axis(svg, axis, bottom, unit, TOP)
    for i, bar in enumerate(bars):
        y = TOP + BAR_GAP + i * (BAR + BAR_GAP)
        middle = y + BAR / 2
        _text(svg, left - 6, middle + 4, bar.name, "end")
        SubElement(svg, "rect", _numbers(x=left, y=y, width=axis.at(bar.value) - left, height=BAR) | {
            "fill": _colour(bar.number), "fill-opacity": "0.45", **_line(bar.number)})
        for value in bar.single:
            SubElement(svg, "circle", _numbers(cx=axis.at(value), cy=middle, r=2.5) | {"fill": "none", "stroke": INK})
        if bar.low is not None and bar.high is not None:
            low, high = axis.at(bar.low), axis.at(bar.high)
            path = f"M{low} {middle - 7}V{middle + 7}M{low} {middle}H{high}M{high} {middle - 7}V{middle + 7}"
            SubElement(svg, "path", {"d": path, "stroke": INK, "stroke-width": "1.5", "fill": "none"})
        reach = max(axis.at(v) for v in (bar.value, bar.high or 0.0, *bar.single))
        _text(svg, reach + 8, middle + 4, form(bar.value), "start")
    return svg


def line_chart(title: str, x_unit: str, y_unit: str, x: Axis, y: Axis, series: Sequence[Series]) -> Element:
    """Lines with a legend below the title. The axes come from ``x_axis`` and ``y_axis``, and have the picture's size."""
    svg = _canvas(title, y.begin + BOTTOM, x.end + RIGHT)
    for value in y.ticks():
        SubElement(svg, "path", {"d": f"M{LEFT} {y.at(value)}H{x.end:g}", "stroke": GRID})
        _text(svg, LEFT - 6, y.at(value) + 4, y.form(value), "end")
    _text(svg, LEFT, y.end - 8, y_unit, "middle")
    _x_axis(svg, x, y.begin, x_unit, y.end)
    for one in series:
        points = " ".join(f"{x.at(a)},{y.at(b)}" for a, b in one.points)
        SubElement(svg, "polyline", {"points": points, "fill": "none", **_line(one.number)})
    _legend(svg, series, x.end)
    return svg


def x_axis(low: float, high: float, form: Callable[[float], str], log: bool = False, lines: int = 1) -> Axis:
    """The horizontal axis of a ``line_chart`` with so many lines."""
    return Axis(low, high, LEFT, _width(lines) - RIGHT, form, log)


def y_axis(
    low: float, high: float, form: Callable[[float], str], log: bool = False, names: Sequence[str] = ("",)
) -> Axis:
    """The vertical axis of a ``line_chart`` with lines of these names."""
    legend = 1 + max(line for _, line in _places(names, _width(len(names)) - RIGHT))
    height = TALL if len(names) > CROWD else HEIGHT
    return Axis(low, high, height - BOTTOM, TOP + 14 + legend * LEGEND_LINE, form, log)


def _width(lines: int) -> int:
    return WIDE if lines > CROWD else WIDTH


def _places(names: Sequence[str], end: float) -> list[tuple[float, int]]:
    """Horizontal position and line of each name in a legend."""
    places, at, line = [], 8.0, 0
    for name in names:
        width = 40 + CHARACTER * len(name)
        if at > 8 and at + width > end:
            at, line = 8.0, line + 1
        places.append((at, line))
        at += width
    return places or [(8.0, 0)]


def _legend(svg: Element, series: Sequence[Series], end: float) -> None:
    for one, (at, line) in zip(series, _places([s.name for s in series], end), strict=False):
        y = TOP + 8 + line * LEGEND_LINE
        SubElement(svg, "path", {"d": f"M{at} {y - 4}H{at + 24}", **_line(one.number)})
        _text(svg, at + 29, y, one.name, "start")


def _x_axis(svg: Element, axis: Axis, bottom: float, unit: str, top: float) -> None:
    for value in axis.ticks():
        SubElement(svg, "path", {"d": f"M{axis.at(value)} {top}V{bottom}", "stroke": GRID})
        _text(svg, axis.at(value), bottom + 16, axis.form(value), "middle")
    SubElement(svg, "path", {"d": f"M{axis.begin} {top}V{bottom}H{axis.end}", "stroke": INK, "fill": "none"})
    _text(svg, (axis.begin + axis.end) / 2, bottom + 34, unit, "middle")


def _canvas(title: str, height: float, width: float = WIDTH) -> Element:
    svg = Element("svg", {
        "xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}",
        "height": f"{height:g}", "role": "img", "style": f"font:{FONT}"})
    SubElement(svg, "title").text = title
    _text(svg, 8, 16, title, "start", bold=True)
    return svg


def _text(svg: Element, x: float, y: float, text: str, anchor: str, bold: bool = False) -> None:
    weight = {"font-weight": "bold"} if bold else {}
    SubElement(svg, "text", _numbers(x=x, y=y) | {"text-anchor": anchor, "fill": INK} | weight).text = text


def _numbers(**values: float) -> dict[str, str]:
    return {key: f"{value:.1f}".removesuffix(".0") for key, value in values.items()}


def _line(number: int) -> dict[str, str]:
    return {"stroke": _colour(number), "stroke-width": "2", "stroke-dasharray": _dash(number)}


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _dash(number: int) -> str:
    # From the eighth on colours come again, with other dashes.
    return DASHES[(number + number // len(COLOURS)) % len(DASHES)] or "none"
