"""The command line: ``ptstress run explore replay list doctor``.

A foreseeable error is one line on stderr and an exit code of ``ExitCode``; never a traceback.
"""

import math
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click
import msgspec
from msgspec import Struct

from ptstress import __version__
from ptstress.bugs import BUGS, find_bugs
from ptstress.doctor import doctor_lines, examine
from ptstress.engine import BUILD_SUMMARIES, build_present
from ptstress.errors import ExitCode, PtstressError, UsageError
from ptstress.plan import Overrides
from ptstress.schemes import PROTECTIONS, RECLAIMS, SCHEMES
from ptstress.units import parse_duration, parse_geometry
from ptstress.vocabulary import OPERATIONS, Oracle, Verb
from ptstress.workload import MAX_THREADS, load_workload, packaged_workloads

DEFAULT_EXECUTIONS = 10000
DEFAULT_GEOMETRY = "2x2x2x4"
MAX_TIMES = 10000
_ORACLES = (
    (Oracle.UAF, "a freed table, frame or VMA was reached: generation, state and poison"),
    (Oracle.CENSUS, "allocated minus freed is not what the root reaches"),
    (Oracle.DATA, "an access saw a value that no order of the operations explains"),
    (Oracle.STALE_TLB, "a TLB entry outlived the flush that must have removed it"),
    (Oracle.COUNTERS, "a counter is not exact when all workers rest"),
    (Oracle.PROGRESS, "no progress: deadlock, livelock or a hang"),
    (Oracle.LOCK_ORDER, "locks taken against their order"),
    (Oracle.SLEEP_IN_RCU, "a sleep inside a read section that must not sleep"),
    (Oracle.MODEL, "results that no order of the sequential model gives"),
)
_VERBS = (
    (Verb.READ, "load from one page; a fault maps the zero page"),
    (Verb.WRITE, "store to one page; a fault maps a fresh frame or upgrades the zero page"),
    (Verb.WALK, "look which pages of a range are present"),
    (Verb.MMAP, "map a range, in place of what is there"),
    (Verb.MUNMAP, "unmap a range, free tables of all levels"),
    (Verb.DONTNEED, "discard a range; reclaim sync frees the pte_tables that it empties"),
)


class ListItem(Struct):
    """One thing that can be named on the command line or in a file."""

    name: str
    summary: str


class ListReport(Struct):
    """What ``list`` prints."""

    items: list[ListItem]
    what: str
    schema: str = "ptstress.list/1"


class JsonError(Struct):
    """What ``--json`` gives when a verb could not do its work."""

    error: str
    exit_code: int
    verdict: str = "error"
    schema: str = "ptstress.error/1"


class _Threads(click.ParamType):
    name = "N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """A number of threads; says how many there may be."""
        text = str(value)
        if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= MAX_THREADS:
            self.fail(f"threads {text!r}: expected a number from 1 to {MAX_THREADS}", param, ctx)
        return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _invoke(arguments)
    except BrokenPipeError:
        # The reader of our output has gone; the interpreter would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.USAGE


def _invoke(arguments: list[str]) -> int:
    try:
        code = cli.main(args=arguments, prog_name="ptstress", standalone_mode=False)
        sys.stdout.flush()
        return int(code or ExitCode.PASS)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return ExitCode.USAGE
    except click.Abort:
        return _fail("interrupted", ExitCode.USAGE, arguments)
    except click.ClickException as error:
        return _fail(_click_message(error), ExitCode.USAGE, arguments)
    except PtstressError as error:
        return _fail(str(error), error.exit_code, arguments)
    except MemoryError:
        return _fail("out of memory", ExitCode.RESOURCE, arguments)
    except KeyboardInterrupt:
        return _fail("interrupted", ExitCode.USAGE, arguments)


def _fail(message: str, code: ExitCode, arguments: list[str]) -> int:
    print(f"ptstress: {message}", file=sys.stderr)
    if "--json" in arguments[:-1] and arguments[arguments.index("--json") + 1] == "-":
        print(msgspec.json.encode(JsonError(message, code)).decode())
    return code


def _click_message(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split())
    if isinstance(error, click.BadParameter) and error.param is not None and text.startswith("Invalid value for"):
        name = error.param.opts[-1]
        text = text.partition(": ")[2]
        text = text if text.startswith(name.strip("-")) else f"{name}: {text}"
    hint = f" (ptstress {error.ctx.command.name} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
    return text[:1].lower() + text[1:].rstrip(".") + hint.replace(" cli ", " ")


def _results_option() -> Callable:
    return click.option("--results", default="results", metavar="DIR", help="Folder for results (default: results).")


def _json_option() -> Callable:
    text = "One JSON object to FILE; '-': to stdout."
    return click.option("--json", "json_to", metavar="FILE", callback=_check_json, help=text)


def _check_json(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse a file that cannot be written before the work is done."""
    if value not in (None, "-"):
        try:
            open(value, "ab").close()
        except OSError as error:
            raise UsageError(f"--json {value}: cannot be written: {error.strerror}") from None
    return value


