"""Policies of other packages: what the engine refuses, what schemes may come, and an example built and explored.

The installed package is tried with the same example in ``test_long_package.py``.
"""

import ctypes
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ptstress import get_include, schemes
from ptstress.builds import abi_hash
from ptstress.engine import load_engine
from ptstress.errors import UsageError
from ptstress.schemes import Scheme, find_scheme, plugin_schemes

EXAMPLE = Path(__file__).parent / "outoftree"
CAPSULE = b"ptstress.policy/1"
SHARE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
FILL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


class PolicyTable(ctypes.Structure):
    """struct policy of cy/mm/policy.pxd."""

    _fields_ = (("abi", ctypes.c_char_p), ("share", SHARE), ("protect", FILL), ("reclaim", FILL))


def abi(build: str) -> str:
    """Of the headers that are here now."""
    return abi_hash(build, Path(get_include()))


def fill_nothing(_mm: int, _ops: int) -> None:
    """A policy without functions."""


@pytest.fixture
def export(monkeypatch):
    """Lets a module hand out a policy that has, by default, the right hash and no functions."""
    kept = []

    def make(name: str, capsule: bytes = CAPSULE, found: str | None = None, **fills: FILL) -> None:
        table = PolicyTable(abi=(found or abi("sched")).encode(), share=SHARE(lambda slot: None), **fills)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        module = ModuleType(f"{name}_sched")
        module.policy = new(ctypes.addressof(table), capsule, None)
        kept.extend((table, module.policy, capsule))
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return make


def refusal(**config: str) -> str:
    """Why the engine does not make such a machine."""
    with pytest.raises(ValueError) as error:
        load_engine("sched").Machine(config)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_headers_and_engine_have_the_same_hash():
    for build in ("fast", "stress", "sched"):
        assert load_engine(build).flags()["abi"] == abi(build)
    assert len({abi(build) for build in ("fast", "stress", "sched")}) == 3


def test_other_headers_are_refused(export):
    export("old", found="0123456789abcdef")
    assert refusal(reclaim="plugin:old") == (
        f"policy old was built against ptstress headers 0123456789abcdef, this is {abi('sched')} (build sched): "
        "build it again")


def test_another_build_of_the_same_headers_is_refused(export):
    export("stressed", found=abi("stress"))
    assert f"headers {abi('stress')}, this is {abi('sched')}" in refusal(reclaim="plugin:stressed")


def test_another_version_is_refused(export):
    export("newer", capsule=b"ptstress.policy/2")
    assert refusal(reclaim="plugin:newer") == (
        "policy newer is made for ptstress.policy/2, this is ptstress.policy/1: build it again")


def test_what_is_no_policy_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "other_sched", ModuleType("other_sched"))
    assert refusal(reclaim="plugin:other").startswith("policy other: other_sched.policy is None; expected")
    assert refusal(reclaim="sync+plugin:missing") == (
        "policy missing cannot be loaded: No module named 'missing_sched'; expected missing_sched, from "
        "ptstress.plugin.extensions")


def test_missing_functions_are_named(export):
    export("hollow")
    assert refusal(reclaim="plugin:hollow").startswith("policy hollow is no reclaim policy")
    assert refusal(protection="plugin:hollow").startswith("policy hollow is no protection")
    export("empty", protect=FILL(fill_nothing), reclaim=FILL(fill_nothing))
    assert refusal(reclaim="plugin:empty").startswith("policy empty fills in nothing of reclaim_ops")
    assert refusal(protection="plugin:empty") == (
        "policy empty leaves out begin, next_vma, next, lock, install, detach, sleep, end of protect_ops: expected a function "
        "for each")


def test_what_a_policy_marks_it_has_to_scan(export):
    def fill(_mm: int, ops: int) -> None:
        ctypes.c_void_p.from_address(ops + 3 * ctypes.sizeof(ctypes.c_void_p)).value = 1    # left_behind

    export("marker", reclaim=FILL(fill))
    assert refusal(reclaim="plugin:marker").startswith("policy marker leaves out scan of reclaim_ops")
    assert refusal(reclaim="taskwork+plugin:marker", protection="none").startswith("protection 'none' is unknown")


class Entry:
    """An entry point."""

    name, value, dist = "mine", "mine:SCHEMES", None

    def __init__(self, given: object) -> None:
        self.given = given

    def load(self) -> object:
        """What it names."""
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


MINE = Scheme("mine", "for this test", "vma_lock", "plugin:mine")


@pytest.fixture
def bring(monkeypatch):
    """Installs a package with schemes, as far as this process knows."""
    def install(given: object) -> None:
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Entry(given)] * (group == schemes.ENTRY_POINTS))

    return install


@pytest.mark.parametrize("given", [MINE, [MINE], lambda: MINE, lambda: (MINE,)])
def test_schemes_of_packages_are_found_by_name(bring, given):
    bring(given)
    assert (plugin_schemes(), find_scheme("mine")) == ((MINE,), MINE)
    assert (MINE.plugged, MINE.modelled) == (("mine",), None)
    assert schemes.unmodelled(["mine", "rcu"]) == "no model of the tables of mine: only invariants are checked there"
    with pytest.raises(UsageError, match="covering, mine, or "):
        find_scheme("theirs")


