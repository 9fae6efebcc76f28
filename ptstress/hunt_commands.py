"""The verb ``bugs``: its flags, and what it calls."""

import shlex
import sys
from pathlib import Path

import click

from ptstress.errors import UsageError
from ptstress.options import results_option, shared, show, status_lines, workers_option
from ptstress.units import parse_duration

DEFAULT_POLICIES = "random,pct,pos,dfs"
DEFAULT_SEEDS = 10
DEFAULT_DURATION = "1m"
MAX_SEEDS = 10_000


@click.command("bugs")
@click.argument("ids", nargs=-1, metavar="[BUG]...")
@click.option("--directed", "modes", flag_value="directed", help="Only in the bug's own program.")
@click.option("--undirected", "modes", flag_value="undirected", help="Only in generated programs, which know of no bug.")
@click.option(
    "--mutants", "modes", flag_value="mutants",
    help="Of mutants of the engine instead: BUGs are operators, M01 to M15, or mutants such as M11.04. Takes -n and --seed.",
)
@click.option(
    "--policies", default=DEFAULT_POLICIES, metavar="A,B,...",
    help=f"The first one must find every directed bug from every seed (default: {DEFAULT_POLICIES}).",
)
@click.option(
    "--seeds", type=click.IntRange(1, MAX_SEEDS), default=DEFAULT_SEEDS, metavar="N", help=f"How many (default: {DEFAULT_SEEDS})."
)
@click.option(
    "--duration", default=DEFAULT_DURATION, metavar="TIME",
    help=f"Of each bug in a mode under a policy, all seeds together, at most (default: {DEFAULT_DURATION}).",
)
@click.option("--executions", type=click.IntRange(1, 10**12), metavar="N", help="From each seed, at most (default: any number).")
@workers_option()
@results_option()
@shared("seed", "json", "quiet")
def bugs(
    ids: tuple[str, ...], modes: str | None, policies: str, seeds: int, duration: str, executions: int | None, workers: int,
    results: str, seed: int, json_to: str | None, quiet: bool,
) -> int:
    """Say how fast each BUG (default: all) is found, and whether the engine without it is silent in the same scenarios.

    With --mutants: how many of the engine's mutants the oracles kill.
    """
    if modes == "mutants":
        return _mutants(ids, workers, seed, json_to, quiet)
    from ptstress.bugs import BUGS, find_bugs
    from ptstress.exploring import POLICIES
    from ptstress.hunt_report import hunt_lines
    from ptstress.hunt_wire import DIRECTED, UNDIRECTED
    from ptstress.hunting import HuntRequest, hunt

    names = tuple(dict.fromkeys(name.strip() for name in policies.split(",")))
    if unknown := [name for name in names if name not in POLICIES]:
        raise UsageError(f"--policies {unknown[0]!r}: expected some of {','.join(POLICIES)}")
    request = HuntRequest(
        bugs=find_bugs(ids) or BUGS, policies=names, modes=(modes,) if modes else (DIRECTED, UNDIRECTED), seeds=seeds, seed=seed,
        executions=executions, seconds=parse_duration(duration), workers=workers, results=Path(results),
        command=shlex.join(["ptstress", *sys.argv[1:]]),
    )
    summary = hunt(request, status_lines(quiet))
    return show(summary, hunt_lines(summary), json_to)


def _mutants(ids: tuple[str, ...], workers: int, seed: int, json_to: str | None, quiet: bool) -> int:
    from ptstress.mutants import MutantsRequest, measure_mutants, mutant_lines

    tell = status_lines(quiet)
    summary = measure_mutants(MutantsRequest(tuple(dict.fromkeys(ids)), workers, seed), tell)
    return show(summary, mutant_lines(summary), json_to)
