"""Serial replays: the engine's table bytes equal the model's at every step, and Linux's where it was measured."""

from pathlib import Path

import numpy as np
import pytest

from ptstress.engine import load_engine
from ptstress.model import AddressSpace
from ptstress.schemes import find_scheme
from ptstress.trace import load_trace
from ptstress.vocabulary import OP_DTYPE, Verb
from schemes_under_test import NAMES

X86_64 = (9, 9, 9, 9)
TRACES = Path(__file__).parent.parent / "workloads" / "traces"
KIB = 1024
TABLE_PAGES = 512
REGIONS = 25 * 1024
MAPPED_PAGES = REGIONS * TABLE_PAGES        # 50 GiB


def machine(scheme, tables):
    """A machine of x86-64 size that records and checks every operation."""
    config = {**find_scheme(scheme).config(), "geometry": X86_64, "workers": 1, "tables": tables, "frames": 1 << 17,
              "vmas": 4096, "ring_events": 1 << 16, "seed": 1, "bugs": [], "knobs": {}}
    return load_engine("stress").Machine(config)


def ops(verb, starts, pages, arg=0):
    """One operation for each start."""
    array = np.zeros(len(starts), OP_DTYPE)
    array["start"], array["arg"], array["verb"] = starts, arg, verb
    array["end"] = array["start"] + np.uint64(pages)
    return array


def interleaved(*arrays):
    """One of each in turn."""
    return np.stack(arrays, axis=1).reshape(-1)


def replayed(scheme, array, tables):
    """Table bytes after each operation, equal in engine and model; the engine's oracles stay silent."""
    engine = machine(scheme, tables)
    status, table_bytes = engine.replay_serial(array)
    expected_status, expected_bytes = AddressSpace(X86_64, find_scheme(scheme).reclaim).replay(array)
    np.testing.assert_array_equal(table_bytes, expected_bytes)
    np.testing.assert_array_equal(np.abs(status), np.abs(expected_status))
    assert engine.check() == 0, engine.reports()
    assert engine.checked()[1] == 0
    return table_bytes


@pytest.mark.parametrize("scheme", NAMES)
@pytest.mark.parametrize("trace", ["jemalloc-16m", "jemalloc-256k", "redis-jemalloc"])
def test_recorded_programs_take_the_tables_that_the_model_says(scheme, trace):
    replayed(scheme, load_trace(TRACES / f"{trace}.gz").serial(), 8192)


@pytest.mark.parametrize(("scheme", "left_kib"), [("linux-6.3", 102_604), ("linux-6.12", 102_604), ("linux-6.18", 204)])
def test_the_headline_leaves_the_tables_that_linux_leaves(scheme, left_kib):
    """Map 50 GiB; 25 x 1024 times touch 2 MiB and give it back."""
    starts = np.arange(REGIONS, dtype=np.uint64) * TABLE_PAGES
    touches = ops(Verb.WRITE, starts, 1)
    discards = ops(Verb.DONTNEED, starts, TABLE_PAGES)
    array = np.concatenate([ops(Verb.MMAP, [0], MAPPED_PAGES, 1), interleaved(touches, discards)])
    table_bytes = replayed(scheme, array, REGIONS + 256)
    assert table_bytes[-1] == left_kib * KIB


def test_touched_memory_takes_the_tables_that_linux_takes():
    """All 25 x 1024 regions touched, then one DONTNEED over the 50 GiB: 102,604 kB, then 204 kB."""
    starts = np.arange(REGIONS, dtype=np.uint64) * TABLE_PAGES
    array = np.concatenate([
        ops(Verb.MMAP, [0], MAPPED_PAGES, 1), ops(Verb.WRITE, starts, 1), ops(Verb.DONTNEED, [0], MAPPED_PAGES)])
    table_bytes = replayed("linux-6.18", array, REGIONS + 256)
    assert [int(table_bytes[-2]) // KIB, int(table_bytes[-1]) // KIB] == [102_604, 204]


@pytest.mark.parametrize("scheme", NAMES)
def test_every_page_of_a_region_can_be_touched(scheme):
    """1 GiB, page by page, each 2 MiB given back after its last page."""
    regions = 512
    pages = ops(Verb.WRITE, np.arange(regions * TABLE_PAGES, dtype=np.uint64), 1).reshape(regions, TABLE_PAGES)
    discards = ops(Verb.DONTNEED, np.arange(regions, dtype=np.uint64) * TABLE_PAGES, TABLE_PAGES).reshape(regions, 1)
    array = np.concatenate([ops(Verb.MMAP, [0], MAPPED_PAGES, 1), np.concatenate([pages, discards], axis=1).reshape(-1)])
    replayed(scheme, array, 2048)
