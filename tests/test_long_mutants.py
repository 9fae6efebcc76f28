"""The engine of the mutants is built, is the engine while none is on, and oracles kill what is on."""

import os
import signal
import subprocess
import sys

import pytest

from ptstress.errors import ExitCode
from ptstress.mutants import MutantsRequest, measure_mutants

pytestmark = pytest.mark.long
#: An operator of few places, all of which must be found.
OPERATOR = "M12"


@pytest.fixture(scope="module")
def summary():
    return measure_mutants(MutantsRequest((OPERATOR,), 2, 1), print)


def test_without_a_mutant_it_is_the_sched_build(summary):
    assert summary.control.failures == []
    assert summary.control.same_traces == summary.control.traces > 0


def test_a_mutant_is_killed_by_an_execution_that_comes_again(summary):
    assert summary.killed
    assert all(k.again for k in summary.killed if k.by not in ("crash", "hang"))


def test_the_same_seed_finds_the_same(summary):
    again = measure_mutants(MutantsRequest((OPERATOR,), 1, 1), print)
    assert again.killed == summary.killed
    assert again.survivors == summary.survivors


def test_one_mutant_by_name_tells_its_story(summary):
    first = next(k for k in summary.killed if k.by not in ("crash", "hang"))
    one = measure_mutants(MutantsRequest((first.id,), 1, 1), print)
    assert one.killed[0].story[-1].startswith("=> ")


def test_an_interrupt_ends_it_with_a_report(summary):
    command = [sys.executable, "-m", "ptstress", "bugs", "--mutants", "-n", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    process.stderr.readline()               # it has begun
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == ExitCode.UNTRUSTWORTHY
    assert "stopped" in out.splitlines()[0]
