"""Workloads: who does what to which pages, read from TOML.

A workload may have stages, which run one after the other; without any it is one stage. Values that a
stage leaves out are those of the workload. Lengths are in pages or in whole pte_tables, so that one
workload fits every geometry.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from msgspec import Meta, Struct, field

from ptstress.errors import UsageError
from ptstress.schemes import find_scheme
from ptstress.tomlfile import Key, find_line, load_toml
from ptstress.units import format_geometry, pages_of, parse_duration, parse_extent, parse_geometry
from ptstress.vocabulary import LEVEL_NAMES, MAX_MMS, OPERATIONS, WHOLE_MM, Verb

#: The engine's: chains of a mix, and verbs of a chain.
MAX_CHAINS, MAX_CHAIN = 24, 12
Natural = Annotated[int, Meta(ge=0, le=1 << 32)]
Positive = Annotated[int, Meta(ge=1, le=1 << 32)]
Span = tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]
VERBS = tuple(verb.label for verb in OPERATIONS)
MAX_THREADS = 64
KNOBS_IN_PAGES = ("need_resched", "gather_batch")


class Strict(Struct, forbid_unknown_fields=True, frozen=True):
    """A table of the file: unknown keys are refused."""


class Step(Strict):
    """One operation done by one thread before (``setup``) or after (``closing``) the race.

    Its region is one of ``pages``, ``tables`` (both ``[start, end)``), and ``pmd_border``: so many tables on
    each side of the border between the first two pmd_tables, at most all that these have; exit and scan need none.
    With ``stride`` it is there, and as far as one such table reaches further on, ``strides`` times in all or as often as the
    address space has room. It is done in ``mm``, or in each of ``mms``, ``[first, end)``.
    ``writable``: mmap, mprotect; populate: for writing.
    """

    verb: str
    mm: Natural = 0
    mms: Span | None = None
    pages: Span | None = None
    tables: Span | None = None
    pmd_border: Positive | None = None
    stride: Literal["pte_table", "pmd_table", "pud_table"] | None = None
    strides: Positive = 1
    writable: bool = True


class Group(Strict):
    """Workers that do the same. ``count`` of them exactly, or a ``share`` of the threads left over.

    ``mix``: how often they do what: a verb, or several with ``+`` between them, done one after the other at one place, such as
    ``write+dontneed``. Ranges begin where the place does and are as long as ``unit`` says; accesses go through the place page by
    page, from any on. Regions are as those of a ``Step``, whose places are drawn equally often. ``apart``: each worker has a
    part of its own of each.
    They work in ``mm``; or each operation takes one of ``mms``, ``[first, end)``. ``beside_trace``: where the trace
    faults most, or, if it is a verb, in the tables of what the trace does that to.
    """

    mix: dict[str, Natural]
    mm: Natural = 0
    mms: Span | None = None
    name: str = ""
    share: Positive = 1
    count: Natural = 0
    pages: Span | None = None
    tables: Span | None = None
    pmd_border: Positive | None = None
    stride: Literal["pte_table", "pmd_table", "pud_table"] | None = None
    strides: Positive = 1
    apart: bool = False
    beside_trace: bool | str = False
    unit: dict[str, int | str] = {}
    aligned: bool = True


class Knobs(Strict):
    """What makes rare paths frequent; see the engine's configuration. ``None``: the engine's default.

    ``need_resched`` and ``gather_batch`` are pages, or a length such as ``"1 table"``.
    """

    need_resched: Natural | str | None = None
    gather_batch: Natural | str | None = None
    gather_alloc_fail: Natural | None = None
    scan_batch: Natural | None = None
    table_free: Literal["rcu", "ipi"] | None = None
    walk_sleep: Natural | None = None
    sleep_us: Natural | None = None
    walk_stall: Natural | None = None
    walk_stall_ms: Natural | None = None
    trylock_fail: Natural | None = None
    alloc_fail: Natural | None = None
    flush_delay: Natural | None = None
    flush_ceiling: Natural | None = None
    gp_batch: Natural | None = None
    reuse: Literal["lifo", "fifo"] | None = None
    delay_interval: Natural | None = None
    backlog_max: Natural | None = None
    stall_ms: Natural | None = None


class Arena(Strict):
    """Memory of the engine, in objects. 0: as much as the workload can need."""

    tables: Natural = 0
    frames: Natural = 0
    vmas: Natural = 0
    ring_events: Natural = 0


class Stage(Strict):
    """A part of a run. Keys left out are the workload's."""

    name: str = ""
    scheme: str | None = None
    duration: str | None = None
    trace: str | None = None
    pairs: list[str] | None = None
    setup: list[Step] | None = None
    workers: list[Group] | None = None
    closing: list[Step] | None = None


