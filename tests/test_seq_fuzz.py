"""Fuzz campaigns without engines: draws, mutations, spelling, messages, sums, screens, and wrong flags."""

import os
from random import Random

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.database import InMemoryExampleDatabase, choices_to_bytes
from msgspec import structs

from ptstress.cli import main
from ptstress.errors import ExitCode, UsageError
from ptstress.fuzz_campaign import BATCH, Campaign
from ptstress.fuzz_example import Failure, FuzzExample, Signature, Trial, read_example, spell
from ptstress.fuzz_mutation import MOST_BRANCHES, MOST_OPERATIONS, mutate
from ptstress.fuzz_profiles import PROFILES, find_profile
from ptstress.spelling import spelled, spelled_choices
from ptstress.fuzz_report import fuzz_screen
from ptstress.fuzz_store import Store
from ptstress.fuzz_summary import Coverage, FuzzScheme, FuzzSummary, Tally, verdict_of
from ptstress.fuzz_wire import Closed, Found, FromWorker, Progress, Reader, Share, send
from ptstress.fuzzing import FuzzRequest
from ptstress.generator import generate
from ptstress.program import parse
from ptstress.schemes import SCHEMES, scheme_names
from ptstress.vocabulary import OPERATIONS, WHOLE_MM, Verb

BITS = (2, 1, 1, 1)
PAGES = 32
EXAMPLE = FuzzExample(
    parse("prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: write(p0)"), "linux-6.18", BITS,
    {"need_resched": 2, "reuse": "lifo"}, 7, 100, bugs=("P01",),
)
SIGNATURE = Signature("census", 4, "dontneed", "table a holds b")


def failure(text: str, signature: Signature = SIGNATURE) -> Failure:
    return Failure(signature, "detail", structs.replace(EXAMPLE, program=parse(text)))


# ---- draws -----------------------------------------------------------------------------------------


def test_no_two_shares_draw_the_same_programs():
    digests = [{e.digest() for _ in range(8) for e in Campaign(1, share, 3).batch()} for share in range(3)]
    assert all(len(mine) > 1 for mine in digests)
    assert not digests[0] & digests[1] | digests[0] & digests[2] | digests[1] & digests[2]


def test_a_share_can_be_drawn_again():
    first, again, other = (Campaign(seed, 1, 2).batch() for seed in (5, 5, 6))
    assert first == again != other


def test_a_batch_is_of_one_configuration_and_schemes_take_turns():
    campaign = Campaign(1, 0, 1)
    batches = [campaign.batch() for _ in campaign.schemes]
    for batch in batches:
        assert len(batch) == BATCH
        assert len({(e.scheme, e.geometry, *e.knobs.items()) for e in batch}) == 1
    assert {batch[0].scheme for batch in batches} == set(campaign.schemes)


def test_schemes_get_equal_parts_of_the_executions_whatever_is_seen_under_them():
    campaign = Campaign(1, 0, 1)
    for _ in range(200):
        for example in campaign.batch():
            # Programs under one scheme keep bringing something new, those under another one crash at once.
            times = {"rcu": 9, "covering": 0}.get(example.scheme, 1)
            campaign.note(example, Trial(executions=example.executions * times))
    parts = campaign.executions.values()
    assert max(parts) - min(parts) <= 9 * BATCH * campaign.schedules


def test_what_brings_new_pairs_is_kept_and_mutated():
    campaign = Campaign(1, 0, 1, geometries=[BITS])
    trial = Trial(pairs=[("a", "b"), ("b", "a")])
    assert campaign.note(EXAMPLE, trial) == trial.pairs
    assert campaign.note(EXAMPLE, trial) == []
    assert campaign.corpus[BITS] == [EXAMPLE.program]
    fresh = {e.program for _ in range(4) for e in Campaign(1, 0, 1, geometries=[BITS]).batch()}
    mutants = [e.program for _ in range(4) for e in campaign.batch() if e.program not in fresh]
    assert mutants, "some programs are no longer the generator's"


def test_some_examples_race():
    examples = [e for _ in range(4) for e in Campaign(1, 0, 1, rounds=3, race_every=16).batch()]
    assert [e.rounds for e in examples].count(3) == len(examples) // 16


# ---- mutation --------------------------------------------------------------------------------------


def test_mutants_stay_valid_and_most_differ():
    rng = Random(1)
    program, changed, verbs = generate(1, BITS), 0, set()
    for number in range(600):
        mutant = mutate(program, generate(number, BITS), rng, BITS)
        changed += mutant != program
        assert 1 <= len(mutant.branches) <= MOST_BRANCHES
        assert all(len(ops) <= MOST_OPERATIONS for ops in mutant.branches)
        assert mutant.end_page() <= PAGES
        for op in mutant.operations():
            assert op.start < op.end or op.verb in WHOLE_MM
            assert op.end == op.start + 1 or not op.accesses
            verbs.add(op.verb)
        assert parse(mutant.text()) == mutant
        program = mutant if any(mutant.branches) else program
    assert changed > 500
    assert verbs >= {Verb.READ, Verb.WRITE, Verb.DONTNEED, Verb.MMAP}


