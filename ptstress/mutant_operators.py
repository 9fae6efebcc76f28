"""Mutation operators M01 to M15: which places of the engine each of them changes, and how.

A place is eligible if a rule below matches its statement; ``mutant_places`` says what is no place at all.
"""

import re
from collections.abc import Iterable, Iterator

from ptstress.mutant import Call, Insert, Mutant
from ptstress.mutant_places import (
    ACQUIRES, ENTRY, FLUSHES, FULL_BARRIERS, LOADS, NOTES, ORDERED, PREDICATES, RECHECK_FUNCTIONS, RECHECKS, RELEASES, RMW,
    UNORDERED, Place, arguments, bare_statements, called, has_effect, is_exempt, move_before, move_behind, neighbour)
from ptstress.mutant_source import Function, Source, Statement

OPERATORS = (
    ("M01", "drop-recheck", "what is looked at again under a lock counts as unchanged"),
    ("M02", "drop-lock", "a lock and its unlock are left out, or a lock excludes nobody"),
    ("M03", "early-unlock", "unlocks before the statement that stood before it"),
    ("M04", "late-lock", "locks behind the statement that stood behind it"),
    ("M05", "wrong-lock", "takes the lock of the whole mm, or of the pgd, in place of the right one"),
    ("M06", "downgrade", "takes mmap_lock for reading in place of for writing, or does not wait for readers"),
    ("M07", "skip-grace", "frees now, or does not wait"),
    ("M08", "short-grace", "no read section, one that ends too early, a cpu less, a grace period less"),
    ("M09", "drop-flush", "does not flush, a page less, a cpu less"),
    ("M10", "late-flush", "flushes behind the next unlock or statement"),
    ("M11", "split-rmw", "loads and stores in place of an atomic read-modify-write"),
    ("M12", "clear-set", "clears, then sets, in place of replacing"),
    ("M13", "double-read", "reads again in place of using what was read"),
    ("M14", "weaken-order", "relaxed in place of a release or a full barrier; no barrier"),
    ("M15", "swap-order", "the two statements the other way round"),
)


#: What no lock keeps together any more can be parted anywhere, and where accesses are bare only if there is a schedule point.
_OF_LOCKS = ("M02", "M03", "M04", "M05")


def find_mutants(sources: list[Source]) -> list[Mutant]:
    """All mutants, numbered from 1 on, with ids such as ``M11.04``. The order is that of operators, files and lines."""
    found = [mutant for source in sources for function in source.functions for mutant in _of_function(source, function)]
    found.sort(key=lambda m: m.operator)
    counts: dict[str, int] = {}
    for number, mutant in enumerate(found, start=1):
        counts[mutant.operator] = counts.get(mutant.operator, 0) + 1
        mutant.number, mutant.id = number, f"{mutant.operator}.{counts[mutant.operator]:02d}"
    return found


def _of_function(source: Source, function: Function) -> Iterator[Mutant]:
    if is_exempt(source, function):
        return
    place = Place(source, function)
    for statement in place.statements:
        for rule in _RULES:
            for mutant in rule(place, statement):
                if mutant.operator in _OF_LOCKS:
                    _part(mutant, bare_statements(source))
                yield mutant


def _part(mutant: Mutant, statements: Iterable[Statement]) -> None:
    """Let others run before each of these statements, and between the load and the store of one that does both."""
    for s in statements:
        changed = re.match(r"(\S+) ([-+])= (.+)$", s.text)
        if changed and s not in mutant.removed:
            word, sign, by = changed.groups()
            mutant.removed.append(s)
            mutant.inserted.append(Insert(s.first, s.indent, f"{word} = mut_later({word}) {sign} ({by})"))
        else:
            mutant.inserted.append(Insert(s.first, s.indent, "pass"))


# -- the operators ---------------------------------------------------------------------------------------------------


def _drop_recheck(place: Place, s: Statement) -> Iterator[Mutant]:
    if s.text.startswith("return ") and RECHECK_FUNCTIONS.match(place.function.name) and re.search(rf"\b({LOADS})\(", s.text):
        good = not re.match("seq_retry|page_is_pinned", place.function.name)
        macro = "mut_true" if good else "mut_false"
        yield place.mutant("M01", s, f"return {good}", spans=place.whole_condition(s, macro))
    if s.keyword not in ("if", "elif"):
        return
    condition = s.condition
    shared = re.search(rf"\b({LOADS}|{PREDICATES})\(", condition) is not None and s.first in place.locked \
        or re.search(r"READ_ONCE(32)?\([^()]*\) [!=]= \w", condition)
    if not shared and not re.search(rf"\b({RECHECKS})\(", condition):
        return
    bails = any(re.match(r"(return( False| 0| NULL| new| -\w+| \w+_PFN)?|continue|break)$", t.text) for t in s.suite)
    macro = "mut_false" if bails else "mut_true"
    yield place.mutant("M01", s, f"{s.keyword} {not bails}", spans=place.whole_condition(s, macro))


