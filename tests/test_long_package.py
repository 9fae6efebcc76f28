"""Wheel and sdist: each installs into an empty environment and works there, without the source tree."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
NOT_SOURCE = (".git", ".venv", "build", "dist", "results", "*.egg-info", "*.so", "__pycache__", ".hypothesis", ".pytest_cache")

#: Run by the new environment: what a user of the installed package relies on.
LOOK = """
import importlib, importlib.util, json
from pathlib import Path
import ptstress
include = Path(ptstress.get_include())
print(json.dumps({
    "include": str(include),
    "headers": sorted(str(p.relative_to(include)) for p in include.rglob("*.p??")),
    "workloads": sorted(p.name for p in (Path(ptstress.__file__).parent / "workloads").rglob("*") if p.is_file()),
    "builds": [importlib.import_module(f"ptstress._engine_{b}").flags()["name"] for b in ("fast", "stress", "sched")],
    "explorer": importlib.util.find_spec("ptstress._explore") is not None,
    "cy": importlib.util.find_spec("cy") is not None,
}))
"""


def run(*command, cwd: Path, code: int = 0, **environ: str) -> str:
    """Output of a command that has to end with ``code``."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | environ
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == code, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def distributions(tmp_path_factory) -> dict[str, Path]:
    """An sdist of a clean copy of the tree, and the wheel that is built from that sdist."""
    tree = tmp_path_factory.mktemp("source") / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    out = tree / "dist"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, cwd=tree)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return {"sdist": sdist, "wheel": wheel}


def test_wheel_holds_no_tests_no_c_and_no_package_cy(distributions):
    names = zipfile.ZipFile(distributions["wheel"]).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"ptstress"}
    assert [name for name in names if name.endswith((".c", ".o"))] == []


def test_sdist_holds_what_a_developer_needs(distributions):
    with tarfile.open(distributions["sdist"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = {"Makefile", "LICENSE", "README.md", "cy/LOCKING.md", "tests/test_structure.py", ".ci/run",
              "workloads/headline.toml"}
    assert wanted <= names
    # Nothing that is made: the one C file was written by hand.
    assert [name for name in names if name.endswith((".c", ".so"))] == ["tests/bench/twin.c"]


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_installs_and_works_in_an_empty_environment(distributions, tmp_path, kind):
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", distributions[kind], cwd=tmp_path)
    seen = json.loads(run(python, "-c", LOOK, cwd=tmp_path))
    assert Path(seen["include"]).is_relative_to(tmp_path)
    assert seen["headers"] == sorted(
        str(p.relative_to(ROOT)) for ext in ("pxd", "pxi", "pyx") for p in (ROOT / "cy").rglob(f"*.{ext}"))
    assert seen["workloads"] == sorted(p.name for p in (ROOT / "workloads").rglob("*") if p.is_file())
    assert seen["builds"] == ["fast", "stress", "sched"]
    assert (seen["explorer"], seen["cy"]) == (True, False)
    ptstress = tmp_path / "env" / "bin" / "ptstress"
    assert "linux-6.18" in run(ptstress, "list", "schemes", cwd=tmp_path)
    run(ptstress, "run", "fault_vs_dontneed", "--duration", "2s", "--threads", "2", cwd=tmp_path)


def test_a_policy_of_another_package_runs_under_every_verb(distributions, tmp_path):
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    python, ptstress = tmp_path / "env" / "bin" / "python", tmp_path / "env" / "bin" / "ptstress"
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    run(python, "-m", "pip", "install", "-q", distributions["wheel"], *requires, cwd=tmp_path)
    shutil.copytree(ROOT / "tests" / "outoftree", tmp_path / "lazy")
    run(python, "-m", "pip", "install", "-q", "--no-build-isolation", tmp_path / "lazy", cwd=tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()

    def verb(*arguments: str, code: int = 0) -> str:
        return run(ptstress, *arguments, cwd=empty, code=code)

    assert "lazy-sync" in verb("list", "schemes")
    race = ("fault_vs_dontneed", "--threads", "2", "--duration")
    ran = json.loads(verb("run", *race, "2s", "--scheme", "lazy-sync", "--json", "-"))
    assert (ran["stages"][0]["scheme"], ran["verdict"]) == ("lazy-sync", "pass")
    assert ran["stages"][0]["tables"]["reclaimed"] > 0, "nobody but the policy reclaims tables here"
    verb("run", *race, "2s", "--scheme", "lazy-sync", "--build", "fast")
    verb("compare", *race, "1s", "--repeat", "2", "--schemes", "linux-6.18,lazy-sync")
    verb("soak", *race, "10s", "--scheme", "lazy-sync")
    verb("explore", "--scheme", "lazy-sync", "--executions", "1000")
    verb("fuzz", "--scheme", "lazy-sync", "--duration", "5s", "-n", "2")
    verb("run", *race, "10s", "--scheme", "hasty-sync", code=2)
    found = json.loads(verb("explore", "--scheme", "hasty-sync", "--json", "-", code=2))["failures"][0]
    assert found["oracle"] == "use-after-free"
    verb("replay", found["replay"], code=2)
    # A protection: the operations are ours, who may be inside is the policy's.
    ran = json.loads(verb("run", *race, "3s", "--scheme", "eager", "--history", "eager.ptsh", "--json", "-"))
    assert (ran["verdict"], ran["stages"][0]["canaries"]["found"]) == ("pass", ran["stages"][0]["canaries"]["planted"])
    verb("check", "eager.ptsh")
    verb("compare", *race, "1s", "--repeat", "2", "--schemes", "mmap_lock+sync,eager")
    verb("explore", "--scheme", "eager", "--executions", "1000")
    verb("explore", "--scheme", "eager", "--bug", "P01", code=2)