# ---- spelling --------------------------------------------------------------------------------------


def test_an_example_reads_back_equal():
    assert read_example(spell(EXAMPLE), "x") == EXAMPLE
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(EXAMPLE), type=FuzzExample) == EXAMPLE


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", spell(EXAMPLE)[:-9], spell(EXAMPLE).replace(b"dontneed", b"dontnee")])
def test_what_is_no_example_is_refused_in_one_line(data):
    with pytest.raises(UsageError, match="^there: ?") as caught:
        read_example(data, "there")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", range(20))
def test_hypothesis_draws_exactly_the_program_that_was_spelled(number):
    bits = (BITS, (1, 2, 1, 1), (2, 1, 1))[number % 3]
    program, knobs, drawn = generate(number, bits), {"need_resched": 3, "reuse": "fifo"}, []
    database = InMemoryExampleDatabase()
    database.save(b"key", choices_to_bytes(spelled_choices(program, bits, knobs)))
    how = settings(database=database, phases=(Phase.reuse,), deadline=None, suppress_health_check=list(HealthCheck))
    found = find(
        spelled(bits, knobs, program.mms()), lambda value: drawn.append(value) or True, settings=how, database_key=b"key"
    )
    assert drawn[0] == found == (program, knobs)


def test_the_store_keeps_failures_and_programs(tmp_path):
    longer = structs.replace(
        EXAMPLE, program=parse("t0: write(p0); write(p1); write(p2); walk(p0..p4); walk(p0..p4)| t1: write(p0)"))
    store = Store(tmp_path / "database")
    for example in (longer, EXAMPLE):
        store.keep_failure(example)
    store.keep_program(longer)
    other = Store(tmp_path / "database")
    assert other.failures() == [EXAMPLE, longer]
    assert other.corpus() == [longer]
    other.drop_failure(EXAMPLE)
    assert store.failures() == [longer]


def test_the_store_forgets_what_it_cannot_read(tmp_path):
    store = Store(tmp_path)
    store._database.save(b"ptstress.fuzz.failures", b"of another version")
    assert store.failures() == [] == list(store._database.fetch(b"ptstress.fuzz.failures"))


# ---- messages --------------------------------------------------------------------------------------


def test_messages_arrive_whole_however_they_are_cut():
    reading, writing = os.pipe()
    reader = Reader(reading, FromWorker)
    message = Found(SIGNATURE, failure("t0: write(p0)"), final=True)
    send(writing, message)
    data = os.read(reading, 1 << 16)
    assert reader.next() is None
    for at in range(0, len(data), 7):
        os.write(writing, data[at : at + 7])
        assert reader.fill(1.0)
    assert reader.next() == message
    assert reader.wait(0.01, lambda: True) is None
    os.close(writing)
    with pytest.raises(Closed):
        reader.fill(1.0)
    os.close(reading)


# ---- sums and screens ------------------------------------------------------------------------------


def progress(digests: list[int], pairs: int = 0) -> Progress:
    return Progress(
        schemes={"rcu": Share(len(digests), 10, digests)}, programs=len(digests), executions=10, operations=100,
        points=1000, unknown=0,
        pairs=[(str(n), "x") for n in range(pairs)], overlaps=[(1, 2, 3)], restarts=0, corpus=1,
    )


def test_distinct_programs_are_counted_in_union():
    tally = Tally(2)
    tally.progress(0, progress([1, 2, 3], 4))
    tally.progress(1, progress([3, 4], 6))
    assert [w.distinct for w in tally.workers] == [3, 2]
    assert tally.distinct == 4
    assert tally.by_scheme(["rcu", "covering"]) == [FuzzScheme("rcu", 5, 4, 20), FuzzScheme("covering")]
    assert tally.met(1.0).by_pair == {"read/write": 6}
    assert tally.growth(1.0) == [6] * 10


def test_failures_that_shrink_to_the_same_one_are_one():
    tally = Tally(1)
    other = structs.replace(SIGNATURE, where="munmap")
    assert tally.found(Found(SIGNATURE, failure("t0: write(p0); write(p1)"), final=False))
    assert not tally.found(Found(SIGNATURE, failure("t0: write(p0)"), final=True))
    assert not tally.found(Found(SIGNATURE, failure("t0: write(p0); write(p3)"), final=True))
    assert tally.found(Found(other, failure("t0: read(p0)", other), final=False))
    assert len(tally.distinct_failures()) == 2
    tally.found(Found(other, failure("t0: read(p0)", SIGNATURE), final=True))
    (kept,) = tally.distinct_failures()
    assert (kept.count, kept.failure.example.program.text()) == (2, "t0: write(p0)")


