"""What a soak shows of its combinations: those that ran, those that did not, those that cannot."""

import pytest

from ptstress.soak_matrix import make_matrix, matrix_lines
from ptstress.soak_rotation import make_rotation
from ptstress.soak_state import FailureSeen
from ptstress.soak_summary import summarize_soak
from soak_events import KEYS, ended, request, slice_summary, soak_of


def test_the_matrix_shows_what_ran_what_did_not_and_what_cannot():
    rotation = make_rotation(
        request(workloads=["fault_vs_dontneed", "scan_vs_fault"], schemes=["linux-6.12", "linux-6.18", "seed-zero"]))
    state = soak_of(ended(0, KEYS[0]), ended(1, KEYS[0]), ended(2, KEYS[1], summary=slice_summary(KEYS[1], met=0)),
                    FailureSeen(key="scan_vs_fault seed-zero", oracle="census", what="w"), ended(3, "scan_vs_fault seed-zero"))
    cells = make_matrix(rotation, state, summarize_soak(state, 4, "r").stages)
    assert [(c.workload, c.scheme, c.verdict, c.slices, c.checked) for c in cells] == [
        ("fault_vs_dontneed", "linux-6.12", "pass", 2, 200), ("fault_vs_dontneed", "linux-6.18", "unknown", 1, 100),
        ("fault_vs_dontneed", "seed-zero", "not run", 0, 0), ("scan_vs_fault", "seed-zero", "violation", 1, 100),
        ("scan_vs_fault", "linux-6.12", "cannot run", 0, 0), ("scan_vs_fault", "linux-6.18", "cannot run", 0, 0)]
    assert cells[1].note == "no write/dontneed ever met on a table" and "scans" in cells[4].note
    assert matrix_lines(cells) == [
        "matrix: 3 of 4 ran: 1 pass, 1 violation, 1 unknown, 2 cannot run; operations checked, 0 to 2 slices a cell",
        "  · pass  ! violation  x killed  ? not trusted  - cannot run",
        "                   linux  linux   seed",
        "                    6.12   6.18   zero",
        "fault_vs_dontneed  · 200  ? 100",
        "scan_vs_fault          -      -  ! 100",
    ]


@pytest.mark.parametrize(("ran", "code"), [(1, 7), (2, 0)])
def test_combinations_that_did_not_all_run_are_no_pass(ran, code):
    events = [ended(number, KEYS[number]) for number in range(ran)]
    summary = summarize_soak(soak_of(*events, until="combinations"), 2, "r")
    assert (summary.exit_code, summary.until) == (code, f"combinations: {ran} of 2 ran")
