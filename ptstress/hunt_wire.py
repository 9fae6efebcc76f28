"""What the coordinator of ``ptstress bugs`` and its workers say to each other, framed as in ``fuzz_wire``.

A worker gets one job after another. It answers piece by piece, so that what a job found before it crashed or was stopped counts.
"""

from msgspec import Struct

from ptstress.exploring import ExploreFailure

DIRECTED, UNDIRECTED = "directed", "undirected"


class Scenario(Struct, frozen=True):
    """Where something is looked for. ``program``: of the bug; empty: generated ones, which know of no bug."""

    program: str
    scheme: str
    policy: str

    @property
    def mode(self) -> str:
        """How much the search is told."""
        return DIRECTED if self.program else UNDIRECTED


class Hunt(Struct, tag="hunt"):
    """Look for a planted bug from each of these seeds, and repeat what was found first ``replays`` times on each carrier.

    ``executions``: from each seed at most, ``None`` for any number; ``seconds``: for all of them together.
    """

    bug: str
    scenario: Scenario
    seeds: list[int]
    executions: int | None
    seconds: float
    replays: int


class Clean(Struct, tag="clean"):
    """Run the scenario without any bug: so many executions over all seeds together, in so many seconds at most."""

    scenario: Scenario
    seeds: list[int]
    executions: int
    seconds: float


class Attempt(Struct, tag="attempt"):
    """From one seed. ``executions``: until something was reported, that one included, or in vain.

    ``oracle``: who reported it, empty if nobody did; ``found``: and it was one that is right for the bug.
    """

    seed: int
    found: bool
    executions: int
    seconds: float
    oracle: str = ""
    invariant: int = 0


class Repeated(Struct, tag="repeated"):
    """How often the first find came again on each carrier, of ``of`` times; ``same``: the same in every step."""

    replay: str = ""
    on: dict[str, int] = {}
    of: int = 0
    same: bool = False

    @property
    def always(self) -> bool:
        """Each time, on each carrier."""
        return self.same and set(self.on.values()) == {self.of}


class Silence(Struct, tag="silence"):
    """From one seed without a bug. ``exhausted``: there was nothing more to run. ``failure``: there should be none."""

    executions: int
    seconds: float
    exhausted: bool = False
    failure: ExploreFailure | None = None


class Over(Struct, tag="over"):
    """The job is done. ``error``: it cannot be done at all."""

    error: str = ""
    exit_code: int = 0


Job = Hunt | Clean
Answer = Attempt | Repeated | Silence | Over
