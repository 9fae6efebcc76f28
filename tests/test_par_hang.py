"""What a hang shows: each worker's operation, the lock that it waits for, and who holds that."""

import os
import re
import signal
import threading
from pathlib import Path

import pytest
from msgspec import structs

from ptstress.driver import Outcome, Stopper, run_job
from ptstress.hang import Standstill, describe_hang
from ptstress.layout import MAX_HELD_SHOWN, Counter, LockClass, SharedView, shared_bytes
from ptstress.plan import Overrides, plan_run
from ptstress.vocabulary import Verb
from ptstress.workload import load_workload

CY = Path(__file__).parent.parent / "cy"
PML, PTL = 0x7F00, 0x7E00


def view_of(*workers: tuple[Verb, tuple[int, LockClass] | None, list[tuple[int, LockClass]]]) -> SharedView:
    """A region in which worker i is inside a verb, waits for a lock, and holds some."""
    view = SharedView(bytearray(shared_bytes(len(workers), 16)), len(workers), 16)
    for row, (verb, wait, held) in zip(view.counters, workers, strict=True):
        row[Counter.VERB_NOW] = verb
        row[Counter.WAIT_ADDR], row[Counter.WAIT_CLASS] = wait or (0, 0)
        row[Counter.HELD_NR] = len(held)
        for i, (address, lock_class) in enumerate(held[:MAX_HELD_SHOWN]):
            row[Counter.HELD + 2 * i], row[Counter.HELD + 2 * i + 1] = address, lock_class
    return view


def test_a_deadlock_names_both_holders_and_the_circle():
    view = view_of(
        (Verb.DONTNEED, (PML, LockClass.PML), [(0x10, LockClass.VMA), (PTL, LockClass.PTL)]),
        (Verb.WRITE, None, []),
        (Verb.DONTNEED, (PTL, LockClass.PTL), [(PML, LockClass.PML)]),
    )
    assert describe_hang(view, [21.0, 0.5, 20.9]) == [
        "worker 0: dontneed for 21.0 s, waits for pml 0x7f00, held by worker 2, holds VMA lock 0x10 and ptl 0x7e00",
        "worker 1: write for 0.5 s",
        "worker 2: dontneed for 20.9 s, waits for ptl 0x7e00, held by worker 0, holds pml 0x7f00",
        "deadlock: worker 0 -> worker 2 -> worker 0",
    ]


def test_who_waits_in_a_queue_is_no_deadlock():
    view = view_of(
        (Verb.WRITE, (PTL, LockClass.PTL), []), (Verb.DONTNEED, None, [(PTL, LockClass.PTL)]),
        (Verb.WALK, (0x99, LockClass.PML), []), (Verb.NONE, None, []),
    )
    lines = describe_hang(view, [5.0] * 4)
    assert lines[0].endswith("waits for ptl 0x7e00, held by worker 1")
    assert lines[2].endswith("waits for pml 0x99, held by nobody known") and len(lines) == 3
    assert describe_hang(view_of((Verb.NONE, None, [])), [1.0]) == ["no worker is inside an operation; phase idle"]


def test_more_locks_than_are_shown_are_no_nonsense():
    held = [(n + 1, LockClass.PTL) for n in range(MAX_HELD_SHOWN + 3)]
    assert view_of((Verb.WRITE, None, held)).held_locks(0) == [(n + 1, LockClass.PTL) for n in range(MAX_HELD_SHOWN)]


def test_lock_classes_are_those_of_the_engine():
    numbers = re.findall(r"^    LOCK_(\w+) = (\d+)$", (CY / "sync" / "lockclass.pxd").read_text(), re.M)
    assert {name: int(n) for name, n in numbers} == {one.name: one.value for one in LockClass}
    assert f"MAX_HELD_SHOWN = {MAX_HELD_SHOWN}\n" in (CY / "base" / "shm.pxd").read_text()
    assert Counter.HELD + 2 * MAX_HELD_SHOWN <= 80


def run_short(build: str = "stress", **options) -> Outcome:
    plan = plan_run(load_workload("fault_vs_dontneed"), Overrides(threads=3, duration="300ms", build=build))[0]
    return run_job(structs.replace(plan.job, **options.pop("job", {})), Stopper(), **options)


@pytest.mark.parametrize("build", ["stress", "fast"])
def test_workers_show_the_locks_that_they_take_where_there_are_checks(build):
    view = run_short(build).view
    assert [view.held_locks(w) for w in range(3)] == [[], [], []]
    shown = view.counters[:, [Counter.HELD, Counter.HELD + 1]]
    assert shown.all() if build == "stress" else not shown.any()


def test_a_child_that_stands_still_is_killed_and_described():
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    stopped = []

    def stop(sample) -> None:
        (pid,) = (int(n) for n in children.read_text().split() if b"ptstress.child" in Path(f"/proc/{n}/cmdline").read_bytes())
        os.kill(pid, signal.SIGSTOP)
        stopped.append(pid)

    outcome = run_short(on_sample=stop, interval_s=0.5, hang_s=1.0, job={"duration_s": 600.0})
    assert outcome.kind == "hung" and stopped
    assert re.match(r"worker \d: \w+ for \d+\.\d s|no worker is inside an operation", outcome.message)
    assert not Path(f"/proc/{stopped[0]}").exists()


# The clock has been running for long when a run begins, and a worker may get no cpu in the first burst.
def test_a_count_that_was_never_seen_before_does_not_stand_still():
    moves = Standstill(15.0)
    assert [moves.lasts(0, 1000.0), moves.lasts(0, 1015.0), moves.lasts(0, 1015.1)] == [False, False, True]
    assert [moves.lasts(1, 1016.0), moves.lasts(1, 1031.1)] == [False, True]
