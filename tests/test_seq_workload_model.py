"""Every shipped workload, done by one worker after the other: engine and model agree on results and on the bytes of tables.

Operations are drawn as the engine draws those of a mix, but here, so that the same ones go to both. A trace gives its own.
"""

from collections.abc import Iterator
from random import Random

import pytest

from ptstress.engine import load_engine
from ptstress.job import Mix, verbs_of
from ptstress.model import AddressSpaces, Follower, compare
from ptstress.observe import observations
from ptstress.operation import LOAD, STORE, Op, op_array, scan
from ptstress.plan import Overrides, StagePlan, distinct_stages, plan_run
from ptstress.schemes import SCHEMES, find_scheme
from ptstress.trace import load_trace
from ptstress.vocabulary import ACCESSES, MM_SHIFT, WHOLE_MM, Verb
from ptstress.workload import load_workload, packaged_workloads
from schemes_under_test import DEFAULT

#: Of the workers, and at most so many of a setup.
OPERATIONS, SETUP = 240, 240
#: As much as so many operations can need; arenas for whole workloads take long to be made.
ARENA = {"tables": 2048, "frames": 1 << 16, "vmas": 1024, "ring_events": 1 << 14}
#: Knobs by which an allocation fails, or a scan stops early: no model says where.
FATEFUL = ("alloc_fail", "scan_batch")
#: A scheme that every workload can be planned under.
SCANNING = "seed-zero"
WORKLOADS = [name for name, _ in packaged_workloads() if not name.startswith("canaries/")]


def drawn(mix: Mix, rng: Random) -> Iterator[Op]:
    """Operations of one worker without end, as ``cy/check/stream.pxd`` has them."""
    chains = list(mix.weights)
    while True:
        (chosen,) = rng.choices(chains, list(mix.weights.values()))
        verbs = verbs_of(chosen)
        unit = max(1 if verb in ACCESSES else mix.unit.get(verb.label, 1) for verb in verbs)
        start, end = rng.choice(mix.places or [(mix.start, mix.end)])
        unit = min(unit, end - start)
        place = start + (unit * rng.randrange((end - start) // unit) if mix.aligned else rng.randrange(end - start - unit + 1))
        place += rng.randrange(mix.mms) << MM_SHIFT
        page = rng.randrange(unit)
        for i, verb in enumerate(verbs):
            if verb in WHOLE_MM:
                yield Op(verb, place >> MM_SHIFT << MM_SHIFT, place >> MM_SHIFT << MM_SHIFT)
            elif verb in ACCESSES:
                at = place + (page + i) % unit
                yield Op(verb, at, at + 1, rng.choice((LOAD, STORE)) if verb is Verb.GUP_FAST else 0)
            else:
                arg = rng.randrange(2) if verb in (Verb.MPROTECT, Verb.POPULATE) else int(verb is Verb.MMAP)
                yield Op(verb, place, place + min(unit, mix.unit.get(verb.label, 1)), arg)


def operations(plan: StagePlan, seed: int) -> list[Op]:
    """Setup; some of what the workers do, each step by a worker that is drawn; closing; a scan."""
    rng = Random(seed)
    streams = [drawn(mix, rng) for mix in plan.job.mixes]
    if plan.job.trace:
        streams += [iter(recorded(plan.job.trace))] * plan.job.trace_workers
    raced = [next(rng.choice(streams)) for _ in range(OPERATIONS)]
    return [*plan.job.setup[:SETUP], *raced, *plan.job.closing, scan()]


def recorded(path: str) -> list[Op]:
    """The first operations of a trace, in the order in which they were recorded."""
    rows = load_trace(path).ops[:OPERATIONS]
    return [Op(Verb(int(row["verb"])), int(row["start"]), int(row["end"]), int(row["arg"])) for row in rows]


@pytest.mark.parametrize("schemes", [
    pytest.param(DEFAULT, id="default"),
    pytest.param([s.name for s in SCHEMES if s.name not in DEFAULT], id="rest", marks=pytest.mark.long),
])
@pytest.mark.parametrize("workload", WORKLOADS)
def test_engine_and_model_agree_on_every_operation_and_on_the_bytes_left(workload, schemes):
    plans = plan_run(load_workload(workload), Overrides(scheme=SCANNING))
    for plan in (plans[number] for number in distinct_stages(plans)):
        ops = operations(plan, seed=1)
        for scheme in schemes:
            follow(plan, ops, scheme)


def follow(plan: StagePlan, ops: list[Op], scheme: str) -> None:
    """Do the operations of a stage under a scheme, on engine and model."""
    config, found = plan.job.config, find_scheme(scheme)
    knobs = {name: value for name, value in config["knobs"].items() if name not in FATEFUL}
    machine = load_engine("fast").Machine(
        {**config, **found.config(), **ARENA, "geometry": tuple(plan.geometry), "knobs": knobs, "workers": 1})
    follower = Follower(AddressSpaces(plan.geometry, found.modelled, config["mms"]))
    events, table_bytes = machine.serial(op_array(ops))
    for op, seen, size in zip(ops, observations(events), table_bytes, strict=True):
        assert follower.follow(op, seen) is None, (plan.name, scheme)
        assert int(size) == follower.space.table_bytes, (plan.name, scheme, op)
    assert compare(follower.space, machine.snapshot()) is None, (plan.name, scheme)
    assert machine.check() == 0, (plan.name, scheme)


@pytest.mark.parametrize(("scheme", "left"), [
    ("linux-6.12", [102_604, 102_604, 102_604]),
    ("linux-6.18", [102_604, 102_604, 204]),
    ("rcu-upper", [102_604, 102_604, 0]),
])
def test_the_headline_begins_with_what_kernels_leave_of_50_gib(scheme, left):
    """kB after each table was touched and given back, in units of 4 KiB, 64 KiB and 2 MiB; Linux 6.12 and 6.18 were measured."""
    found = []
    for plan in plan_run(load_workload("headline_50g"), Overrides(scheme=scheme)):
        machine = load_engine("fast").Machine({**plan.job.config, "geometry": plan.geometry})
        _, table_bytes = machine.replay_serial(op_array(plan.job.setup))
        found.append(int(table_bytes[-1]) >> 10)
        assert int(table_bytes.max()) >> 10 == 102_604
    assert found == left
