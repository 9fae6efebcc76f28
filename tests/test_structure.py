"""Rules of the source text: floors, sizes, ordering labels, lock order, numbers that stand twice, no hidden state.

Nothing here imports an engine; ``test_seq_builds.py`` looks at what was built.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from ptstress import bugs, vocabulary

ROOT = Path(__file__).parent.parent
CY_FILES = sorted(p for ext in ("pxd", "pxi", "pyx") for p in (ROOT / "cy").rglob(f"*.{ext}"))
PY_FILES = sorted((ROOT / "ptstress").rglob("*.py"))
TEST_FILES = sorted((ROOT / "tests").rglob("*.py"))

#: Folders of cy/ and the folders that a file there may import from, besides its own.
CY_FLOORS = {
    "base": (),
    "sync": ("base",),
    "mm": ("base", "sync"),
    "core": ("base", "sync", "mm"),
    "ops": ("base", "sync", "mm", "core"),
    "reclaim": ("base", "sync", "mm", "core"),
    "protect": ("base", "sync", "mm", "core"),
    "check": ("base", "sync", "mm", "core", "ops", "reclaim", "protect"),
    "face": ("base", "sync", "mm", "core", "ops", "reclaim", "protect", "check"),
    "explore": ("base",),
    # The rules of the data oracle are those of histories too, and are not written twice; of the machine it knows nothing.
    "history": ("base", "check"),
}

#: Modules of ptstress from the lowest floor up: a module imports from its own floor, without circles, and below.
PY_FLOORS = (
    ("__init__", "errors", "vocabulary", "pages", "ranges", "builds", "plugin"),
    ("units", "texttable", "tomlfile", "schemes", "bug", "bugs_grace", "bugs_lockless", "bugs_rules", "bugs_sleep", "bugs",
     "weaken_reasons", "weaken_aims", "orderings", "invariants", "operation", "program", "schedule", "layout", "histogram"),
    ("tracefile", "trace", "workload", "job", "plan"),
    ("model", "durable", "results", "observe", "headline", "story_steps", "story_slice", "story_progress", "story",
     "chrome_trace", "telling", "burst_state", "history", "history_json", "history_drawing", "hdrlog"),
    ("sanitizer", "races", "engine", "hang", "flight", "memory", "meter", "driver", "child", "apart", "generator", "strategies",
     "verdict", "doctor", "history_window", "history_check"),
    ("canary", "outcome_table", "lab", "failure_folder", "evidence", "shrink_program", "spelling", "shrink_schedule", "shrinking",
     "causality", "weakening", "exploring", "replaying", "machines", "trial", "explore_report", "scopes", "rules", "window",
     "renumber", "recorded_order", "reconstruct"),
    ("mutant_source", "mutant", "mutant_places", "mutant_operators", "mutant_text", "mutant_build", "mutant_programs",
     "mutant_windows", "mutant_jobs", "mutant_hunt", "mutants"),
    ("report", "failures", "reconstructing", "statusline"),
    ("fuzz_example", "fuzz_wire", "fuzz_executor", "fuzz_containment", "fuzz_property", "fuzz_mutation", "fuzz_campaign",
     "fuzz_store", "fuzz_profiles", "fuzz_worker", "fuzz_summary", "fuzz_report", "fuzzing", "examining"),
    ("soak_rotation", "soak_evidence", "soak_state", "soak_checkpoint", "soak_journal", "soak_matrix", "soak_summary",
     "soak_report"),
    ("bench", "bench_twin", "bench_kernel", "bench_engine", "bench_runs", "bench_explore", "bench_schemes", "bench_fuzz",
     "history_bench"),
    ("compare_statistics", "compare_summary", "compare_table", "compare_chart", "compare_page", "compare_markdown"),
    ("hunt_wire", "hunt_worker", "hunt_summary", "hunt_report", "hunting"),
    ("pytest_plugin", "bench_commands", "fuzz_commands", "running", "compare", "compare_commands", "soaking", "repeating",
     "soak_commands", "scope_commands", "hunt_commands", "options", "listing",
     "commands", "check_commands", "cli", "__main__"),
)
#: Only this floor and those above may import an extension.
ENGINE_FLOOR = 4

SOFT_LINES, HARD_LINES, COLUMNS = 400, 600, 130
#: Files above the soft limit, each with the reason. None so far.
LONG_FILES: dict[str, str] = {}

#: C variables of the headers that are not constant, each with the reason.
C_GLOBALS = {
    "pt_current": "the running cpu, one for each thread; see cy/base/hook.pxd",
    "pt_engine_slot": "in policies of other packages only: where their engine keeps pt_current; see cy/base/hook.pxd",
    "pt_mb_word": "target of the full barrier under ThreadSanitizer; its value means nothing",
}


def code_lines(path: Path) -> list[tuple[int, str]]:
    """(number, text) of each line with its ``#`` comment cut off."""
    return [(i, re.sub(r"(^|\s)#(?!\s*(?:include|define|if|else|elif|endif|undef|error)).*", "", line))
            for i, line in enumerate(path.read_text().splitlines(), start=1)]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Every circle that a depth-first search closes."""
    found, done, trail = [], set(), []

    def visit(node: str) -> None:
        if node in trail:
            found.append([*trail[trail.index(node):], node])
        elif node not in done:
            trail.append(node)
            for target in sorted(graph.get(node, ())):
                visit(target)
            done.add(trail.pop())

    for node in sorted(graph):
        visit(node)
    return found


def cy_imports() -> dict[str, set[str]]:
    """``folder.file`` -> what it cimports."""
    graph: dict[str, set[str]] = defaultdict(set)
    for path in CY_FILES:
        name = f"{path.parent.name}.{path.stem}"
        for number, line in code_lines(path):
            if found := re.match(r"\s*from cy\.(\w+\.\w+) cimport ", line):
                graph[name].update({found[1]} - {name})
            elif found := re.match(r'include "(\w+)\.pxi"$', line):
                graph[name].add(f"{path.parent.name}.{found[1]}")
            elif re.search(r"\bcimport\b|^\s*include\s", line):
                other = re.match(r"\s*(from (libc|cpython|posix)[\w.]* )?cimport (?!cy\b)\w", line)
                assert other, f"{path}:{number}: expected `from cy.folder.file cimport name`"
    return graph


def test_cy_files_import_their_own_folder_and_lower_floors():
    assert {p.parent.name for p in CY_FILES if p.parent != ROOT / "cy"} <= set(CY_FLOORS)
    graph = cy_imports()
    wrong = [
        f"cy/{name.replace('.', '/')} imports cy/{target.replace('.', '/')}"
        for name, targets in graph.items() for target in targets
        if target.split(".")[0] not in (name.split(".")[0], *CY_FLOORS.get(name.split(".")[0], ()))
    ]
    assert wrong == []
    assert circles(graph) == []


def py_imports(path: Path) -> set[str]:
    """Full names of what a module imports, relative imports resolved."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def module_name(path: Path) -> str:
    """``model.space``; a package is called after its folder."""
    parts = path.relative_to(ROOT / "ptstress").with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def test_python_modules_import_their_own_floor_and_lower_ones():
    floor_of = {name: i for i, names in enumerate(PY_FLOORS) for name in names}
    modules = {module_name(path): path for path in PY_FILES}
    unlisted = {name.split(".")[0] for name in modules} - set(floor_of)
    assert not unlisted, f"say in PY_FLOORS on which floor these stand: {sorted(unlisted)}"
    graph: dict[str, set[str]] = defaultdict(set)
    wrong = []
    for name, path in modules.items():
        floor = floor_of[name.split(".")[0]]
        for imported in py_imports(path):
            if not imported.startswith("ptstress."):
                continue
            rest = imported.removeprefix("ptstress.")
            if rest.startswith("_") and not rest.startswith("__"):
                if floor < ENGINE_FLOOR:
                    wrong.append(f"{name} imports the extension {rest}")
                continue
            target = next((t for t in (rest, rest.rpartition(".")[0]) if t in modules), "__init__")
            if floor_of[target.split(".")[0]] > floor:
                wrong.append(f"{name} imports {target}")
            if target != name and target != "__init__":
                graph[name].add(target)
    assert wrong == []
    assert circles(graph) == []


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}}, []),
        ({"a": {"b"}, "b": {"a"}}, [["a", "b", "a"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, [["b", "c", "b"]]),
    ],
)
def test_circles_are_found(graph, expected):
    assert circles(graph) == expected


