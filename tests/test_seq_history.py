"""`ptstress check`: exact against brute force, files of both forms, every bad file named in one line, the window drawn."""

import json
import os
from errno import ENOMEM
from random import Random

import numpy as np
import pytest
from page_draws import final_rows, lived_history, random_history, rings_of, rows_of
from page_events import FRESH, discard, dontneed, event, free, mmap, munmap, read, walk, write
from page_executions import HOLE, PAGE, possible
from page_histories import small_history
from page_histories import possible as possible_with_frees
from page_simulation import Simulation

from ptstress._history import check
from ptstress.burst_state import MAX_ROWS, BurstState, read_state, write_state
from ptstress.cli import main
from ptstress.history import History, complete, decode_history, encode_history, write_history
from ptstress.history_bench import history_rows
from ptstress.history_check import check_history
from ptstress.history_json import from_json, load_history, to_json
from ptstress.vocabulary import EVENT_DTYPE, STATUS_UNKNOWN, Verb

MAP = mmap(1, 2, 0, 1024)
LEGAL = [[MAP, write(3, 4, 7, 1, 100), walk(6, 9, 0, 600, [7])],
         [read(5, 6, 7, 1, 100), dontneed(10, 12, 0, 512)], [read(11, 14, 7)]]
#: Two frames without a discard between them; the rest only stands beside.
BROKEN = [
    [MAP, write(3, 4, 7, 1, 100), read(20, 21, 9)],
    [read(5, 6, 9), dontneed(7, 8, 600, 900), write(10, 12, 7, 2, 101)],
    [walk(5, 6, 0, 512, [7, 9]), read(14, 15, 7, 2, 101), read(30, 31, 600)],
]


def history(workers: list[list[np.ndarray]], **fields: object) -> History:
    """One ring for each worker."""
    return History(tuple(np.concatenate(ring) if ring else np.zeros(0, EVENT_DTYPE) for ring in workers), **fields)


def drawn(seed: int):
    """Every other one nearly legal."""
    return (lived_history if seed % 2 else random_history)(Random(seed))


def verdicts(drawn_history) -> tuple[bool, bool]:
    """(the rules alone are content, the search is too)."""
    ops, start, final = drawn_history
    maps, pages = rows_of(start)
    arguments = (rings_of(ops), maps, pages, final_rows(final))
    found = check(*arguments)
    assert (found["unchecked"], found["undecided"]) == (0, 0)
    return check(*arguments, search=False)["nr_violations"] == 0, found["nr_violations"] == 0


def test_verdict_is_that_of_all_executions():
    legal = 0
    for seed in range(1000):
        history_of_page = drawn(seed)
        expected = possible(*history_of_page)
        assert verdicts(history_of_page)[1] == expected, f"seed {seed}: {history_of_page}"
        legal += expected
    assert 400 < legal < 600, "both kinds in a fair share; fixed seeds, so this is a constant"


def test_what_the_rules_take_as_possible_is_refuted():
    """See "Not modelled" in cy/check/data.pxd. Those that both let pass are in the test above."""
    doubtful = 0
    for seed in range(10_000, 15_000):
        rules, search = verdicts(drawn(seed))
        assert rules >= search, f"seed {seed}: the search only takes away"
        if rules and not search:
            doubtful += 1
            assert not possible(*drawn(seed)), f"seed {seed}"
    assert doubtful > 40


def test_memory_pressure_takes_what_a_failed_write_put_in_place_of_the_zero_page():
    ops = [MAP, read(3, 4, 7), write(5, 6, 7, status=-ENOMEM), free(7, 8, 7), discard(9, 10, 7), walk(11, 12, 7, 8, [])]
    assert check(ops, np.zeros((0, 3)), np.zeros((0, 3)))["nr_violations"] == 0
    del ops[3]
    assert check(ops, np.zeros((0, 3)), np.zeros((0, 3)))["nr_violations"] == 1


def test_what_is_refuted_beside_frees_has_no_execution():
    """By a second automaton. One side only: it lets writes map the zero page too."""
    refuted = 0
    for seed in range(300):
        ops, final = small_history(Random(seed), "rrwwwfdmmpp", 3)
        if final == ("zero",):
            continue            # the other one lets writes map the zero page too
        verbs = {"failed": Verb.WRITE}
        rings = [
            event(verbs.get(kind) or Verb[kind.upper()], t0, t1, PAGE, inc=frame, value=value,
                  status=-ENOMEM * (kind == "failed"))
            for t0, t1, kind, frame, value in ops]
        rows = {"none": []}.get(final[0], [(PAGE, *final)]) if final else None
        end = None if rows is None else np.array(rows, np.uint64).reshape(-1, 3)
        found = check(rings, np.array([(0, 1024, 4)], np.uint64), np.zeros((0, 3)), end)
        assert (found["unchecked"], found["undecided"]) == (0, 0)
        if found["nr_violations"]:
            refuted += 1
            assert not possible_with_frees(ops, final), f"seed {seed}"
    assert refuted > 50


