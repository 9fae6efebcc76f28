"""The verb ``fuzz``: its flags, and what it calls."""

import shlex
import sys
from pathlib import Path

import click

from ptstress.options import results_option, shared, show, status_lines, workers_option
from ptstress.units import parse_duration, parse_geometry


@click.command()
@click.option("--duration", metavar="TIME", help="45s 5m 3h 2d (default: the profile's).")
@workers_option()
@click.option(
    "--scheme", "schemes", multiple=True, metavar="NAME", help="Several: A,B,... or repeated (default: all, in equal parts)."
)
@click.option("--executions", type=click.IntRange(1), metavar="N", help="Stop when there were so many under each scheme.")
@shared("geometry", "bug")
@click.option("--profile", metavar="NAME", help="dev, ci or soak (default: HYPOTHESIS_PROFILE, or ci).")
@shared("seed")
@results_option()
@click.option("--database", metavar="DIR", help="Examples shared with other campaigns (default: in the results).")
@shared("json", "quiet", "verbose")
def fuzz(
    duration: str | None, workers: int, schemes: tuple[str, ...], executions: int | None, geometry: str | None,
    bugs: tuple[str, ...], profile: str | None, seed: int, results: str, database: str | None, json_to: str | None,
    quiet: bool, verbose: bool,
) -> int:
    """Run generated programs, each under many schedules and some on threads, steered by what was new; shrink what fails."""
    from ptstress import fuzzing
    from ptstress.fuzz_profiles import find_profile
    from ptstress.schemes import scheme_names

    chosen = find_profile(profile)
    request = fuzzing.FuzzRequest(
        workers=workers, seconds=parse_duration(duration or chosen.duration), seed=seed, profile=chosen,
        results=Path(results), schemes=scheme_names(schemes), executions=executions or 0,
        bugs=tuple(dict.fromkeys(bugs)),
        geometry=parse_geometry(geometry) if geometry is not None else None,
        database=Path(database) if database is not None else None,
        command=shlex.join(["ptstress", *sys.argv[1:]]),
    )
    tell = status_lines(quiet)
    summary = fuzzing.fuzz(request, tell)
    return show(summary, fuzzing.fuzz_lines(summary), json_to)
