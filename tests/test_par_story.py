"""What threads find is called by its name, too."""

import pytest

from ptstress.cli import main

WORKLOAD = """
name = "named"
summary = "faults and discards of one page"
pairs = ["write/dontneed"]
geometry = "2x2x2x4"
duration = "2s"

[[setup]]
verb = "mmap"
tables = [0, 1]

[[workers]]
name = "faults"
share = 1
{where}
mix = {{ write = 1, dontneed = 1 }}

[knobs]
delay_interval = 20
reuse = "lifo"
"""
PAGE = "pages = [0, 1]"
TABLE = 'tables = [0, 1]\nunit = { dontneed = "1 table" }'


@pytest.mark.parametrize(
    ("bug", "where", "line"),
    [
        ("MX-freed-twice", PAGE, "BUG: double free of frame in write"),
        ("MX-frame-leak", PAGE, "BUG: leak of frame"),
        ("M15-lock-order", TABLE, "BUG: wrong lock order in dontneed"),
    ],
)
def test_what_threads_find_is_called_by_its_name(tmp_path, bug, where, line):
    workload = tmp_path / "named.toml"
    workload.write_text(WORKLOAD.format(where=where))
    assert main(["run", str(workload), "--bug", bug, "--results", str(tmp_path / "results"), "-q"]) == 2
    found = [path.read_text().splitlines()[0] for path in tmp_path.glob("results/*/failure-*/description.txt")]
    assert line in found
