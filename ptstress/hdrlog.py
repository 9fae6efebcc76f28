"""HdrHistogram's log of intervals (``.hlog``), which its viewers and libraries read: one line for each histogram.

A histogram is encoded in version 2 of its format: a header, then the counts up to the highest one as LEB128 numbers in zigzag
form, where -n stands for n zeros; all of that as a zlib stream behind a header of its own, in base64. Numbers are big-endian.

Source: HdrHistogram, AbstractHistogram.encodeIntoByteBuffer(), ZigZagEncoding.putLong(), HistogramLogWriter (version 1.3).
"""

import base64
import struct
import time
import zlib
from collections.abc import Iterable, Iterator

from msgspec import Struct

from ptstress.histogram import DIGITS, HIGHEST_NS, Histogram

COOKIE = 0x1C849303 | 0x10
COMPRESSED_COOKIE = 0x1C849304 | 0x10
#: cookie, bytes behind the header, offset of a normalized index, digits, lowest and highest value, ratio of a double's unit.
HEADER = struct.Struct(">iiiiqqd")
COMPRESSED_HEADER = struct.Struct(">ii")
LEGEND = '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"'
#: A ninth byte holds eight bits and ends a number.
LAST_BYTE = 8
NS_PER_S = 1e9


class Interval(Struct, frozen=True):
    """One line of a log. ``start_s``: since the start of the log."""

    tag: str
    start_s: float
    length_s: float
    histogram: Histogram


def log_text(intervals: Iterable[Interval], start: float, about: str = "") -> str:
    """A whole log. ``start``: seconds since the epoch; ``about``: a comment. Maxima stand in seconds."""
    date = time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(start))
    lines = [f"#[{about}]"] if about else []
    lines += ["#[Histogram log format version 1.3]", f"#[StartTime: {start:.3f} (seconds since epoch), {date}]", LEGEND]
    for i in intervals:
        lines.append(f"Tag={i.tag},{i.start_s:.3f},{i.length_s:.3f},{i.histogram.max_ns / NS_PER_S:.9f},{encode(i.histogram)}")
    return "\n".join(lines) + "\n"


def encode(histogram: Histogram) -> str:
    """One histogram in base64."""
    payload = b"".join(leb128(number) for number in _runs(histogram))
    plain = HEADER.pack(COOKIE, len(payload), 0, DIGITS, 1, HIGHEST_NS, 1.0) + payload
    packed = zlib.compress(plain)
    return base64.b64encode(COMPRESSED_HEADER.pack(COMPRESSED_COOKIE, len(packed)) + packed).decode()


def _runs(histogram: Histogram) -> Iterator[int]:
    """The counts from the first bucket to the last that is not empty; -n for n empty ones, but 0 for one."""
    behind = 0
    for bucket, count in sorted(histogram.counts.items()):
        empty = bucket - behind
        if empty:
            yield -empty if empty > 1 else 0
        yield count
        behind = bucket + 1


def leb128(number: int) -> bytes:
    """A signed number of 64 bits in zigzag form, seven bits at a time, the low ones first; at most nine bytes."""
    rest = ((number << 1) ^ (number >> 63)) & (1 << 64) - 1
    out = bytearray()
    while len(out) < LAST_BYTE and rest >= 1 << 7:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)
