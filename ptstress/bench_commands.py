"""The verb ``bench``: its flags, and the groups of rows that it can measure."""

import sys
from collections.abc import Callable, Iterable

import click
from rich.console import Console

from ptstress.bench import Row, choose, markdown_lines, report_on, terminal_table
from ptstress.bench_engine import operation_rows, record_rows, thread_rows
from ptstress.bench_explore import explore_rows
from ptstress.bench_fuzz import fuzz_rows
from ptstress.bench_runs import run_rows
from ptstress.bench_schemes import scheme_rows
from ptstress.errors import UsageError
from ptstress.history_bench import history_rows
from ptstress.options import screen, shared, write_json

#: Groups of rows in the order of the table. A module that measures something else adds one line.
GROUPS: tuple[tuple[str, Callable[[bool], Iterable[Row]]], ...] = (
    ("operations", operation_rows),
    ("threads", thread_rows),
    ("schemes", scheme_rows),
    ("record", record_rows),
    ("run", run_rows),
    ("explore", explore_rows),
    ("fuzz", fuzz_rows),
    ("history", history_rows),
)
TABLE_WIDTH = 132


@click.command()
@click.argument("names", nargs=-1)
@click.option("--quick", is_flag=True, help="Fewer and shorter repetitions: shows that it works, not what it costs.")
@click.option("--markdown", is_flag=True, help="Print what BENCHMARKS.md holds.")
@shared("json", "quiet")
def bench(names: tuple[str, ...], quick: bool, markdown: bool, json_to: str | None, quiet: bool) -> int:
    """Measure what the engine costs: operations, threads, schemes, record, run, explore, fuzz, history; all without NAMES.

    Operations are compared with the same work in hand-written C (in a source tree) and on this machine's kernel.
    """
    if markdown and json_to == "-":
        raise UsageError("--markdown and --json - both write to stdout: expected one of them, or --json FILE")
    chosen = choose(names, GROUPS)
    progress = (lambda name: None) if quiet else (lambda name: print(f"measuring: {name}", file=sys.stderr, flush=True))
    report = report_on(chosen, quick, progress)
    out = screen(json_to)
    if markdown:
        for line in markdown_lines(report):
            print(line, file=out)
    else:
        terminal = out.isatty()
        Console(file=out, width=None if terminal else TABLE_WIDTH).print(terminal_table(report))
    write_json(json_to, report)
    return report.exit_code
