"""The lines of a recorded trace, checked one by one."""

import gzip
import zlib
from pathlib import Path
from typing import NamedTuple

from ptstress.errors import UsageError

OPS = (
    "fault", "mmap_anon", "mmap_file", "munmap", "madvise", "mprotect", "mremap", "mremap_to", "brk",
)
FORM = "t_us tid op addr len arg (times and tid decimal, the others hexadecimal)"
_LIMIT = 1 << 57  # addresses of five levels


class Record(NamedTuple):
    """One line: ``time_us`` from the first event, ``addr`` and ``length`` in bytes."""

    time_us: int
    tid: int
    op: str
    addr: int
    length: int
    arg: int


def read_records(path: Path) -> list[Record]:
    """All lines but the comments, in order of time. Raises ``UsageError`` with file, line and what was expected."""
    records: list[Record] = []
    number = 0
    try:
        with gzip.open(path, "rt", encoding="ascii") as lines:
            for number, line in enumerate(lines, start=1):
                if line.startswith("#"):
                    continue
                records.append(_parse(path, number, line))
                if len(records) > 1 and records[-1].time_us < records[-2].time_us:
                    raise UsageError(
                        f"{path}:{number}: time {records[-1].time_us} comes after {records[-2].time_us}: "
                        "expected lines in the order of time"
                    )
    except EOFError:
        raise UsageError(f"{path}:{number + 1}: the file ends here, in the middle: expected a whole gzip file") from None
    except (gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        what = "not a gzip file" if isinstance(error, gzip.BadGzipFile) and not number else f"damaged ({error})"
        raise UsageError(f"{path}:{number + 1}: {what}: expected gzipped lines of {FORM}") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not records:
        raise UsageError(f"{path}:{number + 1}: no events: expected lines of {FORM}")
    return records


def _parse(path: Path, number: int, line: str) -> Record:
    try:
        time_us, tid, op, addr, length, arg = line.split()
        record = Record(int(time_us), int(tid), op, int(addr, 16), int(length, 16), int(arg, 16))
    except ValueError:
        raise UsageError(f"{path}:{number}: {line.strip()[:60]!r}: expected {FORM}") from None
    if op not in OPS:
        raise UsageError(f"{path}:{number}: operation {op[:20]!r}: expected one of {', '.join(OPS)}")
    if min(record.time_us, record.tid, record.addr, record.length, record.arg) < 0:
        raise UsageError(f"{path}:{number}: a negative number: expected {FORM}")
    if record.addr + record.length > _LIMIT:
        raise UsageError(f"{path}:{number}: ends at {record.addr + record.length:#x}: expected addresses below {_LIMIT:#x}")
    return record
