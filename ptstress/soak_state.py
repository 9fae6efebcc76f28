"""Where a soak stands, as the sum of the lines of its log. A checkpoint is this, written down.

So a checkpoint that is lost costs nothing but the time to read the log again.
"""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from ptstress import __version__
from ptstress.errors import ExitCode
from ptstress.memory import Series
from ptstress.results import Canaries, CanaryItem, StageSummary
from ptstress.soak_rotation import SoakRequest
from ptstress.verdict import pool

#: Memory is looked at from minute 10 on: before, caches fill. That of one child from minute 1 on: its buffers grow with
#: what the busiest burst so far needed, and the busiest bursts become rare.
SETTLED_S = 600.0
CHILD_SETTLED_S = 60.0
#: Long slices whose own memory is kept.
MAX_CHILDREN = 64
SECONDS_PER_HOUR = 3600.0


class Event(Struct, tag_field="event"):
    """One line of the log. ``n``: its number; ``t``: time of day; ``at_s``: age of the soak, all sessions together."""

    n: int = 0
    t: float = 0.0
    at_s: float = 0.0


class Started(Event, tag="start"):
    """A soak began."""

    request: SoakRequest | None = None
    version: str = ""
    left_out: list[str] = []


class Resumed(Event, tag="resume"):
    """It goes on in another process."""

    request: SoakRequest | None = None
    version: str = ""
    notes: list[str] = []


class CanariesRan(Event, tag="canaries"):
    """A round of canaries under one scheme, geometry and number of threads."""

    key: str = ""
    seconds: float = 0.0
    canaries: Canaries | None = None


class Alive(Event, tag="status"):
    """A slice runs, and so does the parent, which needs ``rss_mib``. Its child is ``child_s`` old and needs ``child_mib``."""

    slice: int = 0
    key: str = ""
    phase: str = ""
    ops: int = 0
    rss_mib: float = 0.0
    session_s: float = 0.0
    child_s: float = 0.0
    child_mib: float = 0.0


class FailureSeen(Event, tag="failure"):
    """A violation, a crash or a hang. ``path``: its folder, empty if it is one that was known."""

    slice: int = 0
    key: str = ""
    oracle: str = ""
    what: str = ""
    path: str = ""
    exit_code: int = int(ExitCode.VIOLATION)


class SliceEnded(Event, tag="slice-end"):
    """``kind``: see ``Outcome``. ``summary``: of this slice; ``None`` if its end was not seen or it could not run."""

    slice: int = 0
    key: str = ""
    canary_key: str = ""
    kind: str = ""
    trusted: bool = False
    session_s: float = 0.0
    rss_mib: float = 0.0
    summary: StageSummary | None = None
    error: str = ""


class Ended(Event, tag="end"):
    """``reason``: duration, until, failure or stopped."""

    reason: str = ""
    verdict: str = ""
    exit_code: int = 0


AnyEvent = Started | Resumed | CanariesRan | Alive | FailureSeen | SliceEnded | Ended


class Found(Struct):
    """A distinct failure, and how often it came."""

    oracle: str
    what: str
    key: str
    slice: int
    path: str
    exit_code: int
    count: int = 1


class Part(Struct):
    """One combination: the sum of its slices. ``trusted_overlaps``: of slices whose canaries were all found.

    ``rss``: the most that each slice's child needed, over the age of the soak.
    """

    summary: StageSummary | None = None
    slices: int = 0
    killed: int = 0
    trusted_overlaps: int = 0
    rss: Series = msgspec.field(default_factory=Series)


class Round(Struct):
    """The last round of canaries that holds for a combination, and slices that ran since."""

    canaries: Canaries
    slices_since: int = 0

    @property
    def trusted(self) -> bool:
        """Every canary was found."""
        return self.canaries.found == self.canaries.planted


