"""The verb ``check``: is there an execution with this history?"""

from pathlib import Path

import click

from ptstress.durable import Disk
from ptstress.errors import ExitCode, UsageError
from ptstress.history_check import CheckSummary, check_history
from ptstress.history_json import load_history, to_json
from ptstress.options import shared, show
from ptstress.pages import page_text
from ptstress.units import format_count, format_seconds

MAX_SHOWN = 40


@click.command()
@click.argument("file")
@click.option("--export", "export_to", metavar="OUT", help="Write the history as JSON to OUT, for other checkers.")
@shared("json", "quiet")
def check(file: str, export_to: str | None, json_to: str | None, quiet: bool) -> int:
    """Check the history in FILE: a recorded one, JSON, or a failure folder."""
    history = load_history(Path(file))
    if export_to is not None:
        try:
            Disk().replace(Path(export_to), to_json(history))
        except OSError as error:
            raise UsageError(f"{export_to}: cannot be written: {error.strerror}") from None
    summary = check_history(history, file)
    return show(summary, check_lines(summary)[: 1 if quiet else None], json_to)


def check_lines(s: CheckSummary) -> list[str]:
    """The last screen."""
    lines = [
        f"verdict: {s.verdict.upper()} (exit {int(s.exit_code)})  {s.path}{_because(s)}",
        f"operations: {format_count(s.operations)} on {format_count(s.pages)} pages  checked: {format_count(s.checked)} in "
        f"{format_seconds(s.seconds)} ({format_count(s.operations_per_second)}/s)",
    ]
    if s.violation:
        v = s.violation
        more = len(v.drawing) - MAX_SHOWN
        shown = [*v.drawing[:MAX_SHOWN], f"... and {more} more"] if more > 0 else v.drawing
        lines += [f"found: page {page_text(v.page)}: {v.what}", f"expected: {v.expected}", "", *shown]
    return lines


def _because(s: CheckSummary) -> str:
    if s.exit_code == ExitCode.VIOLATION:
        return f": {s.violations} violation{'s' * (s.violations > 1)}"
    if s.exit_code != ExitCode.UNTRUSTWORTHY:
        return ""
    if not s.operations:
        return ": no operations, nothing is shown"
    if s.undecided:
        return f": {s.undecided} pages cost too much to decide"
    if not s.checked:
        return ": nobody knows what was there before it began"
    return f": {s.operations - s.checked} operations have no rule"