_PAIRS = {
    "spin_lock": (("spin_unlock",), 1), "table_lock": (("table_unlock",), 2), "mmap_read_lock": (("mmap_read_unlock",), 1),
    "mmap_write_lock": (("mmap_write_unlock",), 1), "seq_write_begin": (("seq_write_end",), 0),
}


def _pair(place: Place, s: Statement, names: str) -> list[Statement]:
    """An acquire statement and its releases in the same function; empty if there are none."""
    name = called(s, names)
    if not name:
        return []
    releases, key = _PAIRS[name]
    taken = arguments(s.text, name)[key]
    ends = [t for t in place.statements for release in releases
            if called(t, release) and arguments(t.text, release)[key] == taken]
    return [s, *ends] if ends else []


def _drop_lock(place: Place, s: Statement) -> Iterator[Mutant]:
    pair = _pair(place, s, "|".join(_PAIRS))
    if pair and not any(t.text.startswith("mmap_write_downgrade") for t in place.statements):
        yield place.mutant("M02", s, "no lock, no unlock", removed=pair)
    elif name := called(s, "spin_lock|mmap_read_lock|mmap_write_lock"):
        inserted = [Insert(s.first, s.indent, s.text.replace(name, name + "_nowait", 1))]
        yield place.mutant("M02", s, "excludes nobody", removed=[s], inserted=inserted)
    elif called(s, "vma_start_write"):
        yield place.mutant("M02", s, "no lock", removed=[s])
    elif not s.text.startswith("cdef"):
        for line, start, name in place.calls(s, "spin_trylock"):
            if s.keyword:
                yield place.mutant("M02", s, "excludes nobody", calls=[Call(line, start, name, 0)])


def _early_unlock(place: Place, s: Statement) -> Iterator[Mutant]:
    before = neighbour(s, -1)
    if not called(s, RELEASES) or not has_effect(before) or re.match(rf"({RELEASES}|{ACQUIRES})\(", before.text):
        return
    yield place.mutant("M03", s, f"before: {before.text}", **move_before(s, before))


def _late_lock(place: Place, s: Statement) -> Iterator[Mutant]:
    behind = neighbour(s, 1)
    if not called(s, ACQUIRES) or not has_effect(behind) or re.match(rf"({RELEASES}|{ACQUIRES})\(", behind.text):
        return
    if not behind.simple and any(called(t, RELEASES) for t in behind.walk()):
        return
    if behind.keyword == "if" and (chained := behind.neighbour(1)) and chained.keyword in ("elif", "else"):
        return
    yield place.mutant("M04", s, f"behind: {behind.text}", **move_behind(s, behind))


def _wrong_lock(place: Place, s: Statement) -> Iterator[Mutant]:
    pair = _pair(place, s, "spin_lock")
    if not pair or not place.mm:
        return
    right = arguments(s.text, "spin_lock")[1]
    wrong = f"&{place.mm}.page_table_lock" if "page_table_lock" not in right else f"&{place.mm}.pgd.lock"
    inserted = [Insert(t.first, t.indent, t.text.replace(right, wrong)) for t in pair]
    yield place.mutant("M05", s, f"lock {wrong[1:]}", removed=pair, inserted=inserted)


def _downgrade(place: Place, s: Statement) -> Iterator[Mutant]:
    if called(s, "mmap_write_lock"):
        inserted = [Insert(s.first, s.indent, s.text.replace("mmap_write_lock", "mmap_write_lock_shared", 1))]
        yield place.mutant("M06", s, "for reading", removed=[s], inserted=inserted)
    elif called(s, "_wait_for_readers"):
        yield place.mutant("M06", s, "does not wait", removed=[s])


