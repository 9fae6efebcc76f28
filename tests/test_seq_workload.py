"""Workloads: what is shipped can be read, and what is wrong is refused with file, line and the expected form."""

import re
from pathlib import Path

import numpy as np
import pytest

from ptstress.bugs import BUGS
from ptstress.errors import ResourceError, UsageError
from ptstress.job import Mix
from ptstress.plan import Overrides, plan_run, share_threads
from ptstress.schemes import SCHEMES, find_scheme
from ptstress.tomlfile import find_line
from ptstress.trace import load_trace
from ptstress.vocabulary import Verb
from ptstress.workload import Group, load_workload, packaged_workloads
from schemes_under_test import DEFAULT

GOOD = """\
name = "sample"
summary = "a sample"
pairs = ["write/dontneed"]
threads = 2

[[setup]]
verb = "mmap"
tables = [0, 2]

[[workers]]
name = "faulters"
tables = [0, 2]
mix = { write = 1 }

[[workers]]
name = "discarders"
pages = [0, 512]
mix = { dontneed = 1 }
unit = { dontneed = "1 table" }

[knobs]
need_resched = 100

[arena]
tables = 0
"""


def write(folder: Path, text: str) -> str:
    path = folder / "sample.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", [name for name, _ in packaged_workloads()])
def test_shipped_workload_can_be_planned(name):
    source = load_workload(name)
    for plan, stage in zip(plan_run(source, Overrides()), source.stages(), strict=True):
        assert plan.pairs or all(group.apart for group in stage.workers)
        assert len(plan.job.mixes) + plan.job.trace_workers == plan.threads == plan.job.workers


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.workload], ids=lambda bug: bug.id)
@pytest.mark.parametrize("geometry", ["x86-64-4", "x86-64-5", "2x2x2x4", "4x4x4x4x4"])
@pytest.mark.parametrize("threads", [1, 2, 8, 64])
def test_canary_fits_every_geometry_and_thread_count(bug, geometry, threads):
    (plan,) = plan_run(load_workload(bug.workload), Overrides(geometry=geometry, threads=threads, bugs=(bug.id,)))
    assert plan.job.workers == threads


def test_every_scheme_declares_two_canaries_or_more():
    known = {bug.id for bug in BUGS}
    for scheme in SCHEMES:
        assert len(scheme.canaries) >= 2 and set(scheme.canaries) <= known


def test_the_default_suite_runs_every_part_of_a_scheme():
    default = [find_scheme(name) for name in DEFAULT]
    assert {scheme.protection for scheme in default} == {scheme.protection for scheme in SCHEMES}
    assert {policy for scheme in default for policy in scheme.policies} == {p for scheme in SCHEMES for p in scheme.policies}


def test_names_of_shipped_workloads_are_those_of_their_files():
    for name, path in packaged_workloads():
        assert load_workload(str(path)).workload.name == Path(name).name


def test_lengths_follow_the_geometry(tmp_path):
    source = load_workload(write(tmp_path, GOOD))
    (wide,) = plan_run(source, Overrides())
    (tiny,) = plan_run(load_workload(write(tmp_path, GOOD.replace("512]", "4]"))), Overrides(geometry="2x2x2x4"))
    assert [m.end for m in wide.job.mixes] == [1024, 512]
    assert [m.end for m in tiny.job.mixes] == [8, 4]
    assert tiny.job.mixes[1].unit == {"dontneed": 4}
    assert tiny.job.setup[0].end == 8 and tiny.job.setup[0].verb is Verb.MMAP and tiny.job.setup[0].arg == 1


def test_command_line_wins(tmp_path):
    source = load_workload(write(tmp_path, GOOD))
    (plan,) = plan_run(source, Overrides(scheme="mmap_lock+sync", threads=7, duration="3s", seed=9, bugs=("P01",)))
    assert (plan.scheme.parts, plan.threads, plan.job.duration_s) == ("mmap_lock x sync", 7, 3.0)
    assert plan.job.config["bugs"] == ["P01"] and plan.job.seed == 9


def test_a_stage_inherits_what_it_leaves_out(tmp_path):
    text = GOOD + '\n[[stages]]\nscheme = "linux-6.12"\n[[stages]]\nscheme = "linux-6.18"\nduration = "1s"\nsetup = []\n'
    first, second = plan_run(load_workload(write(tmp_path, text)), Overrides())
    assert (first.name, first.scheme.name, first.job.duration_s) == ("linux-6.12", "linux-6.12", 20.0)
    assert (second.job.duration_s, second.job.setup) == (1.0, [])
    assert first.job.mixes == second.job.mixes


