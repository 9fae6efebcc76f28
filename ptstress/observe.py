"""Recorded events as observations that the model can be compared with."""

import numpy as np

from ptstress.layout import operation_lines
from ptstress.model.result import Observation
from ptstress.vocabulary import BITS


def observations(lines: np.ndarray) -> list[Observation]:
    """One observation for each operation, in order. ``lines``: ``EVENT_DTYPE``, bit lines of walks included."""
    return [_observation(lines, at) for at in operation_lines(lines)]


def _observation(lines: np.ndarray, at: int) -> Observation:
    event = lines[at]
    bits = 0
    if event["verb"] in BITS:
        following = lines[at + 1 : at + 1 + int(event["lines"])]
        pages = max(0, int(event["end"]) - int(event["start"]))
        bits = int.from_bytes(following.tobytes(), "little") & ((1 << pages) - 1)
    return Observation(
        status=int(event["status"]),
        value=int(event["value"]),
        incarnation=int(event["incarnation"]),
        present=int(event["aux"]),
        bits=bits,
        t0=int(event["t0"]),
        t1=int(event["t1"]),
    )
