"""The verbs ``soak``, ``resume`` and ``again``: their flags, and what they call."""

import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ptstress.errors import UsageError
from ptstress.options import Threads, build_option, results_option, screen, shared, show, write_json
from ptstress.soak_evidence import UNTIL_FORM, parse_until
from ptstress.soak_rotation import SoakRequest
from ptstress.units import format_geometry, parse_duration, parse_geometry
from ptstress.workload import MAX_THREADS

if TYPE_CHECKING:
    from ptstress.soaking import Screens

DEFAULT_SLICE = "20s"
MAX_TIMES = 10000


def _junit_option() -> Callable:
    return click.option("--junit", metavar="FILE", help="JUnit XML, one test case for each workload x scheme.")


@click.command()
@click.argument("workloads", nargs=-1, metavar="[WORKLOAD]...")
@click.option("--scheme", "schemes", multiple=True, metavar="NAME", help="Several: A,B,... or repeated (default: all).")
@click.option("--threads", type=Threads(), help=f"Workers, 1 to {MAX_THREADS} (default: each workload's).")
@click.option("--slice", "slice_", default=DEFAULT_SLICE, metavar="TIME", help=f"Of each turn (default: {DEFAULT_SLICE}).")
@click.option("--duration", metavar="TIME", help="Of all: 45s 5m 3h 2d (default: until it is stopped).")
@click.option("--until", metavar="EVIDENCE", help=f"Stop when there is so much: {UNTIL_FORM}.")
@shared("seed", "bug")
@build_option()
@shared("geometry")
@results_option()
@_junit_option()
@shared("json", "quiet", "verbose")
def soak(
    workloads: tuple[str, ...], schemes: tuple[str, ...], threads: int | None, slice_: str, duration: str | None,
    until: str | None, seed: int, bugs: tuple[str, ...], build: str, geometry: str | None, results: str,
    junit: str | None, json_to: str | None, quiet: bool, verbose: bool,
) -> int:
    """Run WORKLOADs (default: all) under all schemes in turns, without end, every operation checked.

    Results lie in a folder that 'ptstress resume' goes on with, however the soak ended.
    """
    from ptstress import soaking
    from ptstress.schemes import scheme_names

    for text in (slice_, *([duration] if duration is not None else [])):
        parse_duration(text)
    if until is not None:
        parse_until(until)
    if "" in workloads:
        raise UsageError("workload '': expected a file or a name")
    request = SoakRequest(
        workloads=list(workloads), schemes=list(scheme_names(schemes)), slice=slice_, seed=seed, threads=threads,
        duration=duration, until=until, build=build, bugs=list(dict.fromkeys(bugs)),
        geometry=format_geometry(parse_geometry(geometry)) if geometry is not None else None,
    )
    summary = soaking.soak(request, Path(results), _screens(json_to, quiet, verbose, junit))
    write_json(json_to, summary)
    return summary.exit_code


@click.command()
@click.argument("results", metavar="RESULTS")
@click.option("--duration", metavar="TIME", help="Of all sessions together, in place of the soak's own.")
@_junit_option()
@shared("json", "quiet", "verbose")
def resume(
    results: str, duration: str | None, junit: str | None, json_to: str | None, quiet: bool, verbose: bool
) -> int:
    """Go on with the soak in the folder RESULTS, which was stopped or killed."""
    from ptstress import soaking

    if duration is not None:
        parse_duration(duration)
    summary = soaking.resume(Path(results), duration, _screens(json_to, quiet, verbose, junit))
    write_json(json_to, summary)
    return summary.exit_code


@click.command()
@click.argument("results", metavar="RESULTS")
@click.option("--times", type=click.IntRange(1, MAX_TIMES), default=10, metavar="N", help="Attempts at a failure (default: 10).")
@click.option("--force", is_flag=True, help="Also if version or build differ.")
@click.option("--into", default="results", metavar="DIR", help="Folder for new results (default: results).")
@shared("json", "quiet")
@click.pass_context
def again(
    ctx: click.Context, results: str, times: int, force: bool, into: str, json_to: str | None, quiet: bool
) -> int:
    """Repeat the run, soak, campaign or exploration in the folder RESULTS, or one of its failure folders."""
    from ptstress import repeating

    folder = Path(results)
    if repeating.is_failure(folder):
        if not force:
            home = folder.resolve().parent
            repeating.refuse_other_version(home, repeating.read_testid(home))
        summary = repeating.repeat_failure(folder, times, _tell(quiet))
        return show(summary, repeating.again_lines(summary), json_to)
    testid = repeating.read_testid(folder)
    if not force:
        repeating.refuse_other_version(folder, testid)
    verb, *words = repeating.command_of(folder, testid)
    words += ["--results", into] if verb in ("run", "soak", "fuzz") else []
    words += ["--json", json_to] if json_to else []
    words += ["--quiet"] if quiet else []
    _tell(quiet)(f"ptstress {verb} {shlex.join(words)}")
    command = ctx.find_root().command.get_command(ctx, verb)
    if command is None:
        raise UsageError(f"{folder}: made by the verb {verb!r}, which this version does not have")
    return command.main(args=words, prog_name=f"ptstress {verb}", standalone_mode=False)


def _tell(quiet: bool) -> Callable[[str], None]:
    return (lambda line: None) if quiet else lambda line: print(f"again: {line}", file=sys.stderr, flush=True)


def _screens(json_to: str | None, quiet: bool, verbose: bool, junit: str | None) -> "Screens":
    from ptstress.soaking import Screens

    if junit is not None:
        try:
            open(junit, "ab").close()
        except OSError as error:
            raise UsageError(f"--junit {junit}: cannot be written: {error.strerror}") from None
    return Screens(partial(print, file=screen(json_to), flush=True), quiet, verbose, Path(junit) if junit else None)
