"""The verb ``replay``: a recorded execution again, on fibres and on OS threads."""

from msgspec import Struct

from ptstress.errors import ExitCode, UsageError
from ptstress.lab import CARRIERS, Lab, fingerprint
from ptstress.schedule import decode

BOTH = "both"
WHERE = (*CARRIERS, BOTH)


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
    notes += [f"{module.removeprefix('cy/')}.pxd:{line} orders nothing here" for module, line in recorded.weakened]
    lab = Lab.of(recorded)
    reproduced, hashes = lab.repeat(recorded, CARRIERS if carriers == BOTH else (carriers,), times)
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
