"""A stop is answered soon: the check of the last burst is given up if it takes too long, and then counts as not done."""

import pytest

from ptstress.engine import load_engine
from ptstress.layout import SharedView, shared_bytes
from ptstress.operation import dontneed, mmap, op_array, write
from ptstress.schemes import find_scheme

WORKERS, RING = 2, 1 << 12
OPS = [mmap(0, 4096), *(write(page) for page in range(0, 4096, 64)), dontneed(0, 4096)]


@pytest.fixture
def machine():
    """A machine whose ring holds operations that are not checked yet, and what its parent sees of it."""
    memory = bytearray(shared_bytes(WORKERS, RING))
    view = SharedView(memory, WORKERS, RING)
    one = load_engine("stress").Machine(
        {**find_scheme("linux-6.18").config(), "workers": WORKERS, "ring_events": RING, "frames": 8192, "tables": 512}, memory
    )
    one.serial(op_array(OPS))
    return one, view


def test_a_stop_lets_the_check_of_the_burst_end(machine):
    one, view = machine
    view.request_stop()
    one.check()
    assert one.checked() == (len(OPS), 0)


def test_a_stop_at_once_gives_the_check_up_and_says_so(machine):
    one, view = machine
    view.request_stop(at_once=True)
    assert one.check() == 0
    checked, unchecked = one.checked()
    assert checked == 0 and unchecked > 0


def test_what_was_checked_before_a_stop_stays_checked(machine):
    one, view = machine
    one.check()
    one.serial(op_array(OPS[1:]))
    view.request_stop(at_once=True)
    one.check()
    assert one.checked()[0] == len(OPS)
