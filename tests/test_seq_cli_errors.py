"""Bad input: one clear line on stderr, the right exit code, never a traceback."""

import gzip
import json
import os
import subprocess
import sys

import pytest

from ptstress.cli import main
from ptstress.schedule import Replay, encode

WORKLOAD = """\
name = "sample"
summary = "a sample"
pairs = ["write/dontneed"]
[[setup]]
verb = "mmap"
tables = [0, 2]
[[workers]]
tables = [0, 2]
mix = { write = 1, dontneed = 1 }
"""
REPLAY = encode(
    Replay(fingerprint="0", program="t0: write(p0)", scheme="linux-6.18", geometry=(2, 1, 1, 1), seed=1, choices=b"\0\1\0")
)
TRACE = b"# t_us tid op addr len arg\n1 7 mmap_anon 7f0000000000 200000 3\n2 7 fault 7f0000000000 0 0\n"


def refused(capsys: pytest.CaptureFixture, code: int, expected: str, *arguments: str) -> None:
    """The command line ends with ``code`` and one line that contains ``expected``."""
    assert main(arguments) == code
    output = capsys.readouterr()
    lines = output.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("ptstress: "), output.err
    assert expected in lines[0]
    assert output.out == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["frob"], "no such command 'frob'"),
        (["run"], "missing argument 'WORKLOAD'"),
        (["explore", "--build", "stress"], "build 'stress' has no schedule points: expected sched or tsan_sched"),
        (["run", "headline", "--frob"], "no such option '--frob'"),
        (["run", "headline", "extra"], "got unexpected extra argument (extra)"),
        (["run", "headlin"], "did you mean 'headline'?"),
        (["run", "nothing-like-it"], "expected a TOML file, or a name that 'ptstress list workloads' shows"),
        (["run", "headline", "--threads", "0"], "threads '0': expected a number from 1 to 64"),
        (["run", "headline", "--threads", "65"], "threads '65': expected a number from 1 to 64"),
        (["run", "headline", "--threads", "99999999999999999999"], "expected a number from 1 to 64"),
        (["run", "headline", "--threads", "-3"], "expected a number from 1 to 64"),
        (["run", "headline", "--threads", "two"], "expected a number from 1 to 64"),
        (["run", "headline", "--duration", "5x"], "duration '5x': expected a number and a unit, such as 45s"),
        (["run", "headline", "--duration", "0s"], "more than zero"),
        (["run", "headline", "--duration", ""], "expected a number and a unit"),
        (["run", "headline", "--scheme", "linux-9"], "scheme 'linux-9': expected one of linux-6.3"),
        (["run", "headline", "--scheme", "vma_lock+maybe"], "expected one of linux-6.3"),
        (["run", "scan_vs_fault", "--scheme", "linux-6.3"], "expected a scheme with async, taskwork or zero"),
        (["run", "headline", "--scheme", "vma_lock+sync+never"], "expected each reclaim policy once"),
        (["run", "headline", "--scheme", "vma_lock+sync+upper"], "upper frees tables that vma_lock relies on"),
        (["run", "headline", "--geometry", "3x3x3"], "geometry '3x3x3': expected x86-64-4"),
        (["run", "headline", "--geometry", "2x2x2x4"], "headline.toml:15: region ends at page 256"),
        (["run", "headline", "--bug", "P99"], "bug 'P99': expected one of P01"),
        (["run", "headline", "--build", "quick"], "build 'quick': expected one of fast"),
        (["run", "headline", "--seed", "-1"], "--seed: -1 is not in the range"),
        (["run", "headline", "--json", "/nonexistent/x.json"], "--json /nonexistent/x.json: cannot be written"),
        (["list"], "missing argument 'WHAT'"),
        (["list", "things"], "list 'things': expected one of schemes"),
        (["explore", "--policy", "luck"], "policy 'luck': expected one of random, pct, pos, dfs, dpor"),
        (["explore", "--executions", "0"], "--executions: 0 is not in the range"),
        (["explore", "--geometry", "x86"], "geometry 'x86'"),
        (["explore", "--bug", "P00"], "bug 'P00'"),
        (["explore", "no-such-file"], "program 'no-such-file': expected a file or text such as"),
        (["explore", "t0: wrte(p0)"], "<command line>:1: operation 'wrte': expected one of read"),
        (["explore", "t0: write(p99)"], "geometry 2x2x2x4 ends at p31"),
        (["explore", "t0: write(p0); suffix: read(p0)"], "leave out the suffix"),
        (["replay", "nonsense"], "replay string: expected it to begin with 'pts1_'"),
        (["replay", "pts9_AAAA"], "it has format 9"),
        (["replay", REPLAY[:-4]], "it is cut or altered"),
        (["replay", REPLAY[:-3] + "AAA"], "altered"),
        (["replay", REPLAY, "--on", "paper"], "--on 'paper': expected one of fibres, threads, both"),
        (["replay", REPLAY, "--times", "0"], "--times: 0 is not in the range"),
    ],
)
def test_usage_errors(capsys, arguments, expected):
    refused(capsys, 1, expected, *arguments)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "sample.toml:1: missing key"),
        (b"\xff\xfe", "expected UTF-8 text"),
        (b"name = \n", "sample.toml:1: not TOML"),
        (WORKLOAD.replace("write = 1", "wirte = 1").encode(), "sample.toml:9: operation 'wirte'"),
    ],
)
def test_a_bad_workload_file(tmp_path, capsys, content, expected):
    path = tmp_path / "sample.toml"
    path.write_bytes(content)
    refused(capsys, 1, expected, "run", str(path))


