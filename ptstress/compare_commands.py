"""The verb ``compare``: its flags, and what it calls."""

from functools import partial
from pathlib import Path

import click
from rich.console import Console

from ptstress.options import build_option, results_option, screen, shared, threads_option, write_json
from ptstress.plan import Overrides
from ptstress.units import parse_duration, parse_geometry

DEFAULT_REPEAT, MAX_REPEAT = 5, 1000
DEFAULT_DURATION = "5s"
TABLE_WIDTH = 100


@click.command()
@click.argument("workloads", nargs=-1, required=True, metavar="WORKLOAD...")
@click.option("--schemes", required=True, metavar="A,B,...", help="Two or more; the others are compared with the first.")
@click.option(
    "--repeat", type=click.IntRange(1, MAX_REPEAT), default=DEFAULT_REPEAT, metavar="N",
    help=f"Runs of each (default: {DEFAULT_REPEAT}).",
)
@click.option(
    "--duration", default=DEFAULT_DURATION, metavar="TIME", help=f"Of each run: 45s 5m 3h 2d (default: {DEFAULT_DURATION})."
)
@threads_option()
@shared("seed", "bug")
@build_option("fast")
@shared("geometry")
@results_option()
@shared("json", "quiet", "verbose")
def compare(
    workloads: tuple[str, ...], schemes: str, repeat: int, duration: str, threads: int | None, seed: int, bugs: tuple[str, ...],
    build: str, geometry: str | None, results: str, json_to: str | None, quiet: bool, verbose: bool,
) -> int:
    """Run each WORKLOAD under several schemes in turns: operations/s, latencies, table bytes, side by side.

    Every run is checked as 'ptstress run' does. The results folder gets a page with pictures, and the latencies as
    HdrHistogram logs.
    """
    from ptstress.compare import CompareRequest, compare_lines, compare_schemes
    from ptstress.compare_table import tables

    parse_duration(duration)
    if geometry is not None:
        parse_geometry(geometry)
    overrides = Overrides(None, geometry, threads, duration, seed, build, tuple(dict.fromkeys(bugs)))
    names = tuple(name.strip() for name in schemes.split(",") if name.strip())
    summary = compare_schemes(CompareRequest(workloads, names, repeat, overrides, Path(results), quiet, verbose))
    out = screen(json_to)
    console = Console(file=out, width=None if out.isatty() else TABLE_WIDTH, highlight=False)
    for table in tables(summary):
        console.print(table)
    compare_lines(summary, partial(print, file=out, flush=True))
    write_json(json_to, summary)
    return summary.exit_code
