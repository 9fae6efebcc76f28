"""How long operations take: the engine's buckets are those of Python, percentiles are right, a log reads back as written."""

import base64
import random
import struct
import zlib
from collections import Counter as Multiset
from types import SimpleNamespace

import numpy as np
import pytest

from ptstress.engine import load_engine
from ptstress.hdrlog import Interval, encode, leb128, log_text
from ptstress.histogram import HIGHEST_NS, TICK_BITS, Histogram, bucket_of, highest_in, lowest_in
from ptstress.layout import SharedView, operation_lines, shared_bytes
from ptstress.meter import Meter
from ptstress.operation import Op, mmap, op_array, write
from ptstress.schemes import find_scheme
from ptstress.vocabulary import NR_VERBS, Verb

WORKERS, RING = 2, 1 << 12
#: A full ring ends the burst long before.
BURST_MS = 20_000


# ---- buckets and percentiles ---------------------------------------------------------------------


@pytest.mark.parametrize("bits", [TICK_BITS, 10])
def test_buckets_touch_and_are_narrow(bits):
    for bucket in range(40 << bits):
        low, high = lowest_in(bucket, bits), highest_in(bucket, bits)
        assert bucket_of(low, bits) == bucket_of(high, bits) == bucket
        assert (high - low) << bits <= low


def test_percentiles_are_those_of_the_sorted_values():
    rng = random.Random(1)
    values = sorted(int(rng.lognormvariate(6, 2)) for _ in range(5000))
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    for percent in (0, 10, 50, 90, 99, 99.9):
        exact = values[max(1, -(-len(values) * int(percent * 10) // 1000)) - 1]
        assert histogram.percentile(percent) == highest_in(bucket_of(exact)), percent
    assert histogram.total == 5000
    assert histogram.percentile(99.99) is None, "5000 values do not tell it from the longest"
    assert histogram.max_ns == highest_in(bucket_of(values[-1]))


def test_ticks_become_nanoseconds():
    histogram = Histogram.of_ticks([(bucket_of(3000, TICK_BITS), 7)], 0.5)
    assert histogram.total == 7
    assert histogram.percentile(0) == pytest.approx(1500, rel=0.005)


def test_merging_adds_up():
    one, other = Histogram(), Histogram()
    for value in range(100):
        one.add(value)
        other.add(2 * value, 2)
    one.merge(other)
    assert one.total == 300 and one.counts[bucket_of(4)] == 3
    assert Histogram().max_ns == 0 and Histogram().percentile(50) is None


# ---- the engine ----------------------------------------------------------------------------------


def machine(build: str, memory: bytearray, measure: bool):
    config = {
        **find_scheme("linux-6.18").config(), "geometry": (9, 2, 1), "workers": WORKERS, "tables": 64, "frames": 8192, "vmas": 64,
        "ring_events": RING, "seed": 1, "measure": measure,
    }
    return load_engine(build).Machine(config, memory)


@pytest.mark.parametrize("build", ["fast", "stress"])
def test_the_engine_counts_what_the_workers_record_and_nothing_else(build):
    memory = bytearray(shared_bytes(WORKERS, RING))
    engine = machine(build, memory, True)
    engine.serial(op_array([mmap(0, 1024)]))
    engine.check()
    weights, unit = {Verb.WRITE: 4, Verb.WALK: 1, Verb.DONTNEED: 1}, {Verb.WALK: 600, Verb.DONTNEED: 512}
    mix = {"weights": weights, "start": 0, "end": 1024, "unit": unit}
    engine.start([("mix", mix)] * WORKERS)
    assert not engine.burst(BURST_MS)["stuck"]
    engine.stop()
    expected = {verb: Multiset() for verb in Verb}
    for lines in SharedView(memory, WORKERS, RING).history().values():
        for event in lines[operation_lines(lines)]:
            expected[Verb(event["verb"])][bucket_of(int(event["t1"] - event["t0"]), TICK_BITS)] += 1
    counts = engine.latencies()
    assert counts.shape[0] == NR_VERBS
    assert counts.sum() > 100 and counts[Verb.MMAP].sum() == 0
    for verb in Verb:
        found = {int(bucket): int(counts[verb][bucket]) for bucket in np.flatnonzero(counts[verb])}
        assert found == expected[verb], verb
    before = counts.sum()
    engine.serial(op_array([mmap(0, 1)]))
    assert engine.latencies().sum() == before


def test_a_measured_burst_tells_its_table_bytes_while_it_lasts_and_at_its_end():
    engine = machine("fast", bytearray(shared_bytes(WORKERS, RING)), True)
    engine.serial(op_array([mmap(0, 1024), write(0), write(600)]))
    # Waits for what never happens: the burst lasts as long as it may.
    engine.start([("ops", op_array([Op(Verb.SYNC, 1, 5)])), None])
    burst = engine.burst(40)
    times, sizes = zip(*burst["table_bytes"], strict=True)
    assert list(times) == sorted(times) and times[-1] == burst["race_ns"]
    assert sizes == (engine.table_bytes,) * 8, "one for each 5 ms but the last, and one at the end"


def test_a_meter_adds_up_bursts():
    ticks = iter([100, 1100])
    meter = Meter(SimpleNamespace(clock_pair=lambda: (next(ticks), 0)), duration_s=4e-7)
    meter.start(1000)
    meter.after_burst(30, [(10, 3000), (30, 3000)])
    meter.start(0)      # a trace begins again
    meter.after_burst(20, [(20, 2000)])
    counts = np.zeros((NR_VERBS, 8), np.uint64)
    counts[Verb.READ][3] = 5
    measured = meter.measured(counts)
    assert measured.table_bytes == [(0, 1000), (10, 3000), (30, 3000), (50, 2000)]
    assert measured.table_byte_ns == 10 * 2000 + 20 * 3000 + 20 * 1000
    assert measured.latency == {"read": [(3, 5)]} and measured.ns_per_tick > 0


def test_a_machine_that_was_not_asked_measures_nothing():
    engine = machine("fast", bytearray(shared_bytes(WORKERS, RING)), False)
    engine.start([None] * WORKERS)
    assert engine.burst(20)["table_bytes"] == []
    with pytest.raises(ValueError, match="expected a machine with measure=True"):
        engine.latencies()


# ---- the log -------------------------------------------------------------------------------------


def numbers(data: bytes) -> list[int]:
    """Signed numbers of a ZigZag LEB128-64b9B stream."""
    out, at = [], 0
    while at < len(data):
        value = shift = 0
        for k in range(9):
            byte = data[at]
            at += 1
            value |= (byte if k == 8 else byte & 0x7F) << shift
            shift += 7
            if k == 8 or not byte & 0x80:
                break
        out.append((value >> 1) ^ -(value & 1))
    return out


def decode(text: str) -> tuple[dict[int, int], dict[str, float]]:
    """Counts by index and the fields of the header, by the public description of the format."""
    packed = base64.b64decode(text, validate=True)
    cookie, length = struct.unpack(">ii", packed[:8])
    assert cookie & ~0xF0 == 0x1C849304 and length == len(packed) - 8
    plain = zlib.decompress(packed[8:])
    names = ("cookie", "payload", "offset", "digits", "lowest", "highest", "ratio")
    fields = dict(zip(names, struct.unpack(">iiiiqqd", plain[:40]), strict=True))
    assert fields["cookie"] & ~0xF0 == 0x1C849303 and fields["payload"] == len(plain) - 40
    counts, index = {}, 0
    for number in numbers(plain[40:]):
        if number > 0:
            counts[index] = number
        index += -number if number < 0 else 1
    return counts, fields


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, b"\x00"), (-1, b"\x01"), (1, b"\x02"), (63, b"\x7e"), (64, b"\x80\x01"), (-(1 << 63), b"\xff" * 9),
        ((1 << 63) - 1, b"\xfe" + b"\xff" * 8),
    ],
)
def test_numbers_are_zigzag_leb128_of_at_most_nine_bytes(number, expected):
    assert leb128(number) == expected
    assert numbers(expected) == [number]


