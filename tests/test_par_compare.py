"""``ptstress compare`` under real threads, end to end: figures, files, a violation, a stop."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

#: Far above what a loaded machine needs; a test that reaches it hangs.
LIMIT_S = 120
TWO = ("--schemes", "linux-6.12,linux-6.18")


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "ptstress", "compare", *arguments, "--results", str(folder / "results")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=LIMIT_S)
    assert "Traceback" not in err
    return process.returncode, out, err


def results(folder: Path) -> Path:
    (path,) = folder.glob("results/*")
    return path


def logged(folder: Path, event: str) -> list[dict]:
    """Complete lines of this kind in the log."""
    lines = [line for path in folder.glob("results/*/log.jsonl") for line in path.read_text().splitlines(keepends=True)]
    return [entry for entry in (json.loads(line) for line in lines if line.endswith("\n")) if entry["event"] == event]


def test_two_schemes_side_by_side(tmp_path):
    process = start(tmp_path, "fault_vs_dontneed", *TWO, "--duration", "1s", "--repeat", "2", "--threads", "4", "--json", "-")
    code, out, err = finish(process)
    assert code == 0, out + err
    summary = json.loads(out)
    assert (summary["schema"], summary["verdict"], summary["exit_code"]) == ("ptstress.compare/1", "pass", 0)
    assert summary["schemes"] == [row["scheme"] for row in summary["rows"]] == ["linux-6.12", "linux-6.18"]
    assert [entry["scheme"] for entry in logged(tmp_path, "run")] == ["linux-6.12", "linux-6.18"] * 2, "in turns"
    before, after = summary["rows"]
    assert (before["tables_end_bytes"], after["tables_end_bytes"]) == (10 * 4096, 2 * 4096)
    assert before["tables_reclaimed"] == 0 < after["tables_reclaimed"]
    assert before["ratio"]["median"] == 1.0 and after["ratio"]["median"] > 0
    for row in summary["rows"]:
        assert row["repetitions"] == 2 and row["checked"]["ops"] == row["checked"]["of"] == row["operations"] > 0
        assert {"read", "write", "dontneed"} == set(row["latency"])
        latencies = row["latency"].values()
        assert sum(latency["count"] for latency in latencies) == row["operations"], "setup and closing are not counted"
        assert all(0 < latency["p50_ns"] <= latency["p99_ns"] <= latency["max_ns"] for latency in latencies)
        assert 0 < row["tables_mean_bytes"] <= row["tables_peak_bytes"]
        log = (results(tmp_path) / row["histograms"]).read_text().splitlines()
        assert [line.split(",")[0] for line in log if line.startswith("Tag=")].count("Tag=write") == 2
    ElementTree.fromstring((results(tmp_path) / summary["page"]).read_text().partition("\n")[2])
    names = {path.name for path in results(tmp_path).iterdir()}
    assert names == {
        "log.jsonl", "summary.json", "testid.txt", "compare.html", "compare.md", *(row["histograms"] for row in summary["rows"])}
    testid = (results(tmp_path) / "testid.txt").read_text()
    assert "ptstress compare fault_vs_dontneed --schemes linux-6.12,linux-6.18 --repeat 2 --seed 1 --threads 4" in testid
    assert "operations/s" in err and "none" not in err


def test_a_violation_ends_with_2_and_leaves_its_folder_and_the_other_figures(tmp_path):
    process = start(
        tmp_path, "fault_vs_dontneed", *TWO, "--duration", "4s", "--repeat", "2", "--build", "stress", "--bug", "P01")
    code, out, err = finish(process)
    assert code == 2, out + err
    summary = json.loads((results(tmp_path) / "summary.json").read_text())
    before, after = summary["rows"]
    assert (before["verdict"], before["repetitions"]) == ("pass", 2), "linux-6.12 does not run the code that P01 sits in"
    assert (after["verdict"], after["repetitions"], after["ops_per_second"]) == ("violation", 0, None)
    assert Path(tmp_path, after["failure"]["path"]).joinpath("description.txt").is_file()
    assert "--scheme linux-6.18" in after["failure"]["replay"] and "--bug P01" in after["failure"]["replay"]
    assert len(logged(tmp_path, "run")) == 3, "what failed is not run again"
    assert "violation" in (results(tmp_path) / "compare.html").read_text()


@pytest.mark.parametrize("runs", [1, 2])
def test_a_stop_keeps_what_there_is(tmp_path, runs):
    process = start(tmp_path, "hot_page", *TWO, "--duration", "1s", "--repeat", "500")
    deadline = time.monotonic() + LIMIT_S
    while len(logged(tmp_path, "run")) < runs and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    summary = json.loads((results(tmp_path) / "summary.json").read_text())
    done = [row["repetitions"] for row in summary["rows"]]
    assert sum(done) >= runs and (results(tmp_path) / "compare.html").is_file()
    assert code == (0 if all(done) else 7), out + err
    assert any(note.startswith("stopped early, in run") for note in summary["notes"])
    assert ("not measured: " in out) == (not all(done))
