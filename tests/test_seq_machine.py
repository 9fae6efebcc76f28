"""Engine against model, one operation at a time: results, pages, tables of every level, VMAs, counters."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from ptstress.engine import load_engine
from ptstress.machines import address_space_machine
from ptstress.model import AddressSpace, Follower, compare
from ptstress.observe import observations
from ptstress.operation import dontneed, guard_install, mmap, op_array, read, write
from ptstress.strategies import geometries, knobs, sequences
from ptstress.trial import RARE, SmallMachine
from random_ops import random_ops
from schemes_under_test import NAMES

STEPS = settings(max_examples=25, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("scheme", NAMES)
@pytest.mark.parametrize("bits", [(2, 1, 1), (1, 1, 1, 1), (2, 1, 1, 1, 1)], ids=str)
def test_engine_equals_model_after_every_operation(scheme, bits):
    small = SmallMachine("stress", scheme, bits, knobs=RARE)
    run_state_machine_as_test(address_space_machine(small.emptied, bits, small.reclaim), settings=STEPS)


@pytest.mark.parametrize("scheme", NAMES)
def test_several_mms_equal_the_model(scheme):
    small = SmallMachine("stress", scheme, (2, 1, 1), knobs=RARE, mms=3)
    run_state_machine_as_test(address_space_machine(small.emptied, small.bits, small.reclaim, 3), settings=STEPS)


@pytest.mark.parametrize("build", ["fast", "sched"])
def test_other_builds_equal_the_model_too(build):
    small = SmallMachine(build, "linux-6.18", (2, 1, 1))
    run_state_machine_as_test(address_space_machine(small.emptied, small.bits, small.reclaim), settings=STEPS)


@pytest.mark.parametrize("scheme", NAMES)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_sequences_in_any_geometry_and_with_any_knobs_equal_the_model(scheme, data):
    bits = data.draw(geometries())
    mms = data.draw(st.integers(1, 3))
    small = SmallMachine("stress", scheme, bits, knobs=data.draw(knobs()), mms=mms)
    ops = data.draw(sequences(bits, 40, mms=mms))
    events, table_bytes = small.machine.serial(op_array(ops))
    follower = Follower(small.space())
    for op, seen, found in zip(ops, observations(events), table_bytes, strict=True):
        assert follower.follow(op, seen) is None
        assert int(found) == follower.space.table_bytes, op
    assert compare(follower.space, small.machine.snapshot()) is None
    assert small.machine.check() == 0, small.machine.reports()


@pytest.mark.parametrize("scheme", NAMES)
@pytest.mark.parametrize("bits", [(2, 1, 1), (3, 2, 1, 1), (2, 1, 1, 1, 1)], ids=str)
def test_long_runs_equal_the_model(scheme, bits):
    small = SmallMachine("stress", scheme, bits, knobs=RARE)
    follower = Follower(AddressSpace(bits, small.reclaim))
    for seed in range(10):
        ops = random_ops(seed, bits, 200)
        events, table_bytes = small.machine.serial(op_array(ops))
        for op, seen, found in zip(ops, observations(events), table_bytes, strict=True):
            assert follower.follow(op, seen) is None
            assert int(found) == follower.space.table_bytes, op
        assert compare(follower.space, small.machine.snapshot()) is None
        assert small.machine.check() == 0, small.machine.reports()


def test_the_comparison_notices_a_policy_that_frees_too_little():
    small = SmallMachine("stress", "linux-6.12", (2, 1, 1))
    machine = address_space_machine(small.emptied, small.bits, "sync")()
    machine.mmap(pages=(0, 8), writable=True)
    machine.write(page=1)
    machine.engine_equals_model()
    with pytest.raises(AssertionError, match="table bytes"):
        machine.dontneed(pages=(0, 4))
    with pytest.raises(AssertionError, match="pte_table of p0: 0 entries in use, expected none"):
        machine.engine_equals_model()


def test_the_comparison_notices_each_kind_of_difference():
    small = SmallMachine("stress", "linux-6.18", (2, 1, 1))
    ops = [mmap(0, 8), write(1), read(2), mmap(12, 16), write(13)]
    events, _ = small.emptied().serial(op_array(ops))
    follower = Follower(AddressSpace(small.bits, "sync"))
    assert [follower.follow(op, seen) for op, seen in zip(ops, observations(events), strict=True)] == [None] * 5
    snapshot = small.machine.snapshot()
    assert compare(follower.space, snapshot) is None
    for op, expected in [
        (mmap(8, 9), "VMAs: "),
        (write(3), "p3: none, expected incarnation"),
        (dontneed(2, 3), "p2: zero page, expected none"),
        (write(1), "p1: incarnation"),
        (dontneed(12, 16), "p13: incarnation"),
    ]:
        changed = follower.space.copy()
        changed.apply(op)
        assert compare(changed, snapshot).startswith(expected)
    for key, expected in [("rss", "rss: "), ("table_bytes", "page tables: ")]:
        assert compare(follower.space, {**snapshot, key: snapshot[key] + 1}).startswith(expected)
    shared = snapshot["vmas"].copy()
    shared["anon_vma"] = 1
    assert compare(follower.space, {**snapshot, "vmas": shared}).startswith("anon_vmas: ")


def test_state_tells_where_guards_lie():
    small = SmallMachine("sched", "linux-6.18", (2, 1, 1), mms=2)
    ops = [mmap(0, 8), mmap(8, 12, False), write(1), guard_install(2, 4), guard_install(7, 10),
           mmap(3, 5).moved(1), guard_install(4, 5).moved(1)]
    machine = small.emptied()
    assert [seen.status for seen in observations(machine.serial(op_array(ops))[0])] == [0] * len(ops)
    maps, pages = machine.state()
    there = 1 << 48
    assert maps.tolist() == [
        [0, 2, 4], [2, 4, 20], [4, 7, 4], [7, 8, 20], [8, 10, 18], [10, 12, 2],
        [there + 3, there + 4, 4], [there + 4, there + 5, 20]]
    assert pages[:, 0].tolist() == [1]


@pytest.mark.parametrize("protection", ["mmap_lock", "vma_lock", "covering"])
def test_the_engine_frees_no_upper_tables_that_a_protection_relies_on(protection):
    with pytest.raises(ValueError, match=f"reclaim upper frees tables that protection '{protection}' relies on"):
        load_engine("stress").Machine({"protection": protection, "reclaim": "sync+upper"})