def test_files_are_short():
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in [*CY_FILES, *PY_FILES, *TEST_FILES]}
    assert {name: n for name, n in lengths.items() if n > HARD_LINES} == {}
    assert {name for name, n in lengths.items() if n > SOFT_LINES} == set(LONG_FILES)


def test_lines_are_short():
    folders = ("cy", "ptstress", "tests", "workloads")
    paths = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".pxd", ".pxi", ".pyx", ".toml")]
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {len(line)} columns"
        for path in [*paths, ROOT / "setup.py", ROOT / "pyproject.toml"]
        for number, line in enumerate(path.read_text().splitlines(), start=1) if len(line) > COLUMNS
    ]
    assert wrong == []


def test_every_ordering_label_stands_at_both_halves_and_in_the_table():
    halves: dict[str, list[str]] = defaultdict(list)
    for path in CY_FILES:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            for label in re.findall(r"\[(PT-\d+)\]", line):
                assert re.fullmatch(r"PT-\d{3}", label), f"{path}:{number}: {label}: expected three digits"
                halves[label] += [f"{path.relative_to(ROOT)}:{number}"] if "pairs with" in line else []
    assert halves, "no labels at all"
    assert {label: places for label, places in halves.items() if len(places) < 2} == {}
    listed = re.findall(r"^\|\s*\[(PT-\d{3})\]", (ROOT / "cy" / "LOCKING.md").read_text(), re.M)
    assert listed == sorted(set(halves)), "the table of orderings in cy/LOCKING.md"


