"""Canaries: bugs planted in companion runs, to prove that the run could have failed.

A companion has the run's scheme, geometry and thread count, and the operations that its bug needs. It
ends at the first find. Every run asks every bug that its scheme declares.
"""

from collections.abc import Callable

from msgspec import structs

from ptstress.bug import Bug
from ptstress.bugs import find_bug
from ptstress.driver import Outcome, Stopper, run_job
from ptstress.plan import Overrides, StagePlan, plan_run
from ptstress.results import Canaries, CanaryItem
from ptstress.units import format_geometry
from ptstress.verdict import find_canary
from ptstress.workload import load_workload

# A companion ends when its bug is found; so long is for machines that are busy with other things.
CANARY_SECONDS = "10s"
COMPANION_NOTE = "in a stress companion, the fast build has no bugs"
# More threads than this find nothing sooner and take longer to start.
MIN_THREADS, MAX_THREADS = 1, 16


def run_canaries(plan: StagePlan, stopper: Stopper, on_start: Callable[[str], None]) -> Canaries:
    """Plant each bug of the plan's scheme in turn. Stops early if asked to; the rest count as not found."""
    companion = plan.job.build == "fast"
    items = []
    for bug_id in plan.scheme.canaries:
        if stopper.requests:
            items.append(CanaryItem(bug_id, False, note="not run: stopped"))
            continue
        on_start(bug_id)
        items.append(_run_one(bug_id, plan, "stress" if companion else plan.job.build, stopper))
    return count_canaries(items, COMPANION_NOTE if companion else "")


def count_canaries(items: list[CanaryItem], note: str = "") -> Canaries:
    """The items with their sums."""
    return Canaries(len(items), sum(item.found for item in items), items, note)


def plant(bug: Bug, overrides: Overrides, stopper: Stopper) -> Outcome:
    """Run the companion of a bug, which ends at the first find."""
    companion = plan_run(load_workload(bug.workload), overrides)[0]
    # Short bursts: what is only visible when all workers rest is seen soon.
    return run_job(structs.replace(companion.job, burst_ms=20), stopper)


def _run_one(bug_id: str, plan: StagePlan, build: str, stopper: Stopper) -> CanaryItem:
    bug = find_bug(bug_id)
    overrides = Overrides(
        scheme=plan.scheme.name,
        geometry=format_geometry(plan.geometry),
        threads=min(max(plan.threads, MIN_THREADS), MAX_THREADS),
        duration=CANARY_SECONDS,
        seed=plan.job.seed,
        build=build,
        bugs=(bug_id,),
    )
    return find_canary(bug_id, bug.oracles, plant(bug, overrides, stopper))
