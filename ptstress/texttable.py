"""Tables of schemes as plain text: one row of words for each line, columns as wide as they must be."""

from collections.abc import Mapping, Sequence


def grid(rows: Sequence[str], columns: Sequence[str], texts: Mapping[tuple[str, str], str]) -> list[str]:
    """A line for each row and a column for each name; ``texts`` by both, nothing where there is none."""
    head = [["", *words] for words in headings(columns)]
    return aligned(head + [[row, *(texts.get((row, column), "") for column in columns)] for row in rows])


def headings(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Rows with the names, the parts of each below each other, so that columns stay narrow."""
    parts = [name.split("-") for name in names]
    height = max(map(len, parts), default=0)
    return list(zip(*[[""] * (height - len(words)) + words for words in parts], strict=True))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines: the first column begins where the line does, the others end together."""
    widths = _widths(rows)
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]


def flush_left(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines, every column as a list of words."""
    widths = _widths(rows)
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]
