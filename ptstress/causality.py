"""When a failure became inevitable: how likely it was behind each prefix of its schedule.

Behind a prefix the processor goes to anybody, by the random walk that ``explore`` takes; all else stays as it was in the
failure: ages of stores and rare paths are drawn from its seed. So the curve begins at the odds of this program, ends at 1, and
rises where the schedule did something that led to the failure.

Not every prefix is sampled. The curve is halved where it moves most, until its largest steps are known exactly.
"""

from collections.abc import Callable, Sequence

from ptstress.evidence import Causality, Step
from ptstress.lab import Lab, execution_of
from ptstress.schedule import Replay
from ptstress.story_steps import Step as Taken
from ptstress.story_steps import read_steps, step_text

SAMPLES = 200
PREFIXES = 48
#: So many of the prefixes lie at equal distances, so that no rise and fall between two of them is missed easily.
EVEN = 16
#: Smaller ones are what another 200 walks would give.
NOTABLE = 0.1
_BLOCKS = " ▁▂▃▄▅▆▇█"


def causality(lab: Lab, failure: Replay, enough: Callable[[], bool], samples: int = SAMPLES) -> Causality:
    """The curve of a failure of the loaded program; coarser if there is no more time."""
    points = sample_curve(lab, failure, enough, samples)
    trace = lab.explorer.replay(**execution_of(failure))["trace"]
    steps = read_steps(trace, lab.machine.describe)

    def step(before: int, choice: int) -> Step:
        # The first step that so many choices led to; those behind it, up to the next choice, were the only ones possible.
        at = next((at for at, made in enumerate(trace) if made["choices"] >= choice), len(trace) - 1)
        return Step(at + 1, choice, _text(steps, at), points[before], points[choice])

    known = sorted(points)
    exact = [(a, b) for a, b in zip(known, known[1:], strict=False) if b == a + 1]
    turn = max(exact, key=lambda pair: points[pair[1]] - points[pair[0]], default=None)
    last = next((k for k in reversed(known) if points[k] < 1), None)
    return Causality(
        samples=samples, choices=len(failure.choices), points=[(k, round(points[k], 4)) for k in known],
        inevitable=step(last, last + 1) if last is not None and points.get(last + 1) == 1 else None,
        turn=step(*turn) if turn and points[turn[1]] - points[turn[0]] >= NOTABLE else None,
    )


def sample_curve(lab: Lab, failure: Replay, enough: Callable[[], bool], samples: int) -> dict[int, float]:
    """The share of walks that failed behind so many choices, for some numbers of choices, the first and the last among them."""
    execution = execution_of(failure)
    length = len(failure.choices)
    points: dict[int, float] = {}

    def sample(choices: int) -> None:
        result = lab.explorer.follow(**execution | {"choices": failure.choices[:choices]}, executions=samples, walk=True)
        points[choices] = 1 - result["outcomes"]["pass"] / samples

    for choices in sorted({0, length} | {length * i // EVEN for i in range(EVEN)}, key=lambda k: (k not in (0, length), k)):
        if len(points) < 2 or not enough():
            sample(choices)
    while len(points) < PREFIXES and not enough():
        known = sorted(points)
        gaps = [(abs(points[b] - points[a]), b - a, a, b) for a, b in zip(known, known[1:], strict=False) if b > a + 1]
        # Where it became certain is asked for by itself, however small the step is that was left.
        edge = next((g for g in reversed(gaps) if points[g[2]] < 1 and all(points[k] == 1 for k in known if k >= g[3])), None)
        widest = max(gaps, default=None)
        chosen = edge if edge else widest
        if chosen is None or (chosen is widest and chosen[0] < NOTABLE):
            break
        sample((chosen[2] + chosen[3]) // 2)
    return points


def causality_lines(curve: Causality | None, width: int = 64) -> list[str]:
    """The curve as a bar, and the two steps that matter."""
    if curve is None:
        return []
    first, last = curve.points[0][1], curve.points[-1][1]
    if not curve.choices:
        return ["likely to fail: always; its one thread has no choice"]
    lines = [
        f"likely to fail: {_share(first)} before the first of {curve.choices:,} choices, {_share(last)} behind the last "
        f"({curve.samples} walks from each of {len(curve.points)} prefixes)",
        f"  0 {_bar(curve.points, curve.choices, width)} {curve.choices}",
    ]
    if curve.inevitable:
        lines.append(f"became inevitable at step {curve.inevitable.step}: {curve.inevitable.text}")
    elif first == 1:
        lines.append("inevitable from the start: all walks failed")
    if curve.turn:
        change = f"{_share(curve.turn.before)} -> {_share(curve.turn.after)}"
        lines.append(f"most gained at step {curve.turn.step}, {change}: {curve.turn.text}")
    return lines


def _bar(points: Sequence[tuple[int, float]], choices: int, width: int) -> str:
    """One block for some choices; between two points it is as high as at the one before."""
    width = min(width, choices + 1)
    bar, at = [], 0
    for column in range(width):
        k = choices * column // max(width - 1, 1)
        while at + 1 < len(points) and points[at + 1][0] <= k:
            at += 1
        share = points[at][1]
        # Nothing is shown empty that can fail, and nothing full that can pass.
        level = 0 if share == 0 else len(_BLOCKS) - 1 if share == 1 else 1 + int(share * (len(_BLOCKS) - 2))
        bar.append(_BLOCKS[level])
    return "".join(bar)


def _text(steps: Sequence[Taken], at: int) -> str:
    """``CPU1 zap_pte_range (core/zap.pxd:88): pte_table 1[1]: frame 2 wad -> none``; and who was stopped for it, before what."""
    step = steps[at]
    text = f"CPU{step.fibre} {_what(step)}"
    if step.name:
        text += f": {step_text(step) if step.loads or step.changes else step.name}"
    if at == 0 or steps[at - 1].fibre == step.fibre:
        return text
    stopped = next((s for s in steps[at:] if s.fibre == steps[at - 1].fibre), None)
    return f"{text}; CPU{stopped.fibre} is stopped before {_what(stopped)}" if stopped else text


def _what(step: Taken) -> str:
    return f"{step.func.strip('_')} ({step.place})"


def _share(value: float) -> str:
    return f"{value:.2f}"