def _build_option() -> Callable:
    return click.option("--build", default="stress", metavar="NAME", help="Build of the engine (default: stress).")


def _shared(*names: str) -> Callable:
    """Flags that several verbs share, in the order given."""
    known = {
        "scheme": click.option("--scheme", metavar="NAME", help="Scheme; see 'ptstress list schemes'."),
        "bug": click.option("--bug", "bugs", multiple=True, metavar="ID", help="Plant a bug; may be repeated."),
        "geometry": click.option("--geometry", metavar="G", help="x86-64-4, x86-64-5 or fan-outs such as 2x2x2x4."),
        "seed": click.option(
            "--seed", type=click.IntRange(0, 2**63 - 1), default=1, metavar="N", help="Seed (default: 1)."
        ),
        "json": _json_option(),
        "quiet": click.option("-q", "--quiet", is_flag=True, help="No status lines."),
        "verbose": click.option("-v", "--verbose", is_flag=True, help="More status lines."),
    }

    def decorate(function: Callable) -> Callable:
        for name in reversed(names):
            function = known[name](function)
        return function

    return decorate


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ptstress")
def cli() -> None:
    """A workbench for page-table locking and reclaim.

    Exit codes: 0 pass, 1 usage, 2 violation, 3 resources, 4 unsupported here, 5 worker killed or hung, 6 not
    reproduced, 7 evidence untrustworthy.
    """


@cli.command()
@click.argument("workload")
@_shared("scheme")
@click.option("--threads", type=_Threads(), help=f"Workers, 1 to {MAX_THREADS} (default: the workload's).")
@click.option("--duration", metavar="TIME", help="Of each stage: 45s 5m 3h 2d (default: the workload's).")
@_shared("seed", "bug")
@_build_option()
@_shared("geometry")
@_results_option()
@_shared("json", "quiet", "verbose")
def run(
    workload: str, scheme: str | None, threads: int | None, duration: str | None, seed: int, bugs: tuple[str, ...],
    build: str, geometry: str | None, results: str, json_to: str | None, quiet: bool, verbose: bool,
) -> int:
    """Run WORKLOAD (a file, or a packaged name) under real threads."""
    from ptstress.running import RunRequest, run_workload

    if duration is not None:
        parse_duration(duration)
    if geometry is not None:
        parse_geometry(geometry)
    find_bugs(bugs)
    overrides = Overrides(scheme, geometry, threads, duration, seed, build, tuple(dict.fromkeys(bugs)))
    request = RunRequest(workload, overrides, Path(results), quiet, verbose)
    summary = run_workload(request, partial(print, file=_screen(json_to), flush=True))
    _write_json(json_to, summary)
    return summary.exit_code


