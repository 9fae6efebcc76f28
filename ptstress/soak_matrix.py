"""Which workloads ran under which schemes, and what came of it: one cell for each of a soak's combinations.

On the screen a line is a workload and a column a scheme; ``summary.json`` has the cells one by one.
"""

from collections.abc import Sequence

from msgspec import Struct

from ptstress.results import StageSummary
from ptstress.soak_rotation import Rotation
from ptstress.soak_state import SoakState
from ptstress.texttable import grid
from ptstress.units import format_count

CANNOT, NOT_YET = "cannot run", "not run"
MARKS = {"pass": "·", "violation": "!", "killed": "x", "unknown": "?", CANNOT: "-", NOT_YET: " "}
_LEGEND = "· pass  ! violation  x killed  ? not trusted  - cannot run"


class Cell(Struct):
    """A workload under a scheme. ``verdict``: a key of ``MARKS``; ``checked``: operations of ``slices`` together, of ``ops``.

    ``note``: why it cannot run, or what is not trusted.
    """

    workload: str
    scheme: str
    verdict: str
    slices: int = 0
    ops: int = 0
    checked: int = 0
    violations: int = 0
    note: str = ""


def make_matrix(rotation: Rotation, state: SoakState, stages: Sequence[StageSummary]) -> list[Cell]:
    """A cell for each combination, in the rotation's order, and for each that cannot run. ``stages``: of the summary."""
    ran = {f"{stage.name} {stage.scheme}": stage for stage in stages}
    cells = [_cell(c.key, ran.get(c.key), state) for c in rotation.combinations]
    return cells + [Cell(*_names(key), CANNOT, note=reason) for key, reason in rotation.unable.items()]


def matrix_lines(cells: Sequence[Cell]) -> list[str]:
    """The matrix as text: in each cell the verdict and how many operations were checked."""
    workloads = list(dict.fromkeys(cell.workload for cell in cells))
    schemes = list(dict.fromkeys(cell.scheme for cell in cells))
    texts = {(cell.workload, cell.scheme): _cell_text(cell) for cell in cells}
    return [f"matrix: {_how_far(cells)}; operations checked, {_slices_text(cells)}", f"  {_LEGEND}",
            *grid(workloads, schemes, texts)]


def _how_far(cells: Sequence[Cell]) -> str:
    able = [cell for cell in cells if cell.verdict != CANNOT]
    count = {mark: sum(cell.verdict == mark for cell in cells) for mark in MARKS}
    bad = [f"{count[verdict]} {verdict}" for verdict in ("violation", "killed", "unknown") if count[verdict]]
    parts = [f"{len(able) - count[NOT_YET]} of {len(able)} ran: {count['pass']} pass", *bad]
    return ", ".join([*parts, *[f"{count[CANNOT]} cannot run"] * bool(count[CANNOT])])


def _cell(key: str, stage: StageSummary | None, state: SoakState) -> Cell:
    if stage is None:
        return Cell(*_names(key), NOT_YET)
    return Cell(
        *_names(key), stage.verdict, state.parts[key].slices, stage.ops.total, stage.checked.ops, stage.checked.violations,
        "; ".join(stage.notes),
    )


def _names(key: str) -> tuple[str, str]:
    """Workload and scheme of a combination."""
    workload, _, scheme = key.rpartition(" ")
    return workload, scheme


def _cell_text(cell: Cell) -> str:
    count = format_count(cell.checked).replace(" ", "") if cell.slices else ""
    return f"{MARKS[cell.verdict]} {count}".rstrip()


def _slices_text(cells: Sequence[Cell]) -> str:
    slices = [cell.slices for cell in cells if cell.verdict != CANNOT]
    least, most = min(slices, default=0), max(slices, default=0)
    return f"{most} slice{'s' * (most != 1)} a cell" if least == most else f"{least} to {most} slices a cell"
