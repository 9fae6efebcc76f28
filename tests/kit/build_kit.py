"""Builds the kit from the installed headers, as another project would, and keeps it until something changes.

Both builds come from one translation; only the C macros differ.
"""

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import Cython

import ptstress

HERE = Path(__file__).parent

#: build: its macros. Real threads take "stress", the explorer takes "sched".
MACROS = {
    "stress": ("PT_CHECKS=1", "PT_DELAY=1"),
    "sched": ("PT_CHECKS=1", "PT_SCHED=1", "PT_RCU_XCHG=1"),
}
DIRECTIVES = {
    "language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True, "initializedcheck": False,
}


def fingerprint() -> str:
    """Changes with everything that the kit is made of."""
    found = hashlib.sha256(f"{sys.version} {Cython.__version__} {os.environ.get('CC')}".encode())
    headers = (Path(ptstress.get_include()) / "cy").rglob("*.p[xy][dix]")
    for path in [*sorted(headers), *sorted(HERE.glob("*.p[xy][ixy]"))]:
        found.update(path.name.encode() + path.read_bytes())
    found.update(Path(__file__).read_bytes())
    return found.hexdigest()


def translate(folder: Path) -> Path:
    """Cython to C. Raises if Cython gives a performance hint."""
    source = folder / "kit.c"
    options = [part for name, value in DIRECTIVES.items() for part in ("-X", f"{name}={value}")]
    done = subprocess.run(
        [sys.executable, "-m", "cython", "--line-directives", "-I", ptstress.get_include(), *options, "-o", str(source),
         str(HERE / "kit.pyx")],
        capture_output=True, text=True, check=False,
    )
    if done.returncode != 0 or "performance hint" in done.stderr:
        raise RuntimeError(f"the kit cannot be translated:\n{done.stderr}")
    return source


def compile_all(source: Path, folder: Path) -> None:
    """One extension for each build, at the same time."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC")).split()
    running = {}
    for build, macros in MACROS.items():
        command = [
            *compiler, "-shared", "-fPIC", "-O1", "-pthread", f"-I{sysconfig.get_path('include')}",
            *(f"-D{macro}" for macro in macros), str(source), "-o", str(folder / f"{build}.new"),
        ]
        running[build] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = {build: process.communicate()[0] for build, process in running.items()}
    for build, process in running.items():
        if process.returncode != 0:
            raise RuntimeError(f"the {build} kit cannot be compiled:\n{said[build]}")
        os.replace(folder / f"{build}.new", folder / f"{build}.so")


def load_kit(build: str, folder: Path) -> ModuleType:
    """The kit of a build, made in ``folder`` if it is not there. Only one process at a time makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    made_from = folder / "fingerprint"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = fingerprint()
        if not made_from.exists() or made_from.read_text() != wanted:
            made_from.unlink(missing_ok=True)
            compile_all(translate(folder), folder)
            made_from.write_text(wanted)
    spec = importlib.util.spec_from_file_location("kit", folder / f"{build}.so")
    assert spec is not None and spec.loader is not None
    kit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kit)
    return kit
