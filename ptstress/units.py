"""Text forms of quantities, both ways: durations, sizes, CPU lists, geometries, counts.

Every parser raises ``UsageError`` with one line that names the expected form.
"""

import re
from math import isfinite

from ptstress.errors import UsageError
from ptstress.vocabulary import PAGE_SHIFT

_SECONDS = (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0))
_BYTES = (("", 1), ("k", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40))
_GEOMETRIES = (("x86-64-4", (9, 9, 9, 9)), ("x86-64-5", (9, 9, 9, 9, 9)))
_MAX_CPU = 4096

DURATION_FORM = "a number and a unit, such as 45s 5m 3h 2d"
SIZE_FORM = "a number and a unit, such as 4k 2M 1G"
CPUS_FORM = "numbers and ranges, such as 0,2-3"
GEOMETRY_FORM = "x86-64-4, x86-64-5, or 3 to 5 fan-outs (powers of two, 2 to 512) from the top, such as 2x2x2x4"
EXTENT_FORM = "a number of pages, or text such as '1 table', '2 tables', '1/2 table', '3 pages'"


def parse_duration(text: str) -> float:
    """Seconds of ``45s``, ``500ms``, ``5m``, ``3h``, ``2d``; always above zero."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text.strip())
    seconds = float(match[1]) * dict(_SECONDS)[match[2]] if match else 0.0
    if not isfinite(seconds) or seconds <= 0 or seconds > 10 * 365 * 86400:
        raise UsageError(f"duration {text!r}: expected {DURATION_FORM}, more than zero")
    return seconds


def parse_size(text: str) -> int:
    """Bytes of ``4k``, ``2M``, ``1G``; always above zero."""
    match = re.fullmatch(r"(\d+)([kMGT]?)", text.strip())
    size = int(match[1]) * dict(_BYTES)[match[2]] if match else 0
    if not 0 < size < 1 << 63:
        raise UsageError(f"size {text!r}: expected {SIZE_FORM}, more than zero")
    return size


def parse_cpus(text: str) -> tuple[int, ...]:
    """CPU numbers of ``0,2-3``, ascending and without repeats."""
    cpus: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= _MAX_CPU:
            raise UsageError(f"CPU list {text!r}: expected {CPUS_FORM}, each below {_MAX_CPU}")
        cpus.update(range(first, last + 1))
    return tuple(sorted(cpus))


def parse_geometry(text: str) -> tuple[int, ...]:
    """Index bits of each level, level 0 (pte_table) first.

    Fan-outs are written from the top, as a walk meets them: ``2x2x2x4`` is ``(2, 1, 1, 1)``.
    """
    named = dict(_GEOMETRIES).get(text)
    if named:
        return named
    parts = text.split("x")
    bits = tuple(int(p).bit_length() - 1 for p in reversed(parts) if re.fullmatch(r"\d{1,3}", p) and int(p) > 0)
    powers = len(bits) == len(parts) and all(1 << b == int(p) for b, p in zip(reversed(bits), parts, strict=True))
    if not powers or not 3 <= len(bits) <= 5 or not all(1 <= b <= 9 for b in bits):
        raise UsageError(f"geometry {text!r}: expected {GEOMETRY_FORM}")
    return bits


def format_geometry(bits: tuple[int, ...]) -> str:
    """The text that ``parse_geometry`` reads back as ``bits``."""
    for name, known in _GEOMETRIES:
        if known == tuple(bits):
            return name
    return "x".join(str(1 << b) for b in reversed(bits))


def pages_of(bits: tuple[int, ...]) -> int:
    """Pages in the whole address space of a geometry."""
    return 1 << sum(bits)


def parse_extent(value: int | str, table_pages: int) -> int:
    """Pages of ``7``, ``'3 pages'``, ``'2 tables'`` or ``'1/2 table'``; at least one.

    ``table_pages`` is the number of pages that one pte_table maps.
    """
    match = re.fullmatch(r"(?:1/)?(\d{1,12})\s*(pages?|tables?)", value.strip()) if isinstance(value, str) else None
    if isinstance(value, int):
        pages = value
    elif match and value.strip().startswith("1/"):
        divisor = int(match[1])
        pages = max(1, table_pages // divisor) if divisor and match[2].startswith("table") else 0
    elif match:
        pages = int(match[1]) * (table_pages if match[2].startswith("table") else 1)
    else:
        pages = 0
    if not 0 < pages < 1 << (64 - PAGE_SHIFT):
        raise UsageError(f"length {value!r}: expected {EXTENT_FORM}, at least one page")
    return pages


def format_count(n: float) -> str:
    """``950``, ``1.9 M``, ``41 G``, ``5.3e+39``: at most three digits that matter."""
    if n >= 1e15:
        return f"{n:.1e}"
    for factor, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k")):
        if n >= factor:
            scaled = n / (1e3 if factor == 1e4 else factor)
            return f"{scaled:.1f}{unit}" if scaled < 100 else f"{scaled:.0f}{unit}"
    return f"{n:,.0f}"


def format_kb(size_bytes: int) -> str:
    """``2,056 kB``, as ``/proc/self/status`` counts page tables."""
    return f"{size_bytes // 1024:,} kB"


def format_seconds(seconds: float) -> str:
    """``3.1 ms``, ``15.0 s``, ``12m05s``, ``2h03m``."""
    if seconds < 0.1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 120 else f"{minutes // 60}h{minutes % 60:02d}m"


def format_finding(oracle: str, invariant: int) -> str:
    """``use-after-free I04``; without the number if it is 0."""
    return f"{oracle} I{invariant:02d}" if invariant else oracle
