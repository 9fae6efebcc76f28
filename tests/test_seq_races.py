"""A report of ThreadSanitizer becomes one line: what raced, and who did what where."""

import os

import pytest

from ptstress import sanitizer
from ptstress.engine import load_explorer
from ptstress.races import first_race, race_text

REPORT = """\
==================
WARNING: ThreadSanitizer: data race (pid=1)
  Atomic read of size 4 at 0x7f00000010 by thread T2:
    #0 pt_helper build/cy-tsan_sched/cy/face/engine.c:1410 (_engine_tsan_sched.so+0x3372d)
    #1 __pyx_f_2cy_2mm_5table_table_check_live cy/mm/table.pxd:133 (_engine_tsan_sched.so+0x3372d)
    #2 __pyx_f_2cy_2mm_3map_entry_offset cy/mm/map.pxd:46 (_engine_tsan_sched.so+0x3372d)

  Previous write of size 8 at 0x7f00000010 by thread T10 (mutexes: write M1):
    #0 __pyx_f_2cy_2mm_5arena_arena_alloc cy/mm/arena.pxd:57 (_engine_tsan_sched.so+0x4bb08)

  Thread T2 'CPU0' (tid=0, running) created by main thread at:
    #0 pt_tsan_fibre build/cy-explore/cy/explore/explore.c:1499 (_explore.so+0x26cf6)

  Thread T10 'CPU2' (tid=0, running) created by main thread at:
    #0 pt_tsan_fibre build/cy-explore/cy/explore/explore.c:1499 (_explore.so+0x26cf6)

SUMMARY: ThreadSanitizer: data race cy/mm/table.pxd:133 in __pyx_f_2cy_2mm_5table_table_check_live
==================
"""
OTHER = REPORT.replace("CPU0", "CPU7")


def name_of(func):
    """As the explorer has it."""
    return load_explorer().source_name(func)


def test_both_accesses_are_read():
    later, earlier = first_race(REPORT + OTHER, name_of)
    assert (later.marked, later.kind, later.size, later.address, later.who) == (True, "read", 4, 0x7F00000010, "CPU0")
    assert later.where == "table_check_live (cy/mm/table.pxd:133)"
    assert (earlier.marked, earlier.kind, earlier.size, earlier.who) == (False, "write", 8, "CPU2")
    assert earlier.where == "arena_alloc (cy/mm/arena.pxd:57)"


def test_one_line_tells_it():
    assert race_text(REPORT, name_of, lambda address: f"word {address & 0xFF}") == (
        "data race on word 16: marked read by CPU0 in table_check_live (cy/mm/table.pxd:133), "
        "not ordered behind the plain write by CPU2 in arena_alloc (cy/mm/arena.pxd:57)"
    )


@pytest.mark.parametrize("stack", ["    [failed to restore the stack]\n", "    #0 memset libtsan.so (libtsan.so+0x1)\n"])
def test_a_stack_without_a_function_of_the_engine_is_left_out(stack):
    lost = "".join(line for line in REPORT.splitlines(keepends=True) if "arena_alloc" not in line)
    lost = lost.replace("(mutexes: write M1):\n", f"(mutexes: write M1):\n{stack}")
    assert race_text(lost, name_of, hex).endswith("not ordered behind the plain write by CPU2")


def test_without_a_race_there_is_none():
    assert first_race("", name_of) == ()
    assert first_race("WARNING: ThreadSanitizer: thread leak (pid=1)\n", name_of) == ()
    assert race_text("", name_of, hex) == "data race"


def test_a_process_is_given_the_library_and_keeps_its_own_options(monkeypatch):
    monkeypatch.setattr(sanitizer, "runtime", lambda: "/lib/libtsan.so")
    monkeypatch.setenv("TSAN_OPTIONS", "history_size=7")
    given = sanitizer.environment("exitcode=0")
    assert (given["LD_PRELOAD"], given["TSAN_OPTIONS"]) == ("/lib/libtsan.so", "history_size=7:exitcode=0")
    monkeypatch.delenv("TSAN_OPTIONS")
    assert sanitizer.environment("exitcode=0")["TSAN_OPTIONS"] == "exitcode=0"
    started = []
    monkeypatch.setattr(os, "execvpe", lambda file, arguments, env: started.append((arguments[-3:], env["LD_PRELOAD"])))
    sanitizer.become_sanitized(["explore"])
    assert started == [(["-m", "ptstress", "explore"], "/lib/libtsan.so")]


def test_a_process_that_has_asked_for_the_library_does_not_ask_again(monkeypatch):
    monkeypatch.setattr(sanitizer, "runtime", lambda: "/lib/libtsan.so")
    monkeypatch.setenv("LD_PRELOAD", "/lib/libtsan.so")
    monkeypatch.setattr(os, "execvpe", lambda *_: pytest.fail("it was started again"))
    sanitizer.become_sanitized(["explore"])


def test_a_process_without_the_library_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(sanitizer, "runtime", lambda: "/lib/libtsan.so")
    with pytest.raises(sanitizer.NotLoadedError, match="build 'tsan_sched' needs .* expected LD_PRELOAD=/lib/libtsan.so"):
        sanitizer.require_loaded("tsan_sched")


def test_a_compiler_without_the_library_is_named(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(sanitizer.UnsupportedError, match="no-such-compiler -print-file-name=libtsan.so: expected a compiler"):
        sanitizer.runtime()
