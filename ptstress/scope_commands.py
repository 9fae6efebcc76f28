"""The verbs ``scopes`` and ``rules``: their flags, and what they call."""

from pathlib import Path

import click

from ptstress.options import Threads, results_option, shared, show, status_lines

MAX_PREEMPTIONS = 16
DEFAULT_THREADS = 4


@click.command()
@click.argument("names", nargs=-1, metavar="[SCOPE]...")
@click.option("--scheme", "schemes", multiple=True, metavar="NAME", help="Several: A,B,... or repeated (default: all).")
@click.option(
    "--preemptions", type=click.IntRange(0, MAX_PREEMPTIONS), metavar="N",
    help="In one execution, at most (default: each scope's).",
)
@click.option(
    "--traces", type=click.IntRange(0, 10**9), default=0, metavar="N",
    help="Also run up to N traces of each without a bound (default: 0).",
)
@results_option()
@shared("json", "quiet")
def scopes(
    names: tuple[str, ...], schemes: tuple[str, ...], preemptions: int | None, traces: int, results: str, json_to: str | None,
    quiet: bool,
) -> int:
    """Explore SCOPEs (files, or packaged names; default: all) to the end: every interleaving within so many preemptions."""
    from ptstress.schemes import SCHEMES, find_scheme, scheme_names
    from ptstress.scopes import explore_scopes, load_scopes, scope_lines

    chosen = [find_scheme(name) for name in scheme_names(schemes)] or list(SCHEMES)
    tell = status_lines(quiet)
    summary = explore_scopes(load_scopes(names), chosen, preemptions, traces, Path(results), tell)
    return show(summary, scope_lines(summary), json_to)


@click.command()
@click.argument("bugs", nargs=-1, metavar="[BUG]...")
@click.option("--threads", type=Threads(), default=DEFAULT_THREADS, help=f"Of each run (default: {DEFAULT_THREADS}).")
@shared("seed", "json", "quiet")
def rules(bugs: tuple[str, ...], threads: int, seed: int, json_to: str | None, quiet: bool) -> int:
    """Break each rule of the policies with the BUG (default: all) that is named for it, and show what catches it."""
    from ptstress.rules import find_rules, rule_lines, show_rules

    tell = status_lines(quiet)
    summary = show_rules(find_rules(bugs), threads, seed, tell)
    return show(summary, rule_lines(summary), json_to)