def _skip_grace(place: Place, s: Statement) -> Iterator[Mutant]:
    if name := called(s, "call_rcu|call_srcu"):
        cpu, _, head, callback = arguments(s.text, name)
        inserted = [Insert(s.first, s.indent, f"{callback}({cpu}, <rcu_head *>{head})")]
        yield place.mutant("M07", s, "now", removed=[s], inserted=inserted)
    elif name := called(s, "table_free_rcu"):
        inserted = [Insert(s.first, s.indent, s.text.replace(name, "table_free_now", 1))]
        yield place.mutant("M07", s, "now", removed=[s], inserted=inserted)
    elif found := re.match(r"chain_add\((\w+)\.mm, &\1\.frames, pfn\)$", s.text):
        inserted = [Insert(s.first, s.indent, f"frame_free({found[1]}.cpu, {found[1]}.mm, pfn)")]
        yield place.mutant("M07", s, "now", removed=[s], inserted=inserted)
    elif called(s, "synchronize_rcu|rcu_barrier|srcu_barrier|rcu_backpressure|srcu_backpressure"):
        yield place.mutant("M07", s, "does not wait", removed=[s])
    elif s.keyword == "if" and (re.search(r"gp_reached\(", s.condition) or s.condition == "m.vma_typesafe") \
            and not s.condition.startswith("not"):
        yield place.mutant("M07", s, "if True", spans=place.whole_condition(s, "mut_true"))


def _short_grace(place: Place, s: Statement) -> Iterator[Mutant]:
    if called(s, "rcu_read_lock|irq_off_begin"):
        end = "rcu_read_unlock" if s.text.startswith("rcu") else "irq_off_end"
        name = s.text.split("(")[0]
        taken = arguments(s.text, name)[1]
        ends = [t for t in place.statements if called(t, end) and arguments(t.text, end)[1] == taken]
        if ends:
            yield place.mutant("M08", s, "no section", removed=[s, *ends])
        behind = neighbour(s, 1)
        if has_effect(behind) and behind.simple and not called(behind, "rcu_read_lock"):
            yield place.mutant("M08", s, f"behind: {behind.text}", **move_behind(s, behind))
    elif called(s, "rcu_read_unlock|irq_off_end|pte_unmap|entry_unmap|srcu_read_unlock"):
        before = neighbour(s, -1)
        if has_effect(before) and not re.match(rf"({ACQUIRES}|rcu_read_\w+)\(", before.text):
            yield place.mutant("M08", s, f"before: {before.text}", **move_before(s, before))
    elif "sync" in place.source.name:
        if s.keyword == "for" and (found := re.search(r"range\((\w+\.nr_cpus)\)", s.text)):
            spans = place.text_at(s, found[1], f"mut_less({{n}}, {found[1]})")
            yield place.mutant("M08", s, "a cpu less", spans=spans)
        elif s.text.endswith(" + 2") and s.text.startswith("return"):
            yield place.mutant("M08", s, "+ 0", spans=place.text_at(s, " + 2", " + mut_pick({n}, 0, 2)"))


def _drop_flush(place: Place, s: Statement) -> Iterator[Mutant]:
    name = called(s, f"{FLUSHES}|{NOTES}")
    if name and name != "tlb_finish_mmu":
        yield place.mutant("M09", s, "no flush", removed=[s])
    if name in ("flush_tlb_range", "tlb_flush_range_add"):
        start, end = arguments(s.text, name)[-3 if name == "flush_tlb_range" else -2 :][:2]
        if not end.startswith(start + " + ") or "geo_table_span" in end:
            narrow = s.text.replace(end, f"({end}) - 4096", 1) if start != end else s.text
            yield place.mutant("M09", s, "a page less", removed=[s], inserted=[Insert(s.first, s.indent, narrow)])
    if called(s, "atomic_add_mb") and re.search(r"flush_gen|full_flushes", s.text):
        yield place.mutant("M09", s, "no flush", removed=[s])
    if s.text.endswith(".freed_tables = True"):
        yield place.mutant("M09", s, "leaf entries only", removed=[s])
    if called(s, "mmu_notifier_invalidate_range_start"):
        ends = [t for t in place.statements if called(t, "mmu_notifier_invalidate_range_end")]
        yield place.mutant("M09", s, "no notifier", removed=[s, *ends])
    if s.keyword == "for" and place.source.name == "cy/mm/tlb.pxd" and "m.nr_cpus" in s.text:
        yield place.mutant("M09", s, "a cpu less", spans=place.text_at(s, "m.nr_cpus", "mut_less({n}, m.nr_cpus)"))


