"""Places where mutants may be made: the words of the engine that operators know, and what they ask about a function.

Not a place is what judges (code under ``PT_CHECKS``, oracles, what is planted behind ``BUG``), what only counts or delays, and
what runs while nobody else does.
"""

import re
from collections.abc import Iterator, Sequence

from ptstress.mutant import Insert, Mutant, Span
from ptstress.mutant_source import Function, Source, Statement

RMW = ("xchg32|xchg|cmpxchg32|cmpxchg|atomic_add_return32|atomic_add_return|atomic_add_mb32|atomic_add_mb|atomic_add"
       "|xchg_acquire32")
FULL_BARRIERS = (
    "xchg32", "xchg", "cmpxchg32", "cmpxchg", "atomic_add_return32", "atomic_add_return", "atomic_add_mb32", "atomic_add_mb",
)
LOADS = "READ_ONCE32|READ_ONCE|smp_load_acquire32|smp_load_acquire|plain_load32|plain_load|ptep_get_lockless|ptep_get"
PREDICATES = "pte_none|pte_present|pte_special|pte_write|pmd_none|is_guard_pte_marker|_may_go"
RECHECKS = ("attached_by_\\w+|seq_retry|_vma_is_current|_was_attached|_vma_covers|table_empty_out|table_tryget|mmget_not_zero"
             "|vma_start_read|mmput_last|mm_start_exit|page_is_pinned")
RECHECK_FUNCTIONS = re.compile(r"attached_by_\w+|seq_retry|_vma_is_current|_was_attached|_vma_covers|page_is_pinned$")
ACQUIRES = "spin_lock|table_lock|pte_lock|mmap_write_lock|mmap_read_lock|vma_start_write|seq_write_begin|_cover"
_TAKES = re.compile(rf"\b({ACQUIRES}|pte_offset_map_lock|entry_offset_map_lock|ops\.lock|ops\.next|spin_trylock|_relock)\(")
RELEASES = ("spin_unlock|table_unlock|cursor_unlock|pte_unmap_unlock|entry_unmap_unlock|mmap_write_unlock|mmap_read_unlock"
             "|mmap_write_downgrade|seq_write_end|vma_end_read|cursor_end|_uncover|mmu_notifier_invalidate_range_end")
FLUSHES = ("flush_tlb_range|flush_tlb_mm|flush_tlb_cpu|tlb_flush_mmu_tlbonly|tlb_flush_mmu|flush_tlb_batched_pending"
            "|try_to_unmap_flush|pwc_flush_range|tlb_finish_mmu")
NOTES = "tlb_flush_range_add|set_tlb_ubc_flush_pending|pwc_drop"
_NEUTRAL = re.compile(r"(count|count_max|delay_point|might_sleep|yield_point|wait_begin|wait_end|lock_check_order|prefetchw"
                     r"|table_check_\w+)\(")
_JUDGES = re.compile(r"if (PT_CHECKS\b|BUG\()")
_CALL = re.compile(r"\b(?!range|while|and|or|not|if)\w+\(")
#: What an operation has for itself: its cursor, its gather, where it stands, what it reports.
_ON_STACK = re.compile(r"\b(cur|tlb|at|u|r|w|b|batch)\.\w+")
#: Stores and calls whose order others see.
ORDERED = re.compile(
    r"(?:\w+ = )?(WRITE_ONCE32|WRITE_ONCE|smp_store_release32|smp_store_release|plain_store32|plain_store|plain_fill|plain_zero"
    rf"|{RMW}|vma_set_\w+|vma_mark_\w+|vma_start_write|vma_end_write_all|vm_area_init|vm_area_free|arena_free|frame_free"
    r"|table_unlinked|table_free_tlb|table_free_rcu|mm_inc_nr_tables|mm_dec_nr_tables|_pgtables_add|mm_add_rss|free_pgtables"
    r"|zap_page_range|tlb_finish_mmu|tlb_gather_mmu|tlb_remove_page|chain_add|chain_splice|page_pin|page_unpin|page_is_pinned"
    r"|mmu_notifier_\w+|flush_\w+|tlb_flush_\w+|rcu_read_lock|rcu_read_unlock|spin_lock|spin_unlock|table_lock|table_unlock"
    r"|pte_unmap|entry_unmap|cursor_unlock|cursor_end|cursor_begin|mm_list_\w+|_unlink|_append|exit_mmap|mm_init|mm_reborn"
    r"|_flip|_settle|_release_vma|_take_over_mark|_give_up|left_behind|unmap_batch_add|set_tlb_ubc_flush_pending"
    r"|try_to_unmap_flush|synchronize_rcu|pagetable_dtor|_table_release\w*|debt_\w+|call_rcu|call_srcu|irq_sync_all"
    r"|pwc_fill|tlb_fill|pwc_settle|_wait_for_readers|srcu_read_unlock|table_put|smp_mb)\(")
