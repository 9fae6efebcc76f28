"""SRCU, one call at a time: halves, grace periods and what is reported."""

import pytest

from kit.build_kit import load_kit
from ptstress.layout import Counter
from ptstress.vocabulary import Oracle


@pytest.fixture(scope="session")
def kit(pytestconfig):
    return load_kit("stress", pytestconfig.cache.mkdir("kit"))


@pytest.fixture
def srcu(kit):
    return kit.SrcuBench(cpus=4)


def poll(srcu, cpu=0):
    for _ in range(10):
        srcu.poll(cpu)


def what(srcu):
    """(oracle, invariant) of each report."""
    return [report[:2] for report in srcu.reports()]


def test_a_callback_waits_for_a_section_that_began_before_it_was_queued(srcu):
    index = srcu.read_lock(1)
    srcu.call(0, 0)
    poll(srcu)
    assert not srcu.ran(0)
    srcu.read_unlock(1, index)
    poll(srcu)
    assert srcu.ran(0)
    assert srcu.counter(0, Counter.SRCU_PERIODS) == 1


def test_a_section_begun_after_the_flip_does_not_delay_the_period(srcu):
    first = srcu.read_lock(1)
    srcu.call(0, 0)
    srcu.poll(0)                    # begins the period and flips
    second = srcu.read_lock(2)
    assert (first ^ second) == 1
    srcu.read_unlock(1, first)
    poll(srcu)
    assert srcu.ran(0)
    srcu.read_unlock(2, second)


def test_a_callback_queued_during_a_period_waits_for_the_next(srcu):
    first = srcu.read_lock(1)
    srcu.call(0, 0)
    srcu.poll(0)
    second = srcu.read_lock(2)      # may still see what is unlinked now
    srcu.call(3, 1)
    poll(srcu, 3)
    srcu.read_unlock(1, first)
    poll(srcu)
    poll(srcu, 3)
    assert (srcu.ran(0), srcu.ran(1)) == (True, False)
    srcu.read_unlock(2, second)
    poll(srcu, 3)
    assert srcu.ran(1)


def test_sections_of_one_cpu_may_stand_in_both_halves(srcu):
    outer = srcu.read_lock(0)
    srcu.call(1, 0)
    poll(srcu, 1)
    inner = srcu.read_lock(0)
    assert (outer ^ inner, srcu.sections(0)) == (1, 2)
    srcu.read_unlock(0, outer)
    poll(srcu, 1)
    assert srcu.ran(0)
    srcu.read_unlock(0, inner)
    assert (srcu.sections(0), what(srcu)) == (0, [])


def test_counts_and_numbers_wrap(srcu):
    for turn in range(12):
        srcu.read_unlock(1, srcu.read_lock(1))
        srcu.synchronize(0)
    index = srcu.read_lock(1)
    srcu.call(0, 0)
    poll(srcu)
    assert not srcu.ran(0)
    srcu.read_unlock(1, index)
    poll(srcu)
    assert srcu.ran(0)


def test_leaving_by_the_wrong_half_is_reported_and_put_right(srcu):
    srcu.read_unlock(1, srcu.read_lock(1) ^ 1)
    assert what(srcu) == [(Oracle.COUNTERS, 13)]
    srcu.synchronize(0)


def test_who_waits_inside_a_section_waits_for_itself(srcu):
    srcu.read_lock(0)
    srcu.backpressure(0)
    assert what(srcu) == [(Oracle.PROGRESS, 55)]
