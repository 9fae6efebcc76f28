"""RCU, locks and sequence counters, one call at a time: what must hold at each step, and what is reported."""

import pytest

from kit.build_kit import load_kit
from ptstress.layout import Counter
from ptstress.vocabulary import Oracle, Verb

A_FEW = 10


@pytest.fixture(scope="session")
def kit(pytestconfig):
    return load_kit("stress", pytestconfig.cache.mkdir("kit"))


@pytest.fixture
def bench(kit):
    return kit.SyncBench(cpus=3)


@pytest.fixture(params=[False, True], ids=["xchg", "membarrier"])
def rcu(kit, request):
    """A bench of either flavour; where membarrier() does not work both are the same."""
    return kit.SyncBench(cpus=4, membarrier=request.param)


def poll(bench, cpu=0):
    """Let a cpu drive grace periods as often as could ever matter."""
    for _ in range(A_FEW):
        bench.poll(cpu)


def what(bench):
    """(oracle, invariant) of each report."""
    return [report[:2] for report in bench.reports()]


# -- RCU -----------------------------------------------------------------------------------------


def test_a_callback_waits_for_a_section_that_began_before_it_was_queued(rcu):
    rcu.read_lock(1)
    rcu.call(0, 0)
    poll(rcu)
    assert not rcu.ran(0)
    rcu.read_unlock(1)
    poll(rcu)
    assert rcu.ran(0)


def test_a_callback_waits_for_the_section_of_its_own_cpu(rcu):
    rcu.read_lock(0)
    rcu.call(0, 0)
    poll(rcu, cpu=1)
    assert not rcu.ran(0)
    rcu.read_unlock(0)
    poll(rcu)
    assert rcu.ran(0)


def test_a_nested_section_ends_with_the_outermost(rcu):
    rcu.read_lock(1)
    rcu.read_lock(1)
    rcu.call(0, 0)
    rcu.read_unlock(1)
    poll(rcu)
    assert not rcu.ran(0)
    rcu.read_unlock(1)
    poll(rcu)
    assert rcu.ran(0)


def test_a_section_begun_after_the_period_does_not_delay_it(rcu):
    rcu.read_lock(1)
    rcu.call(0, 0)
    rcu.poll(0)                     # begins the period, which waits for cpu 1
    rcu.read_lock(2)
    rcu.read_unlock(1)
    poll(rcu)
    assert rcu.ran(0)
    rcu.read_unlock(2)


def test_a_callback_queued_during_a_period_waits_for_the_next(rcu):
    rcu.read_lock(1)
    rcu.call(0, 0)
    rcu.poll(0)                     # begins the period
    rcu.read_lock(2)                # may still see what is unlinked now,
    rcu.call(0, 1)                  # but does not delay the period that runs
    rcu.read_unlock(1)
    poll(rcu)
    assert (rcu.ran(0), rcu.ran(1)) == (True, False)
    rcu.read_unlock(2)
    poll(rcu)
    assert rcu.ran(1)


def test_callbacks_queued_during_a_period_share_the_next(rcu):
    rcu.read_lock(3)
    for cpu in range(3):
        rcu.call(cpu, cpu)
        rcu.poll(cpu)               # the first begins the period
    rcu.read_unlock(3)
    for cpu in (0, 1, 2):
        poll(rcu, cpu)
    assert all(rcu.ran(parcel) for parcel in range(3))
    assert sum(rcu.counter(cpu, Counter.GRACE_PERIODS) for cpu in range(3)) == 2


def test_barrier_runs_all_callbacks_of_its_own_cpu_and_no_others(rcu):
    for parcel in range(A_FEW):
        rcu.call(0, parcel)
    rcu.call(1, A_FEW)
    rcu.barrier(0)
    assert all(rcu.ran(parcel) for parcel in range(A_FEW))
    assert not rcu.ran(A_FEW)
    rcu.barrier(1)
    assert rcu.ran(A_FEW)