#: Orders that only memory barriers or figures tell apart: swapping these is said by other operators, or says nothing.
UNORDERED = re.compile(r"(smp_mb|debt_\w+|chain_\w+)\(")
ENTRY = re.compile(r"ptep|entryp|pmdp|entries\[|slots\[")
#: What no one else runs beside, or only reads bare for the scheduler, or is an oracle.
_EXEMPT_FUNCTIONS = re.compile(
    r"_?check_|_report|pt_report|debt_|_show_held|might_sleep|mm_first_init|_not_poison|secondary_mmu_init|protect_\w+$"
    r"|reclaim_\w+$|sleep_fill|_may_wait|_stall|cblist_|arena_reset|arena_nr_free|srcu_sections|wait_|rcu_sections")
_EXEMPT_CONTEXT = re.compile(r"BUSTED|no worker runs|nobody uses|nobody may use|Makes no schedule points")
_EXEMPT_FILES = ("cy/sync/lockclass.pxd", "cy/sync/wait.pxd", "cy/sync/cblist.pxd", "cy/mm/debt.pxd", "cy/mm/types.pxd",
                 "cy/mm/policy.pxd")


def is_exempt(source: Source, function: Function) -> bool:
    """Whether a function has no places at all."""
    return source.name in _EXEMPT_FILES or _EXEMPT_FUNCTIONS.match(function.name) is not None \
        or _EXEMPT_CONTEXT.search(function.comment) is not None or "const void *" in function.parameters


class Place:
    """A function, and what the rules ask about it."""

    def __init__(self, source: Source, function: Function) -> None:
        self.source = source
        self.function = function
        self.statements = list(_judged(function.body))
        self.locked = self._locked()
        self.mm = next((name for declared, name in (("mm *m", "m"), ("cursor *cur", "cur.mm"), ("mmu_gather *tlb", "tlb.mm"))
                        if function.variable(declared)), "")

    def mutant(self, operator: str, statement: Statement, change: str, **parts: Sequence) -> Mutant:
        """One change of a statement."""
        return Mutant(operator, self.source.name, self.function.name, statement.first + 1, statement.text, change, **parts)

    def text_at(self, statement: Statement, old: str, new: str) -> list[Span]:
        """The span of ``old`` in a line of the statement."""
        for line in range(statement.first, statement.last + 1):
            start = self.source.lines[line].find(old)
            if start >= 0:
                return [Span(line, start, start + len(old), new)]
        return []

    def whole_condition(self, statement: Statement, macro: str) -> list[Span]:
        """A macro around the condition of a block, or around what is returned."""
        word = statement.keyword or "return"
        first, last = self.source.lines[statement.first], self.source.lines[statement.last].split("#")[0].rstrip()
        start = statement.indent + len(word) + 1
        assert first[statement.indent : start] == word + " ", first
        end = len(last) - 1 if statement.keyword else len(last)
        return [Span(statement.first, start, start, f"{macro}({{n}}, "), Span(statement.last, end, end, ")")]

    def labelled(self, statement: Statement) -> bool:
        """Whether an ordering label stands at it: on its lines, or in the comment above."""
        line = statement.first
        while self.source.lines[line - 1].strip().startswith("#"):
            line -= 1
        return any("[PT-" in text for text in self.source.lines[line : statement.last + 1])

    def calls(self, statement: Statement, names: str) -> Iterator[tuple[int, int, str]]:
        """Line, column and name of each call of one of these."""
        last = statement.last
        for line in range(statement.first, last + 1):
            for found in re.finditer(rf"(?<![\w.])({names})\(", self.source.lines[line].split("#")[0]):
                yield line, found.start(), found[1]

    def _locked(self) -> set[int]:
        """First lines of the statements behind a lock that the function takes, or that its contract speaks of."""
        held = re.search(r"Context:[^.]*\b(locked|lock|locks|held|ptl|gp_lock)\b", self.function.comment) is not None \
            and not re.search(r"Context: no(thing| lock)", self.function.comment)
        lines = set()
        for statement in self.statements:
            if held:
                lines.add(statement.first)
            if _TAKES.search(statement.text):
                held = True
        return lines


