"""What threads leave behind when they have stopped and scans have found nothing more: each policy keeps its promise.

The bytes of these workloads, under all schemes, stand in SCHEMES.md.
"""

import pytest

from ptstress.engine import load_engine
from ptstress.layout import shared_bytes
from ptstress.model.compare import PAGE_ZERO
from ptstress.operation import op_array, scan
from ptstress.plan import Overrides, plan_run
from ptstress.schemes import SCHEMES, find_scheme
from ptstress.workload import load_workload

BURSTS, BURST_MS = 6, 50
#: workload, stage: what linux-6.18 leaves behind there, by the names below.
STAGES = {
    ("lazyfree_pressure", 0): {"empty"},
    ("balloon_zero_page", 0): {"zero"},
    ("jemalloc_256k", 0): {"empty"},
    ("upper_strides", 0): {"empty upper"},
    ("upper_strides", 1): {"empty upper"},
    ("upper_strides", 2): {"empty upper"},
    ("headline_50g", 0): {"empty"},
    ("headline_50g", 1): {"empty"},
    ("headline_50g", 2): set(),
}
#: What a policy leaves none of.
PROMISES = {"async": "empty", "taskwork": "empty", "zero": "zero", "upper": "empty upper"}


def leftovers(workload: str, stage: int, scheme: str) -> set[str]:
    """Kinds of tables that are left when the workload has raced and closed, and nothing is left to scan."""
    plan = plan_run(load_workload(workload), Overrides(scheme=scheme, build="fast"))[stage]
    job = plan.job
    memory = bytearray(shared_bytes(job.workers, job.config["ring_events"]))
    machine = load_engine(job.build).Machine({**job.config, "geometry": plan.geometry}, memory)
    machine.serial(op_array(job.setup))
    machine.check()
    machine.start([mix.stream() for mix in job.mixes])
    for _ in range(BURSTS):
        assert not machine.burst(BURST_MS)["stuck"]
    machine.stop()
    machine.serial(op_array(job.closing))
    while (event := machine.serial(op_array([scan()]))[0][0])["end"] > event["start"]:
        pass
    assert machine.check() == 0
    return kinds_of(machine.snapshot(), plan.geometry[0])


def kinds_of(snapshot: dict, table_bits: int) -> set[str]:
    """Kinds of the tables that hold nothing worth a table. ``zero``: of pages, all of which are the zero page."""
    tables, pages = snapshot["tables"], snapshot["pages"]
    in_use = {int(page) >> table_bits for page in pages["page"][pages["state"] != PAGE_ZERO]}
    kinds = set()
    for level, page, present in tables.tolist():
        if present == 0:
            kinds.add("empty upper" if level else "empty")
        elif level == 0 and page >> table_bits not in in_use:
            kinds.add("zero")
    return kinds


@pytest.mark.long
@pytest.mark.parametrize("scheme", [scheme.name for scheme in SCHEMES])
@pytest.mark.parametrize(("workload", "stage"), STAGES)
def test_a_policy_leaves_nothing_of_what_it_promises_to_free(workload, stage, scheme):
    policies = find_scheme(scheme).policies
    promised = {PROMISES[policy] for policy in policies & PROMISES.keys()}
    assert not leftovers(workload, stage, scheme) & promised


@pytest.mark.long
@pytest.mark.parametrize(("workload", "stage"), STAGES)
def test_these_workloads_leave_it_behind_where_nothing_frees_it(workload, stage):
    assert STAGES[workload, stage] <= leftovers(workload, stage, "linux-6.18")