def _late_flush(place: Place, s: Statement) -> Iterator[Mutant]:
    if not called(s, FLUSHES):
        return
    behind = neighbour(s, 1)
    while behind is not None and not re.match(rf"({RELEASES})\(", behind.text):
        behind = neighbour(behind, 1)
    behind = behind or neighbour(s, 1)
    if behind is None or behind.leaves() or behind.keyword in ("elif", "else"):
        return
    yield place.mutant("M10", s, f"behind: {behind.text}", **move_behind(s, behind))


def _split_rmw(place: Place, s: Statement) -> Iterator[Mutant]:
    for line, start, name in place.calls(s, RMW):
        yield place.mutant("M11", s, f"{name}: load, then store", calls=[Call(line, start, name, 0)])


def _clear_set(place: Place, s: Statement) -> Iterator[Mutant]:
    for line, start, name in place.calls(s, "cmpxchg|WRITE_ONCE"):
        given = arguments(s.text[s.text.index(name + "(") :], name)
        if ENTRY.search(given[0]) and given[-1] != "0" and (name == "cmpxchg" or "slots[" in given[0]):
            yield place.mutant("M12", s, f"{name}: 0 first", calls=[Call(line, start, name, 1)])


def _double_read(place: Place, s: Statement) -> Iterator[Mutant]:
    found = re.match(rf"(?:cdef [\w ]+?\*? ?)?(\w+) = ((?:{LOADS})\([^=]*\))$", s.text)
    if not found:
        return
    name, load = found.groups()
    inputs = set(re.findall(r"(?<![\w.])([a-z_]\w*)\b(?!\()", load)) | {load}
    uses = 0
    at = place.statements.index(s)
    for t in place.statements[at + 1 :]:
        if re.match(rf"(\w+, )*{name}\b[^=]* [-+|&]?= ", t.text):
            return
        if any(re.match(rf"{re.escape(i)} [-+|&]?= ", t.text) for i in inputs):
            return
        if not re.search(rf"(?<![\w.]){name}\b", t.text):
            continue
        uses += 1
        if uses > 1 and t.keyword not in ("elif", "else", "while", "for") and not t.text.startswith("cdef"):
            inserted = [Insert(t.first, t.indent, f"{name} = {load}")]
            yield place.mutant("M13", s, f"again before: {t.text}", inserted=inserted)


def _weaken_order(place: Place, s: Statement) -> Iterator[Mutant]:
    """A release goes to memory at once, before what waits; what a barrier or a read-modify-write orders the engine itself leaves
    out (``cy/base/weak.pxd``), and the text only says when one comes there.
    """
    def weakened(line: int, change: str) -> Mutant:
        return place.mutant("M14", s, change, inserted=[Insert(s.first, s.indent, "pass")], weakened=(line + 1,))

    if called(s, "smp_mb|smp_mb__after_spinlock"):
        yield weakened(s.first, "no barrier")
    for line, start, name in place.calls(s, "smp_store_release32|smp_store_release"):
        yield place.mutant("M14", s, f"{name}: relaxed", calls=[Call(line, start, name, 0)])
    if place.labelled(s):
        for line, _, name in place.calls(s, "|".join(FULL_BARRIERS)):
            yield weakened(line, f"{name}: relaxed")


def _swap_order(place: Place, s: Statement) -> Iterator[Mutant]:
    behind = neighbour(s, 1)
    if behind is None or not s.simple or not behind.simple or behind not in place.statements:
        return
    if not ORDERED.match(s.text) or not ORDERED.match(behind.text) or UNORDERED.match(s.text) or UNORDERED.match(behind.text):
        return
    assigned = re.match(r"(\w+) = ", s.text)
    if assigned and re.search(rf"\b{assigned[1]}\b", behind.text):
        return
    if re.match(rf"({RELEASES})\(", behind.text) and not re.match(rf"({RELEASES})\(", s.text):
        return                                          # M03
    if re.match(rf"({ACQUIRES})\(", s.text) and not re.match(rf"({ACQUIRES})\(", behind.text):
        return                                          # M04
    if re.match(rf"({FLUSHES})\(", s.text) or re.match(r"rcu_read_lock|(rcu_read_unlock|pte_unmap|entry_unmap)\(", behind.text):
        return                                          # M10, M08
    yield place.mutant("M15", s, f"behind: {behind.text}", **move_behind(s, behind))


_RULES = (
    _drop_recheck, _drop_lock, _early_unlock, _late_lock, _wrong_lock, _downgrade, _skip_grace, _short_grace, _drop_flush,
    _late_flush, _split_rmw, _clear_set, _double_read, _weaken_order, _swap_order,
)
