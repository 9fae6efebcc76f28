"""The hand-written C twin of the engine's hot paths: compiled on demand, loaded with ctypes.

Only a source tree has it (``tests/bench/twin.c``, which says what it is); elsewhere ``load_twin`` says why not.
"""

import ctypes
import hashlib
import os
import subprocess
import sysconfig
from pathlib import Path

from ptstress.builds import BUILDS
from ptstress.errors import UnsupportedError

#: The flags of the fast build, so that only the source differs.
FLAGS = (*BUILDS["fast"].compiler, "-fPIC", "-shared")
KINDS = {"rcu": 0, "read": 1, "write": 2, "cycle": 3}


def twin_source() -> Path:
    """Where a source tree has the twin."""
    return Path(__file__).parent.parent / "tests" / "bench" / "twin.c"


class Twin:
    """A machine of the twin, of one cpu: two writable VMAs of ``pages`` pages each, one behind the other."""

    def __init__(self, frames: int, tables: int, pages: int) -> None:
        library = ctypes.CDLL(str(_compiled()))
        library.twin_make.restype = ctypes.c_void_p
        library.twin_measure.restype = ctypes.c_uint64
        self._measure = library.twin_measure
        self._machine = ctypes.c_void_p(
            library.twin_make(ctypes.c_uint32(frames), ctypes.c_uint32(tables), ctypes.c_uint64(pages), ctypes.c_int(1))
        )
        if not self._machine:
            raise MemoryError("the twin got no memory")

    def measure(self, what: str, first: int, pages: int, turns: int, unit: int = 512) -> tuple[int, int]:
        """As ``Bench.measure`` of the engine, for its one worker. Nanoseconds."""
        ns, fault_ns = ctypes.c_uint64(), ctypes.c_uint64()
        numbers = [ctypes.c_uint64(n) for n in (first, pages, turns, unit)]
        failed = self._measure(self._machine, KINDS[what], *numbers, ctypes.byref(ns), ctypes.byref(fault_ns))
        if failed:
            raise ValueError(f"twin: {failed} operations of {what!r} failed")
        return ns.value, fault_ns.value


def load_twin(frames: int, tables: int, pages: int) -> Twin:
    """A twin. Raises ``UnsupportedError`` with the reason if there can be none here."""
    if not twin_source().is_file():
        raise UnsupportedError("the C twin is in the source tree only (tests/bench/twin.c)")
    return Twin(frames, tables, pages)


def _compiled() -> Path:
    """The shared object, made again when the source or the compiler changes."""
    source = twin_source()
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    print_of = hashlib.sha256(source.read_bytes() + repr((compiler, FLAGS)).encode()).hexdigest()[:16]
    target = source.parent.parent.parent / "build" / "bench" / f"twin-{print_of}.so"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_suffix(f".{os.getpid()}")
    try:
        done = subprocess.run(
            [*compiler, *FLAGS, str(source), "-o", str(new)], capture_output=True, text=True, check=False,
        )
    except OSError as error:
        raise UnsupportedError(f"the C twin cannot be compiled: {compiler[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise UnsupportedError(f"the C twin cannot be compiled: {done.stderr.strip().splitlines()[-1]}")
    os.replace(new, target)
    return target