@pytest.mark.parametrize(
    ("shares", "counts", "threads", "expected"),
    [
        ((3, 2, 1), (0, 0, 0), 6, [3, 2, 1]),
        ((3, 2, 1), (0, 0, 0), 12, [6, 4, 2]),
        ((9, 1, 1), (0, 0, 0), 3, [1, 1, 1]),
        ((1, 1), (0, 0), 1, [1, 0]),
        ((1, 1), (0, 2), 5, [3, 2]),
        ((1, 1), (0, 2), 1, [0, 1]),
    ],
)
def test_threads_are_shared_out(shares, counts, threads, expected):
    groups = [Group(mix={"read": 1}, share=s, count=c) for s, c in zip(shares, counts, strict=True)]
    assert share_threads(groups, threads) == expected


def test_a_chain_that_gives_its_place_back_needs_few_frames(tmp_path):
    def planned(mix: str):
        text = GOOD.replace("{ write = 1 }", f"{{ {mix} }}\nunit = {{ dontneed = 16, munmap = 8 }}")
        return plan_run(load_workload(write(tmp_path, text)), Overrides())[0].job

    few, many = planned('"write+write+dontneed" = 1'), planned('"write+write+dontneed" = 1, write = 1')
    assert few.mixes[0].weights == {"write+write+dontneed": 1}
    assert few.config["tables"] == many.config["tables"]
    assert many.config["frames"] - few.config["frames"] > 1024
    # The whole place must go.
    assert planned('"write+dontneed+munmap" = 1').config["frames"] == many.config["frames"] - 20


def test_a_region_at_strides_is_done_once_for_each_as_far_as_there_is_room(tmp_path):
    text = GOOD.replace('tables = [0, 2]\n', 'tables = [1, 2]\nstride = "pud_table"\nstrides = 3\n')
    source = load_workload(write(tmp_path, text))
    wide = plan_run(source, Overrides())[0].job
    places = [(at + 512, at + 1024) for at in (0, 1 << 27, 2 << 27)]       # 512 GiB in pages
    assert wide.mixes[0].places == [(op.start, op.end) for op in wide.setup] == places
    assert wide.config["tables"] == 2 * (1 + 3 * 3) + 512       # the pgd, and three of each place
    text = text.replace("pages = [0, 512]", "pages = [0, 4]")
    tiny = plan_run(load_workload(write(tmp_path, text)), Overrides(geometry="2x2x2x4"))[0].job
    assert tiny.mixes[0].places == [(4, 8), (20, 24)]
    flat = plan_run(load_workload(write(tmp_path, text)), Overrides(geometry="2x2x4"))[0].job
    assert (flat.mixes[0].start, flat.mixes[0].end, flat.mixes[0].places) == (4, 8, [])


def test_workers_apart_have_parts_of_their_own(tmp_path):
    text = GOOD.replace("threads = 2", "threads = 6")
    text = text.replace("tables = [0, 2]\nmix", "tables = [0, 2]\napart = true\nshare = 5\nmix")
    mixes = plan_run(load_workload(write(tmp_path, text)), Overrides())[0].job.mixes[:5]
    assert [(mix.start, mix.end) for mix in mixes] == [(at, at + 204) for at in range(0, 1020, 204)]
    mixes = plan_run(load_workload(write(tmp_path, text)), Overrides(threads=3))[0].job.mixes[:2]
    assert [(mix.start, mix.end) for mix in mixes] == [(0, 512), (512, 1024)]


def test_nothing_is_to_meet_where_all_are_apart(tmp_path):
    text = GOOD.replace('["write/dontneed"]', "[]").replace("tables = [0, 2]\nmix", "tables = [0, 2]\napart = true\nmix")
    text = text.replace("pages = [0, 512]", "pages = [0, 512]\napart = true")
    (plan,) = plan_run(load_workload(write(tmp_path, text)), Overrides())
    assert plan.pairs == ()


def test_scans_are_to_meet_others_where_there_are_scans(tmp_path):
    text = GOOD.replace('["write/dontneed"]', '["write/dontneed", "write/scan"]')
    source = load_workload(write(tmp_path, text))
    met = {name: plan_run(source, Overrides(scheme=name))[0].pairs for name in ("linux-6.18", "seed-async")}
    assert met == {"linux-6.18": (("write", "dontneed"),), "seed-async": (("write", "dontneed"), ("write", "scan"))}
    only = load_workload(write(tmp_path, GOOD.replace("write/dontneed", "write/scan")))
    with pytest.raises(UsageError, match="is about scans, and linux-6.18 has none"):
        plan_run(only, Overrides())


