"""The verb ``replay``: a recorded execution again, on fibres and on OS threads."""

from msgspec import Struct

from ptstress.errors import ExitCode, UsageError
from ptstress.lab import Lab, fingerprint
from ptstress.program import parse
from ptstress.schedule import decode

CARRIERS = ("fibres", "threads", "both")


class ReplaySummary(Struct):
    """How often a recorded failure came again; ``of`` tries on each carrier."""

    verdict: str
    exit_code: int
    outcome: str
    oracle: str
    what: str
    program: str
    reproduced: dict[str, int]
    of: int
    same_trace: bool
    story: list[str]
    notes: list[str]
    headline: str = ""
    expected: list[str] = []
    schema: str = "ptstress.replay/1"


def replay(text: str, carriers: str, times: int) -> ReplaySummary:
    """Run a recorded execution again, ``times`` on each carrier."""
    recorded = decode(text)
    if recorded.outcome == "race":
        if carriers == "threads":
            raise UsageError("--on threads: a race shows on fibres only, because threads hand over by what orders all accesses")
        carriers = "fibres"
    notes = []
    if recorded.fingerprint != fingerprint(recorded.scheme):
        notes.append("recorded by another version of the engine, or of a policy: its choices may mean something else here")
    lab = Lab(recorded.scheme, recorded.geometry, recorded.bugs, dict(recorded.knobs), recorded.seed, recorded.build)
    program = parse(recorded.program, "<replay string>")
    lab.load(program)
    execution = {
        "choices": recorded.choices, "seed": recorded.seed, "max_steps": recorded.max_steps, "steps_only": recorded.steps_only,
    }
    runs = {
        "fibres": lambda: lab.explorer.replay(**execution, trace=False),
        "threads": lambda: lab.explorer.replay_threads(**execution),
    }
    reproduced: dict[str, int] = {}
    hashes = set()
    for carrier, run in runs.items():
        if carriers in (carrier, "both"):
            results = [run() for _ in range(times)]
            reproduced[carrier] = sum(r["outcome"] == recorded.outcome for r in results)
            hashes.update(r["hash"] for r in results)
    told = lab.explain(recorded)
    again = any(reproduced.values())
    failed = recorded.outcome != "pass"
    code = (ExitCode.VIOLATION if failed else ExitCode.PASS) if again else ExitCode.NOT_REPRODUCED
    return ReplaySummary(
        verdict="not reproduced" if not again else "violation" if failed else "pass",
        exit_code=code, outcome=recorded.outcome, oracle=told.oracle if failed else "", what=told.what, program=recorded.program,
        reproduced=reproduced, of=times, same_trace=hashes == {recorded.trace_hash},
        story=list(told.story), notes=notes, headline=told.headline if failed else "",
        expected=list(told.expected) if failed else [],
    )