@pytest.mark.parametrize(
    ("failures", "overlaps", "bugs", "expected"),
    [
        (0, 5, 0, ("pass", ExitCode.PASS)), (1, 5, 0, ("violation", ExitCode.VIOLATION)),
        (1, 0, 1, ("violation", ExitCode.VIOLATION)), (0, 5, 1, ("unknown", ExitCode.UNTRUSTWORTHY)),
        (0, 0, 0, ("unknown", ExitCode.UNTRUSTWORTHY)),
    ],
)
def test_a_campaign_that_proves_nothing_does_not_pass(failures, overlaps, bugs, expected):
    assert verdict_of(failures, overlaps, bugs) == expected


def test_fewer_executions_than_were_asked_for_are_no_pass(tmp_path):
    request = FuzzRequest(2, 1.0, 1, PROFILES[0], tmp_path, ("rcu", "covering"), executions=20)
    tally = Tally(2)
    tally.progress(0, progress([1], 4))
    assert request.missing(tally) == ["rcu", "covering"]
    tally.progress(1, progress([2], 4))
    assert request.missing(tally) == ["covering"]
    assert verdict_of(0, 5, 0, 1) == ("unknown", ExitCode.UNTRUSTWORTHY)


def test_the_screen_has_twelve_lines_and_a_row_for_each_verb():
    tally = Tally(2)
    tally.progress(0, progress([1], 4))
    summary = FuzzSummary(
        "pass", 0, ["linux-6.18"], ["2x2x2x4"], [], "dev", 1, 1.0, tally.workers, 1, 1, 10, 10.0, 100, 100.0, 1000, 0,
        Coverage(4, [4] * 10), tally.met(1.0), [], "duration", "results/x", "results/d",
        tally.by_scheme(["rcu"]),
    )
    lines = fuzz_screen(summary)
    screen = lines[: lines.index("")]
    assert len(screen) <= 12 and lines[0] == "verdict: PASS (exit 0)  fuzz: nothing found"
    assert "programs: 1 (1 + 0)  distinct: 1 in union (1 + 0)" in lines
    schemes, matrix = lines[len(screen) + 1 : len(screen) + 3], lines[len(screen) + 4 :]
    assert [line.split() for line in schemes] == [
        ["scheme", "executions", "programs", "distinct", "failures"], ["rcu", "10", "1", "1", "0"]]
    assert [line.split()[0] for line in matrix[1:]] == [verb.label for verb in OPERATIONS]
    assert matrix[1].split() == ["read", ".", "3", *["."] * (len(OPERATIONS) - 2)]


def test_schemes_are_named_by_lists_by_repeating_and_all_together():
    everything = tuple(scheme.name for scheme in SCHEMES)
    assert scheme_names([]) == scheme_names(["all"]) == ()
    assert scheme_names(["rcu,covering", "rcu", "linux-6.18@srcu"]) == ("rcu", "covering", "linux-6.18@srcu")
    assert scheme_names(["rcu+async", "all"]) == (*everything, "rcu+async")


# ---- profiles and flags ----------------------------------------------------------------------------


def test_the_environment_names_the_profile_unless_the_flag_does(monkeypatch):
    monkeypatch.setenv("HYPOTHESIS_PROFILE", "soak")
    assert find_profile(None).name == "soak"
    assert find_profile("dev") == PROFILES[0]
    monkeypatch.setenv("HYPOTHESIS_PROFILE", "mine")
    with pytest.raises(UsageError, match="^HYPOTHESIS_PROFILE 'mine': expected one of dev, ci, soak$"):
        find_profile(None)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["-n", "0"], "-n '0': expected auto, or a number of workers from 1 to 256"),
        (["-n", "many"], "-n 'many': expected auto, or a number of workers from 1 to 256"),
        (["--profile", "x"], "--profile 'x': expected one of dev, ci, soak"),
        (["--scheme", "linux-9"], "scheme 'linux-9': expected one of"),
        (["--scheme", "all,linux-9"], "scheme 'linux-9': expected one of"),
        (["--scheme", "rcu,"], "scheme '': expected one of"),
        (["--bug", "P99"], "bug 'P99': expected one of"),
        (["--geometry", "2x"], "geometry '2x'"),
        (["--duration", "soon"], "duration 'soon'"),
    ],
)
def test_wrong_flags_are_one_line(flags, line, capsys, tmp_path):
    assert main(["fuzz", *flags, "--results", str(tmp_path)]) == ExitCode.USAGE
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and line in said[0]
    assert list(tmp_path.iterdir()) == []
