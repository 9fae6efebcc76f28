"""Each rule of the policies has a bug that breaks it, which is found explored and on threads."""

import pytest

from ptstress.cli import main
from ptstress.errors import ExitCode
from ptstress.invariants import broken_by
from ptstress.rules import RULES, find_rules, rule_lines, show_rules
from ptstress.schemes import find_scheme

THREADS, SEED = 4, 1


def shown(bugs):
    """All of them must be found in both ways, by a right oracle, and come again."""
    summary = show_rules(find_rules(bugs), THREADS, SEED, lambda line: None)
    for rule in summary.rules:
        assert rule.explored.found and rule.explored.replayed, rule
        assert rule.explored.invariant in broken_by(rule.bug), rule
        assert rule.threads.found and rule.threads.invariant, rule
    assert (summary.verdict, summary.exit_code) == ("pass", ExitCode.PASS)
    return summary


def test_a_rule_is_shown_by_the_bug_that_breaks_it():
    summary = shown(["M01-scan"])
    line = rule_lines(summary)[-1]
    assert line.startswith("what a scan saw without locks is a hint") and "execution " in line and " s: " in line


def test_rules_are_shown_where_their_bugs_can_be_found():
    assert len({rule.bug for rule in RULES}) == len(RULES)
    assert [rule.bug for rule in RULES if not find_scheme(rule.under).runs(rule.bug)] == []


@pytest.mark.long
def test_every_rule_is_shown_by_the_bug_that_breaks_it():
    assert len(shown([]).rules) == len(RULES)


def test_a_bug_that_breaks_no_rule_is_refused_in_one_line(capsys):
    assert main(["rules", "P99"]) == ExitCode.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"rule of bug 'P99': expected one of {', '.join(rule.bug for rule in RULES)}")