def test_numbers_wrap_and_stay_odd_and_callbacks_still_wait(rcu):
    seen = set()
    for _ in range(2 * A_FEW):
        rcu.read_lock(1)
        rcu.call(0, 0)
        poll(rcu)
        assert not rcu.ran(0)
        rcu.read_unlock(1)
        poll(rcu)
        assert rcu.ran(0)
        rcu.renew(0)
        seen.update(rcu.periods())
    assert len(seen) > A_FEW
    assert all(number % 2 for number in seen), "0 means that a cpu is outside"
    assert min(seen) < 1 << 8 < (1 << 64) - (1 << 8) < max(seen), "the test does not reach the wrap"


def test_synchronize_takes_one_full_period(rcu):
    before, _ = rcu.periods()
    rcu.synchronize(0)
    assert rcu.periods() == ((before + 2) % (1 << 64),) * 2


def test_a_stalled_reader_is_named_with_age_cpu_and_verb(kit):
    bench = kit.SyncBench(cpus=3, stall_ns=0)
    bench.set_verb(2, Verb.WALK)
    bench.read_lock(2)
    bench.call(0, 0)
    poll(bench)
    assert bench.counter(0, Counter.RCU_STALL_NS) > 0
    assert bench.counter(0, Counter.RCU_STALL_CPU) == 2
    assert bench.counter(0, Counter.RCU_STALL_SITE) == Verb.WALK


def test_a_reader_below_the_limit_is_no_stall(bench):
    bench.read_lock(1)
    bench.call(0, 0)
    poll(bench)
    assert bench.counter(0, Counter.RCU_STALL_NS) == 0


def test_callbacks_are_counted(bench):
    for parcel in range(3):
        bench.call(0, parcel)
    bench.barrier(0)
    assert bench.counter(0, Counter.RCU_CALLBACKS) == 3
    assert bench.counter(0, Counter.RCU_BACKLOG_MAX) == 3


def test_backpressure_leaves_a_backlog_at_the_limit_alone(kit):
    bench = kit.SyncBench(cpus=3, backlog_max=3)
    for parcel in range(3):
        bench.call(0, parcel)
    bench.backpressure(0)
    assert bench.counter(0, Counter.RCU_BACKPRESSURE) == 0
    assert not any(bench.ran(parcel) for parcel in range(3))


def test_backpressure_works_a_backlog_over_the_limit_off(kit):
    bench = kit.SyncBench(cpus=3, backlog_max=3)
    for parcel in range(4):
        bench.call(0, parcel)
    bench.backpressure(0)
    assert bench.counter(0, Counter.RCU_BACKPRESSURE) == 1
    assert all(bench.ran(parcel) for parcel in range(4))


# -- sleeping ------------------------------------------------------------------------------------


def test_sleeping_inside_a_section_is_reported(bench):
    bench.read_lock(0)
    bench.might_sleep(0)
    assert what(bench) == [(Oracle.SLEEP_IN_RCU, 12)]


@pytest.mark.parametrize("sleep", ["synchronize", "barrier", "backpressure", "down_read", "down_write"])
def test_everything_that_may_wait_reports_a_spinlock_around_it(kit, bench, sleep):
    bench.lock(0, 0, kit.PTL)
    getattr(bench, sleep)(0)        # does not wait now, but might
    assert (Oracle.SLEEP_IN_RCU, 12) in what(bench)


def test_sleeping_under_a_spinlock_is_reported_with_its_class(kit, bench):
    bench.lock(0, 0, kit.PTL)
    bench.might_sleep(0)
    assert [report[:4] for report in bench.reports()] == [(Oracle.SLEEP_IN_RCU, 12, 0, kit.PTL)]


def test_sleeping_under_mmap_lock_or_after_a_section_is_right(bench):
    bench.read_lock(0)
    bench.read_unlock(0)
    bench.down_read(0)
    bench.might_sleep(0)
    bench.read_lock(1)              # of another cpu
    bench.might_sleep(0)
    assert bench.reports() == []


