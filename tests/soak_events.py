"""Lines of a soak's log, and the state that they add up to."""

from msgspec import structs

from ptstress.results import Canaries, CanaryItem, Checked, Ops, Overlaps, Rcu, StageSummary, Tables
from ptstress.soak_rotation import SoakRequest
from ptstress.soak_state import CanariesRan, SliceEnded, SoakState

FOUND = Canaries(1, 1, [CanaryItem("P01", True, "census", 0.1)])
KEYS = ("fault_vs_dontneed linux-6.12", "fault_vs_dontneed linux-6.18")


def request(**fields) -> SoakRequest:
    return SoakRequest(**{"workloads": ["fault_vs_dontneed"], "schemes": ["linux-6.12", "linux-6.18"], "slice": "2s", **fields})


def slice_summary(key: str, met: int = 1000, canaries: Canaries = FOUND, **fields) -> StageSummary:
    name, _, scheme = key.rpartition(" ")
    usual = StageSummary(
        name=name, verdict="pass", exit_code=0, scheme=scheme, parts="vma_lock x sync", build="stress", geometry="x86-64-4",
        seed=1, threads=4, duration_s=2.0, ops=Ops(100, 50.0, {"write": 100}), checked=Checked(100, 100, 0),
        overlaps=Overlaps(met, met / 2, {"write/dontneed": met}, {"write/dontneed": met}), near_misses={"map_failed": 3},
        tables=Tables(8192, 40960, 8192, 10, 10, 5), rcu=Rcu(7, 1.5, 9), canaries=canaries, confidence="", racing_share=0.5,
    )
    return structs.replace(usual, **fields)


def ended(number: int, key: str, **fields) -> SliceEnded:
    usual = {"slice": number, "key": key, "kind": "done", "trusted": True, "at_s": 2.0 * (number + 1),
             "summary": slice_summary(key)}
    return SliceEnded(**{**usual, **fields})


def soak_of(*events, **fields) -> SoakState:
    state = SoakState(request(**fields))
    for n, event in enumerate([CanariesRan(key="k", seconds=1.0, canaries=FOUND), *events], start=1):
        event.n = n
        state.apply(event)
    return state
