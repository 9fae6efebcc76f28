"""Which schemes a test of every scheme runs under: by default each part of a scheme occurs, in the long suite all schemes do."""

import pytest

from ptstress.schemes import SCHEMES

#: Of these, every protection and every reclaim policy occurs.
DEFAULT = ("linux-6.3", "linux-6.18", "seed-zero", "rfc-2024", "seed-rcu", "covering")
NAMES = [pytest.param(s.name, id=s.name, marks=() if s.name in DEFAULT else pytest.mark.long) for s in SCHEMES]
