"""Builds every engine variant from one source, and packs the headers and workloads beside the Python code.

``PTSTRESS_BUILDS`` names the builds to make, separated by commas: ``PTSTRESS_BUILDS=tsan python setup.py
build_ext --inplace``. Unset: the builds that a release carries. Empty: none (metadata only).
``PTSTRESS_COVERAGE=1`` makes them count the lines that run; not with --inplace.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

# The build backend runs this file from elsewhere.
sys.path.insert(0, str(Path(__file__).parent))
from ptstress.builds import BUILDS, RELEASED, c_macros, cython_files, translate  # noqa: E402

ROOT = Path()
#: What is older than these is made again.
MADE_BY = ("setup.py", "ptstress/builds.py")
# PTSTRESS_COVERAGE=1: a build that counts which lines run, for tests/coverage/lane.py. Threads count too, hence atomic.
COUNT = ["-O0", "-g", "--coverage", "-fprofile-update=atomic"]


def wanted_builds() -> list[str]:
    """Names from PTSTRESS_BUILDS, or the released ones. Exits on an unknown name."""
    names = [n.strip() for n in os.environ.get("PTSTRESS_BUILDS", ",".join(RELEASED)).split(",") if n.strip()]
    for name in names:
        if name not in BUILDS:
            sys.exit(f"setup.py: PTSTRESS_BUILDS: no build {name!r}; there are {', '.join(BUILDS)}")
    return names


def extension(name: str) -> Extension:
    """The extension of one build; its source is still Cython.

    A changed header, or a changed way of building, makes it out of date.
    """
    build = BUILDS[name]
    cflags, lflags = list(build.compiler), list(build.linker)
    if os.environ.get("PTSTRESS_COVERAGE"):
        cflags, lflags = COUNT, ["--coverage"]
    ext = Extension(
        build.module,
        [build.source],
        define_macros=c_macros(name, ROOT),
        extra_compile_args=cflags,
        extra_link_args=lflags,
        depends=[*cython_files(ROOT), *MADE_BY],
    )
    ext.build_name = name
    return ext


class BuildExt(build_ext):
    """Translates each build by itself, then compiles all of them at once."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = min(os.cpu_count() or 1, len(BUILDS))

    def build_extensions(self) -> None:
        for ext in self.extensions:
            folder = Path("build") / f"cy-{ext.build_name}"
            ext.sources = [translate(ext.name, source, folder, ["."], MADE_BY) for source in ext.sources]
        super().build_extensions()


class BuildPy(build_py):
    """Puts the headers under ptstress/include/cy and the workloads under ptstress/workloads."""

    def extra_files(self) -> list[tuple[str, str]]:
        """(source, target) of each file; none for an editable install, which finds them in the tree."""
        if self.editable_mode:
            return []
        package = Path(self.build_lib) / "ptstress"
        headers = [(f, package / "include" / f) for f in cython_files(ROOT)]
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
