"""Results of a run: the typed summary, and the folder that holds it.

``results/YYYY-MM-DD-HHMMSS/`` has ``log.jsonl``, ``summary.json``, ``testid.txt`` and one folder for each
distinct failure. The structs are the JSON forms; ``schema`` says which and in which version.
"""

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct, field

from ptstress import __version__
from ptstress.durable import Disk, make_unique_folder
from ptstress.errors import UsageError

TESTID = "testid.txt"
Json = str | int | float | bool | None | list | dict


class Ops(Struct):
    """Operations done."""

    total: int = 0
    per_second: float = 0.0
    by_kind: dict[str, int] = {}


class Checked(Struct):
    """Operations that got a verdict, of those done; violations found."""

    ops: int = 0
    of: int = 0
    violations: int = 0


class Overlaps(Struct):
    """How often two operations met on one table; ``named``: of the pairs that the workload names."""

    total: int = 0
    per_second: float = 0.0
    by_pair: dict[str, int] = {}
    named: dict[str, int] = {}


class Tables(Struct):
    """Page tables. Bytes as Linux counts VmPTE: pte, pmd and pud tables."""

    start_bytes: int = 0
    peak_bytes: int = 0
    end_bytes: int = 0
    allocated: int = 0
    freed: int = 0
    reclaimed: int = 0
    by_level: dict[str, dict[str, int]] = {}


class Rcu(Struct):
    """Grace periods; the age is that of the longest."""

    grace_periods: int = 0
    max_age_ms: float = 0.0
    max_backlog: int = 0


class Debt(Struct):
    """Tables that were taken out of their parents and were not free yet.

    ``unlinked``: all of them; ``left``: not free at the end, 0 unless something is broken; ``max_tables``: at once.
    ``max_gp_ms``: the longest time from unlink until no walker could hold the table, ``max_age_ms``: until its memory was
    free; ``table_ms``: the sum of these, over all tables. ``waits``: times that a worker had to wait because too many were
    queued for a grace period.
    """

    unlinked: int = 0
    left: int = 0
    max_tables: int = 0
    max_gp_ms: float = 0.0
    max_age_ms: float = 0.0
    table_ms: float = 0.0
    waits: int = 0


class CanaryItem(Struct):
    """One planted bug: ``oracle`` that found it after ``seconds``, or how it survived."""

    bug: str
    found: bool
    oracle: str = ""
    seconds: float = 0.0
    note: str = ""


class Canaries(Struct):
    """Bugs planted in companion runs, to prove that the run could have failed."""

    planted: int = 0
    found: int = 0
    items: list[CanaryItem] = []
    note: str = ""


class Reconstruction(Struct):
    """A schedule of what threads showed, or that none was found in so many ``executions`` of ``programs``.

    ``replay``: its replay string, empty: there is none. ``oracle``, ``what``: who objects there. ``note``: why the search ended
    before its time.
    """

    replay: str = ""
    executions: int = 0
    seconds: float = 0.0
    programs: int = 0
    oracle: str = ""
    what: str = ""
    program: str = ""
    story: list[str] = []
    note: str = ""


class Failure(Struct):
    """The first violation. ``replay`` is the command that runs it again; ``path`` its folder; ``schedule``: if one was sought."""

    oracle: str
    replay: str
    path: str
    what: str = ""
    schedule: Reconstruction | None = None


class StageSummary(Struct):
    """One stage of a run."""

    name: str
    verdict: str
    exit_code: int
    scheme: str
    parts: str
    build: str
    geometry: str
    seed: int
    threads: int
    duration_s: float
    ops: Ops
    checked: Checked
    overlaps: Overlaps
    near_misses: dict[str, int]
    tables: Tables
    rcu: Rcu
    canaries: Canaries
    confidence: str
    racing_share: float
    failure: Failure | None = None
    replays: int = 0
    reason: str = ""
    notes: list[str] = []
    debt: Debt = field(default_factory=Debt)


class RunSummary(Struct):
    """A whole run. With one stage the fields are that stage's; with more, the worst or the sum."""

    verdict: str
    exit_code: int
    workload: str
    scheme: str
    build: str
    seed: int
    threads: int
    duration_s: float
    ops: Ops
    checked: Checked
    overlaps: Overlaps
    near_misses: dict[str, int]
    tables: Tables
    rcu: Rcu
    canaries: Canaries
    confidence: str
    racing_share: float
    failure: Failure | None
    stages: list[StageSummary]
    results: str
    schema: str = "ptstress.run/1"
    debt: Debt = field(default_factory=Debt)


class ResultsFolder:
    """One run's folder. All methods raise ``UsageError`` if it cannot be written."""

    def __init__(self, base: Path) -> None:
        self.path = make_results_folder(base)

    def write_testid(self, command: str, seed: int, flags: Mapping[str, object]) -> None:
        """What exactly ran."""
        self._write(self.path / TESTID, testid_text(command, seed, flags))

    def log(self, event: str, **fields: object) -> None:
        """Append one line to ``log.jsonl``."""
        line = msgspec.json.encode({"t": round(time.time(), 3), "event": event, **fields})
        try:
            with open(self.path / "log.jsonl", "ab") as stream:
                stream.write(line + b"\n")
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the folder."""
        self._write(self.path / name, text)

    def write_summary(self, summary: Struct) -> None:
        """Write ``summary.json``."""
        encoded = msgspec.json.format(msgspec.json.encode(summary), indent=2)
        self._write(self.path / "summary.json", encoded.decode() + "\n")

    def write_failure(self, title: str, files: Mapping[str, bytes]) -> Path:
        """A new folder ``failure-title``, or ``failure-title-2`` and so on."""
        try:
            return make_unique_folder(Disk(), self.path, f"failure-{title}", files)
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def add_to_failure(self, path: Path, files: Mapping[str, bytes]) -> None:
        """Further files of a failure's folder, or other ones in their place."""
        for name, data in files.items():
            try:
                Disk().replace(path / name, data)
            except OSError as error:
                raise _unwritable(path, error) from None

    def _write(self, path: Path, text: str) -> None:
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise _unwritable(path, error) from None


def testid_text(command: str, seed: int, flags: Mapping[str, object]) -> str:
    """``testid.txt``: version, build flags, command, seed, kernel, CPU."""
    lines = [
        f"ptstress: {__version__}",
        f"build: {flags_text(flags)}",
        f"command: {command}",
        f"seed: {seed}",
        f"kernel: {platform.system()} {platform.release()} {platform.machine()}",
        f"cpu: {cpu_model()}, {os.cpu_count()} usable",
        f"python: {platform.python_version()}",
    ]
    return "\n".join(lines) + "\n"


def flags_text(flags: Mapping[str, object]) -> str:
    """A build's flags in one line."""
    return ", ".join(f"{k}={v}" for k, v in flags.items())


def make_results_folder(base: Path) -> Path:
    """A new folder called after the date and the time."""
    return _make_unique(base, time.strftime("%Y-%m-%d-%H%M%S"))


def cpu_model() -> str:
    """Name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return "unknown"
    return platform.processor() or "unknown"


def _make_unique(base: Path, name: str) -> Path:
    """Create ``base/name``, or ``name-2`` and so on if another run was faster."""
    try:
        base.mkdir(parents=True, exist_ok=True)
        for number in range(1, 10000):
            path = base / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
    except OSError as error:
        raise _unwritable(base, error) from None
    raise UsageError(f"{base}: too many folders {name}-N; give another folder with --results")


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path}: results cannot be written: {error.strerror}; give another folder with --results")
