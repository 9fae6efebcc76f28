"""The address spaces of a machine with several mms: one ``AddressSpace`` each, told apart by global page numbers.

They share frames, tables and VMA objects, but no results depend on that while allocations do not fail.
"""

from collections.abc import Iterator

from ptstress.model.result import Result
from ptstress.model.space import AddressSpace
from ptstress.operation import Op
from ptstress.pages import global_page, local_page, mm_of
from ptstress.vocabulary import Verb


class AddressSpaces:
    """``mms`` address spaces of geometry ``bits``, with the face of one."""

    def __init__(self, bits: tuple[int, ...], reclaim: str = "sync", mms: int = 1) -> None:
        self.spaces = [AddressSpace(bits, reclaim) for _ in range(mms)]
        self.geometry = self.spaces[0].geometry

    def parts(self) -> Iterator[tuple[int, AddressSpace]]:
        """``(first global page, address space)`` of each mm."""
        return ((global_page(mm, 0), space) for mm, space in enumerate(self.spaces))

    @property
    def table_bytes(self) -> int:
        """Bytes of all pte, pmd and pud tables of all mms."""
        return sum(space.table_bytes for space in self.spaces)

    def apply(self, op: Op) -> Result:
        """Do one operation in its mm. Pages of an mm that does not exist lie behind the end of the first one."""
        if op.mm >= len(self.spaces):
            return self.spaces[0].apply(op)
        if op.verb is Verb.EXIT and len(self.spaces) > 1 and local_page(op.start) == 0:
            self.spaces[op.mm] = self.spaces[op.mm].reborn()
            return Result(0)
        result = self.spaces[op.mm].apply(op.moved(-op.mm))
        if op.verb in (Verb.SCAN, Verb.DISCARD) and result.status == 0:
            for space in self.spaces:
                space.scan()        # whichever mm it was told of
        return result

    def learn(self, page: int, incarnation: int, value: int) -> None:
        """As ``AddressSpace.learn``, of a global page."""
        self.spaces[mm_of(page)].learn(local_page(page), incarnation, value)
