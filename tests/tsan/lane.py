"""The ThreadSanitizer lane: ``make tsan``.

First a planted race, which must be reported: else the lane is dead and its silence says nothing. Then every
scheme under real threads, which must not be reported. Each part runs in a process of its own, because the
sanitizer's run-time library has to be loaded before Python. Reports go to files, as a captured or swallowed
standard error would hide them.

Exit status: 0 the lane is alive and clean, 1 it could not run, 2 a race or a violation.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ptstress.operation import mmap, op_array
from ptstress.schemes import SCHEMES, find_scheme
from ptstress.vocabulary import Verb

SECONDS_PER_SCHEME = 5
BURST_MS = 200
PLANTED = "planted race"
REPORTED = 66
WORKERS = 3
# They exit now and then.
MMS = 2
TABLE_PAGES = 512
PAGES = 4 * TABLE_PAGES
# More random bits of the address space than this and the sanitizer's shadow memory has no place.
MAX_RANDOM_BITS = 28


def main() -> int:
    """Run the planted race and every scheme; print one line for each."""
    runtime = subprocess.run(
        [os.environ.get("CC", "cc"), "-print-file-name=libtsan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(runtime).is_absolute():
        print("tsan: the compiler has no libtsan.so; it comes with gcc: apt-get install -y gcc", file=sys.stderr)
        return 1
    status, report = run_part(PLANTED, runtime)
    if status != REPORTED or "data race" not in report:
        print(f"tsan: the planted race was not reported (exit status {status}): the lane is dead\n{report}", file=sys.stderr)
        return 1
    print(f"tsan: {PLANTED}: reported, the lane is alive", flush=True)
    for scheme in SCHEMES:
        status, report = run_part(scheme.name, runtime)
        if status or report:
            print(f"tsan: {scheme.name}: exit status {status}\n{report}", file=sys.stderr)
            return 2 if status in (2, REPORTED) else 1
        print(f"tsan: {scheme.name}: {SECONDS_PER_SCHEME} s, no race", flush=True)
    return 0


def run_part(part: str, runtime: str) -> tuple[int, str]:
    """Run one part in a child under the sanitizer. Returns its exit status and what was reported."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*without_random_addresses(), sys.executable, __file__, part]
        options = f"halt_on_error=1:exitcode={REPORTED}:log_path={folder}/report"
        child = subprocess.run(command, env={**os.environ, "LD_PRELOAD": runtime, "TSAN_OPTIONS": options}, check=False)
        return child.returncode, "".join(path.read_text(errors="replace") for path in sorted(Path(folder).iterdir()))


def without_random_addresses() -> list[str]:
    """The command prefix that a kernel with too many random address bits needs."""
    bits = Path("/proc/sys/vm/mmap_rnd_bits")
    if bits.exists() and int(bits.read_text()) > MAX_RANDOM_BITS and shutil.which("setarch"):
        return ["setarch", platform.machine(), "-R"]
    return []


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