def test_a_step_that_names_no_pages_needs_no_region(tmp_path):
    text = GOOD + '[[closing]]\nverb = "scan"\n'
    (plan,) = plan_run(load_workload(write(tmp_path, text)), Overrides())
    assert [str(op) for op in plan.job.closing] == ["scan(m0)"]


def test_a_trace_takes_the_threads_that_nobody_counts():
    plan = plan_run(load_workload("headline"), Overrides(threads=5))[2]
    assert (plan.job.trace_workers, len(plan.job.mixes)) == (3, 2)
    assert plan.job.mixes[0].start % 512 == 0 and plan.job.mixes[0].start > 1 << 30


@pytest.mark.parametrize("name", [name for name, path in packaged_workloads() if "beside_trace" in path.read_text()])
def test_workers_beside_a_trace_lie_where_it_does_what_they_are_to_meet(name):
    """Of each kind of operation that a worker must meet in the recording, it can meet half or more."""
    plan = plan_run(load_workload(name), Overrides())[-1]
    ops = load_trace(Path(plan.job.trace)).ops
    for pair in plan.pairs:
        for ours, theirs in (pair, pair[::-1]):
            mine = [mix for mix in plan.job.mixes if mix.weights.get(ours)]
            wanted = ops[ops["verb"] == Verb[theirs.upper()]]
            met = np.count_nonzero(np.any([_reached(mix, wanted) for mix in mine], axis=0)) if mine else len(wanted)
            assert 2 * met >= len(wanted), f"{ours} can meet {met} of {len(wanted)} {theirs}"


def _reached(mix: Mix, ops: np.ndarray) -> np.ndarray:
    """Which of the operations lie where a mix works; its places are disjoint and ascend."""
    starts, ends = np.array(mix.places or [(mix.start, mix.end)], dtype="u8").T
    place = np.searchsorted(ends, ops["start"], side="right")
    return (place < len(starts)) & (starts[np.minimum(place, len(starts) - 1)] < ops["end"])


def test_an_operation_of_the_trace_says_where_workers_are(tmp_path):
    text = GOOD.replace("pages = [0, 512]", 'beside_trace = "dontneed"')
    text = text.replace("threads = 2", 'threads = 3\ntrace = "jemalloc-16m"')
    source = load_workload(write(tmp_path, text.replace("[[workers]]", "[[workers]]\ncount = 1")))
    (plan,) = plan_run(source, Overrides())
    mix = plan.job.mixes[1]
    assert len(mix.places) > 10 and all(end - start == 512 and start % 512 == 0 for start, end in mix.places)
    assert (mix.start, mix.end) == (mix.places[0][0], mix.places[-1][1])
    assert plan.job.config["frames"] < 100_000      # only what the trace and the stores can have in use


