"""What is kept of a failure that a replay string repeats: one set of files, whoever found it."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ptstress import __version__
from ptstress.chrome_trace import chrome_trace
from ptstress.errors import UsageError
from ptstress.history import FILE_NAME as HISTORY
from ptstress.history import History, complete, encode_history
from ptstress.lab import Lab
from ptstress.schedule import Replay, decode
from ptstress.story_steps import Step
from ptstress.telling import Told
from ptstress.units import format_finding, format_geometry, pages_of

DESCRIPTION, TRACE = "description.txt", "trace.json"


def tell_again(text: str) -> tuple[Replay, Told, dict[str, bytes]]:
    """The execution of a replay string, what is told of it, and files: schedule, history, trace. Raises ``PtstressError``."""
    record = decode(text)
    lab = Lab.of(record)
    told = lab.explain(record)
    about = {"headline": told.headline, "program": record.program, "replay": f"ptstress replay '{text}'", "time": "1 us a step"}
    files = {
        "schedule.txt": schedule_text(told.steps, record).encode(),
        HISTORY: encode_history(_history(lab, record)),
        TRACE: chrome_trace(told.steps, told.operations, about),
    }
    return record, told, files


def write_trace(path: str | None, text: str) -> None:
    """Write the execution of a replay string as a trace, if there is a path. Raises ``PtstressError``."""
    if path is None:
        return
    _, _, files = tell_again(text)
    try:
        Path(path).write_bytes(files[TRACE])
    except OSError as error:
        raise UsageError(f"--trace {path}: cannot be written: {error.strerror}") from None


def failure_files(text: str, about: Sequence[str] = ()) -> tuple[Told, dict[str, bytes]]:
    """All files of a failure's folder, and what is told of it. ``about``: lines on how it was found."""
    record, told, files = tell_again(text)
    again = f"ptstress replay '{text}'"
    how = f"under {record.scheme}, geometry {format_geometry(record.geometry)}"
    bugs = f", bugs {' '.join(record.bugs)}" if record.bugs else ""
    lines = [
        f"oracle: {format_finding(told.oracle, told.invariant)}", f"{how}{bugs}, build {record.build}", *about,
        f"program: {record.program}",
    ]
    return told, {
        DESCRIPTION: description(told.headline, told.story, told.expected, lines, again).encode(),
        "program.txt": f"{record.program}\n".encode(), "replay.txt": f"{again}\n".encode(), **files,
    }


def description(headline: str, story: Sequence[str], expected: Sequence[str], about: Sequence[str], again: str) -> str:
    """``description.txt``: what it is, how it came, what should have been, how it comes again."""
    parts = [[headline], story, expected, about, [f"again: {again}"]]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def schedule_text(steps: Sequence[Step], record: Replay) -> str:
    """Who ran for how long, one line for each turn: from which access on and up to which."""
    lines = [f"program: {record.program}", f"seed {record.seed}, {len(record.choices)} choices, {len(steps)} steps", ""]
    for cpu, turn in groupby(steps, key=lambda s: s.fibre):
        mine = list(turn)
        first, last = (f"{s.func} ({s.place})" for s in (mine[0], mine[-1]))
        lines.append(f"CPU{cpu}  {len(mine):>4} steps  {first}" + (f" .. {last}" if len(mine) > 1 else ""))
    return "\n".join(lines) + "\n"


def _history(lab: Lab, record: Replay) -> History:
    """What each cpu did, from an empty address space on; the first did the prefix too."""
    rings = tuple(lab.view.history().values())
    made_by = f"ptstress {__version__}, build {record.build}, seed {record.seed}"
    return complete(History(rings, task_pages=pages_of(record.geometry), geometry=record.geometry, made_by=made_by))
