"""For packages with policies of their own: their extensions, and what the engine looks for in them.

A policy called ``lazy`` is one ``lazy.pyx``, compiled into a module for each build: ``lazy_fast``, ``lazy_stress``,
``lazy_sched``. A scheme names it ``plugin:lazy``, and the engine of a build loads the module of its own build.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from ptstress import get_include
from ptstress.builds import BUILDS, ENGINE, abi_hash, c_macros, translate

#: Builds that ``run``, ``soak`` and ``compare``, ``explore``, ``replay`` and ``fuzz`` need.
POLICY_BUILDS = ("fast", "stress", "sched")


def extensions(source: str, name: str | None = None, builds: Sequence[str] = POLICY_BUILDS) -> list:
    """The setuptools extensions of the policy in ``source``, one for each build: for ``setup(ext_modules=...)``.

    ``source``: a ``.pyx`` below the working directory. ``name``: of the policy, dots for packages; by default that of the
    source. Exits with one line if something is wrong.
    """
    from setuptools import Extension

    path, include = Path(source), Path(get_include())
    if path.is_absolute() or path.suffix != ".pyx" or not path.is_file():
        sys.exit(f"ptstress.plugin: {source!r}: expected a .pyx file, named from the folder of setup.py")
    for build in builds:
        if build not in BUILDS or BUILDS[build].source != ENGINE:
            able = ", ".join(name for name in BUILDS if BUILDS[name].source == ENGINE)
            sys.exit(f"ptstress.plugin: no engine is built as {build!r}: expected some of {able}")
    name = name or ".".join(path.with_suffix("").parts)
    made_by = [str(Path(__file__).parent / file) for file in ("builds.py", "plugin.py")]
    found = []
    for build in builds:
        # An update of the headers need not be younger than the C file, so that file gets another place.
        folder = Path("build") / f"cy-{build}-{abi_hash(build, include)}"
        found.append(Extension(
            f"{name}_{build}", [translate(f"{name}_{build}", source, folder, [".", str(include)], made_by)],
            define_macros=[*c_macros(build, include), ("PT_POLICY", "1")],
            extra_compile_args=list(BUILDS[build].compiler), extra_link_args=list(BUILDS[build].linker),
        ))
    return found
