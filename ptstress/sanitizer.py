"""ThreadSanitizer's run-time library, which an instrumented build needs before Python is loaded: where it is, and who has it."""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ptstress.errors import UnsupportedError

#: Of TSAN_OPTIONS: an exploration goes on behind a report, asks for the same one again when it repeats an execution, and
#: gives an exit status of its own.
EXPLORING = "halt_on_error=0:exitcode=0:suppress_equal_stacks=0:suppress_equal_addresses=0"
# More random bits of the address space than this and the sanitizer's shadow memory has no place.
_MAX_RANDOM_BITS = 28


class NotLoadedError(UnsupportedError):
    """This process came up without the library; another one can have it, see ``become_sanitized``."""


def loaded() -> bool:
    """Whether this process has the library."""
    return hasattr(ctypes.CDLL(None), "__tsan_init")


def require_loaded(build: str) -> None:
    """Raises ``NotLoadedError``, naming ``build``, in a process without the library."""
    if not loaded():
        raise NotLoadedError(f"build {build!r} needs ThreadSanitizer in its process: expected LD_PRELOAD={runtime()}")


def runtime() -> str:
    """Path of the library. Raises ``UnsupportedError`` if the compiler has none."""
    compiler = os.environ.get("CC", "cc")
    try:
        said = subprocess.run([compiler, "-print-file-name=libtsan.so"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise UnsupportedError(f"{compiler} -print-file-name=libtsan.so: expected a compiler: {error}") from None
    found = said.strip()
    if not Path(found).is_absolute():
        raise UnsupportedError(f"{compiler} has no libtsan.so; it comes with gcc: apt-get install -y gcc")
    return found


def command(arguments: Sequence[str]) -> list[str]:
    """A command line that runs Python with ``arguments``: without random addresses where there are too many of them."""
    bits = Path("/proc/sys/vm/mmap_rnd_bits")
    if bits.exists() and int(bits.read_text()) > _MAX_RANDOM_BITS and shutil.which("setarch"):
        return ["setarch", platform.machine(), "-R", sys.executable, *arguments]
    return [sys.executable, *arguments]


def environment(options: str) -> Mapping[str, str]:
    """This process's environment with the library in it, and with ``options`` behind its own TSAN_OPTIONS."""
    own = os.environ.get("TSAN_OPTIONS")
    return {**os.environ, "LD_PRELOAD": runtime(), "TSAN_OPTIONS": f"{own}:{options}" if own else options}


def become_sanitized(arguments: Sequence[str]) -> None:
    """Start this process anew, as ``ptstress ARGUMENTS`` with the library. Returns only if it had been asked for before."""
    env = environment(EXPLORING)
    if os.environ.get("LD_PRELOAD") != env["LD_PRELOAD"]:
        again = command(["-m", "ptstress", *arguments])
        sys.stdout.flush()
        os.execvpe(again[0], again, env)