@cli.command()
@click.argument("program", required=False)
@_shared("bug", "scheme", "geometry")
@click.option(
    "--executions", type=click.IntRange(1, 10**12), metavar="N", help=f"At most N (default: {DEFAULT_EXECUTIONS})."
)
@_shared("seed")
@click.option("--duration", metavar="D", help="At most so long, such as 45s or 5m.")
@click.option("--seconds", type=click.FloatRange(0.001, 1e9), metavar="S", help="The same in seconds.")
@_results_option()
@click.option("--policy", default="random", metavar="NAME", help="random or dfs (default: random).")
@_shared("json", "quiet", "verbose")
def explore(
    program: str | None, bugs: tuple[str, ...], scheme: str | None, geometry: str | None, executions: int | None,
    seed: int, duration: str | None, seconds: float | None, results: str, policy: str, json_to: str | None,
    quiet: bool, verbose: bool,
) -> int:
    """Explore schedules of PROGRAM (a file, or text such as 'prefix: mmap(p0..p4); t0: write(p0) | t1: dontneed(p0..p4)').

    Without PROGRAM, of generated programs.
    """
    from ptstress import exploring

    if policy not in exploring.POLICIES:
        raise UsageError(f"policy {policy!r}: expected one of {', '.join(exploring.POLICIES)}")
    find_bugs(bugs)
    if duration is not None:
        seconds = min(parse_duration(duration), seconds or math.inf)
    if executions is None and seconds is None:
        executions = DEFAULT_EXECUTIONS
    request = exploring.ExploreRequest(
        program, scheme or "linux-6.18", parse_geometry(geometry or DEFAULT_GEOMETRY), tuple(dict.fromkeys(bugs)),
        executions, seconds, seed, policy,
    )
    progress = (lambda line: None) if quiet else partial(print, file=sys.stderr, flush=True)
    summary = exploring.explore(request, progress)
    lines = exploring.explore_lines(summary)
    if summary.failures:
        lines.append(f"results: {exploring.keep_failure(summary, lines, Path(results))}")
    for line in lines:
        print(line, file=_screen(json_to))
    _write_json(json_to, summary)
    return summary.exit_code


@cli.command()
@click.argument("string")
@click.option("--on", "carriers", default="both", metavar="WHERE", help="fibres, threads or both (default: both).")
@click.option("--times", type=click.IntRange(1, MAX_TIMES), default=10, metavar="N", help="On each (default: 10).")
@_shared("json", "quiet")
def replay(string: str, carriers: str, times: int, json_to: str | None, quiet: bool) -> int:
    """Repeat the execution that the replay STRING describes, on fibres and on OS threads."""
    from ptstress import exploring

    if carriers not in exploring.CARRIERS:
        raise UsageError(f"--on {carriers!r}: expected one of {', '.join(exploring.CARRIERS)}")
    summary = exploring.replay(string, carriers, times)
    for line in exploring.replay_lines(summary)[: 1 if quiet else None]:
        print(line, file=_screen(json_to))
    _write_json(json_to, summary)
    return summary.exit_code


_LISTS = ("schemes", "workloads", "bugs", "builds", "oracles", "operations")


@cli.command(name="list")
@click.argument("what")
@_json_option()
def list_(what: str, json_to: str | None) -> int:
    """List schemes, workloads, bugs, builds, oracles or verbs."""
    if what not in _LISTS:
        raise UsageError(f"list {what!r}: expected one of {', '.join(_LISTS)}")
    items = list(_items(what))
    width = max((len(item.name) for item in items), default=0)
    for item in items:
        print(f"{item.name:<{width}}  {item.summary}", file=_screen(json_to))
    _write_json(json_to, ListReport(items, what))
    return ExitCode.PASS


@cli.command()
@_json_option()
def doctor(json_to: str | None) -> int:
    """Check what this machine and this installation can do."""
    report = examine()
    for line in doctor_lines(report):
        print(line, file=_screen(json_to))
    _write_json(json_to, report)
    return report.exit_code


def _items(what: str) -> list[ListItem]:
    if what == "schemes":
        named = [ListItem(s.name, f"{s.parts}: {s.summary}") for s in SCHEMES]
        parts = [ListItem(f"{p}+{r}", f"{ps}; {rs}") for p, ps in PROTECTIONS for r, rs in RECLAIMS]
        return named + parts
    if what == "workloads":
        return [ListItem(name, load_workload(str(path)).workload.summary) for name, path in packaged_workloads()]
    if what == "bugs":
        return [ListItem(b.id, f"{b.summary} ({b.source}; found by {', '.join(b.oracles)})") for b in BUGS]
    if what == "builds":
        return [ListItem(n, s + ("" if build_present(n) else " (not built)")) for n, s in BUILD_SUMMARIES]
    if what == "oracles":
        return [ListItem(oracle.label, summary) for oracle, summary in _ORACLES]
    return [ListItem(verb.label, summary) for verb, summary in _VERBS if verb in OPERATIONS]


def _screen(json_to: str | None):
    """Where people read: not stdout if that carries JSON."""
    return sys.stderr if json_to == "-" else sys.stdout


def _write_json(json_to: str | None, value: Struct) -> None:
    if json_to is None:
        return
    text = msgspec.json.encode(value).decode() + "\n"
    if json_to == "-":
        sys.stdout.write(text)
        return
    Path(json_to).write_text(text, encoding="utf-8")
