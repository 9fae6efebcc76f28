"""The coverage lane: ``make coverage``. How much of the engine and of the Python code the suite runs.

The stress and the sched engine are compiled once more, without optimisation and with counters (gcov), and lie with a
copy of the Python code in ``build/coverage/lib``. The parts of the suite that run these engines, under threads and
under the explorer, run on that copy; Python is watched by coverage.py, child processes included. A line of a header
counts as run if either engine ran it. What the kit of ``tests/kit`` runs is not counted: it has engines of its own.

Prints two figures and the files that are covered least. Exit status: 0 measured, 1 it could not run, 2 tests failed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "build" / "coverage"
LIB, TEMP = FOLDER / "lib", FOLDER / "temp"
BUILDS = ("stress", "sched")
LEFT_OUT = (
    "test_structure", "test_seq_builds", "test_seq_bench",              # look at sources, builds and the clock
    "test_seq_arena", "test_seq_mm", "test_seq_sync", "test_par_mm", "test_par_sync",    # the kit
    "test_sched_mm", "test_sched_sync",                                 # the kit, explored
    "test_par_soak", "test_par_fuzz", "test_par_hang",                  # processes that are killed, or judged by their pace
)
#: What is cut off, if the suite takes longer than the limit, stands last.
ORDER = ("test_seq_", "test_schedule", "test_sched_", "test_par_")
TIME_LIMIT_S, END_S = 480, 60
LEAST = 8

#: pytest's exit status after a Ctrl-C.
INTERRUPTED = 2

CONFIG = f"""\
[run]
branch = false
parallel = true
patch = subprocess
source_pkgs = ptstress
data_file = {FOLDER}/python/data
"""


def main() -> int:
    """Build, run, report."""
    if (why := prepare()) is not None:
        print(f"coverage: {why}", file=sys.stderr)
        return 1
    status = run_suite()
    engine = engine_lines()
    if not engine:
        print("coverage: no counters were written: the engines with counters did not run", file=sys.stderr)
        return 1
    python = python_lines()
    show("engine", engine)
    show("Python", python)
    return 0 if status == 0 else 2


def prepare() -> str | None:
    """Make the copy with the counting engines. Returns what went wrong, or None."""
    if shutil.which("gcov") is None:
        return "gcov is missing; it comes with gcc: apt-get install -y gcc"
    shutil.rmtree(LIB, ignore_errors=True)
    shutil.rmtree(FOLDER / "python", ignore_errors=True)
    (FOLDER / "python").mkdir(parents=True)
    for old in TEMP.rglob("*.gcda"):
        old.unlink()
    shutil.copytree(ROOT / "ptstress", LIB / "ptstress", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("cy", "workloads", "tests"):
        (LIB / name).symlink_to(ROOT / name)
    for built in (ROOT / "ptstress").glob("*.so"):
        if not built.name.startswith(tuple(f"_engine_{build}." for build in BUILDS)):
            (LIB / "ptstress" / built.name).symlink_to(built)
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--build-lib", str(LIB), "--build-temp", str(TEMP)], cwd=ROOT,
        env={**os.environ, "PTSTRESS_BUILDS": ",".join(BUILDS), "PTSTRESS_COVERAGE": "1"}, capture_output=True, text=True,
        check=False,
    )
    return None if done.returncode == 0 else f"the engines with counters cannot be built:\n{done.stdout}{done.stderr}"


def run_suite() -> int:
    """Run the suite on the copy, one process for each core. Returns 0, or 1 after showing the output of what failed.

    No pytest-xdist: its workers end without a word, and with them the counters of what they ran.
    """
    config = FOLDER / "coveragerc"
    config.write_text(CONFIG)
    tests = [
        str(path) for kind in ORDER for path in sorted((ROOT / "tests").glob(f"{kind}*.py")) if path.stem not in LEFT_OUT
    ]
    env = {**os.environ, "PYTHONPATH": str(LIB), "PYTHONSAFEPATH": "1", "COVERAGE_RCFILE": str(config)}
    command = [sys.executable, "-m", "coverage", "run", "-m", "pytest"]
    cores = len(os.sched_getaffinity(0))
    logs = [FOLDER / f"suite-{i}.log" for i in range(cores)]
    parts = []
    for i, log in enumerate(logs):
        with log.open("w") as out:
            parts.append(subprocess.Popen([*command, *tests[i::cores]], cwd=ROOT, env=env, stdout=out, stderr=out))
    end, cut = time.monotonic() + TIME_LIMIT_S, False
    for part in parts:
        try:
            part.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            # As a Ctrl-C: a process writes its counters when it ends by itself.
            part.send_signal(signal.SIGINT)
            part.wait(END_S)
            cut = True
    if cut:
        print(f"coverage: not all of the suite was done in {TIME_LIMIT_S} s; the figures are of what was", flush=True)
    failed = False
    for part, log in zip(parts, logs, strict=True):
        if part.returncode not in (0, INTERRUPTED) or "\nFAILED " in log.read_text():
            print(log.read_text(), file=sys.stderr)
            failed = True
    return int(failed)


def engine_lines() -> dict[str, tuple[int, int]]:
    """File of ``cy/`` -> lines that ran, lines with code; both engines together."""
    counts: dict[str, dict[int, int]] = defaultdict(dict)
    for data in sorted(TEMP.rglob("*.gcda")):
        said = subprocess.run(["gcov", "--json-format", "--stdout", str(data)], cwd=ROOT, capture_output=True, check=True)
        for line in said.stdout.splitlines():
            for file in json.loads(line)["files"]:
                if file["file"].startswith("cy/"):
                    for entry in file["lines"]:
                        of = counts[file["file"]]
                        of[entry["line_number"]] = of.get(entry["line_number"], 0) + entry["count"]
    return {file: (sum(n > 0 for n in lines.values()), len(lines)) for file, lines in counts.items()}


def python_lines() -> dict[str, tuple[int, int]]:
    """The same of ``ptstress/``."""
    rc = f"--rcfile={FOLDER / 'coveragerc'}"
    out = FOLDER / "python.json"
    for arguments in (["combine", rc, "-q"], ["json", rc, "-q", "-o", str(out)]):
        subprocess.run([sys.executable, "-m", "coverage", *arguments], cwd=ROOT, check=True, capture_output=True)
    files = json.loads(out.read_text())["files"]
    return {
        str((ROOT / file).relative_to(LIB)): (found["summary"]["covered_lines"], found["summary"]["num_statements"])
        for file, found in files.items()
    }


def show(what: str, files: dict[str, tuple[int, int]]) -> None:
    """The figure, and the files with the most lines that never ran."""
    ran, of = (sum(pair[i] for pair in files.values()) for i in (0, 1))
    print(f"{what}: {100 * ran / of:.1f} % of {of:,} lines ran")
    least = sorted(((n - r, file, r, n) for file, (r, n) in files.items() if n > r), reverse=True)[:LEAST]
    for left, file, r, n in least:
        print(f"  {file:<36} {100 * r / n:5.1f} %  {left:4} lines of {n} did not run")


if __name__ == "__main__":
    sys.exit(main())
