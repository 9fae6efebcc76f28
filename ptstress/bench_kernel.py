"""The same work on the kernel that this runs on: anonymous memory without huge pages, in a process of its own.

``python -m ptstress.bench_kernel`` measures once for each line on stdin and answers with one line of JSON. A process
of its own has one thread and an address space that nobody else changes, so no flush interrupts another core.
"""

import mmap
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec
from msgspec import Struct

REGION_BYTES = 64 << 20
TABLE_BYTES = 2 << 20
PAGE_BYTES = 4096
LATENCY_ROUNDS = 8


class KernelTimes(Struct):
    """CPU time of the thread, in nanoseconds for each page."""

    fault_ns: float
    dontneed_ns: float
    access_ns: float


class Kernel:
    """The measuring process; a context manager. ``measure`` gives None where it cannot measure."""

    def __init__(self) -> None:
        package_parent = str(Path(__file__).parent.parent)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ptstress.bench_kernel"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=package_parent,
        )

    def measure(self) -> KernelTimes | None:
        """One round over the region."""
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            return msgspec.json.decode(self.process.stdout.readline(), type=KernelTimes)
        except (OSError, msgspec.DecodeError):
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        with suppress(OSError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def main() -> int:
    """Measure for each line until there is no more."""
    import numpy as np

    memory = mmap.mmap(-1, REGION_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    # One byte of each page: numpy walks them in a C loop.
    pages = np.frombuffer(memory, np.uint8)[::PAGE_BYTES]
    for _ in sys.stdin:
        begin = time.thread_time_ns()
        pages[:] = 1
        faulted = time.thread_time_ns()
        for _ in range(LATENCY_ROUNDS):
            pages[:] = 2
        accessed = time.thread_time_ns()
        for offset in range(0, REGION_BYTES, TABLE_BYTES):
            memory.madvise(mmap.MADV_DONTNEED, offset, TABLE_BYTES)
        end = time.thread_time_ns()
        n = len(pages)
        times = KernelTimes((faulted - begin) / n, (end - accessed) / n, (accessed - faulted) / n / LATENCY_ROUNDS)
        sys.stdout.write(msgspec.json.encode(times).decode() + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
