"""The verb ``doctor``: what this machine and this installation can do, one line for each check."""

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

from ptstress.engine import build_present, load_engine
from ptstress.errors import ExitCode, PtstressError

RELEASE_BUILDS = ("fast", "stress", "sched")
MIN_PYTHON = (3, 11)
MIN_FREE_MB = 512
CLOCK_ROUNDS = 400
# Linux system call number and query command, see membarrier(2); the number is that of x86-64.
SYS_MEMBARRIER = 324
MEMBARRIER_CMD_QUERY = 0
MEMBARRIER_CMD_PRIVATE_EXPEDITED = 1 << 3


class Check(Struct):
    """One line. ``required``: without it nothing here can be trusted or run."""

    name: str
    ok: bool
    summary: str
    required: bool = True


class DoctorReport(Struct):
    """All checks; the exit code is 0 or 4."""

    items: list[Check]
    verdict: str
    exit_code: int
    schema: str = "ptstress.doctor/1"


def examine() -> DoctorReport:
    """Look at everything once."""
    items = list(_checks())
    failed = any(check.required and not check.ok for check in items)
    return DoctorReport(items, "unsupported" if failed else "pass", ExitCode.UNSUPPORTED if failed else ExitCode.PASS)


def doctor_lines(report: DoctorReport) -> list[str]:
    """One line for each check."""
    width = max(len(check.name) for check in report.items)
    marks = {(True, True): "ok", (True, False): "ok", (False, True): "!!!", (False, False): "-"}
    return [f"{marks[c.ok, c.required]:<3} {c.name:<{width}}  {c.summary}" for c in report.items]


def _checks() -> Iterator[Check]:
    version = platform.python_version()
    yield Check("python", sys.version_info >= MIN_PYTHON, f"{version}, needs {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or newer")
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield Check("system", platform.system() == "Linux", f"{system}, needs Linux")
    for build in (*RELEASE_BUILDS, "tsan", "tsan_sched"):
        yield _build_check(build)
    yield _explorer_check()
    yield _membarrier_check()
    yield from _clock_checks()
    cores = len(os.sched_getaffinity(0))
    yield Check("cores", cores >= 2, f"{cores} usable; with one, races need preemption and are rare", required=False)
    yield _memory_check()
    yield _memfd_check()


def _build_check(build: str) -> Check:
    if not build_present(build):
        return Check(f"build {build}", False, "not built", required=build in RELEASE_BUILDS)
    try:
        flags = load_engine(build).flags()
    except PtstressError as error:
        return Check(f"build {build}", False, str(error), required=build in RELEASE_BUILDS)
    return Check(f"build {build}", True, " ".join(f"{key}={value}" for key, value in flags.items()))


def _explorer_check() -> Check:
    present = find_spec("ptstress._explore") is not None
    return Check("explorer", present, "present" if present else "extension ptstress._explore is not built")


def _membarrier_check() -> Check:
    if platform.machine() != "x86_64":
        return Check("membarrier", False, f"not looked for on {platform.machine()}; readers use xchg", required=False)
    commands = ctypes.CDLL(None, use_errno=True).syscall(SYS_MEMBARRIER, MEMBARRIER_CMD_QUERY, 0, 0)
    ok = commands >= 0 and bool(commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED)
    text = f"private expedited, commands {commands:#x}" if ok else "missing: readers use xchg, which is slower"
    return Check("membarrier", ok, text, required=False)


def _clock_checks() -> Iterator[Check]:
    if platform.machine() != "x86_64":
        yield Check("clock", True, "clock_gettime")
        return
    flags = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = set(line.partition(":")[2].split())
            break
    missing = [flag for flag in ("constant_tsc", "nonstop_tsc", "rdtscp") if flag not in flags]
    text = f"flags missing: {', '.join(missing)}" if missing else "constant_tsc nonstop_tsc rdtscp"
    yield Check("clock", not missing, f"time stamp counter, {text}", required=False)
    yield _cross_core_check()


def _cross_core_check() -> Check:
    """Read the engine's clock on one core after the other: it must never go back."""
    build = next((b for b in RELEASE_BUILDS if build_present(b)), None)
    cores = sorted(os.sched_getaffinity(0))
    if build is None or len(cores) < 2:
        return Check("clock across cores", True, "not looked for: needs a build and two cores", required=False)
    clock_pair = load_engine(build).clock_pair
    last, back = 0, 0
    try:
        for core in cores * (CLOCK_ROUNDS // len(cores) + 1):
            os.sched_setaffinity(0, {core})
            begin, end = clock_pair()
            back = max(back, last - begin, begin - end)
            last = end
    finally:
        os.sched_setaffinity(0, cores)
    text = "never goes back"
    if back > 0:
        text = f"goes back by up to {back} ticks, so overlaps and the data oracle cannot be trusted"
    return Check("clock across cores", back <= 0, f"{text}; {len(cores)} cores")


def _memory_check() -> Check:
    free_kb = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free_kb = int(line.split()[1])
    return Check("memory", free_kb >= MIN_FREE_MB << 10, f"{free_kb >> 10} MiB available, needs {MIN_FREE_MB}")


def _memfd_check() -> Check:
    try:
        os.close(os.memfd_create("ptstress-doctor"))
    except OSError as error:
        return Check("memfd", False, f"memfd_create: {error.strerror}")
    return Check("memfd", True, "memory files can be made")