class Workload(Strict):
    """A whole file."""

    name: str
    summary: str
    pairs: list[str]
    workers: list[Group] = []
    scheme: str = "linux-6.18"
    geometry: str = "x86-64-4"
    threads: Annotated[int, Meta(ge=1, le=MAX_THREADS)] = 4
    duration: str = "20s"
    mms: Annotated[int, Meta(ge=1, le=MAX_MMS)] = 1
    trace: str | None = None
    setup: list[Step] = []
    closing: list[Step] = []
    knobs: Knobs = field(default_factory=Knobs)
    arena: Arena = field(default_factory=Arena)
    stages: list[Stage] = []


class Source(Struct, frozen=True):
    """A workload and where it came from, for errors."""

    workload: Workload
    path: Path
    text: str

    def refuse(self, key: tuple[Key, ...], reason: str) -> NoReturn:
        """Raise ``UsageError`` with file, line and reason."""
        raise UsageError(f"{self.path}:{find_line(self.text, key)}: {reason}")

    def stages(self) -> list[Stage]:
        """The stages with every key filled in."""
        w = self.workload
        return [
            Stage(
                name=s.name or s.scheme or w.scheme,
                scheme=s.scheme or w.scheme,
                duration=s.duration or w.duration,
                trace=s.trace if s.trace is not None else w.trace,
                pairs=w.pairs if s.pairs is None else s.pairs,
                setup=w.setup if s.setup is None else s.setup,
                workers=w.workers if s.workers is None else s.workers,
                closing=w.closing if s.closing is None else s.closing,
            )
            for s in w.stages or [Stage(name=w.name)]
        ]


def load_workload(name: str) -> Source:
    """The workload at path ``name``, or the packaged one of that name, checked. Raises ``UsageError``."""
    path = find_file(name, ".toml")
    if path is None:
        known = [known_name for known_name, _ in packaged_workloads() if "/" not in known_name]
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "expected a TOML file, or a name that 'ptstress list workloads' shows"
        raise UsageError(f"workload {name!r}: no such file or packaged workload: {hint}")
    workload, text = load_toml(path, Workload)
    source = Source(workload, path, text)
    _check(source)
    return source


