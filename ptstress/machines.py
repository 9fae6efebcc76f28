"""Hypothesis state machines that hold an engine against the reference model after every step."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ptstress.model import AddressSpaces, Follower, compare
from ptstress.model.geometry import Geometry
from ptstress.observe import observations
from ptstress.operation import (
    Op, age, discard, dontneed, exit_mm, free, guard_install, guard_remove, gup_fast, mmap, mprotect, munmap, op_array, populate,
    read, scan, walk, write)
from ptstress.schemes import NEVER
from ptstress.strategies import page_ranges, pages


def address_space_machine(
    make_machine: Callable[[], Any], bits: tuple[int, ...], reclaim: str | None, mms: int = 1
) -> type[RuleBasedStateMachine]:
    """One rule for each verb, one invariant that compares everything.

    ``make_machine``: gives the engine's ``Machine`` with an empty address space of geometry ``bits`` whose
    reclaim policy is ``reclaim``; it may be the same one each time. Allocations must not fail. It has ``mms`` mms; one
    rule says in which of them the next operations are done. ``reclaim`` is what ``Scheme.modelled`` says: with ``None``
    nothing predicts which tables are left, and all but these is compared.
    """
    space_pages = Geometry.of(bits).pages
    any_page = st.one_of([pages(bits)] * 4 + [st.just(space_pages)])
    any_range = page_ranges(bits, invalid=True)
    # Changing less than is mapped, or most of what follows would find nothing.
    short_range = any_range.map(lambda pages: (pages[0], min(pages[1], pages[0] + (2 << bits[0]))))
    most_pages = st.tuples(st.integers(0, 1 << bits[0]), st.integers(space_pages - (1 << bits[0]), space_pages))

    class AddressSpaceMachine(RuleBasedStateMachine):
        """The engine does what the model says, and is left as the model is."""

        def __init__(self) -> None:
            super().__init__()
            self.machine = make_machine()
            self.space = AddressSpaces(bits, reclaim or NEVER, mms)
            self.follower = Follower(self.space)
            self.mm = 0

        @initialize(pages=most_pages)
        def map_most(self, pages: tuple[int, int]) -> None:
            """In an empty address space most operations have no effect."""
            for mm in reversed(range(mms)):
                self.mm = mm
                self._do(mmap(*pages))

        @precondition(lambda self: mms > 1)
        @rule(mm=st.integers(0, mms - 1))
        def switch_mm(self, mm: int) -> None:
            """The next operations are done in ``mm``."""
            self.mm = mm

        @rule(page=any_page)
        def read(self, page: int) -> None:
            """Load."""
            self._do(read(page))

        @rule(page=any_page)
        def write(self, page: int) -> None:
            """Store."""
            self._do(write(page))

        @rule(page=any_page, store=st.booleans())
        def gup_fast(self, page: int, store: bool) -> None:
            """Load or store through a pin."""
            self._do(gup_fast(page, store))

        @rule(pages=any_range)
        def walk(self, pages: tuple[int, int]) -> None:
            """Look which pages are present."""
            self._do(walk(*pages))

        @rule(pages=short_range, writable=st.sampled_from((True, True, True, False)))
        def mmap(self, pages: tuple[int, int], writable: bool) -> None:
            """Map, over whatever is there."""
            self._do(mmap(*pages, writable=writable))

        @rule(pages=short_range)
        def munmap(self, pages: tuple[int, int]) -> None:
            """Unmap."""
            self._do(munmap(*pages))

        @rule(pages=short_range, write=st.booleans())
        def populate(self, pages: tuple[int, int], write: bool) -> None:
            """Fault pages in."""
            self._do(populate(*pages, write=write))

        @rule(pages=any_range)
        def age(self, pages: tuple[int, int]) -> None:
            """Look which pages are young."""
            self._do(age(*pages))

        @rule(pages=short_range, writable=st.booleans())
        def mprotect(self, pages: tuple[int, int], writable: bool) -> None:
            """Let pages be written, or not."""
            self._do(mprotect(*pages, writable=writable))

        @rule(pages=any_range)
        def dontneed(self, pages: tuple[int, int]) -> None:
            """Drop pages; tables go as the policy says."""
            self._do(dontneed(*pages))

        @rule(pages=short_range)
        def guard_install(self, pages: tuple[int, int]) -> None:
            """Put guard markers in place of what is there."""
            self._do(guard_install(*pages))

        @rule(pages=any_range)
        def guard_remove(self, pages: tuple[int, int]) -> None:
            """Take guard markers out."""
            self._do(guard_remove(*pages))

        @rule(pages=any_range)
        def free(self, pages: tuple[int, int]) -> None:
            """Give pages to reclaim."""
            self._do(free(*pages))

        @rule(pages=any_range)
        def discard(self, pages: tuple[int, int]) -> None:
            """Drop what is free and clean."""
            self._do(discard(*pages))

        @rule()
        def scan(self) -> None:
            """Let the reclaim policy look for empty tables."""
            self._do(scan())

        @rule()
        def exit_mm(self) -> None:
            """End the mm; an only one stays."""
            self._do(exit_mm())

        @invariant()
        def engine_equals_model(self) -> None:
            """VMAs, pages, tables of every level, counters; and the engine's own invariants hold."""
            difference = compare(self.space, self.machine.snapshot(), tables=reclaim is not None)
            assert difference is None, difference
            assert self.machine.check() == 0, self.machine.reports()

        def _do(self, op: Op) -> None:
            op = op.moved(self.mm)
            events, table_bytes = self.machine.serial(op_array([op]))
            (seen,) = observations(events)
            difference = self.follower.follow(op, seen)
            assert difference is None, difference
            assert reclaim is None or int(table_bytes[0]) == self.space.table_bytes, f"{op}: table bytes"

    return AddressSpaceMachine
