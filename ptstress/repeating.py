"""The verb ``again``: repeats what a results folder holds, or the job of one failure."""

import shlex
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from ptstress import __version__
from ptstress.driver import Outcome, Stopper, run_job
from ptstress.engine import load_engine
from ptstress.errors import ExitCode, PtstressError, UsageError
from ptstress.fuzz_containment import Executor
from ptstress.fuzz_example import EXAMPLE, read_example
from ptstress.job import Job
from ptstress.layout import report_text
from ptstress.results import TESTID, flags_text
from ptstress.verdict import oracle_of

JOB, DESCRIPTION = "job.json", "description.txt"


class AgainSummary(Struct):
    """What came of running a failure's job again. ``oracle``: who found it, empty if nobody did."""

    verdict: str
    exit_code: int
    path: str
    expected: str
    oracle: str
    what: str
    attempts: int
    of: int
    schema: str = "ptstress.again/1"


def read_testid(folder: Path) -> dict[str, str]:
    """``testid.txt`` by its keys. Raises ``UsageError``."""
    try:
        lines = (folder / TESTID).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"{folder}: expected a results folder with {TESTID}, or a failure folder with {JOB}") from None
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def is_failure(folder: Path) -> bool:
    """Whether a folder is that of one failure."""
    return (folder / JOB).is_file() or (folder / EXAMPLE).is_file()


def refuse_other_version(folder: Path, testid: dict[str, str]) -> None:
    """Raises ``UsageError`` if something else ran then than would run now."""
    if testid.get("ptstress") != __version__:
        made_by = testid.get("ptstress", "unknown")
        raise UsageError(f"{folder}: made by ptstress {made_by}, this is {__version__}; --force runs it")
    flags = testid.get("build", "")
    name = next((part.partition("=")[2] for part in flags.split(", ") if part.startswith("name=")), "")
    here = flags_text(load_engine(name).flags()) if name else ""
    if flags != here:
        raise UsageError(f"{folder}: made with build {flags or 'unknown'}; here it is {here or 'unknown'}; --force runs it")


def command_of(folder: Path, testid: dict[str, str]) -> list[str]:
    """The words of the command that made a results folder, without ``ptstress``. Raises ``UsageError``."""
    try:
        words = shlex.split(testid.get("command", ""))
    except ValueError:
        words = []
    if len(words) < 2 or words[0] != "ptstress":
        raise UsageError(f"{folder / TESTID}: no command: expected a line such as 'command: ptstress run headline --seed 1'")
    return words[1:]


def repeat_failure(folder: Path, times: int, tell: Callable[[str], None]) -> AgainSummary:
    """Run the job or the example of a failure until a failure comes, at most ``times``. Raises ``PtstressError``."""
    if (folder / EXAMPLE).is_file():
        return _repeat_example(folder, times, tell)
    try:
        job = msgspec.json.decode((folder / JOB).read_bytes(), type=Job)
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{folder / JOB}: cannot be read: {error}") from None
    expected = _expected(folder)
    with Stopper() as stopper:
        for attempt in range(1, times + 1):
            tell(f"attempt {attempt} of {times}")
            outcome = run_job(job, stopper)
            if stopper.requests:
                raise PtstressError("interrupted")
            if _failed(outcome):
                what = report_text(outcome.reports[0]) if outcome.reports else outcome.message or outcome.signal_name
                code = ExitCode.VIOLATION if outcome.reports or outcome.kind == "done" else ExitCode.KILLED
                verdict = "violation" if code == ExitCode.VIOLATION else "killed"
                return AgainSummary(verdict, code, str(folder), expected, oracle_of(outcome), what, attempt, times)
    return AgainSummary("not reproduced", ExitCode.NOT_REPRODUCED, str(folder), expected, "", "", times, times)


def _repeat_example(folder: Path, times: int, tell: Callable[[str], None]) -> AgainSummary:
    """As ``repeat_failure``, of a fuzz campaign; contained, because it may kill or hang its process."""
    try:
        example = read_example((folder / EXAMPLE).read_bytes(), str(folder / EXAMPLE))
    except OSError as error:
        raise UsageError(f"{folder / EXAMPLE}: cannot be read: {error}") from None
    expected = _expected(folder)
    with Stopper() as stopper, Executor(stopped=lambda: stopper.requests > 0) as executor:
        for attempt in range(1, times + 1):
            tell(f"attempt {attempt} of {times}")
            (trial,) = executor.run([example])
            if trial.failure:
                return AgainSummary(
                    "violation", ExitCode.VIOLATION, str(folder), expected, trial.failure.signature.oracle,
                    trial.failure.detail.partition(": ")[2], attempt, times,
                )
    return AgainSummary("not reproduced", ExitCode.NOT_REPRODUCED, str(folder), expected, "", "", times, times)


def again_lines(s: AgainSummary) -> list[str]:
    """The last screen."""
    if s.exit_code == ExitCode.NOT_REPRODUCED:
        return [
            f"verdict: NOT REPRODUCED (exit {s.exit_code})  {s.expected or 'the failure'} did not come in {s.attempts} attempts",
            "next: --times N for more attempts; threads do not meet twice in the same way",
        ]
    return [
        f"verdict: {s.verdict.upper()} (exit {s.exit_code})  came again at attempt {s.attempts} of {s.of}",
        f"found: {s.oracle}: {s.what}" + (f"  (before: {s.expected})" if s.expected not in ("", s.oracle) else ""),
    ]


def _failed(outcome: Outcome) -> bool:
    stuck = outcome.result is not None and bool(outcome.result.stuck)
    return bool(outcome.reports) or outcome.kind in ("crashed", "hung") or stuck


def _expected(folder: Path) -> str:
    """The oracle that the folder's description names first."""
    try:
        lines = (folder / DESCRIPTION).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    line = next((line for line in lines if line.startswith("oracle: ")), "")
    return line.removeprefix("oracle: ").partition(" ")[0]
