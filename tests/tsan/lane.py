"""The ThreadSanitizer lane: ``make tsan``.

First under real threads. A planted race, which must be reported: else the lane is dead and its silence says nothing. Then every
scheme, which must not be reported. Then the same on explored schedules, see ``schedules.py``. Each part runs in a process of its
own, because the sanitizer's run-time library has to be loaded before Python. Reports of threads go to files, as a captured or
swallowed standard error would hide them.

Exit status: 0 the lane is alive and clean, 1 it could not run, 2 a race or a violation.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from ptstress.errors import UnsupportedError
from ptstress.operation import mmap, op_array
from ptstress.sanitizer import EXPLORING, command, environment
from ptstress.schemes import SCHEMES, find_scheme
from ptstress.vocabulary import Verb

import schedules  # beside this file

SECONDS_PER_SCHEME = 5
BURST_MS = 200
PLANTED = "planted race"
REPORTED = 66
WORKERS = 3
# They exit now and then.
MMS = 2
TABLE_PAGES = 512
PAGES = 4 * TABLE_PAGES


def main() -> int:
    """Run the planted race and every scheme, on threads and on schedules; print one line for each."""
    try:
        return on_threads() or on_schedules()
    except UnsupportedError as error:
        print(f"tsan: {error}", file=sys.stderr)
        return 1


def on_threads() -> int:
    """Under real threads; the exit status."""
    status, report = run_part(PLANTED)
    if status != REPORTED or "data race" not in report:
        print(f"tsan: the planted race was not reported (exit status {status}): the lane is dead\n{report}", file=sys.stderr)
        return 1
    print(f"tsan: {PLANTED}: reported, the lane is alive", flush=True)
    for scheme in SCHEMES:
        status, report = run_part(scheme.name)
        if status or report:
            print(f"tsan: {scheme.name}: exit status {status}\n{report}", file=sys.stderr)
            return 2 if status in (2, REPORTED) else 1
        print(f"tsan: {scheme.name}: {SECONDS_PER_SCHEME} s, no race", flush=True)
    return 0


def on_schedules() -> int:
    """On explored schedules; the exit status."""
    script = str(Path(__file__).with_name("schedules.py"))
    for part in schedules.PARTS:
        child = subprocess.run(
            command([script, part]), env=environment(EXPLORING), stderr=subprocess.PIPE, text=True, check=False)
        if child.returncode:
            print(f"tsan: {part}: exit status {child.returncode}\n{child.stderr}", file=sys.stderr)
            return 2 if child.returncode == 2 else 1
    return 0


def run_part(part: str) -> tuple[int, str]:
    """Run one part on threads in a child under the sanitizer. Returns its exit status and what was reported."""
    with tempfile.TemporaryDirectory() as folder:
        options = f"halt_on_error=1:exitcode={REPORTED}:log_path={folder}/report"
        child = subprocess.run(command([__file__, part]), env=environment(options), check=False)
        return child.returncode, "".join(path.read_text(errors="replace") for path in sorted(Path(folder).iterdir()))


def run_child(part: str) -> int:
    """One part's work, in the process that has the sanitizer."""
    from ptstress import _engine_tsan

    scheme = find_scheme("linux-6.18" if part == PLANTED else part)
    machine = _engine_tsan.Machine({
        **scheme.config(),
        "geometry": (9, 9, 9, 9), "workers": WORKERS, "mms": MMS, "tables": 512, "frames": 8 * PAGES, "vmas": 64,
        "ring_events": 1 << 14, "seed": 1, "bugs": [],
        "knobs": {
            "need_resched": 64, "gather_batch": 32, "gather_alloc_fail": 8, "trylock_fail": 8, "tsan_plant": int(part == PLANTED),
        },
    })
    machine.serial(op_array(mmap(0, PAGES).moved(mm) for mm in range(MMS)))
    mix = {
        "weights": {
            Verb.READ: 40, Verb.WRITE: 80, Verb.GUP_FAST: 40, Verb.WALK: 20, Verb.DONTNEED: 20, Verb.MMAP: 20, Verb.MUNMAP: 10,
            Verb.FREE: 20, Verb.DISCARD: 20, Verb.EXIT: 1,
        },
        "start": 0, "end": PAGES, "aligned": True, "mms": MMS,
        "unit": {
            Verb.WALK: TABLE_PAGES, Verb.DONTNEED: TABLE_PAGES, Verb.MMAP: TABLE_PAGES, Verb.MUNMAP: TABLE_PAGES,
            Verb.FREE: TABLE_PAGES, Verb.DISCARD: TABLE_PAGES,
        },
    }
    machine.start([("mix", mix)] * WORKERS)
    try:
        for _ in range(SECONDS_PER_SCHEME * 1000 // BURST_MS):
            machine.burst(BURST_MS)
    finally:
        machine.stop()
    for report in machine.reports():
        print(f"tsan: {part}: {report}", file=sys.stderr)
    if not machine.overlaps().any():
        print(f"tsan: {part}: no two operations met; nothing was tested", file=sys.stderr)
        return 1
    return 2 if machine.reports() else 0


if __name__ == "__main__":
    sys.exit(run_child(sys.argv[1]) if len(sys.argv) > 1 else main())
