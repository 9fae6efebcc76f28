"""The rules of the data oracle on bursts of tests, with the pages at the end as a dict: page -> (incarnation, value)."""

import numpy as np

from ptstress._history import check_bursts as check_rows

#: In place of (incarnation, value), of a page that is not present: that a guard marker lies there, or none.
GUARD, EMPTY = ((1 << 64) - 1, 1), ((1 << 64) - 1, 0)

Final = dict[int, tuple[int, int]] | None
Burst = tuple[list[np.ndarray], Final]


def check_bursts(bursts: list[Burst], pages_per_table: int = 512, shards: int = 1) -> dict:
    """As ``ptstress._history.check_bursts``; (0, 0) is the zero page."""
    return check_rows([(rings, rows_of(final)) for rings, final in bursts], pages_per_table, shards)


def check_history(rings: list[np.ndarray], pages_per_table: int = 512, final: Final = None) -> dict:
    """One burst from an empty address space on."""
    return check_bursts([(rings, final)], pages_per_table)


def verdict(*ops: np.ndarray, final: Final = None) -> set[int]:
    """Invariants that a history breaks, if each of its operations has a worker of its own."""
    result = check_history(list(ops), final=final)
    assert (result["checked"], result["unchecked"]) == (len(ops), 0)
    assert result["nr_violations"] == len(result["violations"])
    return {v["invariant"] for v in result["violations"]}


def rows_of(final: Final) -> np.ndarray | None:
    """Rows (page, incarnation, value); None if nobody looked."""
    return None if final is None else np.array([(page, *held) for page, held in final.items()], np.uint64).reshape(-1, 3)