def test_lock_order_in_the_code_is_the_one_in_the_document():
    text = (ROOT / "cy" / "sync" / "lockclass.pxd").read_text()
    numbers = re.findall(r"^    (LOCK_\w+) = (\d+)$", text, re.M)
    in_code = [name for name, _ in sorted(numbers, key=lambda item: int(item[1]))]
    in_comment = re.findall(r"^#\s+(LOCK_\w+) ", text, re.M)
    in_document = re.findall(r"^\|\s*\d+\s*\|\s*`(LOCK_\w+)`", (ROOT / "cy" / "LOCKING.md").read_text(), re.M)
    assert len(in_code) > 4
    assert in_comment == in_code
    assert in_document == in_code


def test_everything_nogil_is_noexcept():
    wrong = []
    for path in CY_FILES:
        for number, line in code_lines(path):
            if line.startswith("cdef extern from "):
                continue  # functions of C libraries raise nothing
            for before in re.findall(r"(\S+)\s+nogil\b", line):
                if before not in ("noexcept", "with"):
                    wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
        if path.suffix == ".pxd":
            for signature in re.findall(r"^cdef inline [^:]*?\)[^:\n]*:", path.read_text(), re.M):
                if not signature.endswith(") noexcept nogil:"):
                    wrong.append(f"{path.relative_to(ROOT)}: {signature}")
    assert wrong == []


_CIMPORT = re.compile(r"^from \S+ cimport (\([^)]*\)|[^\n(]*)", re.M)


def unused_cimports(text: str) -> set[str]:
    """Names that a Cython source cimports and then does not mention."""
    names = (name for group in _CIMPORT.findall(text) for name in group.strip("()").split(","))
    imported = {name.split(" as ")[-1].strip() for name in names} - {""}
    rest = _CIMPORT.sub("", text)
    return {name for name in imported if not re.search(rf"\b{re.escape(name)}\b", rest)}


def test_what_is_cimported_is_used():
    unused = {}
    for path in CY_FILES:
        # A module may be written in several files of its folder.
        parts = [p.read_text() for p in path.parent.glob("*.pxi")] if path.suffix == ".pyx" else []
        text = "".join([path.read_text(), *parts])
        if path.suffix != ".pxi" and unused_cimports(text):
            unused[path.name] = sorted(unused_cimports(text))
    assert unused == {}


def test_an_unused_cimport_is_found():
    assert unused_cimports("from a.b cimport (\n    x, y)\nfrom c cimport z\nx + z\n") == {"y"}


def test_no_file_sets_directives_or_uses_the_old_preprocessor():
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line}"
        for path in CY_FILES for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.match(r"#\s*(cython|distutils)\s*:", line) or re.match(r"\s*(IF|ELIF|DEF)\s", line)
    ]
    assert wrong == []