def find_trace(name: str, beside: Path) -> Path:
    """The recorded trace ``name``: as given, in ``traces`` beside a workload, or packaged."""
    for candidate in (Path(name), beside.parent / name, beside.parent / "traces" / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    path = find_file(f"traces/{name}", ".gz")
    if path is None:
        raise UsageError(f"trace {name!r}: no such file, nor {name}.gz in a workload's folder traces")
    return path


def find_file(name: str, suffix: str) -> Path | None:
    """A file as given, or else the packaged one, with or without its suffix."""
    given = Path(name)
    if given.is_file():
        return given
    for folder in _packaged_folders():
        for candidate in (folder / name, folder / f"{name}{suffix}"):
            if candidate.is_file():
                return candidate
    return None


def packaged_workloads() -> Iterator[tuple[str, Path]]:
    """Name and path of every workload that comes with the package, canaries last."""
    for folder in _packaged_folders():
        for path in [path for inner in ("", "contention/", "canaries/") for path in sorted(folder.glob(f"{inner}*.toml"))]:
            yield str(path.relative_to(folder).with_suffix("")), path


def packaged_scopes() -> Iterator[Path]:
    """Every small scope that comes with the package; see ``ptstress.scopes``."""
    for folder in _packaged_folders():
        yield from sorted(folder.glob("scopes/*.toml"))


def _packaged_folders() -> list[Path]:
    package = Path(__file__).parent
    return [folder for folder in (package / "workloads", package.parent / "workloads") if folder.is_dir()][:1]


def check_geometry(source: Source, bits: tuple[int, ...]) -> None:
    """Refuse a geometry that the workload's regions do not fit in."""
    for key, item in _regions(source.workload):
        span = _first_region(item, bits)
        if span is None:
            continue
        if span[0] >= span[1]:
            source.refuse(key, f"region {span[0]}..{span[1]} (pages): expected a start below its end")
        if span[1] > pages_of(bits):
            room = f"{pages_of(bits)} pages in {pages_of(bits) >> bits[0]} tables"
            source.refuse(key, f"region ends at page {span[1]}: geometry {format_geometry(bits)} has {room}")
        if item.stride and span[1] > _stride_pages(item.stride, bits):
            reach = f"{_stride_pages(item.stride, bits)} pages of a {item.stride}"
            source.refuse(key, f"region ends at page {span[1]}: expected it within the {reach}")


def regions(item: Step | Group, bits: tuple[int, ...]) -> list[tuple[int, int]]:
    """Pages ``[start, end)`` of a region, and of those a stride further on; none if the trace decides."""
    span = _first_region(item, bits)
    if span is None:
        return []
    step = _stride_pages(item.stride, bits) if item.stride else pages_of(bits)
    return [(span[0] + at, span[1] + at) for at in range(0, min(item.strides * step, pages_of(bits)), step)]


def _stride_pages(table: str, bits: tuple[int, ...]) -> int:
    """Pages that one ``pte_table``, ``pmd_table`` or ``pud_table`` maps; all there are if the geometry has none."""
    return 1 << sum(bits[: LEVEL_NAMES.index(table) + 1])


def _first_region(item: Step | Group, bits: tuple[int, ...]) -> tuple[int, int] | None:
    if item.tables is not None:
        return item.tables[0] << bits[0], item.tables[1] << bits[0]
    if item.pmd_border is not None:
        border, half = 1 << (bits[0] + bits[1]), min(item.pmd_border, 1 << bits[1]) << bits[0]
        return border - half, border + half
    return item.pages


def mms_of(item: Step | Group) -> range:
    """The mms that it works in."""
    return range(item.mm, item.mm + 1) if item.mms is None else range(*item.mms)


def knob_pages(value: int | str | None, table_pages: int) -> int | None:
    """Pages of a knob that may be written as a length; 0 stays 0. Raises ``UsageError``."""
    return parse_extent(value, table_pages) if isinstance(value, str) else value


def parse_pair(text: str) -> tuple[str, str]:
    """The two verbs of ``write/dontneed``. Raises ``UsageError``."""
    first, slash, second = text.partition("/")
    if not slash or first not in VERBS or second not in VERBS:
        raise UsageError(f"pair {text!r}: expected two of {', '.join(VERBS)}, such as write/dontneed")
    return first, second


def _regions(w: Workload) -> Iterator[tuple[tuple[Key, ...], Step | Group]]:
    for key, items in _lists(w):
        for i, item in enumerate(items):
            yield (*key, i), item


def _lists(w: Workload) -> Iterator[tuple[tuple[Key, ...], list[Step] | list[Group]]]:
    yield ("setup",), w.setup
    yield ("workers",), w.workers
    yield ("closing",), w.closing
    for i, stage in enumerate(w.stages):
        yield ("stages", i, "setup"), stage.setup or []
        yield ("stages", i, "workers"), stage.workers or []
        yield ("stages", i, "closing"), stage.closing or []


def _check(source: Source) -> None:
    w = source.workload
    for key, text, parse in _texts(w):
        try:
            parse(text)
        except UsageError as error:
            source.refuse(key, str(error))
    bits = parse_geometry(w.geometry)
    for name in KNOBS_IN_PAGES:
        try:
            knob_pages(getattr(w.knobs, name), 1 << bits[0])
        except UsageError as error:
            source.refuse(("knobs", name), str(error))
    for key, item in _regions(w):
        _check_item(source, key, item, bits)
    for i, stage in enumerate(source.stages()):
        if not stage.pairs and not (stage.workers and all(group.apart for group in stage.workers)):
            key = ("stages", i, "pairs") if w.stages and w.stages[i].pairs is not None else ("pairs",)
            form = "at least one pair of verbs, such as 'write/dontneed', unless all workers are apart"
            source.refuse(key, f"pairs: expected {form}")
        if not stage.workers and not stage.trace:
            source.refuse(("stages", i), f"stage {stage.name!r} has nothing to do: expected [[workers]] or a trace")
        if any(g.beside_trace for g in stage.workers or []) and not stage.trace:
            source.refuse(("stages", i), f"stage {stage.name!r}: beside_trace expects a trace")
    check_geometry(source, bits)


def _texts(w: Workload) -> Iterator[tuple[tuple[Key, ...], str, object]]:
    yield ("scheme",), w.scheme, find_scheme
    yield ("geometry",), w.geometry, parse_geometry
    yield ("duration",), w.duration, parse_duration
    for pair in w.pairs:
        yield ("pairs",), pair, parse_pair
    for i, stage in enumerate(w.stages):
        if stage.scheme is not None:
            yield ("stages", i, "scheme"), stage.scheme, find_scheme
        if stage.duration is not None:
            yield ("stages", i, "duration"), stage.duration, parse_duration
        for pair in stage.pairs or []:
            yield ("stages", i, "pairs"), pair, parse_pair


def _check_item(source: Source, key: tuple[Key, ...], item: Step | Group, bits: tuple[int, ...]) -> None:
    spans = [item.pages, item.tables, item.pmd_border]
    verbs = {item.verb} if isinstance(item, Step) else {verb for chain, n in item.mix.items() if n for verb in chain.split("+")}
    if Verb.EXIT.label in verbs and source.workload.mms == 1:
        source.refuse(key, "exit: an only mm never ends: expected mms = 2 or more in the workload")
    beside = isinstance(item, Group) and bool(item.beside_trace)
    regionless = isinstance(item, Step) and item.verb in [verb.label for verb in WHOLE_MM]
    if len(spans) - spans.count(None) + beside != 1 and not (regionless and not any(spans)):
        more = " or beside_trace = true" if isinstance(item, Group) else ""
        forms = f"pages = [start, end] or tables = [start, end] or pmd_border = tables{more}"
        source.refuse(key, f"a region is needed, exactly one of {forms}")
    mms = mms_of(item)
    if not mms or mms[-1] >= source.workload.mms:
        found = f"mm = {item.mm}" if item.mms is None else f"mms = {list(item.mms)}"
        source.refuse(
            (*key, "mm" if item.mms is None else "mms"),
            f"{found}: expected an mm, or mms = [first, end], of the workload's mms = {source.workload.mms}",
        )
    if isinstance(item, Step):
        _check_verb(source, (*key, "verb"), item.verb)
        return
    if isinstance(item.beside_trace, str):
        _check_verb(source, (*key, "beside_trace"), item.beside_trace)
    if item.strides > 1 and not item.stride:
        source.refuse((*key, "strides"), "strides: expected a stride besides")
    for chain in item.mix:
        for verb in chain.split("+"):
            _check_verb(source, (*key, "mix"), verb)
    if len(item.mix) > MAX_CHAINS or any(len(chain.split("+")) > MAX_CHAIN for chain in item.mix):
        source.refuse((*key, "mix"), f"mix: expected at most {MAX_CHAINS} kinds of operation, of at most {MAX_CHAIN} verbs each")
    if not sum(item.mix.values()):
        source.refuse((*key, "mix"), "mix: expected at least one verb with a weight above zero")
    for verb, length in item.unit.items():
        _check_verb(source, (*key, "unit"), verb)
        try:
            parse_extent(length, 1 << bits[0])
        except UsageError as error:
            source.refuse((*key, "unit"), str(error))


def _check_verb(source: Source, key: tuple[Key, ...], verb: str) -> None:
    if verb not in VERBS:
        source.refuse(key, f"operation {verb!r}: expected one of {', '.join(VERBS)}")
