"""Mixes of chains on real threads: what a worker does one after the other at one place, across the ends of bursts too."""

from itertools import chain

import pytest

from ptstress.engine import load_engine
from ptstress.job import Mix
from ptstress.layout import SharedView, operation_lines, shared_bytes
from ptstress.operation import mmap, op_array, write
from ptstress.schemes import find_scheme
from ptstress.vocabulary import Verb

PAGES, UNIT, RING, BURSTS = 1 << 12, 16, 256, 5
CHAIN = (Verb.WRITE, Verb.WRITE, Verb.READ, Verb.DONTNEED)


def recorded(mix: Mix) -> list[tuple[Verb, int, int]]:
    """What one worker does in some bursts that its full ring ends."""
    memory = bytearray(shared_bytes(1, RING))
    machine = load_engine("stress").Machine({
        **find_scheme("linux-6.12").config(), "geometry": (9, 2, 1), "tables": 64, "frames": 8192, "ring_events": RING}, memory)
    machine.serial(op_array([mmap(0, PAGES)]))
    machine.check()
    machine.start([mix.stream()])
    done = []
    for _ in range(BURSTS):
        assert not machine.burst(1000)["stuck"]
        lines = SharedView(memory, 1, RING).recorded(0).copy()
        # A full ring may end with a line that nobody needed.
        done += [event for event in lines[operation_lines(lines)] if event["verb"]]
    machine.stop()
    assert machine.check() == 0
    return [(Verb(int(event["verb"])), int(event["start"]), int(event["end"])) for event in done]


def test_a_chain_stays_at_its_place_and_accesses_go_through_the_pages():
    mix = Mix({"write+write+read+dontneed": 1}, 0, PAGES, {"dontneed": UNIT}, True)
    done = recorded(mix)
    assert len(done) > BURSTS * (RING - 2)
    whole = [done[at : at + len(CHAIN)] for at in range(0, len(done) - len(CHAIN) + 1, len(CHAIN))]
    first_pages = set()
    for steps in whole:
        assert tuple(verb for verb, _, _ in steps) == CHAIN
        _, start, end = steps[-1]
        assert start % UNIT == 0 and end == start + UNIT
        pages = [page - start for _, page, _ in steps[:-1]]
        assert pages == [(pages[0] + i) % UNIT for i in range(len(pages))] and pages[0] < UNIT
        first_pages.add(pages[0])
    assert len(first_pages) == UNIT, "any page may be the first"
    assert len({steps[-1][1] for steps in whole}) > PAGES // UNIT // 8, "places are all over"


def test_chains_and_single_operations_mix_by_weight():
    done = recorded(Mix({"write+dontneed": 3, "walk": 1, "populate": 0}, 0, PAGES, {"walk": 4}, True))
    counts = {verb: sum(v is verb for v, _, _ in done) for verb in {v for v, _, _ in done}}
    assert set(counts) == {Verb.WRITE, Verb.DONTNEED, Verb.WALK}
    assert 0 <= counts[Verb.WRITE] - counts[Verb.DONTNEED] <= 1
    assert counts[Verb.WRITE] / counts[Verb.WALK] == pytest.approx(3, rel=0.5)


def test_a_range_that_is_shorter_than_the_place_begins_where_that_does():
    done = recorded(Mix({"mmap+munmap": 1}, 0, 2 * UNIT, {"mmap": UNIT, "munmap": 3}, True))
    assert {step[1:] for step in done if step[0] is Verb.MMAP} == {(0, UNIT), (UNIT, 2 * UNIT)}
    assert {step[1:] for step in done if step[0] is Verb.MUNMAP} == {(0, 3), (UNIT, UNIT + 3)}


@pytest.mark.parametrize("weights", [
    {}, {(Verb.READ,): 0}, {(Verb.READ,) * 13: 1}, {(): 1},
    dict.fromkeys(chain(((verb,) for verb in range(1, 17)), ((Verb.READ, verb) for verb in range(1, 17))), 1),
], ids=["none", "no weight", "too long", "empty", "too many"])
def test_the_engine_refuses_a_mix_that_is_none(weights):
    machine = load_engine("stress").Machine({"tables": 64, "frames": 64})
    with pytest.raises(ValueError, match="a mix needs 1 to 24 chains of 1 to 12 verbs with a weight"):
        machine.start([("mix", {"weights": weights, "start": 0, "end": 4})])


def test_who_does_nothing_in_a_burst_has_recorded_nothing():
    """A worker need not get a cpu before the others end a burst: its ring is not that of the burst before."""
    memory = bytearray(shared_bytes(2, RING))
    machine = load_engine("stress").Machine({
        **find_scheme("linux-6.12").config(), "geometry": (9, 2, 1), "workers": 2, "tables": 64, "frames": 8192,
        "ring_events": RING}, memory)
    view = SharedView(memory, 2, RING)
    machine.start([("ops", op_array([mmap(0, 8)])), ("ops", op_array([mmap(8, 16), mmap(16, 24)]))])
    counts = []
    for _ in range(2):
        assert not machine.burst(1000)["stuck"]
        counts.append([len(ring) for ring in view.history().values()])
    machine.stop()
    assert counts == [[1, 2], [0, 0]]
    assert view.last_operations(0, 8) == view.last_operations(1, 8) == []


def test_what_was_done_serially_before_a_burst_is_part_of_what_it_is_judged_by():
    """The burst's check reads of the mapping that its writes go to."""
    machine = load_engine("stress").Machine({
        **find_scheme("linux-6.12").config(), "geometry": (9, 2, 1), "workers": 1, "tables": 64, "frames": 8192,
        "ring_events": RING})
    machine.serial(op_array([mmap(0, 8)]))
    machine.start([("ops", op_array([write(0), write(1)]))])
    assert not machine.burst(1000)["stuck"]
    machine.stop()
    assert machine.reports() == []