@pytest.mark.parametrize("values", [
    [], [0], [1, 1, 2], [0, 2], [0, 3, 4, 2047, 2048, 4096], [HIGHEST_NS], [10**6] * 70_000 + [5 * 10**9],
    random.Random(2).choices(range(1, 10**8), k=500)], ids=lambda v: str(len(v)))
def test_an_encoded_histogram_reads_back(values):
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    counts, fields = decode(encode(histogram))
    assert counts == histogram.counts
    assert [fields[name] for name in ("digits", "lowest", "highest", "ratio", "offset")] == [3, 1, HIGHEST_NS, 1.0, 0]


def test_a_log_has_its_head_and_one_line_for_each_interval():
    read, walk = Histogram(), Histogram()
    read.add(1500, 3)
    walk.add(10**7)
    text = log_text([Interval("read", 0.25, 2.0, read), Interval("walk", 0.25, 2.0, walk)], 1441812279.474, "about")
    head, lines = text.splitlines()[:4], text.splitlines()[4:]
    assert head == [
        "#[about]", "#[Histogram log format version 1.3]",
        "#[StartTime: 1441812279.474 (seconds since epoch), Wed Sep 09 15:24:39 UTC 2015]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"']
    tags, starts, lengths, maxima, encoded = zip(*(line.split(",") for line in lines), strict=True)
    assert (tags, starts, lengths) == (("Tag=read", "Tag=walk"), ("0.250", "0.250"), ("2.000", "2.000"))
    assert float(maxima[0]) == pytest.approx(1.5e-6, rel=1e-3) and float(maxima[1]) == pytest.approx(0.01, rel=1e-3)
    assert [decode(e)[0] for e in encoded] == [read.counts, walk.counts]
    assert all(e.startswith("HISTF") for e in encoded)
