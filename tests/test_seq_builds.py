"""What was built is what was asked for: flags, no trace of hooks and bugs in fast, headers for other projects."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ptstress

ROOT = Path(__file__).parent.parent

#: build: macros that it sets, as its flags() tells them
FLAGS = {
    "fast": {"checks": False, "delay": False, "sched": False, "rcu_xchg": False, "tsan": False},
    "stress": {"checks": True, "delay": True, "sched": False, "rcu_xchg": False, "tsan": False},
    "sched": {"checks": True, "delay": False, "sched": True, "rcu_xchg": True, "tsan": False},
}

OUT_OF_TREE = """
from libc.stdint cimport uint32_t, uint64_t
from cy.base.bugs cimport BUG, BUG_P01
from cy.base.geometry cimport geometry, geo_init, geo_task_size
from cy.core.zap cimport zap_page_range
cdef extern from *:
    "extern void bug_was_not_removed(void);"
    void bug_was_not_removed() noexcept nogil
def task_size(uint64_t bugs):
    cdef geometry geo
    cdef uint32_t[4] bits = [9, 9, 9, 9]
    if BUG(bugs, BUG_P01):
        bug_was_not_removed()
    return geo_task_size(&geo) if geo_init(&geo, bits, 4) == 0 else 0
"""

OUT_OF_TREE_SETUP = """
import ptstress
from Cython.Build import cythonize
from setuptools import setup
setup(name="user", py_modules=[], ext_modules=cythonize("user.pyx", include_path=[ptstress.get_include()], language_level=3))
"""


def engine(build: str):
    """The extension module of a build."""
    return importlib.import_module(f"ptstress._engine_{build}")


def symbols(build: str) -> str:
    """Names in the symbol table of a build."""
    return subprocess.run(["nm", engine(build).__file__], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("build", FLAGS)
def test_build_has_its_flags(build):
    flags = engine(build).flags()
    assert flags["name"] == build
    assert {name: flags[name] for name in FLAGS[build]} == FLAGS[build]


def test_schedule_points_leave_no_symbol_but_in_sched():
    sites = {build: len(re.findall(r"\bpt_site_\.\d+", symbols(build))) for build in FLAGS}
    assert sites["fast"] == sites["stress"] == 0
    assert sites["sched"] > 100, "the test would not see them"


def test_fast_has_no_text_of_the_lock_checks(tmp_path):
    source = (ROOT / "cy" / "sync" / "lockclass.pxd").read_text()
    # The compiler may copy the end of a text by immediate stores: what is looked for is the beginning.
    texts = [text.encode()[:24] for text in re.findall(r'b"([^"]+)"', source)]
    assert texts
    loaded = {}
    for build in ("fast", "stress"):  # debug information may name what the code has lost
        subprocess.run(["strip", "--strip-debug", "-o", tmp_path / build, engine(build).__file__], check=True)
        loaded[build] = (tmp_path / build).read_bytes()
    assert [text for text in texts if text in loaded["fast"]] == []
    assert [text for text in texts if text not in loaded["stress"]] == [], "the test would not see them"


def test_headers_work_out_of_tree_and_bugs_vanish_there(tmp_path):
    (tmp_path / "user.pyx").write_text(OUT_OF_TREE)
    (tmp_path / "setup.py").write_text(OUT_OF_TREE_SETUP)
    # cwd is no part of the include path, so that only get_include() can find cy.
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "CFLAGS": "-O2"}, check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    used = subprocess.run(
        [sys.executable, "-c", "import user; print(user.task_size(2**64 - 1))"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )
    assert used.stdout.strip() == str(1 << 48), used.stderr


def test_include_folder_holds_the_headers():
    assert (Path(ptstress.get_include()) / "cy" / "base" / "atomics.pxd").is_file()


def small_tree(folder: Path, explorer: str) -> Path:
    """A project of nothing but the lowest floor and one extension."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "cy" / "base", folder / "cy" / "base")
    (folder / "cy" / "__init__.pxd").touch()
    (folder / "cy" / "explore").mkdir()
    (folder / "cy" / "explore" / "explore.pyx").write_text(explorer)
    (folder / "ptstress").mkdir()
    (folder / "ptstress" / "__init__.py").write_text('__version__ = "0"\n')
    shutil.copy(ROOT / "ptstress" / "builds.py", folder / "ptstress")
    return folder


def build_explorer(folder: Path, builds: str = "explore") -> subprocess.CompletedProcess:
    """Run setup.py there."""
    return subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=folder, capture_output=True, text=True, env={**os.environ, "PTSTRESS_BUILDS": builds, "CFLAGS": "-O0"}, check=False,
    )


def test_performance_hint_fails_the_build_every_time(tmp_path):
    hint = "cdef void f() nogil:\n    pass\ncdef void g() noexcept nogil:\n    f()\n"
    folder = small_tree(tmp_path, hint)
    for _ in range(2):
        built = build_explorer(folder)
        assert built.returncode != 0
        assert "performance hint" in built.stderr
    assert not list((folder / "ptstress").glob("*.so"))


def test_changed_header_is_noticed(tmp_path):
    source = "from cy.base.more cimport number\ndef answer():\n    return number()\n"
    folder = small_tree(tmp_path, source)
    header = folder / "cy" / "base" / "more.pxd"
    answers = []
    for number in (41, 42):
        header.write_text(f"cdef inline int number() noexcept nogil:\n    return {number}\n")
        late = (folder / "setup.py").stat().st_mtime + 10 * number  # later than everything built before
        os.utime(header, (late, late))
        assert build_explorer(folder).returncode == 0
        answers.append(subprocess.run(
            [sys.executable, "-c", "from ptstress._explore import answer; print(answer())"],
            cwd=folder, capture_output=True, text=True, check=True,
        ).stdout.strip())
    assert answers == ["41", "42"]


def test_unknown_build_is_named():
    built = build_explorer(ROOT, builds="fats")
    assert built.returncode != 0
    assert "no build 'fats'; there are fast, stress, sched, tsan, tsan_sched, explore, history" in built.stderr
