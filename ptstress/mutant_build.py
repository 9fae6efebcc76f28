"""Builds the engine of the mutants, once for each state of the headers, and loads it.

It is the ``sched`` build of a copy of ``cy/`` in which every mutant is a branch (``mutant_text``). Lines of the copy count as the
lines that they stand for, so that places, traces and their hashes are those of the engine as it is.
"""

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

from ptstress import get_include
from ptstress.builds import BUILDS, c_macros, translate
from ptstress.errors import ResourceError, UnsupportedError
from ptstress.mutant import Mutant
from ptstress.mutant_operators import find_mutants
from ptstress.mutant_source import engine_files, read_source
from ptstress.mutant_text import generated_files, mutate

MODULE = "_engine_mutants"
#: Quick to compile; how fast it runs hardly matters beside the schedule points.
FLAGS = ("-O1", "-w")
_LINE = re.compile(r'^#line (\d+) "([^"]+)"', re.MULTILINE)


def mutants_of_engine() -> list[Mutant]:
    """All mutants of the installed headers."""
    root = Path(get_include())
    return find_mutants([read_source(root, path) for path in engine_files(root)])


def load_mutants() -> ModuleType:
    """The engine of the mutants, built if it is not there. Raises ``UnsupportedError`` without a compiler or Cython."""
    folder = cache_folder()
    module = folder / (MODULE + EXTENSION_SUFFIXES[0])
    if not module.exists():
        _build(folder)
    spec = importlib.util.spec_from_file_location(MODULE, module)
    if spec is None or spec.loader is None:
        raise UnsupportedError(f"{module}: cannot be loaded")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def built() -> bool:
    """Whether it is there already."""
    return (cache_folder() / (MODULE + EXTENSION_SUFFIXES[0])).exists()


def cache_folder() -> Path:
    """Where it is kept: its name tells the text that was built, how, and the interpreter."""
    digest = hashlib.blake2b(f"{FLAGS} {sys.version}".encode(), digest_size=8)
    digest.update((Path(__file__).parent / "builds.py").read_bytes())
    for name, text in sorted(_texts().items()):
        digest.update(f"{name}\0{text}\0".encode())
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "ptstress" / f"mutants-{digest.hexdigest()}"


def compile_here() -> None:
    """Translate and compile the copy in the working directory; run in a process of its own."""
    from setuptools import Extension, setup

    folder = Path("build")
    c_file = Path(translate(MODULE, "cy/face/engine.pyx", folder, ["."], ()))
    _map_lines(c_file)
    macros = [("PT_BUILD_NAME", '"mutants"'), *c_macros("sched", Path())[1:]]
    extension = Extension(MODULE, [str(c_file)], define_macros=macros, extra_compile_args=list(FLAGS))
    setup(ext_modules=[extension], script_args=["--quiet", "build_ext", "--build-lib", "made", "--build-temp", str(folder)])


def _texts() -> dict[str, str]:
    """All files of the copy, by name; ``.lines``: from which line of the engine each line of a file comes."""
    root = Path(get_include())
    texts = generated_files(root)
    sources = [read_source(root, path) for path in engine_files(root)]
    mutants = find_mutants(sources)
    for source in sources:
        mutated = mutate(source, [m for m in mutants if m.file == source.name])
        texts[source.name] = mutated.text
        texts[f"{source.name}.lines"] = " ".join(map(str, mutated.lines))
    return texts


def _build(folder: Path) -> None:
    """Make the folder. Whoever does so at the same time makes the same."""
    work = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        for name, text in _texts().items():
            _write(work / name, text)
    except OSError as error:
        raise ResourceError(f"{error.filename}: {error.strerror}") from None
    done = subprocess.run(
        [sys.executable, "-c", "from ptstress.mutant_build import compile_here; compile_here()"],
        cwd=work, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])},
    )
    made = list((work / "made").glob(MODULE + "*"))
    if done.returncode != 0 or not made:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise UnsupportedError(f"the engine of the mutants cannot be built in {work}: {last[0]}")
    made[0].rename(work / (MODULE + EXTENSION_SUFFIXES[0]))
    if not folder.exists():
        work.rename(folder)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _map_lines(c_file: Path) -> None:
    """Let each line of the C file say from which line of the engine it comes."""
    lines = {str(path.with_suffix("")): [int(n) for n in path.read_text().split()] for path in Path("cy").rglob("*.lines")}

    def original(found: re.Match) -> str:
        number, name = int(found[1]), found[2]
        return f'#line {lines[name][number - 1] or 1} "{name}"' if name in lines else found[0]

    c_file.write_text(_LINE.sub(original, c_file.read_text(encoding="utf-8")), encoding="utf-8")
