"""The engine of the mutants is built, is the engine while none is on, and oracles kill what is on."""

import os
import signal
import subprocess
import sys

import pytest

from ptstress.errors import ExitCode
from ptstress.mutant_build import mutants_of_engine
from ptstress.mutants import MutantsRequest, measure_mutants
from ptstress.vocabulary import Oracle

pytestmark = pytest.mark.long
#: An operator of few places, all of which must be found.
OPERATOR = "M12"
#: Mutants that one oracle alone finds, as beginnings of their keys.
ONLY = {
    "M03 core/fault.pxd _anon_vma_slow": Oracle.LOCK_ORDER,
    "M04 core/fault.pxd _anon_vma_slow": Oracle.LOCK_ORDER,
    "M08 core/free_pgtables.pxd _free_level_locked": Oracle.UAF,
    "M08 protect/rcu.pxd _missing_level": Oracle.UAF,
    "M09 ops/guard.pxd _install_markers": Oracle.DATA,
    "M15 core/vma_modify.pxd _give_up: vma_mark_detached": Oracle.UAF,
    "M15 ops/exit.pxd _remove_vmas: vma_mark_detached": Oracle.UAF,
}


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


def test_what_one_oracle_alone_finds():
    keys = {m.id: begin for m in mutants_of_engine() for begin in ONLY if m.key.startswith(begin)}
    found = measure_mutants(MutantsRequest(tuple(keys), 2, 1), print)
    assert {keys[k.id]: k.by for k in found.killed} == {begin: oracle.label for begin, oracle in ONLY.items()}
    assert found.control.failures == []


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