@pytest.mark.parametrize("seed", range(6))
def test_legal_history_of_many_pages_is_ok(seed):
    rng = Random(seed)
    simulation = Simulation(rng, rng.randint(2, 6), [0, 1, 2, 3, 510, 511, 512, 513, 9000], 1 << 14)
    rings, final = simulation.burst(120)
    rows = np.array([(page, *held) for page, held in sorted(final.items())], np.uint64).reshape(-1, 3)
    found = check(rings, np.zeros((0, 3)), np.zeros((0, 3)), rows)
    assert (found["nr_violations"], found["undecided"], found["unchecked"]) == (0, 0, 0)
    assert found["searched"] > 3


def test_outcome_that_nobody_knows_excuses_and_nothing_more():
    unknown = {"status": STATUS_UNKNOWN}
    late = [MAP, write(3, 4, 7, 1, 100), read(9, 10, 7)]
    for more, legal in [
        ([], False), ([dontneed(5, 6, 7, **unknown)], True), ([munmap(5, 6, 7, 8, **unknown)], False),
        ([dontneed(11, 12, 7, **unknown)], False), ([mmap(5, 6, 7, 8, **unknown)], True),
        ([mmap(5, 6, 7, 8, writable=False, **unknown)], True),
    ]:
        rings = [*late, *more]
        assert (check(rings, np.zeros((0, 3)), np.zeros((0, 3)))["nr_violations"] == 0) == legal
    maybe = write(5, 6, 7, 1, 101, **unknown)
    for value, legal in [(100, True), (101, True), (102, False)]:
        found = check([MAP, write(3, 4, 7, 1, 100), maybe, read(9, 10, 7, 1, value)], np.zeros((0, 3)), np.zeros((0, 3)))
        assert (found["nr_violations"] == 0) == legal


def test_budget_that_is_spent_is_no_pass():
    ops, start, final = next(
        h for h in map(drawn, range(100)) if len(h[0]) > 6 and h[1][0] != HOLE and verdicts(h) == (True, True))
    maps, pages = rows_of(start)
    found = check(rings_of(ops), maps, pages, final_rows(final), budget=0)
    assert (found["undecided"], found["undecided_page"]) in ((1, PAGE), (0, 0))
    rings = [MAP, write(3, 20, 7, 1, 100), dontneed(4, 19, 7), read(5, 18, 7), read(21, 22, 7)]
    found = check(rings, np.zeros((0, 3)), np.zeros((0, 3)), budget=0)
    assert (found["nr_violations"], found["undecided"], found["undecided_page"]) == (0, 1, 7)


@pytest.mark.parametrize("form", ["binary", "json"])
def test_history_survives_a_file(form, tmp_path):
    before = history(
        LEGAL, maps=np.array([(2000, 2010, 2), (2010, 2020, 20), (2020, 2030, 28)], np.uint64),
        pages=np.array([(2000, 0, 0), (2001, FRESH | 9, 77)], np.uint64),
        final=np.array([(7, 0, 0)], np.uint64), task_pages=1 << 20, geometry=(9, 9, 9, 9), made_by="a test")
    path = tmp_path / "h"
    path.write_bytes(encode_history(before) if form == "binary" else to_json(before))
    after = load_history(path)
    for ring, again in zip(before.rings, after.rings, strict=True):
        assert ring.tolist() == again.tolist()
    for name in ("maps", "pages", "final"):
        assert getattr(before, name).tolist() == getattr(after, name).tolist()
    assert (after.task_pages, after.geometry, after.made_by) == (1 << 20, (9, 9, 9, 9), "a test")


def test_operation_in_flight_becomes_one_of_unknown_outcome():
    ring = np.concatenate([MAP, write(3, 4, 7, 1, 100), dontneed(5, 0, 0, 512)])
    done = complete(History((ring, read(6, 9, 7))))
    assert done.rings[0]["t1"].tolist() == [2, 4, 9]
    assert done.rings[0]["status"].tolist() == [0, 0, STATUS_UNKNOWN]
    assert check_history(done).verdict == "ok"


