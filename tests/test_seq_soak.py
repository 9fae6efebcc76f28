"""A soak without its children: rotation, evidence, checkpoint, a full disk, reports."""

import errno
import math
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from ptstress import __version__
from ptstress.durable import Disk
from ptstress.errors import ExitCode, UsageError
from ptstress.report import MAX_SCREEN
from ptstress.results import Canaries, CanaryItem
from ptstress.soak_checkpoint import CHECKPOINT, LOG, PREVIOUS, encode_checkpoint, load_state, lock_folder
from ptstress.soak_evidence import parse_until, seconds_until, until_text
from ptstress.soak_journal import Journal, adopt_failures
from ptstress.soak_report import junit, memory_text, soak_screen
from ptstress.soak_rotation import make_rotation
from ptstress.soak_state import MAX_CHILDREN, Alive, FailureSeen, SoakState, Started
from ptstress.soak_summary import summarize_soak
from soak_events import KEYS, ended, request, slice_summary, soak_of


def new_journal(folder: Path, disk: Disk | None = None, **fields) -> Journal:
    folder.mkdir(exist_ok=True)
    journal = Journal(folder, SoakState(request()), disk or Disk(), **fields)
    journal.log(Started(request=request(), version=__version__))
    return journal


# ---- rotation --------------------------------------------------------------------------------


def test_rotation_runs_each_combination_once_in_a_round_and_is_the_same_each_time():
    one, two = make_rotation(request()), make_rotation(request())
    slices = [one.at(n) for n in range(40)]
    assert [(s.key, s.plan.job.seed) for s in slices] == [(two.at(n).key, two.at(n).plan.job.seed) for n in range(40)]
    assert {s.key for s in slices} == set(KEYS)
    for n in range(0, 40, 2):
        assert {slices[n].key, slices[n + 1].key} == set(KEYS)
    assert len({s.plan.job.seed for s in slices}) == 40
    assert all(s.plan.job.config["seed"] == s.plan.job.seed for s in slices)
    assert len({tuple(s.key for s in slices[n : n + 2]) for n in range(0, 40, 2)}) == 2, "the order of rounds varies"
    assert [make_rotation(request(seed=2)).at(n).plan.job.seed for n in range(40)] != [s.plan.job.seed for s in slices]


def test_stages_that_differ_in_their_scheme_only_are_one_combination():
    keys = [c.key for c in make_rotation(request(workloads=["headline"], schemes=["linux-6.18"])).combinations]
    assert keys == ["headline/before linux-6.18", "headline/jemalloc-16m linux-6.18"]


def test_all_workloads_run_under_all_schemes():
    everything = make_rotation(request(workloads=[], schemes=[]))
    assert everything.left_out == () and len(everything.combinations) >= 40


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"workloads": ["fault_vs_dontnee"]}, "did you mean 'fault_vs_dontneed'?"),
        ({"schemes": ["linux-9"]}, "expected one of linux-6.3"),
        ({"workloads": ["headline"], "geometry": "2x2x2x4"}, "geometry"),
    ],
)
def test_what_was_named_and_cannot_run_is_refused(fields, expected):
    with pytest.raises(UsageError, match=expected.replace("?", r"\?")):
        make_rotation(request(**fields))


def test_the_command_line_of_a_request_says_all_of_it():
    line = request(seed=7, duration="1h", until="confidence=99%@1e-8", bugs=["P01"], threads=3).command_line()
    assert line == (
        "ptstress soak fault_vs_dontneed --slice 2s --seed 7 --scheme linux-6.12 --scheme linux-6.18 --bug P01 "
        "--threads 3 --duration 1h --until confidence=99%@1e-8"
    )


# ---- evidence --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "overlaps"), [("confidence=99%@1e-8", 460517017), ("confidence=95%@1e-6", 2995731), ("confidence=50%@0.5", 1)],
)
def test_overlaps_that_a_confidence_takes(text, overlaps):
    until = parse_until(text)
    assert until.overlaps == overlaps
    # The chance that so many overlaps all pass although one in 1/rate fails is what is left of the confidence.
    assert (1 - until.rate) ** until.overlaps <= (1 - until.confidence) * 1.001