class SoakState(Struct):
    """See the head of the file. ``lines``: number of the last log line that is in it.

    ``parent_rss``: by session, over its age; ``child_rss``: by slice, over the age of its child.
    """

    request: SoakRequest
    version: str = __version__
    lines: int = 0
    next_slice: int = 0
    elapsed_s: float = 0.0
    sessions: int = 1
    killed: int = 0
    canary_s: float = 0.0
    canary_rounds: int = 0
    parts: dict[str, Part] = {}
    rounds: dict[str, Round] = {}
    found: list[Found] = []
    errors: list[str] = []
    left_out: list[str] = []
    parent_rss: dict[str, Series] = {}
    child_rss: dict[int, Series] = {}
    ended: str = ""

    def apply(self, event: AnyEvent) -> None:
        """Add one line of the log."""
        self.lines = max(self.lines, event.n)
        self.elapsed_s = max(self.elapsed_s, event.at_s)
        match event:
            case Started(left_out=left_out):
                self.left_out = left_out
            case Resumed(request=request):
                self.sessions += 1
                self.ended = ""
                self.request = request or self.request
            case CanariesRan(key=key, seconds=seconds, canaries=Canaries() as canaries):
                self.rounds[key] = Round(canaries)
                self.canary_rounds += 1
                self.canary_s += seconds
            case Alive():
                self._add_memory(event)
            case FailureSeen():
                self._add_failure(event)
            case SliceEnded():
                self._add_slice(event)
            case Ended(reason=reason):
                self.ended = reason

    def find(self, oracle: str, what: str, key: str) -> Found | None:
        """The failure of this signature, if it is known."""
        return next((f for f in self.found if (f.oracle, f.what, f.key) == (oracle, what, key)), None)

    @property
    def trusted_overlaps(self) -> int:
        """Overlaps that count as evidence."""
        return sum(part.trusted_overlaps for part in self.parts.values())

    @property
    def canaries(self) -> Canaries:
        """The last round of every kind together."""
        items: list[CanaryItem] = [item for one in self.rounds.values() for item in one.canaries.items]
        note = next((one.canaries.note for one in self.rounds.values()), "")
        return Canaries(len(items), sum(item.found for item in items), items, note)

    def _add_memory(self, event: Alive) -> None:
        if event.session_s >= SETTLED_S:
            self.parent_rss.setdefault(str(self.sessions), Series()).add(event.session_s / SECONDS_PER_HOUR, event.rss_mib)
        if event.child_mib and event.child_s >= CHILD_SETTLED_S:
            self.child_rss.setdefault(event.slice, Series()).add(event.child_s / SECONDS_PER_HOUR, event.child_mib)
            if len(self.child_rss) > MAX_CHILDREN:
                del self.child_rss[min(self.child_rss)]

    def _add_failure(self, event: FailureSeen) -> None:
        known = self.find(event.oracle, event.what, event.key)
        if known:
            known.count += 1
            return
        self.found.append(Found(event.oracle, event.what, event.key, event.slice, event.path, event.exit_code))

    def _add_slice(self, event: SliceEnded) -> None:
        self.next_slice = event.slice + 1
        if event.error:
            self.errors = [*self.errors[-9:], f"slice {event.slice}, {event.key}: {event.error}"]
        if event.summary is None:
            return
        if event.canary_key in self.rounds:
            self.rounds[event.canary_key].slices_since += 1
        part = self.parts.setdefault(event.key, Part())
        part.slices += 1
        died = event.kind in ("crashed", "hung")
        part.killed += died
        self.killed += died
        if event.trusted:
            part.trusted_overlaps += event.summary.overlaps.total
        if event.rss_mib and event.session_s >= SETTLED_S:
            part.rss.add(event.at_s / SECONDS_PER_HOUR, event.rss_mib)
        before = [part.summary] if part.summary else []
        part.summary = msgspec.structs.replace(event.summary, notes=[], **pool([*before, event.summary]))


def replay_log(state: SoakState | None, lines: Iterable[bytes]) -> tuple[SoakState | None, int]:
    """``state`` with the lines that it does not hold yet, or all lines from nothing; how many could not be read."""
    bad = 0
    decoder = msgspec.json.Decoder(AnyEvent)
    for line in lines:
        try:
            event = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            bad += 1
            continue
        if state is None and isinstance(event, Started) and event.request is not None:
            state = SoakState(event.request, event.version)
        if state is not None and event.n > state.lines:
            state.apply(event)
    return state, bad