def test_a_folder_is_no_workload(tmp_path, capsys):
    refused(capsys, 1, "no such file or packaged workload", "run", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("cut.gz", gzip.compress(TRACE, mtime=0)[:-9], "cut.gz"),
        ("plain.gz", TRACE, "plain.gz"),
        ("order.gz", gzip.compress(TRACE + b"1 7 fault 7f0000000000 0 0\n", mtime=0), "order.gz:4"),
        ("word.gz", gzip.compress(TRACE + b"3 7 falt 7f0000000000 0 0\n", mtime=0), "word.gz:4"),
        ("empty.gz", gzip.compress(b"", mtime=0), "empty.gz"),
    ],
)
def test_a_bad_trace(tmp_path, capsys, name, content, expected):
    (tmp_path / name).write_bytes(content)
    path = tmp_path / "sample.toml"
    path.write_text(f'trace = "{name}"\n' + WORKLOAD.partition("[[workers]]")[0])
    refused(capsys, 1, expected, "run", str(path))


def test_a_program_file_is_named_with_its_line(tmp_path, capsys):
    path = tmp_path / "program.txt"
    path.write_text("prefix: mmap(p0..p8)\nt0: write(p0..p3)\n")
    refused(capsys, 1, f"{path}:2: ", "explore", str(path))


def test_an_arena_that_is_too_small_is_a_shortage(tmp_path, capsys):
    path = tmp_path / "sample.toml"
    path.write_text(WORKLOAD + "[arena]\nframes = 10\n")
    refused(capsys, 3, "frames = 10 is too small: this workload can have 1025 in use", "run", str(path))


def test_results_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    refused(capsys, 1, "results cannot be written: Not a directory", "run", "headline", "--results", str(tmp_path / "file" / "x"))


@pytest.mark.parametrize("build", ["sched"])
def test_a_build_that_cannot_do_it(capsys, build):
    refused(capsys, 4, "build sched runs one worker at a time", "run", "headline", "--build", build)


def test_the_fast_build_has_no_bugs_to_plant(capsys):
    refused(capsys, 4, "build fast has no bugs", "run", "headline", "--build", "fast", "--bug", "P01")


def test_a_bug_that_no_scheme_shows_on_threads_is_one_for_the_explorer(capsys, monkeypatch):
    monkeypatch.setattr("ptstress.schemes._SHOWN", ())
    refused(capsys, 1, "bug P01: no threads show it soon: expected ptstress explore --bug P01", "run", "headline", "--bug", "P01")


def test_json_says_the_error_too(capsys):
    assert main(["list", "things", "--json", "-"]) == 1
    error = json.loads(capsys.readouterr().out)
    assert (error["schema"], error["exit_code"]) == ("ptstress.error/1", 1)


def test_no_arguments_show_the_help(capsys):
    assert main([]) == 1
    assert "Usage: ptstress" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["schemes", "workloads", "bugs", "builds", "oracles", "invariants", "operations"])
def test_lists(capsys, what):
    assert main(["list", what]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert main(["list", what, "--json", "-"]) == 0
    output = capsys.readouterr()
    items = json.loads(output.out)["items"]
    assert len(items) == len(shown) > 2
    assert all(item["name"] and item["summary"] for item in items)
    assert output.err.splitlines() == shown


def test_a_reader_that_goes_away_is_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-m", "ptstress", "list", "bugs"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert "Traceback" not in result.stderr and result.returncode == 1