def test_history_whose_start_nobody_knows_is_not_judged(capsys, tmp_path):
    write_history(tmp_path / "h.ptsh", history(BROKEN, known=False))
    code, out, _ = run(capsys, str(tmp_path / "h.ptsh"))
    assert code == 7 and "nobody knows what was there before it began" in out


def test_store_in_flight_is_judged_by_who_found_it():
    """It names its value from its begin on, its frame never."""
    ring = np.concatenate([MAP, write(3, 4, 7, 1, 100), write(5, 0, 7, 0, 101)])
    for seen, verdict in [
        ([], "ok"), ([read(6, 9, 7, 1, 101)], "ok"), ([read(6, 9, 7, 1, 102)], "violation"),
        ([read(6, 9, 7, 1, 101), read(10, 11, 7, 1, 100)], "violation"), ([read(6, 9, 7, 2, 101)], "violation"),
    ]:
        found = check_history(complete(history([[ring], seen])))
        assert (found.verdict, found.checked) == (verdict, found.operations)


def test_state_of_a_burst_is_whole_or_not_there():
    fd = os.memfd_create("state")
    maps, pages = np.array([(0, 9, 4)], np.uint64), np.array([(7, FRESH | 1, 100), (8, 0, 0)], np.uint64)
    assert read_state(fd) is None
    write_state(fd, BurstState(5, maps, pages))
    again = read_state(fd)
    assert (again.burst, again.maps.tolist(), again.pages.tolist(), again.final) == (5, maps.tolist(), pages.tolist(), None)
    write_state(fd, BurstState(6, maps, pages, pages[:1]))
    assert read_state(fd).final.tolist() == pages[:1].tolist()
    write_state(fd, BurstState(7, maps, np.zeros((MAX_ROWS, 3), np.uint64)))
    assert read_state(fd) is None, "too large: nothing is better than half of it"
    write_state(fd, None)
    assert read_state(fd) is None
    os.close(fd)


