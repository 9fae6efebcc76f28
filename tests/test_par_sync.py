"""RCU, SRCU, locks and sequence counters on real threads. Every detector finds a deliberately wrong variant, too.

Rounds are counted, never timed. Wrong variants that threads find only with luck are left to the explorer; the
others get far more rounds than they ever needed, also on one core.
"""

import pytest

from kit.build_kit import load_kit
from kit.playing import threads
from ptstress.layout import Counter

BUSTED_ROUNDS = 3000


@pytest.fixture(scope="session")
def kit(pytestconfig):
    return load_kit("stress", pytestconfig.cache.mkdir("kit"))


@pytest.fixture(params=[False, True], ids=["xchg", "membarrier"])
def flavour(request):
    """How RCU readers publish themselves."""
    return {"membarrier": request.param, "delay_interval": 5}


def test_no_reader_sees_a_freed_parcel(kit, flavour):
    """Result: Never. Three readers, one updater: unlink, grace period, poison."""
    assert threads(kit.Rig("unlink", cpus=5, repeats=500, **flavour), rounds=20) == 0


def test_a_freed_parcel_is_seen_without_a_grace_period(kit, flavour):
    """Result: Sometimes."""
    assert threads(kit.Rig("unlink", "no_grace_period", cpus=4, repeats=500, **flavour), BUSTED_ROUNDS) > 0


def test_synchronize_waits_for_the_reader(kit, flavour):
    """Result: Never. x = 1; synchronize_rcu; y = 1 against, in one section: x is 0, y is 1."""
    assert threads(kit.Rig("sync", **flavour), rounds=2000) == 0


def test_a_stalled_reader_cannot_let_the_backlog_grow(kit, flavour):
    """Result: Never. More callbacks queued than the limit and one, with a reader that stays inside until the
    updater has to wait."""
    rig = kit.Rig("backlog", repeats=12, backlog_max=4, **flavour)
    assert threads(rig, rounds=200) == 0
    assert rig.counter(0, Counter.RCU_BACKPRESSURE) > 0
    assert rig.counter(0, Counter.RCU_BACKLOG_MAX) == 5


def test_the_backlog_grows_without_backpressure(kit, flavour):
    """Result: Always."""
    assert threads(kit.Rig("backlog", "no_backpressure", repeats=12, backlog_max=4, **flavour), rounds=1) > 0


def test_no_sleeping_reader_sees_a_freed_parcel(kit):
    """Result: Never."""
    assert threads(kit.Rig("srcu_unlink", cpus=5, repeats=200, delay_interval=5), rounds=20) == 0


def test_a_freed_parcel_is_seen_by_who_does_not_enter_srcu(kit):
    """Result: Sometimes."""
    assert threads(kit.Rig("srcu_unlink", "silent_reader", cpus=8, repeats=500, delay_interval=5), BUSTED_ROUNDS) > 0


def test_leaving_srcu_by_the_half_of_the_moment_is_noticed(kit):
    """Result: Sometimes."""
    assert threads(kit.Rig("srcu_unlink", "other_half", cpus=4, repeats=500, delay_interval=5), BUSTED_ROUNDS) > 0


def test_synchronize_srcu_waits_for_the_reader(kit):
    """Result: Never."""
    assert threads(kit.Rig("srcu_sync", delay_interval=5), rounds=2000) == 0


@pytest.mark.parametrize("cpus", [2, 8])
def test_a_spinlock_excludes_and_everyone_makes_progress(kit, cpus):
    """Result: Never. An increment is lost, also where the threads met; eight need not have eight cores."""
    rig = kit.Rig("mutex", cpus=cpus, repeats=1000, delay_interval=20)
    for _ in range(BUSTED_ROUNDS):
        assert threads(rig, rounds=10) == 0
        if any(rig.counter(cpu, Counter.LOCK_CONTENDED) for cpu in range(cpus)):
            return
    pytest.fail("the threads never met")


def test_increments_are_lost_if_a_lock_is_tested_and_then_set(kit):
    """Result: Sometimes."""
    assert threads(kit.Rig("mutex", "test_then_set", cpus=4, repeats=1000, delay_interval=5), BUSTED_ROUNDS) > 0


def test_a_writer_is_alone_and_readers_see_whole_updates(kit):
    """Result: Never. A reader of two words under the semaphore finds them different."""
    assert threads(kit.Rig("rwsem", cpus=4, repeats=500, delay_interval=5), rounds=30) == 0


def test_readers_see_half_updates_of_a_writer_that_ignores_them(kit):
    """Result: Sometimes."""
    assert threads(kit.Rig("rwsem", "blind_writer", cpus=4, repeats=500, delay_interval=5), BUSTED_ROUNDS) > 0


def test_no_writer_comes_between_write_and_downgraded_read(kit):
    """Result: Never."""
    assert threads(kit.Rig("downgrade", cpus=4, repeats=500, delay_interval=5), rounds=30) == 0


def test_a_writer_comes_between_if_the_semaphore_is_released(kit):
    """Result: Sometimes."""
    assert threads(kit.Rig("downgrade", "up_then_down", cpus=4, repeats=500, delay_interval=5), BUSTED_ROUNDS) > 0


def test_no_reader_of_a_stream_overtakes_a_waiting_writer(kit):
    """Result: Never."""
    assert threads(kit.Rig("stream", cpus=4, repeats=500, delay_interval=5), rounds=30) == 0


def test_a_reader_that_need_not_retry_saw_a_whole_update(kit):
    """Result: Never."""
    assert threads(kit.Rig("twins", cpus=3, repeats=1000, delay_interval=5), rounds=30) == 0