@pytest.mark.parametrize(
    "text", ["", "99%@1e-8", "confidence=100%@1e-8", "confidence=0%@1e-8", "confidence=99%@0", "confidence=99@1e-8",
             "confidence=99%@1", "confidence=99%@1e-999", "confidence=99%@2e8", "confidence=x%@1e-8"],
)
def test_other_conditions_are_refused_in_one_line(text):
    with pytest.raises(UsageError, match="expected confidence=99%@1e-8") as error:
        parse_until(text)
    assert "\n" not in str(error.value)


def test_a_confidence_that_takes_too_long_says_how_long():
    until = parse_until("confidence=99%@1e-8")
    assert seconds_until(until, 460517017, 10.0) == 0.0
    assert seconds_until(until, 46051702, 60.0) == pytest.approx(540, rel=1e-3)
    assert math.isinf(seconds_until(until, 0, 60.0))
    assert until_text(until, 46051702, 60.0).endswith("has 46.1 M: 8m59s more at 768 k/s")
    assert "no trusted overlaps" in until_text(until, 0, 60.0)
    assert until_text(parse_until("confidence=99%@1e-15"), 1000, 60.0).split(": ")[1].startswith("8.8e+06 years more")


def test_only_slices_with_proven_canaries_are_evidence():
    state = soak_of(ended(0, KEYS[0]), ended(1, KEYS[1], trusted=False))
    summary = summarize_soak(state, 2, "results/x")
    assert state.trusted_overlaps == 1000 and summary.overlaps.total == 2000
    assert summary.confidence.startswith("0 failures in 1,000 overlaps")


def test_a_confidence_that_was_asked_for_and_not_reached_is_no_pass():
    summary = summarize_soak(soak_of(ended(0, KEYS[0]), until="confidence=99%@1e-8"), 2, "r")
    assert summary.exit_code == ExitCode.UNTRUSTWORTHY and "needs 461 M overlaps" in summary.notes[0]


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([ended(0, KEYS[0])], 0),
        ([], 7),
        ([ended(0, KEYS[0], summary=slice_summary(KEYS[0], met=0))], 7),
        ([ended(0, KEYS[0], summary=slice_summary(KEYS[0], canaries=Canaries(1, 0, [CanaryItem("P01", False)])))], 7),
        ([ended(0, KEYS[0]), ended(1, KEYS[1], kind="error", summary=None, error="no memory")], 7),
        ([ended(0, KEYS[0], kind="crashed", summary=slice_summary(KEYS[0], met=0))], 5),
        ([FailureSeen(key=KEYS[0], oracle="crash", what="w", exit_code=5), ended(0, KEYS[0], kind="crashed")], 5),
        ([FailureSeen(key=KEYS[0], oracle="census", what="w"), ended(0, KEYS[0], kind="crashed")], 2),
    ],
)
def test_a_soak_ends_with_the_worst_of_its_slices(events, code):
    summary = summarize_soak(soak_of(*events), 2, "results/x")
    assert summary.exit_code == code
    assert len(soak_screen(summary)) <= MAX_SCREEN


# ---- checkpoint and log ----------------------------------------------------------------------


def run_some(folder: Path) -> SoakState:
    journal = new_journal(folder)
    for number in range(4):
        journal.log(Alive(slice=number, ops=5), urgent=False)
        journal.log(ended(number, KEYS[number % 2]))
        journal.checkpoint()
    journal.add_failure(FailureSeen(slice=4, key=KEYS[0], oracle="census", what="w"), {"description.txt": b"d\n"})
    journal.close()
    return journal.state


