"""What the silence of a soak is worth: failure rates, and how long it takes until they are low enough.

Or until everything ran once, which says less of each combination, and something of every one.
"""

import math
import re
from dataclasses import dataclass

from ptstress.errors import UsageError
from ptstress.units import format_count, format_seconds

COMBINATIONS = "combinations"
UNTIL_FORM = f"confidence=99%@1e-8: so sure that fewer than one overlap in 1e8 fails; or {COMBINATIONS}: each ran once"


@dataclass(frozen=True)
class Until:
    """``confidence=99%@1e-8``. ``confidence``: above 0, below 1; ``rate``: failures per overlap. ``combinations`` has neither."""

    text: str
    confidence: float = 0.0
    rate: float = 0.0

    @property
    def each_once(self) -> bool:
        """Whether one slice of each combination is all that is asked for."""
        return self.text == COMBINATIONS

    @property
    def overlaps(self) -> int:
        """Overlaps without a failure that it takes: (1 - rate)^n <= 1 - confidence."""
        return 0 if self.each_once else math.ceil(math.log1p(-self.confidence) / math.log1p(-self.rate))


def parse_until(text: str) -> Until:
    """The condition of ``--until``. Raises ``UsageError``."""
    if text.strip() == COMBINATIONS:
        return Until(COMBINATIONS)
    number = r"\d+(?:\.\d+)?"
    match = re.fullmatch(rf"confidence=({number})%@({number}(?:e-?\d{{1,3}})?)", text.strip())
    confidence = float(match[1]) / 100 if match else 0.0
    rate = float(match[2]) if match else 0.0
    if not 0 < confidence < 1 or not 0 < rate < 1 or math.log1p(-rate) == 0:
        raise UsageError(f"--until {text!r}: expected {UNTIL_FORM}")
    return Until(text.strip(), confidence, rate)


def seconds_until(until: Until, overlaps: int, elapsed_s: float) -> float:
    """How much longer it takes at the rate of overlaps so far; infinite if there were none."""
    missing = until.overlaps - overlaps
    if missing <= 0:
        return 0.0
    return missing * elapsed_s / overlaps if overlaps and elapsed_s > 0 else math.inf


def until_text(until: Until, overlaps: int, elapsed_s: float) -> str:
    """How far a soak has come, and how long the rest takes."""
    if overlaps >= until.overlaps:
        return f"{until.text} reached"
    need = f"{until.text} needs {format_count(until.overlaps)} overlaps, has {format_count(overlaps)}"
    left = seconds_until(until, overlaps, elapsed_s)
    if math.isinf(left):
        return f"{need}: no trusted overlaps so far"
    return f"{need}: {_long(left)} more at {format_count(overlaps / elapsed_s)}/s"


def _long(seconds: float) -> str:
    if seconds < 2 * 86400:
        return format_seconds(seconds)
    return f"{format_count(seconds / 86400)} days" if seconds < 1000 * 86400 else f"{seconds / 86400 / 365:.1e} years"
