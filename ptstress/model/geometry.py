"""Geometry as the model needs it: how many pages a table of each level maps.

Level 0 is the pte_table; the last level is the pgd, which always exists. As in ``cy/base/geometry.pxd``.
"""

from typing import NamedTuple

#: Levels whose tables count as page-table bytes: pte, pmd and pud tables. Linux counts no p4d_table and no pgd.
COUNTED_LEVELS = 3


class Geometry(NamedTuple):
    """``bits``: index bits of each level, 3 to 5 of them. ``shifts[l]``: log2 of the pages that a table of level ``l`` maps."""

    bits: tuple[int, ...]
    shifts: tuple[int, ...]

    @classmethod
    def of(cls, bits: tuple[int, ...]) -> "Geometry":
        """The geometry with ``bits`` index bits, level 0 first. Raises ``ValueError`` if it is none."""
        if not 3 <= len(bits) <= 5 or not all(1 <= b <= 9 for b in bits):
            raise ValueError(f"geometry {bits}: expected 3 to 5 levels of 1 to 9 bits")
        return cls(tuple(bits), tuple(sum(bits[: level + 1]) for level in range(len(bits))))

    @property
    def pages(self) -> int:
        """Pages of the address space."""
        return 1 << self.shifts[-1]

    @property
    def table_pages(self) -> int:
        """Pages that one pte_table maps."""
        return 1 << self.shifts[0]

    @property
    def table_levels(self) -> int:
        """Levels whose tables come and go: all but the pgd."""
        return len(self.bits) - 1
