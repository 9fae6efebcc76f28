"""Flags that several verbs share, and where what a verb says goes."""

import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import click
import msgspec
from msgspec import Struct

from ptstress.errors import UsageError
from ptstress.workload import MAX_THREADS


MAX_WORKERS = 256


class Threads(click.ParamType):
    """A number of threads."""

    name = "N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """A number of threads; says how many there may be."""
        text = str(value)
        if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= MAX_THREADS:
            self.fail(f"threads {text!r}: expected a number from 1 to {MAX_THREADS}", param, ctx)
        return int(text)


def workers_option() -> Callable:
    """``-n``."""
    return click.option(
        "-n", "workers", default="auto", metavar="N", callback=_workers,
        help="Workers, or auto: one for each core (default: auto).",
    )


def _workers(ctx: click.Context, param: click.Parameter, text: str) -> int:
    if text == "auto":
        return min(len(os.sched_getaffinity(0)), MAX_WORKERS)
    if not text.isdecimal() or len(text) > 4 or not 1 <= int(text) <= MAX_WORKERS:
        raise UsageError(f"-n {text!r}: expected auto, or a number of workers from 1 to {MAX_WORKERS}")
    return int(text)


def results_option() -> Callable:
    """``--results``."""
    return click.option("--results", default="results", metavar="DIR", help="Folder for results (default: results).")


def json_option() -> Callable:
    """``--json``."""
    text = "One JSON object to FILE; '-': to stdout."
    return click.option("--json", "json_to", metavar="FILE", callback=check_writable, help=text)


def status_lines(quiet: bool) -> Callable[[str], None]:
    """Where status lines go: to stderr, or nowhere."""
    return (lambda line: None) if quiet else partial(print, file=sys.stderr, flush=True)


def show(summary: Any, lines: Iterable[str], json_to: str | None) -> int:
    """Print the lines, write the summary where ``--json`` says, and return its exit code."""
    for line in lines:
        print(line, file=screen(json_to))
    write_json(json_to, summary)
    return summary.exit_code


def reconstruct_option() -> Callable:
    """``--reconstruct``, ``--no-reconstruct``."""
    time = click.option(
        "--reconstruct", default="20s", metavar="TIME", help="Look so long for a schedule of a violation (default: 20s).")
    none = click.option("--no-reconstruct", is_flag=True, help="Do not look for one.")
    return lambda function: time(none(function))


def check_writable(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse a file that cannot be written before the work is done."""
    if value not in (None, "-"):
        try:
            open(value, "ab").close()
        except OSError as error:
            raise UsageError(f"{param.opts[-1]} {value}: cannot be written: {error.strerror}") from None
    return value


def trace_option() -> Callable:
    """``--trace``."""
    return click.option(
        "--trace", "trace_to", metavar="FILE", callback=check_writable, help="Write the execution to FILE, for Perfetto.")


def build_option(default: str = "stress") -> Callable:
    """``--build``."""
    return click.option("--build", default=default, metavar="NAME", help=f"Build of the engine (default: {default}).")


def threads_option() -> Callable:
    """``--threads``."""
    return click.option("--threads", type=Threads(), help=f"Workers, 1 to {MAX_THREADS} (default: the workload's).")


def shared(*names: str) -> Callable:
    """Flags that several verbs share, in the order given."""
    known = {
        "scheme": click.option("--scheme", metavar="NAME", help="Scheme; see 'ptstress list schemes'."),
        "bug": click.option("--bug", "bugs", multiple=True, metavar="ID", help="Plant a bug; may be repeated."),
        "geometry": click.option("--geometry", metavar="G", help="x86-64-4, x86-64-5 or fan-outs such as 2x2x2x4."),
        "seed": click.option(
            "--seed", type=click.IntRange(0, 2**63 - 1), default=1, metavar="N", help="Seed (default: 1)."
        ),
        "json": json_option(),
        "quiet": click.option("-q", "--quiet", is_flag=True, help="No status lines."),
        "verbose": click.option("-v", "--verbose", is_flag=True, help="More status lines."),
    }

    def decorate(function: Callable) -> Callable:
        for name in reversed(names):
            function = known[name](function)
        return function

    return decorate


def screen(json_to: str | None) -> TextIO:
    """Where people read: not stdout if that carries JSON."""
    return sys.stderr if json_to == "-" else sys.stdout


def write_json(json_to: str | None, value: Struct) -> None:
    """The object of ``--json``."""
    if json_to is None:
        return
    text = msgspec.json.encode(value).decode() + "\n"
    if json_to == "-":
        sys.stdout.write(text)
        return
    Path(json_to).write_text(text, encoding="utf-8")