def test_rates_are_measured_on_legal_histories():
    names = [row.name for row in history_rows(quick=True)]
    assert names == ["history, many pages", "history, one hot page", "history, ranges over tables"]


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of `ptstress check`."""
    code = main(["check", *arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_export_import_and_the_verdicts(capsys, tmp_path):
    for workers, code, verdict in [(LEGAL, 0, "OK"), (BROKEN, 2, "VIOLATION"), ([[]], 7, "UNKNOWN")]:
        recorded, exported = tmp_path / "h.ptsh", tmp_path / "h.json"
        write_history(recorded, history(workers, task_pages=1 << 20))
        first = run(capsys, str(recorded), "--export", str(exported))
        again = run(capsys, str(exported))
        assert first[0] == again[0] == code
        assert first[1].startswith(f"verdict: {verdict} (exit {code})")
        assert first[1].splitlines()[2:] == again[1].splitlines()[2:]


def test_json_object(capsys, tmp_path):
    path = tmp_path / "h.json"
    path.write_bytes(to_json(history(BROKEN)))
    code, out, err = run(capsys, str(path), "--json", "-")
    found = json.loads(out)
    assert err.startswith("verdict: VIOLATION")
    assert (code, found["schema"], found["verdict"], found["exit_code"]) == (2, "ptstress.check/1", "violation", 2)
    assert (found["operations"], found["checked"], found["pages"]) == (9, 9, 3)
    assert found["seconds"] > 0 and found["operations_per_second"] > 0
    violation = found["violation"]
    assert (violation["page"], violation["invariant"]) == (7, 33)
    shown = [(op["worker"], op["verb"], op["t0"], op["index"]) for op in violation["window"]]
    assert shown == [(0, "write", 3, 1), (1, "write", 10, 2)]
    path.write_bytes(to_json(history(LEGAL)))
    assert json.loads(run(capsys, str(path), "--json", "-")[1])["violation"] is None


def test_window_is_the_smallest_and_is_drawn():
    found = check_history(history(BROKEN)).violation
    assert found.what == "a write to frame 1 was lost: frame 2 took its place, and no discard can have ended 1"
    assert "no discard can have ended it" in found.expected
    assert found.drawing == [
        "worker 0  write: frame 1, value 0x64  |===|",
        "worker 1  write: frame 2, value 0x65          |===|  <--",
    ]


def test_worker_that_did_nothing_changes_no_window():
    idle, busy = (check_history(history([*BROKEN, *more])).violation for more in ([[]], []))
    assert idle.drawing == busy.drawing


def test_window_of_a_search_says_what_was_possible():
    # The zero page can only be the one that the dontneed ended, but the frame was there before that.
    ops = [[MAP, write(3, 4, 7, 1, 100), read(30, 31, 8)], [dontneed(10, 20, 7), read(40, 41, 8)],
           [write(11, 12, 7, 2, 101), read(13, 14, 7)]]
    found = check_history(history(ops)).violation
    assert found.what.startswith("no execution explains")
    assert found.expected == "what the page can hold then: a frame; mapped writable"
    assert found.drawing == [
        "worker 0  write: frame 1, value 0x64  |===|",
        "worker 1  dontneed: done                      |-------------------|",
        "worker 2  write: frame 2, value 0x65              |===|",
        "worker 2  read: the zero page                             |===|  <--",
    ]


def test_window_of_a_long_history_is_small():
    rng = Random(5)
    simulation = Simulation(rng, 4, [1, 2, 3, 511, 512], 4096)
    simulation._flush = lambda pages: None
    rings, _ = simulation.burst(300)
    found = check_history(History(tuple(rings)))
    assert found.verdict == "violation"
    assert 2 <= len(found.violation.window) <= 6
    assert len(found.violation.drawing) >= len(found.violation.window)


def test_violation_that_only_the_end_shows_says_so():
    found = check_history(history([[MAP, write(3, 4, 7, 1, 100)]], final=np.zeros((0, 3), np.uint64))).violation
    assert found.drawing[-1] == "at the end  nothing"


GOOD = encode_history(history(LEGAL))
#: what is wrong: (bytes of the file, part of the line)
BAD_FILES = {
    "cut in the prefix": (GOOD[:12], "cut off after 12 bytes"),
    "cut in the header": (GOOD[:40], "cut off after 40 bytes"),
    "cut in the frame": (GOOD[:-30], f"cut off after {len(GOOD) - 30} bytes: expected {len(GOOD)}"),
    "longer": (GOOD + b"x", f"altered: it has {len(GOOD) + 1} bytes"),
    "another version": (GOOD[:8] + b"\x02\0\0\0" + GOOD[12:], "a history of version 2: expected version 1"),
    "altered contents": (GOOD[:-20] + bytes([GOOD[-20] ^ 1]) + GOOD[-19:], "altered: its checksum"),
    "altered header": (GOOD[:20] + b"x" + GOOD[21:], "altered: its header"),
    "something else": (b"GIF89a", "no history: expected the file to begin with PTSTHIST"),
    "empty": (b"", "no history"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_one_line(name, capsys, tmp_path):
    data, part = BAD_FILES[name]
    path = tmp_path / "bad"
    path.write_bytes(data)
    code, out, err = run(capsys, str(path))
    assert (code, out) == (1, "")
    assert err.startswith(f"ptstress: {path}: ") and part in err
    assert err.count("\n") == 1


#: what is wrong: (operations of each worker, part of the line)
BAD_HISTORIES = {
    "overlap in a worker": (
        [[MAP, write(3, 9, 7, 1, 100), read(8, 9, 7, 1, 100)]], "worker 0, operation 2: read(p7) at 8..9: overlaps with"),
    "end before begin": ([[MAP], [read(5, 4, 7)]], "worker 1, operation 0: read(p7) at 5..4: time runs backwards"),
    "against program order": (
        [[MAP, read(9, 10, 7), read(5, 6, 7)]], "worker 0, operation 2: read(p7) at 5..6: begins before the operation 1"),
    "at time 0": ([[mmap(0, 2, 0, 9)]], "t0 is 0"),
    "a value twice": ([[MAP, write(3, 4, 7, 1, 100)], [write(5, 6, 8, 2, 100)]], "value 0x64 is written twice"),
    "unknown verb": (
        [[MAP, event(Verb.SYNC, 3, 4, 7)]], "worker 0, operation 1: sync(p7) at 3..4: unknown verb: expected read, write"),
    "a walk without its lines": ([[MAP, walk(3, 4, 0, 512, [7])[:1]]], "worker 0, operation 1: its lines are cut off"),
    "65 workers": ([[MAP]] * 65, "65 workers: expected at most 64"),
}


@pytest.mark.parametrize("name", BAD_HISTORIES)
def test_impossible_history_is_one_line(name, capsys, tmp_path):
    workers, part = BAD_HISTORIES[name]
    path = tmp_path / "bad.ptsh"
    path.write_bytes(encode_history(history(workers)))
    code, _, err = run(capsys, str(path))
    assert code == 1 and part in err and err.count("\n") == 1, err


READ = {"worker": 0, "verb": "read", "start": 7, "t0": 3, "t1": 4, "status": 0}
#: what is wrong: (text of the file, part of the line)
BAD_JSON = {
    "no JSON": ('{"schema": "ptstress.history/1", "operations": [', "no JSON"),
    "no operations": ('{"schema": "ptstress.history/1"}', "missing required field `operations`"),
    "another schema": (
        '{"schema": "ptstress.run/1", "operations": []}', "schema 'ptstress.run/1': expected 'ptstress.history/1'"),
    "a field is missing": (
        [READ, {k: v for k, v in READ.items() if k != "t1"}], "missing required field `t1` - at `$.operations[1]`"),
    "a field of another type": ([READ | {"t0": "3"}], "`$.operations[0].t0`"),
    "unknown verb": ([READ, READ | {"verb": "reed"}], "operations[1]: verb 'reed': expected one of read, write"),
    "a negative time": ([READ | {"t0": -3}], "operations[0]: t0 -3: expected a number from 0"),
    "worker 64": ([READ | {"worker": 64}], "operations[0]: worker 64: expected a number from 0 to 63"),
    "a read of two pages": ([READ | {"end": 9}], "operations[0]: read of pages 7 to 9: expected one page"),
    "a walk that saw nothing": ([READ | {"verb": "walk"}], "operations[0]: a walk that succeeded: expected the field `present`"),
    "a walk that saw more": ([READ | {"verb": "walk", "present": [9]}], "operations[0]: present: expected pages from 7 to 7"),
    "a status out of range": ([READ | {"status": 1 << 40}], "operations[0]: "),
    "time runs backwards": ([READ | {"t0": 5}], "worker 0, operation 0: read(p7) at 5..4: time runs backwards"),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json_is_one_line(name, capsys, tmp_path):
    text, part = BAD_JSON[name]
    path = tmp_path / "bad.json"
    path.write_text(text if isinstance(text, str) else json.dumps({"schema": "ptstress.history/1", "operations": text}))
    code, _, err = run(capsys, str(path))
    assert code == 1 and part in err and err.count("\n") == 1, err


def test_missing_file_and_unwritable_export(capsys, tmp_path):
    code, _, err = run(capsys, str(tmp_path / "none"))
    assert code == 1 and "cannot be read: No such file" in err
    path = tmp_path / "h.json"
    path.write_bytes(to_json(history(LEGAL)))
    code, _, err = run(capsys, str(path), "--export", str(tmp_path / "no" / "out.json"))
    assert code == 1 and "cannot be written" in err


def test_json_needs_nothing_but_its_operations():
    operations = [
        {"worker": 0, "verb": "mmap", "start": 0, "end": 8, "t0": 1, "t1": 2, "status": 0, "aux": 1},
        {"worker": 1, "verb": "write", "start": 7, "t0": 3, "t1": 4, "status": 0, "value": 5, "incarnation": 1},
        {"worker": 0, "verb": "dontneed", "start": 0, "end": 8, "t0": 3, "t1": 9, "status": None},
        {"worker": 1, "verb": "read", "start": 7, "t0": 5, "t1": 6, "status": 0},
        {"worker": 1, "verb": "guard_install", "start": 6, "end": 8, "t0": 10, "t1": 11, "status": 0},
        {"worker": 1, "verb": "read", "start": 7, "t0": 12, "t1": 13, "status": -14},
        {"worker": 1, "verb": "guard_remove", "start": 6, "end": 8, "t0": 14, "t1": 15, "status": 0},
    ]
    h = from_json(json.dumps({"schema": "ptstress.history/1", "operations": operations}).encode(), "here")
    assert check_history(h).verdict == "ok"
    assert decode_history(encode_history(h), "there").rings[1].tolist() == h.rings[1].tolist()


def test_guard_of_the_start_is_in_the_files(capsys, tmp_path):
    operations = [{"worker": 0, "verb": "read", "start": 7, "t0": 3, "t1": 4, "status": 0}]
    for guarded, code in [(False, 0), (None, 0), (True, 2)]:
        start = {"maps": [{"start": 0, "end": 8, "writable": True, "guarded": guarded}]}
        path = tmp_path / "h.json"
        path.write_text(json.dumps({"schema": "ptstress.history/1", "operations": operations, "start": start}))
        assert run(capsys, str(path))[0] == code