def torn(data: bytes) -> bytes:
    return data[: len(data) // 2]


def other_format(data: bytes) -> bytes:
    return data.replace(b"ptstress-checkpoint 1 ", b"ptstress-checkpoint 2 ")


def other_numbers(data: bytes) -> bytes:
    return data.replace(b"census", b"sensus").replace(b'"slices":2', b'"slices":3')


@pytest.mark.parametrize("hurt", [torn, other_format, lambda data: b"", other_numbers])
@pytest.mark.parametrize("both", [False, True])
def test_a_bad_checkpoint_is_named_and_what_was_before_it_is_used(tmp_path, hurt, both):
    state = run_some(tmp_path / "soak")
    for name in (CHECKPOINT, *([PREVIOUS] if both else [])):
        path = tmp_path / "soak" / name
        path.write_bytes(hurt(path.read_bytes()))
    loaded, notes = load_state(tmp_path / "soak")
    assert encode_checkpoint(loaded) == encode_checkpoint(state)
    assert len(notes) == 1 + both and all("\n" not in note for note in notes)
    assert notes[0].endswith(f"goes on from {PREVIOUS}") and (not both or notes[1].endswith(f"goes on from {LOG}"))


def test_a_state_is_the_same_from_the_checkpoint_and_from_the_log_alone(tmp_path):
    state = run_some(tmp_path / "soak")
    (tmp_path / "soak" / CHECKPOINT).unlink()
    (tmp_path / "soak" / PREVIOUS).unlink()
    loaded, notes = load_state(tmp_path / "soak")
    assert notes == [] and encode_checkpoint(loaded) == encode_checkpoint(state)
    assert loaded.next_slice == 4 and len(loaded.found) == 1


def test_a_torn_last_line_costs_that_line_only_and_the_log_goes_on(tmp_path):
    run_some(tmp_path / "soak")
    log = tmp_path / "soak" / LOG
    whole = log.read_bytes()
    log.write_bytes(whole[:-10])
    (tmp_path / "soak" / CHECKPOINT).unlink()
    state, notes = load_state(tmp_path / "soak")
    assert notes == [] and state.next_slice == 4 and state.found == []
    journal = Journal(tmp_path / "soak", state)
    (event,) = adopt_failures(tmp_path / "soak", state)
    journal.log(event)
    journal.close()
    assert log.read_bytes().count(b"\n") == whole.count(b"\n") + 1
    again, notes = load_state(tmp_path / "soak")
    assert [f.oracle for f in again.found] == ["census"]
    assert len(notes) == 1 and "1 lines cannot be read" in notes[0]


def test_a_folder_that_holds_no_soak_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no soak: expected a results folder of 'ptstress soak'"):
        load_state(tmp_path)
    (tmp_path / LOG).write_text('{"t":1.0,"event":"start","workload":"headline"}\n')
    with pytest.raises(UsageError, match="its log does not begin with the start of one"):
        load_state(tmp_path)


def test_two_processes_cannot_work_on_one_folder(tmp_path):
    journal = new_journal(tmp_path / "soak")
    with pytest.raises(UsageError, match="process [0-9]+ works on it"):
        lock_folder(tmp_path / "soak")
    journal.close()
    new_journal(tmp_path / "soak").close()


# ---- a full disk -----------------------------------------------------------------------------


class FullDisk(Disk):
    """Takes ``room`` more bytes."""

    room = 1 << 30

    def take(self, wanted: int) -> int:
        taken = min(self.room, wanted)
        if wanted and not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= taken
        return taken

    def append(self, fd, data):
        return super().append(fd, data[: self.take(len(data))])

    def replace(self, path, data, keep_as=None):
        if self.room < len(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        super().replace(path, data, keep_as)

    def make_folder(self, path, files):
        if self.room < sum(map(len, files.values())):
            raise OSError(errno.ENOSPC, "No space left on device")
        super().make_folder(path, files)


@pytest.mark.parametrize("room", [0, 37])
def test_a_full_disk_loses_nothing_that_was_found(tmp_path, room):
    disk = FullDisk()
    journal = new_journal(tmp_path / "soak", disk)
    disk.room = room
    journal.log(ended(0, KEYS[0]))
    assert journal.trouble.startswith("disk full: ") and "No space left" in journal.trouble
    journal.add_failure(FailureSeen(slice=1, key=KEYS[1], oracle="census", what="w"), {"description.txt": b"d\n"})
    for _ in range(100):
        journal.log(Alive(slice=1), urgent=False)
    journal.checkpoint()
    assert "1 failures kept in memory" in journal.trouble
    assert list((tmp_path / "soak").glob("failure-*")) == []
    assert summarize_soak(journal.state, 2, "r", unwritten=True).exit_code == ExitCode.VIOLATION
    disk.room = 1 << 20
    journal.log(ended(1, KEYS[1]))
    assert journal.trouble == ""
    journal.close()
    (tmp_path / "soak" / CHECKPOINT).unlink()
    state, notes = load_state(tmp_path / "soak")
    assert notes == []
    assert state.next_slice == 2 and [f.path for f in state.found] == [str(tmp_path / "soak" / "failure-1-census")]
    assert (tmp_path / "soak" / "failure-1-census" / "description.txt").read_text() == "d\n"


def test_a_pass_on_a_disk_that_stays_full_is_exit_3():
    assert summarize_soak(soak_of(ended(0, KEYS[0])), 2, "r", unwritten=True).exit_code == ExitCode.RESOURCE


def test_the_folder_of_a_failure_is_whole_before_the_log_names_it(tmp_path):
    seen = []

    class Watching(Disk):
        def make_folder(self, path, files):
            seen.append(("folder", b"failure" in (path.parent / LOG).read_bytes()))
            super().make_folder(path, files)

        def append(self, fd, data):
            seen.append(("line", b'"failure"' in data))
            return super().append(fd, data)

    journal = new_journal(tmp_path / "soak", Watching())
    journal.add_failure(FailureSeen(slice=1, key=KEYS[1], oracle="census", what="w"), {"description.txt": b"d\n"})
    journal.close()
    assert seen == [("line", False), ("folder", False), ("line", True)]


# ---- memory and reports ----------------------------------------------------------------------


def test_memory_is_looked_at_when_it_has_settled():
    state = soak_of(
        *(Alive(session_s=s, rss_mib=50 + s / 3600) for s in (1.0, 300.0, 700.0, 3600.0)),
        *(ended(n, KEYS[0], at_s=900.0 * n, session_s=900.0 * n, rss_mib=100.0 + n) for n in range(1, 4)),
        *(Alive(slice=s, child_s=t, child_mib=min(t, 60.0) + s + t / 1800) for s in range(2) for t in (1.0, 30.0, 60.0, 600.0)),
    )
    slope = summarize_soak(state, 2, "r").slope
    assert slope.parent_mib_per_hour == pytest.approx(1.0) and slope.children_mib_per_hour == pytest.approx(4.0)
    assert slope.inside_mib_per_hour == pytest.approx(2.0)
    assert slope.children_mib == 103.0
    assert "inside a slice +2.00 MiB/h" in memory_text(slope)


def test_the_memory_of_old_slices_is_forgotten():
    state = soak_of(*(Alive(slice=s, child_s=61.0 + t, child_mib=50.0) for s in range(3 * MAX_CHILDREN) for t in range(2)))
    assert list(state.child_rss) == list(range(2 * MAX_CHILDREN, 3 * MAX_CHILDREN))


def test_junit_is_well_formed_whatever_a_failure_says():
    text = 'broken "a" < b & c \x00\x1b[31m \ud800'.encode("utf-8", "replace").decode()
    state = soak_of(
        FailureSeen(slice=0, key=KEYS[0], oracle="census", what=text, path="r/failure-0-census"),
        FailureSeen(slice=0, key=KEYS[0], oracle="census", what=text),
        ended(0, KEYS[0]), ended(1, KEYS[1]), FailureSeen(slice=2, key=KEYS[1], oracle="crash", what="SIGKILL", exit_code=5),
        ended(2, KEYS[1], kind="crashed"),
    )
    suite = ElementTree.fromstring(junit(summarize_soak(state, 2, "r")))
    assert {k: suite.get(k) for k in ("tests", "failures", "errors")} == {"tests": "2", "failures": "1", "errors": "1"}
    first, second = suite.findall("testcase")
    assert (first.get("classname"), first.get("name")) == ("ptstress.soak.linux-6.12", "fault_vs_dontneed")
    assert first.find("failure").get("message").startswith('broken "a" < b & c ?')
    assert "seen 2 times" in first.find("failure").text
    assert second.find("error").get("message") == "SIGKILL"


def test_a_summary_has_the_fields_of_a_run_and_its_own():
    summary = summarize_soak(soak_of(ended(0, KEYS[0]), ended(1, KEYS[0]), ended(2, KEYS[1])), 2, "results/x")
    raw = msgspec.json.decode(msgspec.json.encode(summary))
    assert raw["schema"] == "ptstress.soak/1"
    assert {"verdict", "exit_code", "ops", "checked", "overlaps", "near_misses", "tables", "rcu", "canaries", "confidence",
            "racing_share", "failure", "slices", "killed", "slope"} <= set(raw)
    assert (raw["slices"], raw["ops"]["total"], raw["checked"]["of"]) == (3, 300, 300)
    assert [(s["name"], s["scheme"], s["ops"]["total"]) for s in raw["stages"]] == [
        ("fault_vs_dontneed", "linux-6.12", 200), ("fault_vs_dontneed", "linux-6.18", 100)]
    assert all("0 failures in" in s["confidence"] for s in raw["stages"])
