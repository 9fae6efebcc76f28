"""The commands that SCHEMES.md gives for each bug of the ladder find it."""

import json
import re
import shlex
from pathlib import Path

import pytest

from ptstress.bugs import find_bug
from ptstress.cli import main
from ptstress.schemes import find_scheme

PAGE = (Path(__file__).parent.parent / "SCHEMES.md").read_text()
COMMANDS = [shlex.split(line)[1:] for line in re.findall(r"^    (ptstress explore .*)$", PAGE, re.MULTILINE)]


def bug_of(command: list[str]) -> str:
    return command[command.index("--bug") + 1]


def test_every_bug_of_the_ladder_has_a_command():
    ladder = [line for line in PAGE.splitlines() if line.startswith("|") and "only this rung can get wrong" not in line]
    named = {bug for line in ladder for bug in re.findall(r"\b(?:P\d\d|M\d\d-[a-z0-9-]+)\b", line.split("|")[-2])}
    assert named == {bug_of(command) for command in COMMANDS} and len(COMMANDS) == len(named)


@pytest.mark.parametrize("command", COMMANDS, ids=bug_of)
def test_the_command_finds_the_bug_and_its_string_finds_it_again(command, tmp_path, capsys):
    bug, scheme = find_bug(bug_of(command)), find_scheme(command[command.index("--scheme") + 1])
    assert scheme.runs(bug.id)
    assert main([*command, "--json", "-", "-q", "--results", str(tmp_path)]) == 2
    (failure,) = json.loads(capsys.readouterr().out)["failures"]
    assert failure["oracle"] in bug.oracles
    assert main(["replay", failure["replay"], "--times", "1", "--on", "fibres"]) == 2