@pytest.mark.parametrize(
    ("old", "new", "line", "expected"),
    [
        ("pages = [0, 512]", 'beside_trace = "munnap"', 17, "operation 'munnap': expected one of read, write"),
        ('name = "sample"', 'nome = "sample"', 1, "unknown key 'nome': expected one of name, summary"),
        ("threads = 2", "threads = 0", 4, "threads: expected int >= 1"),
        ("threads = 2", 'threads = "two"', 4, "threads: expected int, got str"),
        ("threads = 2", "threads = 65", 4, "threads: expected int <= 64"),
        ("threads = 2", "threads = ", 4, "not TOML"),
        ('["write/dontneed"]', '["write-dontneed"]', 3, "such as write/dontneed"),
        ('["write/dontneed"]', "[]", 3, "at least one pair"),
        ('verb = "mmap"', 'verb = "mmep"', 7, "operation 'mmep': expected one of read, write"),
        ("{ write = 1 }", "{ wriet = 1 }", 13, "operation 'wriet': expected one of read, write"),
        ("{ write = 1 }", '{ "write+wriet" = 1 }', 13, "operation 'wriet': expected one of read, write"),
        ("{ write = 1 }", f'{{ "{"+".join(["write"] * 13)}" = 1 }}', 13, "of at most 12 verbs each"),
        ("pages = [0, 512]", "pages = [0, 512]\nstrides = 2", 18, "expected a stride besides"),
        ("pages = [0, 512]", 'pages = [0, 512]\nstride = "pgd"', 18, "pmd_table"),
        ("pages = [0, 512]", 'pages = [0, 262145]\nstride = "pmd_table"', 15, "within the 262144 pages of a pmd_table"),
        ("{ write = 1 }", "{ write = -1 }", 13, "expected int >= 0"),
        ("{ write = 1 }", "{ write = 0 }", 13, "a weight above zero"),
        ("pages = [0, 512]", "pages = [5, 5]", 15, "expected a start below its end"),
        ("pages = [0, 512]", "pages = [0]", 17, "expected array of length 2"),
        ("pages = [0, 512]", "", 15, "exactly one of pages"),
        ("pages = [0, 512]", "tables = [0, 1]\npages = [0, 512]", 15, "exactly one of pages"),
        ("pages = [0, 512]", "beside_trace = true", 1, "beside_trace expects a trace"),
        ("pages = [0, 512]", "pages = [0, 512]\nmm = 1", 18, "of the workload's mms = 1"),
        ("pages = [0, 512]", "pages = [0, 512]\nmms = [0, 2]", 18, "of the workload's mms = 1"),
        ('summary = "a sample"', 'summary = "a sample"\nmms = 9', 3, "mms"),
        ("mix = { write = 1 }", "mix = { exit = 1 }", 10, "expected mms = 2 or more in the workload"),
        ('"1 table"', '"one table"', 19, "'1/2 table'"),
        ("need_resched = 100", "need_rescheds = 100", 22, "unknown key 'need_rescheds': expected one of need_resched"),
        ("need_resched = 100", 'need_resched = "a lot"', 22, "'1/2 table'"),
        ("need_resched = 100", 'reuse = "random"', 22, "lifo"),
        ('summary = "a sample"', 'summary = "a sample"\ngeometry = "3x3"', 3, "x86-64-4"),
        ('summary = "a sample"', 'summary = "a sample"\nduration = "ten"', 3, "45s 5m 3h 2d"),
        ('summary = "a sample"', 'summary = "a sample"\nscheme = "linux-1"', 3, "linux-6.18"),
        ('summary = "a sample"', "", 1, "missing key summary"),
    ],
)
def test_what_is_wrong_is_refused_with_file_line_and_expected_form(tmp_path, old, new, line, expected):
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(UsageError) as refusal:
        load_workload(path)
    message = str(refusal.value)
    assert re.match(rf"{re.escape(path)}:{line}: ", message) and expected in message and "\n" not in message


def test_a_region_outside_of_the_geometry_is_refused(tmp_path):
    source = load_workload(write(tmp_path, GOOD))
    with pytest.raises(UsageError, match=r"sample.toml:15: region ends at page 512: geometry 2x2x2x4 has 32 pages"):
        plan_run(source, Overrides(geometry="2x2x2x4"))


def test_an_arena_that_is_too_small_says_how_much_is_needed(tmp_path):
    source = load_workload(write(tmp_path, GOOD.replace("tables = 0\n", "tables = 3\n")))
    with pytest.raises(ResourceError, match="tables = 3 is too small: this workload can have 5 in use"):
        plan_run(source, Overrides())


def test_groups_that_do_not_add_up_are_refused(tmp_path):
    counted = GOOD.replace('name = "faulters"', "count = 1").replace('name = "discarders"', "count = 1")
    with pytest.raises(UsageError, match="give one of them a share"):
        plan_run(load_workload(write(tmp_path, counted)), Overrides(threads=3))


def test_a_trace_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match="trace 'nope'"):
        plan_run(load_workload(write(tmp_path, 'trace = "nope"\n' + GOOD)), Overrides())


def test_a_trace_needs_the_geometry_that_it_was_recorded_on(tmp_path):
    text = 'name = "t"\nsummary = "t"\npairs = ["write/dontneed"]\ntrace = "redis-jemalloc"\n'
    with pytest.raises(UsageError, match="expected geometry x86-64-4"):
        plan_run(load_workload(write(tmp_path, text)), Overrides(geometry="4x4x4x4"))


def test_lines_are_found_in_nested_tables():
    text = 'a = 1\n\n[[s]]\nx = 1\n[[s.w]]\ny = 1\n[[s]]\n[[s.w]]\n[[s.w]]\n# y = 3\ny = { z = 1 }\n[k]\nb = 2\n'
    assert find_line(text, ("s", 0, "w", 0, "y")) == 6
    assert find_line(text, ("s", 1, "w", 1, "y", "z")) == 11
    assert find_line(text, ("s", 1, "w", 0, "y")) == 8
    assert find_line(text, ("k", "b")) == 13
    assert find_line(text, ("nothing",)) == 1
