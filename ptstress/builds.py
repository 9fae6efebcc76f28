"""The builds of one source: their macros and flags, and how a Cython file becomes an extension of one of them.

``setup.py`` makes the engine with it, and ``ptstress.plugin`` the policies of other packages: what is compiled alike fits
together. Imports nothing but the standard library, and Cython when it translates.
"""

import contextlib
import hashlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ENGINE = "cy/face/engine.pyx"
EXPLORER = "cy/explore/explore.pyx"
HISTORY = "cy/history/history.pyx"
OPTIMISE = ("-O3", "-g")
# One unit has it all, and gcc's limits for units and stack frames would stop it from inlining what a fault passes through.
INLINE = ("--param=inline-unit-growth=300", "--param=large-stack-frame-growth=10000")
# A memset that gcc inlines is invisible to ThreadSanitizer: hence -fno-builtin.
SANITIZE = ("-fsanitize=thread",)
SANITIZED = ("-O1", "-g", "-fno-builtin", *SANITIZE)


class Build(NamedTuple):
    """One extension: its module and source, C macros, flags of compiler and linker."""

    module: str
    source: str
    macros: tuple[tuple[str, str], ...] = ()
    compiler: tuple[str, ...] = OPTIMISE
    linker: tuple[str, ...] = ()


BUILDS = {
    "fast": Build("ptstress._engine_fast", ENGINE, compiler=(*OPTIMISE, *INLINE)),
    "stress": Build("ptstress._engine_stress", ENGINE, (("PT_CHECKS", "1"), ("PT_DELAY", "1"), ("PT_FLIGHT", "1"))),
    "sched": Build(
        "ptstress._engine_sched", ENGINE, (("PT_CHECKS", "1"), ("PT_SCHED", "1"), ("PT_RCU_XCHG", "1")), (*OPTIMISE, *INLINE),
    ),
    "tsan": Build(
        "ptstress._engine_tsan", ENGINE, (("PT_CHECKS", "1"), ("PT_DELAY", "1"), ("PT_RCU_XCHG", "1")),
        SANITIZED, SANITIZE,
    ),
    "tsan_sched": Build(
        "ptstress._engine_tsan_sched", ENGINE, (("PT_CHECKS", "1"), ("PT_SCHED", "1"), ("PT_RCU_XCHG", "1")), SANITIZED, SANITIZE,
    ),
    "explore": Build("ptstress._explore", EXPLORER),
    "history": Build("ptstress._history", HISTORY),
}
RELEASED = ("fast", "stress", "sched", "explore", "history")

#: Compiler directives of every Cython file. No file sets its own.
DIRECTIVES = (
    ("language_level", 3), ("boundscheck", False), ("wraparound", False), ("cdivision", True), ("initializedcheck", False),
    ("embedsignature", False),
)


def headers_hash(root: Path) -> str:
    """Of the engine's headers in ``root``/cy: structures, functions and schedule points are those of these files."""
    digest = hashlib.blake2b(digest_size=8)
    folder = root / "cy"
    for path in sorted(folder.rglob("*.pxd")):
        if path.parent.name not in ("explore", "history"):
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def abi_hash(build: str, root: Path) -> str:
    """Two modules with the same one may hand each other structures and functions: same headers, build and macros."""
    return hashlib.blake2b(f"{headers_hash(root)} {build} {BUILDS[build].macros}".encode(), digest_size=8).hexdigest()


def c_macros(build: str, root: Path) -> list[tuple[str, str]]:
    """All macros of a build, as setuptools takes them."""
    return [("PT_BUILD_NAME", f'"{build}"'), ("PT_ABI", f'"{abi_hash(build, root)}"'), *BUILDS[build].macros]


def cython_files(root: Path) -> list[str]:
    """Every Cython file of the engine in ``root``/cy."""
    return sorted(str(path) for ext in ("pxd", "pxi", "pyx") for path in (root / "cy").rglob(f"*.{ext}"))


def translate(module: str, source: str, folder: Path, include: Sequence[str], made_by: Sequence[str]) -> str:
    """Translate ``source``, a path below the working directory, to C in ``folder``; returns the C file.

    ``include``: folders of headers. What is older than one of the files ``made_by`` is translated again. Exits if Cython
    gives a performance hint. One call and one folder for each module: cythonize() keeps settings per source file, and a
    second extension over the same file would get the macros of the first. So it sees no macros at all here.
    """
    from Cython.Build import cythonize
    from setuptools import Extension

    c_file = folder / Path(source).with_suffix(".c")
    stale = c_file.exists() and c_file.stat().st_mtime < max(Path(path).stat().st_mtime for path in made_by)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            cythonize(
                [Extension(module, [source])], include_path=list(include), build_dir=str(folder),
                compiler_directives=dict(DIRECTIVES), emit_linenums=True, force=stale, quiet=True,
            )
    finally:
        sys.stderr.write(said.getvalue())
    hints = [line for line in said.getvalue().splitlines() if "performance hint:" in line]
    if hints:
        c_file.unlink(missing_ok=True)  # else the next build would find it up to date and say nothing
        sys.exit(f"setup.py: {len(hints)} Cython performance hint(s) in {module}; see above")
    return str(c_file)
