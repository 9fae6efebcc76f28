"""The share of each test process, its executor, and the count of the programs that all of them ran."""

import os
from collections.abc import Iterator

import pytest

from ptstress.fuzz_containment import Executor
from ptstress.fuzz_profiles import VARIABLE, Profile, find_profile, register_profiles

SHARES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "master")
RAN = pytest.StashKey[dict[str, set[int]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RAN] = {}
    register_profiles()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each share of the examples: xdist hands them out to its workers."""
    if "share" in metafunc.fixturenames:
        metafunc.parametrize("share", range(SHARES))


@pytest.fixture(scope="session")
def profile() -> Profile:
    return find_profile(os.environ.get(VARIABLE, "dev"))


@pytest.fixture(scope="session")
def executor() -> Iterator[Executor]:
    with Executor() as process:
        yield process


@pytest.fixture(scope="session")
def ran(request: pytest.FixtureRequest) -> Iterator[set[int]]:
    """Digests of the programs that this process ran."""
    digests: set[int] = set()
    request.config.stash[RAN][WORKER] = digests
    yield digests
    if hasattr(request.config, "workeroutput"):
        request.config.workeroutput["ptstress_fuzz"] = [str(digest) for digest in digests]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    digests = getattr(node, "workeroutput", {}).get("ptstress_fuzz", ())
    node.config.stash[RAN][node.gateway.id] = {int(digest) for digest in digests}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ran = {worker: digests for worker, digests in config.stash[RAN].items() if digests}
    if ran:
        each = ", ".join(f"{worker} {len(digests):,}" for worker, digests in sorted(ran.items()))
        terminalreporter.write_line(f"fuzz: distinct programs: {len(set().union(*ran.values())):,} in union ({each})")
