"""The sequential reference model: pure of any engine.

``space`` predicts each operation, ``compare`` checks an engine's state and results against it, and
``explain`` decides whether a concurrent run has an explanation.
"""

from ptstress.model.compare import Follower, compare
from ptstress.model.explain import Explanation, explain
from ptstress.model.result import Observation, Result, agree
from ptstress.model.space import AddressSpace, run, step
from ptstress.model.spaces import AddressSpaces

__all__ = [
    "AddressSpace", "AddressSpaces", "Explanation", "Follower", "Observation", "Result", "agree", "compare", "explain", "run",
    "step",
]