def _judged(suite: list[Statement]) -> Iterator[Statement]:
    """The statements that are the engine's own: no oracles, no planted bugs."""
    planted = False
    for statement in suite:
        condition = statement.condition if statement.keyword in ("if", "elif", "while") else ""
        if statement.keyword == "if":
            planted = "not BUG(" in condition
        if re.search(r"(^|and )\(?(BUG\(|PT_CHECKS)|^not PT_CHECKS|not PT_SCHED", condition):
            continue
        if statement.keyword == "else" and planted and statement.neighbour(-1) and "not BUG(" in statement.neighbour(-1).text:
            continue
        yield statement
        yield from _judged(statement.suite)


def arguments(text: str, name: str) -> list[str]:
    """The arguments of the first call of ``name`` in a statement."""
    start = text.index(name + "(") + len(name) + 1
    depth, found, current = 0, [], ""
    for letter in text[start:]:
        if letter == ")" and depth == 0:
            break
        depth += letter in "([" 
        depth -= letter in ")]"
        if letter == "," and depth == 0:
            found.append(current.strip())
            current = ""
        else:
            current += letter
    return [*found, current.strip()]


def called(statement: Statement, names: str) -> str:
    """The name of the call that a simple statement is, if it is one of these."""
    found = re.match(rf"({names})\(", statement.text)
    return found[1] if found and statement.simple else ""


def neighbour(statement: Statement, by: int) -> Statement | None:
    """The next statement in that direction that does something."""
    other = statement.neighbour(by)
    while other is not None and (is_local(other) or _NEUTRAL.match(other.text) or _JUDGES.match(other.text)):
        other = other.neighbour(by)
    return other


def is_local(statement: Statement) -> bool:
    """Whether it touches nothing but variables, and what stands on the own stack."""
    return statement.simple and re.search(r"\(|\[|\w\.\w", _ON_STACK.sub("", statement.text)) is None


def bare_statements(source: Source) -> Iterator[Statement]:
    """Statements of a file that access memory as C does, without a schedule point."""
    for function in source.functions:
        if not is_exempt(source, function):
            yield from (s for s in _judged(function.body) if s.keyword not in ("elif", "else") and not s.text.startswith("cdef")
                        and not _CALL.search(s.text) and re.search(r"\w\.\w|\w\[", _ON_STACK.sub("", s.text)))


def has_effect(statement: Statement | None) -> bool:
    """Whether it reads or writes memory that may be shared, and goes on behind."""
    return statement is not None and statement.keyword not in ("elif", "else") and not statement.text.startswith("cdef") \
        and not statement.leaves() and not is_local(statement)


def move_before(statement: Statement, other: Statement) -> dict[str, list]:
    return {"removed": [statement], "inserted": [Insert(other.first, other.indent, statement.text)]}


def move_behind(statement: Statement, other: Statement) -> dict[str, list]:
    while (chained := other.neighbour(1)) is not None and chained.keyword in ("elif", "else"):
        other = chained
    return {"removed": [statement], "inserted": [Insert(other.end + 1, other.indent, statement.text)]}
