"""Builds every engine variant from one source, and packs the headers and workloads beside the Python code.

``PTSTRESS_BUILDS`` names the builds to make, separated by commas: ``PTSTRESS_BUILDS=tsan python setup.py
build_ext --inplace``. Unset: the builds that a release carries. Empty: none (metadata only).
``PTSTRESS_COVERAGE=1`` makes them count the lines that run; not with --inplace.
"""

import contextlib
import io
import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ENGINE = "cy/face/engine.pyx"
EXPLORER = "cy/explore/explore.pyx"
HISTORY = "cy/history/history.pyx"
OPTIMISE = ["-O3", "-g"]
# PTSTRESS_COVERAGE=1: a build that counts which lines run, for tests/coverage/lane.py. Threads count too, hence atomic.
COUNT = ["-O0", "-g", "--coverage", "-fprofile-update=atomic"]
# A memset that gcc inlines is invisible to ThreadSanitizer: hence -fno-builtin.
SANITIZE = ["-fsanitize=thread"]

#: name: (module, source, macros, compiler flags, linker flags)
BUILDS = {
    "fast": ("ptstress._engine_fast", ENGINE, {}, OPTIMISE, []),
    "stress": ("ptstress._engine_stress", ENGINE, {"PT_CHECKS": "1", "PT_DELAY": "1"}, OPTIMISE, []),
    "sched": (
        "ptstress._engine_sched", ENGINE, {"PT_CHECKS": "1", "PT_SCHED": "1", "PT_RCU_XCHG": "1"}, OPTIMISE, [],
    ),
    "tsan": (
        "ptstress._engine_tsan", ENGINE, {"PT_CHECKS": "1", "PT_DELAY": "1", "PT_RCU_XCHG": "1"},
        ["-O1", "-g", "-fno-builtin", *SANITIZE], SANITIZE,
    ),
    "explore": ("ptstress._explore", EXPLORER, {}, OPTIMISE, []),
    "history": ("ptstress._history", HISTORY, {}, OPTIMISE, []),
}
RELEASED = ("fast", "stress", "sched", "explore", "history")

#: Compiler directives of every Cython file. No file sets its own.
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "embedsignature": False,
}


def wanted_builds() -> list[str]:
    """Names from PTSTRESS_BUILDS, or the released ones. Exits on an unknown name."""
    names = [n.strip() for n in os.environ.get("PTSTRESS_BUILDS", ",".join(RELEASED)).split(",") if n.strip()]
    for name in names:
        if name not in BUILDS:
            sys.exit(f"setup.py: PTSTRESS_BUILDS: no build {name!r}; there are {', '.join(BUILDS)}")
    return names


def cython_files() -> list[str]:
    """Every Cython file of the engine, from the project's root."""
    return sorted(str(p) for ext in ("pxd", "pxi", "pyx") for p in Path("cy").rglob(f"*.{ext}"))


def extension(name: str) -> Extension:
    """The extension of one build; its source is still Cython.

    A changed header or a changed setup.py makes it out of date.
    """
    module, source, macros, cflags, lflags = BUILDS[name]
    if os.environ.get("PTSTRESS_COVERAGE"):
        cflags, lflags = COUNT, ["--coverage"]
    ext = Extension(
        module,
        [source],
        define_macros=[("PT_BUILD_NAME", f'"{name}"'), *macros.items()],
        extra_compile_args=cflags,
        extra_link_args=lflags,
        depends=[*cython_files(), "setup.py"],
    )
    ext.build_name = name
    return ext


def cythonized(name: str, source: str) -> str:
    """Translate `source` for one build and return the C file. Exits if Cython gives a performance hint.

    One call and one folder for each build: cythonize() keeps settings per source file, and a second
    extension over the same file would get the macros of the first. So it sees no macros at all here.
    """
    from Cython.Build import cythonize

    folder = Path("build") / f"cy-{name}"
    c_file = folder / Path(source).with_suffix(".c")
    stale = c_file.exists() and c_file.stat().st_mtime < Path("setup.py").stat().st_mtime
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            cythonize(
                [Extension(BUILDS[name][0], [source])],
                include_path=["."],
                build_dir=str(folder),
                compiler_directives=DIRECTIVES,
                emit_linenums=True,
                force=stale,
                quiet=True,
            )
    finally:
        sys.stderr.write(said.getvalue())
    hints = [line for line in said.getvalue().splitlines() if "performance hint:" in line]
    if hints:
        c_file.unlink(missing_ok=True)  # else the next build would find it up to date and say nothing
        sys.exit(f"setup.py: {len(hints)} Cython performance hint(s) in the {name} build; see above")
    return str(c_file)


class BuildExt(build_ext):
    """Translates each build by itself, then compiles all of them at once."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = min(os.cpu_count() or 1, len(BUILDS))

    def build_extensions(self) -> None:
        for ext in self.extensions:
            ext.sources = [cythonized(ext.build_name, source) for source in ext.sources]
        super().build_extensions()


class BuildPy(build_py):
    """Puts the headers under ptstress/include/cy and the workloads under ptstress/workloads."""

    def extra_files(self) -> list[tuple[str, str]]:
        """(source, target) of each file; none for an editable install, which finds them in the tree."""
        if self.editable_mode:
            return []
        package = Path(self.build_lib) / "ptstress"
        headers = [(f, package / "include" / f) for f in cython_files()]
        workloads = [(str(p), package / p) for p in sorted(Path("workloads").rglob("*")) if p.is_file()]
        return [(source, str(target)) for source, target in headers + workloads]

    def run(self) -> None:
        super().run()
        for source, target in self.extra_files():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target, preserve_mode=False)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return super().get_outputs(include_bytecode) + [target for _, target in self.extra_files()]


setup(
    ext_modules=[extension(name) for name in wanted_builds()],
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy},
)
