"""How likely a failure is behind each prefix of its schedule: as counting says where schedules can be counted."""

import pytest

from ptstress._explore import Explorer, litmus
from ptstress.bugs import find_bug
from ptstress.causality import causality, causality_lines, sample_curve
from ptstress.evidence import Causality
from ptstress.lab import KNOBS, Lab, execution_of
from ptstress.program import parse
from ptstress.schedule import Replay
from ptstress.shrinking import shrink
from ptstress.units import parse_geometry

SAMPLES = 4000


class Litmus:
    """A tiny system in place of an engine's machine."""

    def __init__(self, name):
        self.explorer = Explorer(litmus(name))


def execution(choices):
    return Replay(fingerprint="", program="", scheme="", geometry=(), seed=5, choices=bytes(choices))


# Two increments that load, then store. The walk goes on to the other fibre with half of (1 - stickiness), and stickiness is one
# of 0, 1/2, 3/4, 7/8, 15/16, 31/32: 0.164 in the mean. Whoever makes the second step decides; the third is the first of no choice
# that matters.
@pytest.mark.parametrize("choices, shares", [([0, 1, 0], [0.164, 0.164, 1, 1]), ([1, 0, 0], [0.164, 0.164, 1, 1])])
def test_the_curve_of_a_lost_increment_is_the_one_that_counting_gives(choices, shares):
    points = sample_curve(Litmus("split_increment"), execution(choices), lambda: False, SAMPLES)
    assert sorted(points) == [0, 1, 2, 3]
    for made, share in enumerate(shares):
        assert abs(points[made] - share) < 0.03         # five standard deviations


def test_a_curve_of_what_cannot_fail_stays_at_the_bottom_and_of_what_must_at_the_top():
    for name, share in (("fetch_add_2x3", 0), ("abandon", 1)):
        points = sample_curve(Litmus(name), execution([0, 1]), lambda: False, 50)
        assert set(points.values()) == {share}


def test_without_time_there_are_the_two_ends():
    assert sorted(sample_curve(Litmus("fetch_add_2x10"), execution([0, 1] * 9), lambda: True, 10)) == [0, 18]


@pytest.fixture(scope="module")
def bug():
    """P01, as small as it can be, with its machine and its curve."""
    found = find_bug("P01")
    lab = Lab(found.scheme, parse_geometry("2x2x2x4"), (found.id,), dict(KNOBS), 1)
    program = parse(found.program)
    lab.load(program)
    record, _ = shrink(lab.record(program, lab.explorer.explore(seed=1)["failure"]), "random", 300.0)
    lab = Lab.of(record)
    return lab, record, causality(lab, record, lambda: False)


def test_a_failure_is_inevitable_from_the_step_that_is_said_and_not_before(bug):
    lab, record, curve = bug
    choice = curve.inevitable.choice

    def passes(choices):
        walked = lab.explorer.follow(**execution_of(record) | {"choices": record.choices[:choices]}, executions=5000, walk=True)
        return walked["outcomes"]["pass"]

    assert curve.inevitable.after == 1 > curve.inevitable.before
    assert passes(choice - 1) > 0
    # 200 walks that fail say: at least 98.5 of 100 do, in 95 of 100 such curves.
    assert passes(choice) < 0.05 * 5000
    assert curve.points[-1] == (len(record.choices), 1.0)
    assert curve.turn.after - curve.turn.before >= 0.1


def test_the_steps_that_are_named_are_those_that_the_choices_led_to(bug):
    lab, record, curve = bug
    trace = lab.explorer.replay(**execution_of(record))["trace"]
    for step in (curve.inevitable, curve.turn):
        made = trace[step.step - 1]
        assert made["choices"] >= step.choice > trace[step.step - 2]["choices"]
        assert step.text.startswith(f"CPU{made['fibre']} ")
        assert f"{made['file'].removeprefix('cy/')}:{made['line']}" in step.text


def test_a_curve_is_drawn_to_the_scale_of_its_choices(bug):
    _, _, curve = bug
    lines = causality_lines(curve, width=40)
    assert len(lines) == 4
    bar = lines[1].split(" ", 3)[3].rsplit(" ", 1)[0]
    assert len(bar) == 40 and bar[-1] == "█"
    assert lines[2].startswith(f"became inevitable at step {curve.inevitable.step}: CPU")
    even = Causality(200, 9, [(0, 0.0), (5, 0.5), (9, 1.0)], None, None)
    assert causality_lines(even)[1] == "  0      ▄▄▄▄█ 9"
    assert causality_lines(Causality(200, 0, [(0, 1.0)], None, None)) == ["likely to fail: always; its one thread has no choice"]