_STATIC = re.compile(
    r"^\s*static\s+(?!inline\b|const\b)[^;(={]*?(\w+)\s*(?:__attribute__[^;]*|=[^;]*|\[[^;]*)?;", re.M)


def test_headers_hold_no_state():
    wrong = []
    for path in CY_FILES:
        text = path.read_text()
        for name in _STATIC.findall(text):
            wrong += [f"{path.relative_to(ROOT)}: static {name}"] * (name not in C_GLOBALS)
        for line in re.findall(r"^cdef (?!inline|extern|struct|enum|union|packed|class|fused).*", text, re.M):
            wrong += [f"{path.relative_to(ROOT)}: {line}"] * ("(" not in line)
    assert wrong == []


MUTATORS = {"append", "add", "update", "setdefault", "pop", "popitem", "clear", "extend", "insert", "remove", "discard", "sort"}
CONTAINERS = {"list", "dict", "set", "bytearray", "defaultdict", "Counter", "deque", "OrderedDict"}


def hidden_state(tree: ast.Module) -> list[str]:
    """Names at module level that can change: containers that are not constants, or constants that something changes."""
    found, constants = [], set()
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        value = getattr(node, "value", None)
        is_container = isinstance(value, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)) or (
            isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in CONTAINERS)
        for target in targets if is_container else []:
            name = ast.unparse(target)
            constants.add(name)
            if name != "__all__" and not name.isupper():
                found.append(f"{name} is a container")
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            found.append(f"global {', '.join(node.names)}")
        changed = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
            changed = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            changed = node.func.value
        elif isinstance(node, ast.AugAssign):
            changed = node.target
        if isinstance(changed, ast.Name) and changed.id in constants:
            found.append(f"{changed.id} is changed in line {node.lineno}")
    return found


@pytest.mark.parametrize("path", PY_FILES, ids=lambda p: module_name(p))
def test_modules_hold_no_state(path):
    assert hidden_state(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("cache = {}", 1), ("seen: set[int] = set()", 1), ("def f():\n    global x\n    x = 1", 1),
        ("A = {}\ndef f():\n    A[1] = 2", 1), ("A = []\ndef f():\n    A.append(2)", 1),
        ("A = {1: 2}\nB = (1, 2)\n__all__ = ['f']\ndef f():\n    c = []\n    c.append(A[1])", 0),
    ],
)
def test_hidden_state_is_found(source, count):
    assert len(hidden_state(ast.parse(source))) == count


def enum_lines(file: str, prefix: str) -> dict[str, int]:
    """Name without prefix -> number, from the lines of Cython enums."""
    text = (ROOT / "cy" / file).read_text()
    return {name: int(number) for name, number in re.findall(rf"^    {prefix}(\w+) = (\d+)\b", text, re.M)}


def test_numbers_of_the_vocabulary_are_those_of_the_engine():
    assert enum_lines("base/shm.pxd", "VERB_") == {verb.name: verb.value for verb in vocabulary.Verb}
    assert enum_lines("base/shm.pxd", "ORACLE_") == {oracle.name: oracle.value for oracle in vocabulary.Oracle}
    sizes = enum_lines("base/shm.pxd", "NR_")
    assert sizes == {"COUNTERS": vocabulary.NR_COUNTERS, "VERBS": vocabulary.NR_VERBS}
    assert enum_lines("base/geometry.pxd", "PAGE_")["SHIFT"] == vocabulary.PAGE_SHIFT
    assert f"STATUS_UNKNOWN = {vocabulary.STATUS_UNKNOWN}\n" in (ROOT / "cy" / "base" / "shm.pxd").read_text()


def test_bugs_are_the_same_in_registry_and_engine():
    switches = enum_lines("base/bugs.pxd", "BUG_")
    assert sorted(switches) == sorted(bug.id.upper().replace("-", "_") for bug in bugs.BUGS)
    assert len(set(switches.values())) == len(switches) and max(switches.values()) < 64, "bits of one word"
    texts = (path.read_text() for path in CY_FILES if path.stem != "bugs")
    used = {name for text in texts for name in re.findall(r"\bBUG\([^()]+, BUG_(\w+)\)", text)}
    assert used == set(switches), "each bug has its line in the engine"
