"""What is kept of a failure: one set of files for each distinct one."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from ptstress import __version__
from ptstress.driver import Outcome
from ptstress.flight import flight_files
from ptstress.history import FILE_NAME, History, complete, encode_history, no_rows
from ptstress.plan import StagePlan
from ptstress.headline import headline_of
from ptstress.report import describe_failure, unreported
from ptstress.results import ResultsFolder, StageSummary
from ptstress.units import pages_of
from ptstress.verdict import failure_of, oracle_of
from ptstress.workload import Source

HISTORY = FILE_NAME


@dataclass(frozen=True)
class Kept:
    """One distinct failure and the files of its folder. ``what``: its headline, the same for the same failure."""

    oracle: str
    what: str
    files: dict[str, bytes]


def distinct_failures(
    plan: StagePlan, source: Source, summary: StageSummary, outcome: Outcome, replay_of: Callable[[str], str]
) -> list[Kept]:
    """One for each headline. The first has history and flight recorders, which are those of all, unless they still grow.

    ``replay_of``: the command that runs a failure of this oracle again.
    """
    seen = list(dict.fromkeys(headline_of(r) for r in outcome.reports)) or [unreported(outcome)]
    kept = []
    for line in seen:
        same = tuple(r for r in outcome.reports if headline_of(r) == line)
        one = replace(outcome, reports=same)
        oracle = oracle_of(one)
        replay = replay_of(oracle)
        files = {
            "description.txt": describe_failure(summary, one, replay).encode(),
            "workload.toml": source.text.encode(),
            "job.json": msgspec.json.format(msgspec.json.encode(plan.job), indent=2),
            "seed.txt": f"{plan.job.seed}\n".encode(),
            "replay.txt": f"{replay}\n".encode(),
        }
        if not kept and outcome.kind != "running":
            files[HISTORY] = encode_history(history_of(plan, outcome))
            files |= flight_files(outcome.view)
        kept.append(Kept(oracle, line, files))
    return kept


def keep_failures(
    folder: ResultsFolder, plan: StagePlan, source: Source, summary: StageSummary, outcome: Outcome, replay: str
) -> None:
    """One folder for each distinct failure; the summary names the first. ``replay``: the command that runs it again."""
    for kept in distinct_failures(plan, source, summary, outcome, lambda oracle: replay):
        path = folder.write_failure(kept.oracle, kept.files)
        if summary.failure is None:
            summary.failure = failure_of(outcome, replay, str(path))


def history_of(plan: StagePlan, outcome: Outcome) -> History:
    """The last burst, what it began with and, if it came to its end, what it left."""
    rings, state = tuple(outcome.view.history().values()), outcome.state
    about = (pages_of(plan.geometry), plan.geometry, f"ptstress {__version__}, build {plan.job.build}, seed {plan.job.seed}")
    if state is None:
        return complete(History(rings, no_rows(), no_rows(), None, *about, known=False))
    return complete(History(rings, state.maps, state.pages, state.final, *about))
