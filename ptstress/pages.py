"""Global page numbers: the mm in the bits from ``MM_SHIFT`` on, the page in that mm below them.

So pages of several mms never look alike, and those of mm 0 are plain numbers. In text ``p3`` is page 3 of mm 0 and
``m1:p3`` that of mm 1.
"""

from ptstress.vocabulary import MM_SHIFT


def global_page(mm: int, page: int) -> int:
    """The number of page ``page`` of mm ``mm``."""
    return (mm << MM_SHIFT) + page


def mm_of(page: int) -> int:
    """The mm that a global page number names."""
    return page >> MM_SHIFT


def local_page(page: int) -> int:
    """The page in its mm."""
    return page - (mm_of(page) << MM_SHIFT)


def page_text(page: int) -> str:
    """``p3``, or ``m1:p3`` for a page of another mm than the first."""
    mm = mm_of(page)
    return f"{f'm{mm}:' if mm else ''}p{local_page(page)}"


def range_text(start: int, end: int) -> str:
    """``m1:p0..p8``: the end is in the mm of the start, or else it says its own (a range that no operation accepts)."""
    base = mm_of(start) << MM_SHIFT
    inside = base <= end <= base + (1 << MM_SHIFT)
    return f"{page_text(start)}..{f'p{end - base}' if inside else f'm{mm_of(end)}:p{local_page(end)}'}"