@pytest.mark.parametrize(("given", "expected"), [
    (ImportError("no numpy"), "expected schemes, got ImportError: no numpy"),
    (7, "expected schemes, got TypeError: 'int' object is not iterable"),
    (["mine"], "expected a Scheme, got str"),
    ([MINE, MINE], "scheme 'mine': expected a name that no other scheme has, without + @ , and not all"),
    (Scheme("rcu", "", "vma_lock", "sync"), "scheme 'rcu': expected a name that no other scheme has, without + @ , and not all"),
    (Scheme("mine", "", "vma_lock", "lazy"), "scheme 'mine': no policy 'lazy': expected one of "),
    (Scheme("mine", "", "plugin:", "sync"), "scheme 'mine': no policy 'plugin:': expected one of "),
    (Scheme("mine", "", "vma_lock", "plugin:mine", tables_as="eager"), "scheme 'mine': no policy 'eager': expected one of "),
    (Scheme("mine", "", "vma_lock", "upper+plugin:mine"), "scheme 'mine': upper frees tables that vma_lock relies on"),
])
def test_what_is_no_scheme_is_refused(bring, given, expected):
    bring(given)
    with pytest.raises(UsageError) as error:
        find_scheme("mine")
    assert f"entry point mine = mine:SCHEMES of some package: {expected}" in str(error.value)


def test_our_schemes_are_found_without_a_look_at_other_packages(bring):
    bring(RuntimeError("looked"))
    assert find_scheme("linux-6.18").modelled == "sync"
    assert find_scheme("rcu+sync").lockless
    assert find_scheme("vma_lock+async+plugin:lazy").reclaim == "async+plugin:lazy"


def test_bugs_in_what_a_protection_locks_are_shown_if_it_locks_alike():
    alone = Scheme("mine", "", "plugin:mine", "sync", plants=("P01", "P08"))
    assert alone.canaries.count("P01") == 1 and "P08" in alone.canaries and "M10-frame" in alone.canaries
    assert not {"P19", "P21", "M15-lock-order"} & {*alone.canaries, *alone.shown}
    alike = Scheme("mine", "", "plugin:mine", "sync", locks_as="vma_lock")
    assert alike.canaries == Scheme("ours", "", "vma_lock", "sync").canaries


# ---- the example, built for sched alone -------------------------------------------------------------------------------------

SETUP = """
from ptstress.plugin import extensions
from setuptools import setup
setup(name="lazy", version="1", py_modules=["lazy_scheme"], entry_points={"ptstress.schemes": ["lazy = lazy_scheme:SCHEMES"]},
      ext_modules=[*extensions("lazy.pyx", builds=["sched"]), *extensions("hasty.pyx", builds=["sched"])])
"""

MODEL = """
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from ptstress.machines import address_space_machine
from ptstress.schemes import find_scheme
from ptstress.trial import SmallMachine
small = SmallMachine("sched", "lazy-sync", (2, 1, 1, 1))
for reclaim in (find_scheme("lazy-sync").modelled, None):
    machine = address_space_machine(small.emptied, (2, 1, 1, 1), reclaim)
    run_state_machine_as_test(machine, settings=settings(max_examples=10, stateful_step_count=30, deadline=None, database=None))
"""


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Path:
    """The example's folder, with its modules and its metadata."""
    folder = tmp_path_factory.mktemp("outoftree") / "lazy"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "setup.py").write_text(SETUP)
    built = python(folder, "setup.py", "-q", "egg_info", "build_ext", "--inplace")
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run Python where the example can be imported."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )


def test_the_example_is_listed(example):
    done = python(example, "-m", "ptstress", "list", "schemes")
    assert [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith(("lazy", "hasty"))] == [
        ["hasty-sync", "vma_lock x plugin:hasty: wrong: tables are unlinked without their lock; no model of its tables"],
        ["lazy-sync", "vma_lock x plugin:lazy: linux-6.18, but each table that DONTNEED frees is locked anew and looked "
         "at once more"]]


def test_the_example_is_explored_and_follows_the_model(example):
    done = python(example, "-m", "ptstress", "explore", "--scheme", "lazy-sync", "--executions", "500")
    assert (done.returncode, done.stderr) == (0, "")
    assert "note" not in done.stdout
    done = python(example, "-c", MODEL)
    assert done.returncode == 0, done.stderr


def test_a_wrong_policy_is_found_and_its_failure_comes_again(example):
    done = python(example, "-m", "ptstress", "explore", "--scheme", "hasty-sync", "--executions", "20000", "--json", "-")
    assert done.returncode == 2, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["notes"] == ["no model of the tables of hasty-sync: only invariants are checked there"]
    assert found["failures"][0]["oracle"] == "use-after-free"
    again = python(example, "-m", "ptstress", "replay", found["failures"][0]["replay"], "--times", "3", "--json", "-")
    assert json.loads(again.stdout)["reproduced"] == {"fibres": 3, "threads": 3}
    assert json.loads(again.stdout)["notes"] == []


def test_a_build_that_the_package_lacks_is_named_in_one_line(example, tmp_path):
    done = python(
        example, "-m", "ptstress", "run", "fault_vs_dontneed", "--scheme", "lazy-sync", "--duration", "1s", "--threads", "2",
        "--results", str(tmp_path))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()[-1:]
    assert "policy lazy cannot be loaded: No module named 'lazy_stress'" in line


@pytest.mark.parametrize(("call", "expected"), [
    ("extensions('nothing.pyx')", "ptstress.plugin: 'nothing.pyx': expected a .pyx file, named from the folder of setup.py"),
    ("extensions('lazy.pyx', builds=['explore'])",
     "ptstress.plugin: no engine is built as 'explore': expected some of fast, stress, sched, tsan, tsan_sched"),
])
def test_mistakes_in_a_setup_are_one_line(example, call, expected):
    done = python(example, "-c", f"from ptstress.plugin import extensions; {call}")
    assert (done.returncode, done.stderr.strip()) == (1, expected)