# -- spinlock ------------------------------------------------------------------------------------


def test_trylock_takes_a_free_lock_and_fails_at_once_on_a_taken_one(kit, bench):
    assert bench.trylock(0, 0, kit.PTL)
    assert not bench.trylock(1, 0, kit.PTL)
    assert not bench.trylock(0, 0, kit.PTL), "not even by its holder"
    bench.unlock(0, 0)
    assert bench.trylock(1, 0, kit.PTL)
    assert bench.reports() == []


def test_waiting_against_the_lock_order_is_reported(kit, bench):
    bench.lock(0, 0, kit.PTL)
    bench.lock(0, 1, kit.PML)
    assert [report[:5] for report in bench.reports()] == [(Oracle.LOCK_ORDER, 7, 0, kit.PTL, kit.PML)]


def test_waiting_for_a_second_lock_of_the_class_is_reported(kit, bench):
    bench.lock(0, 0, kit.PTL)
    bench.lock(0, 1, kit.PTL)
    assert what(bench) == [(Oracle.LOCK_ORDER, 8)]


def test_waiting_in_order_and_trying_against_it_are_right(kit, bench):
    bench.lock(0, 0, kit.PML)
    bench.lock(0, 1, kit.PTL)
    bench.unlock(0, 0)              # in any order
    assert bench.trylock(0, 0, kit.PML)
    bench.unlock(0, 0)
    bench.unlock(0, 1)
    bench.lock(0, 0, kit.PML)       # nothing is held any more
    assert bench.reports() == []


def test_mmap_lock_after_a_spinlock_is_reported(kit, bench):
    bench.lock(0, 0, kit.PTL)
    bench.down_read(0)
    assert (Oracle.LOCK_ORDER, 48) in what(bench)


def test_releasing_a_lock_that_is_not_held_is_reported(bench):
    bench.unlock(0, 0)
    assert what(bench) == [(Oracle.LOCK_ORDER, 13)]


def test_releasing_the_lock_of_another_cpu_is_reported(kit, bench):
    bench.lock(0, 0, kit.PTL)
    bench.unlock(1, 0)
    assert what(bench) == [(Oracle.LOCK_ORDER, 13)]


def test_who_finds_its_lock_released_by_another_cpu_says_so(kit, bench):
    bench.lock(0, 0, kit.PTL)
    bench.unlock(1, 0)
    bench.unlock(0, 0)
    assert what(bench) == [(Oracle.LOCK_ORDER, 13), (Oracle.UAF, 9)]


# -- rw-semaphore --------------------------------------------------------------------------------


def test_readers_are_inside_together(bench):
    bench.down_read(0)
    bench.down_read(1)
    assert bench.down_read_trylock(2)


def test_no_reader_enters_beside_a_writer(bench):
    bench.down_write(0)
    assert not bench.down_read_trylock(1)
    bench.up_write(0)
    assert bench.down_read_trylock(1)


def test_downgrade_lets_readers_in_and_is_released_as_a_reader(bench):
    bench.down_write(0)
    bench.downgrade(0)
    assert bench.down_read_trylock(1)
    bench.up_read(0)
    bench.up_read(1)
    bench.down_write(2)             # would wait for ever if a reader were left
    bench.up_write(2)
    assert bench.reports() == []


# -- sequence counter ----------------------------------------------------------------------------


def test_a_reader_without_a_writer_need_not_retry(bench):
    assert not bench.seq_retry(bench.seq_begin())


def test_a_reader_retries_if_a_writer_was_inside_at_any_time(bench):
    for _ in range(2 * A_FEW):      # past the wrap of the sequence
        before = bench.seq_begin()
        bench.seq_write_begin()
        during = bench.seq_begin()
        assert bench.seq_retry(before)
        assert bench.seq_retry(during), "began inside and is still there"
        bench.seq_write_end()
        assert bench.seq_retry(before)
        assert bench.seq_retry(during)
        assert not bench.seq_retry(bench.seq_begin())
