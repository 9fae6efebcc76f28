"""Mutant schemata: one text of a file in which each mutant is a branch on "is this the mutant that is on?".

So one build has all mutants, and the one that is on is a number. What a file says where no mutant is on is what it said before,
access by access; ``lines`` tells from which line of the file each line of the new text comes.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ptstress.mutant import Mutant
from ptstress.mutant_source import Source

#: How calls are made that may be split, relaxed or made in two steps: macros of the same names in ``MUTANT_PXD``.
_SLOTS = 2
_BITS64 = ("xchg", "cmpxchg", "atomic_add_return", "atomic_add_mb", "atomic_add", "smp_store_release", "WRITE_ONCE")
_BITS32 = ("xchg32", "cmpxchg32", "atomic_add_return32", "atomic_add_mb32", "xchg_acquire32", "smp_store_release32")

MUTANT_PXD = """
# Which mutant is on. Generated: this file is in no engine but that of the mutants.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.atomics cimport READ_ONCE

cdef extern from *:
    '''
    #define PT_MUTANTS 4096
    static uint32_t pt_mutant;                      /* 0: none */
    static uint32_t pt_mutant_seen[PT_MUTANTS];     /* how often its place was reached while others ran */
    static unsigned char pt_mutant_shared[64];      /* of cpus: took mmap_lock for reading in place of for writing */
    /* The one that is on makes a schedule point at its place: what it parts may touch nothing that is one. */
    static __attribute__((noinline)) int pt_mut_here(void) { PT_POINT(PT_KIND_OP, NULL); return 1; }
    #define pt_mut(n) ((n) != 0 && (pt_mutant_seen[(n)] += pt_current && pt_current->point, pt_mutant == (n)) && pt_mut_here())
    #define MUT_ON(n) pt_mut(n)
    #define MUT_OFF(n) (!pt_mut(n))
    #define MUT_TRUE(n, x) (pt_mut(n) ? 1 : (x))
    #define MUT_FALSE(n, x) (pt_mut(n) ? 0 : (x))
    #define MUT_LATER(v) ({ uint64_t mo_ = (v); (void)pt_mut_here(); mo_; })
    #define MUT_PICK(n, a, b) (pt_mut(n) ? (a) : (b))

    /* s: split, r: relaxed, k: cleared first. */
    #define MUT_RMW(s, split, right) ({ __typeof__(*mp_) mo_; \\
        if (pt_mut(s)) { mo_ = PT_READ_ONCE(mp_); split; } \\
        else mo_ = right; mo_; })
    #define MUT_XCHG(s, k, p, v) ({ __typeof__(p) mp_ = (p); __typeof__(*(p)) mv_ = (v); \\
        MUT_RMW(s, PT_STORE_RELEASE(mp_, mv_), PT_XCHG(mp_, mv_)); })
    #define MUT_XCHG_ACQUIRE(s, k, p, v) ({ __typeof__(p) mp_ = (p); __typeof__(*(p)) mv_ = (v); \\
        MUT_RMW(s, PT_STORE_RELEASE(mp_, mv_), PT_XCHG_ACQUIRE(mp_, mv_)); })
    #define MUT_ADD_RETURN(s, k, p, v) ({ __typeof__(p) mp_ = (p); __typeof__(*(p)) mv_ = (v); \\
        MUT_RMW(s, mo_ += mv_; PT_STORE_RELEASE(mp_, mo_), PT_ADD_RETURN(mp_, mv_)); })
    #define MUT_ADD_MB(s, k, p, v) do { __typeof__(p) mp_ = (p); __typeof__(*(p)) mv_ = (v); \\
        (void)MUT_RMW(s, mo_ += mv_; PT_STORE_RELEASE(mp_, mo_), ({ PT_ADD_MB(mp_, mv_); mv_; })); } while (0)
    #define MUT_ADD(s, k, p, v) ({ __typeof__(p) mp_ = (p); __typeof__(*(p)) mv_ = (v); \\
        MUT_RMW(s, mo_ += mv_; PT_STORE_RELEASE(mp_, mo_), PT_ADD(mp_, mv_)); })
    #define MUT_CMPXCHG(s, k, p, o, n) ({ __typeof__(p) mp_ = (p); __typeof__(*(p)) mw_ = (o), mn_ = (n), mo_; \\
        if (pt_mut(s)) { mo_ = PT_READ_ONCE(mp_); if (mo_ == mw_) PT_STORE_RELEASE(mp_, mn_); } \\
        else if (pt_mut(k)) { mo_ = PT_CMPXCHG(mp_, mw_, 0); if (mo_ == mw_) PT_STORE_RELEASE(mp_, mn_); } \\
        else mo_ = PT_CMPXCHG(mp_, mw_, mn_); mo_; })
    #define MUT_STORE_RELEASE(r, k, p, v) do { __typeof__(p) mp_ = (p); __typeof__(*(p)) mv_ = (v); \\
        if (pt_mut(r)) { PT_POINT(PT_KIND_STORE, mp_); PT_RMW(mp_, PT_ORDERS_NOTHING); \\
            __atomic_store_n(mp_, mv_, __ATOMIC_RELAXED); } \\
        else PT_STORE_RELEASE(mp_, mv_); } while (0)
    #define MUT_WRITE_ONCE(s, k, p, v) do { __typeof__(p) mp_ = (p); __typeof__(*(p)) mv_ = (v); \\
        if (pt_mut(k)) PT_WRITE_ONCE(mp_, 0); \\
        PT_WRITE_ONCE(mp_, mv_); } while (0)
    '''
    bint mut_on "MUT_ON"(uint32_t n) noexcept nogil
    bint mut_off "MUT_OFF"(uint32_t n) noexcept nogil
    bint mut_true "MUT_TRUE"(uint32_t n, bint x) noexcept nogil
    bint mut_false "MUT_FALSE"(uint32_t n, bint x) noexcept nogil
    uint64_t mut_later "MUT_LATER"(uint64_t v) noexcept nogil
    uint64_t mut_pick "MUT_PICK"(uint32_t n, uint64_t a, uint64_t b) noexcept nogil
    uint64_t mut_xchg "MUT_XCHG"(uint32_t s, uint32_t k, uint64_t *p, uint64_t v) noexcept nogil
    uint32_t mut_xchg32 "MUT_XCHG"(uint32_t s, uint32_t k, uint32_t *p, uint32_t v) noexcept nogil
    uint32_t mut_xchg_acquire32 "MUT_XCHG_ACQUIRE"(uint32_t s, uint32_t k, uint32_t *p, uint32_t v) noexcept nogil
    uint64_t mut_cmpxchg "MUT_CMPXCHG"(uint32_t s, uint32_t k, uint64_t *p, uint64_t o, uint64_t n) noexcept nogil
    uint32_t mut_cmpxchg32 "MUT_CMPXCHG"(uint32_t s, uint32_t k, uint32_t *p, uint32_t o, uint32_t n) noexcept nogil
    uint64_t mut_atomic_add_return "MUT_ADD_RETURN"(uint32_t s, uint32_t k, uint64_t *p, uint64_t v) noexcept nogil
    uint32_t mut_atomic_add_return32 "MUT_ADD_RETURN"(uint32_t s, uint32_t k, uint32_t *p, uint32_t v) noexcept nogil
    void mut_atomic_add_mb "MUT_ADD_MB"(uint32_t s, uint32_t k, uint64_t *p, uint64_t v) noexcept nogil
    void mut_atomic_add_mb32 "MUT_ADD_MB"(uint32_t s, uint32_t k, uint32_t *p, uint32_t v) noexcept nogil
    uint64_t mut_atomic_add "MUT_ADD"(uint32_t s, uint32_t k, uint64_t *p, uint64_t v) noexcept nogil
    void mut_smp_store_release "MUT_STORE_RELEASE"(uint32_t r, uint32_t k, uint64_t *p, uint64_t v) noexcept nogil
    void mut_smp_store_release32 "MUT_STORE_RELEASE"(uint32_t r, uint32_t k, uint32_t *p, uint32_t v) noexcept nogil
    void mut_WRITE_ONCE "MUT_WRITE_ONCE"(uint32_t s, uint32_t k, uint64_t *p, uint64_t v) noexcept nogil
    uint32_t pt_mutant
    uint32_t pt_mutant_seen[4096]
    unsigned char pt_mutant_shared[64]

cdef inline uint32_t mut_less(uint32_t n, uint32_t nr) noexcept nogil:
    return nr - 1 if mut_on(n) else nr
"""

#: Functions that mutants call, behind the files whose parts they use.
_HELPERS = {
    "cy/sync/spinlock.pxd": """
# Takes what it is told to, whoever has it.
cdef inline void spin_lock_nowait(cpu *c, spinlock_t *lock, uint32_t lock_class) noexcept nogil:
    lock_check_order(c, lock_class)
    _check_alive(c, xchg_acquire32(&lock.val, c.id + 1), lock_class)
    lock_held_push(c, lock, lock_class)

cdef inline bint mut_spin_trylock(uint32_t s, uint32_t k, cpu *c, spinlock_t *lock,
                                  uint32_t lock_class) noexcept nogil:
    if mut_on(s):
        spin_lock_nowait(c, lock, lock_class)
        return True
    return spin_trylock(c, lock, lock_class)
""",
    "cy/mm/vma_lock.pxd": """
cdef inline void mmap_read_lock_nowait(cpu *c, mm *m) noexcept nogil:
    rwsem_acquire(c, &m.mmap_lock, LOCK_MMAP, 0, 1, rwsem_readable)

cdef inline void mmap_write_lock_nowait(cpu *c, mm *m) noexcept nogil:
    rwsem_acquire(c, &m.mmap_lock, LOCK_MMAP, 0, RWSEM_WRITER, rwsem_readable)
    seq_write_begin(&m.mm_lock_seq)

cdef inline void mmap_write_lock_shared(cpu *c, mm *m) noexcept nogil:
    down_read(c, &m.mmap_lock, LOCK_MMAP)
    pt_mutant_shared[c.id] = 1
    seq_write_begin(&m.mm_lock_seq)
""",
    "cy/mm/table.pxd": """
cdef inline void table_free_now(cpu *c, mm *m, ptdesc *t) noexcept nogil:
    pagetable_dtor(t)
    _table_release_now(c, m, t)
""",
}
_HELPER_IMPORTS = {
    "cy/mm/vma_lock.pxd": "from cy.sync.rwsem cimport RWSEM_WRITER, rwsem_acquire, rwsem_readable",
}
#: Who took mmap_lock for reading gives it back as a reader.
_PATCHES = {
    "cy/mm/vma_lock.pxd": (
        ("cdef inline void mmap_write_unlock(cpu *c, mm *m) noexcept nogil:", """\
    if pt_mutant_shared[c.id]:
        pt_mutant_shared[c.id] = 0
        vma_end_write_all(c, m)
        up_read(c, &m.mmap_lock)
        return"""),
        ("cdef inline void mmap_write_downgrade(cpu *c, mm *m) noexcept nogil:", """\
    if pt_mutant_shared[c.id]:
        pt_mutant_shared[c.id] = 0
        vma_end_write_all(c, m)
        return"""),
    ),
    "cy/face/explore.pxi": (
        ("    cdef uint64_t i", "    memset(pt_mutant_shared, 0, sizeof(pt_mutant_shared))"),
    ),
    "cy/face/module.pxi": (
        ("SHM_MAGIC = 0x70747374726573_31", '''

def mutant_switch(uint32_t number):
    """Switch on one mutant; 0: none."""
    global pt_mutant
    pt_mutant = number


def mutant_seen() -> list:
    """How often the place of each mutant was reached since the last call, by numbers."""
    seen = [pt_mutant_seen[i] for i in range(4096)]
    memset(pt_mutant_seen, 0, sizeof(pt_mutant_seen))
    return seen'''),
    ),
    "cy/face/engine.pyx": (
        ("from cy.base.hook cimport pt_current_slot, pt_hook, pt_set_current",
         "from cy.base.mutant cimport pt_mutant, pt_mutant_seen, pt_mutant_shared"),
    ),
}
#: Where helpers live, for the files that call them.
_HELPER_OF = {
    "spin_lock_nowait": "cy.sync.spinlock", "mut_spin_trylock": "cy.sync.spinlock", "mmap_read_lock_nowait": "cy.mm.vma_lock",
    "mmap_write_lock_nowait": "cy.mm.vma_lock", "mmap_write_lock_shared": "cy.mm.vma_lock", "table_free_now": "cy.mm.table",
}
_MACROS = ("mut_on", "mut_off", "mut_true", "mut_false", "mut_pick", "mut_later", "mut_less",
           *(f"mut_{n}" for n in (*_BITS64, *_BITS32)))


@dataclass
class MutatedFile:
    """A text, and for each of its lines the line that it stands for, from 1 on; 0: none."""

    text: str
    lines: list[int]


def mutate(source: Source, mutants: list[Mutant]) -> MutatedFile:
    """The text of a file with all of its mutants."""
    spans = _spans(mutants)
    inserts = defaultdict(list)
    guards: dict[int, tuple[int, list[int]]] = {}
    for mutant in mutants:
        for insert in mutant.inserted:
            inserts[insert.line].append((insert, mutant))
        for statement in mutant.removed:
            guards.setdefault(statement.first, (statement.last, []))[1].append(mutant.number)
    out: list[tuple[str, int]] = []
    guarded_to, indented = -1, ""
    for at, line in enumerate(source.lines):
        for insert, mutant in inserts.get(at, ()):
            margin = " " * insert.indent
            out += [(f"{margin}if mut_on({mutant.number}):", mutant.line), (f"{margin}    {insert.text}", mutant.line)]
        if at in guards:
            guarded_to, numbers = guards[at]
            margin = line[: len(line) - len(line.lstrip())]
            out.append((margin + "if " + " and ".join(f"mut_off({n})" for n in numbers) + ":", at + 1))
            indented = "    "
        out.append(((indented + _edited(line, spans.get(at, []))) if line else line, at + 1))
        if at >= guarded_to:
            indented = ""
    return _with_helpers(source.name, out)


def patched(name: str, text: str) -> str:
    """A file that has no mutants but serves them, as ``cy/face/module.pxi`` does."""
    for anchor, addition in _PATCHES.get(name, ()):
        assert anchor in text, f"{name}: expected the line {anchor!r}"
        text = text.replace(anchor, f"{anchor}\n{addition}", 1)
    return text


def _spans(mutants: list[Mutant]) -> dict[int, list[tuple[int, int, str]]]:
    """What is put where in each line: (start, end, text)."""
    spans = defaultdict(list)
    calls: dict[tuple[int, int, str], list[int]] = defaultdict(lambda: [0] * _SLOTS)
    for mutant in mutants:
        for span in mutant.spans:
            spans[span.line].append((span.start, span.end, span.text.replace("{n}", str(mutant.number))))
        for call in mutant.calls:
            calls[call.line, call.start, call.name][call.slot] = mutant.number
    for (line, start, name), numbers in calls.items():
        spans[line].append((start, start + len(name) + 1, f"mut_{name}({', '.join(map(str, numbers))}, "))
    return spans


def _edited(line: str, spans: list[tuple[int, int, str]]) -> str:
    for start, end, text in sorted(spans, reverse=True):
        line = line[:start] + text + line[end:]
    return line


def _with_helpers(name: str, out: list[tuple[str, int]]) -> MutatedFile:
    body = "\n".join(text for text, _ in out)
    helpers = _HELPERS.get(name, "")
    needed = [macro for macro in _MACROS if macro + "(" in body + helpers]
    needed += ["pt_mutant_shared"] if "pt_mutant_shared" in helpers else []
    head = [f"from cy.base.mutant cimport {', '.join(needed)}"] if needed else []
    for helper, module in _HELPER_OF.items():
        if helper + "(" in body and module != name.removesuffix(".pxd").replace("/", "."):
            head.append(f"from {module} cimport {helper}")
    if name in _HELPER_IMPORTS:
        head.append(_HELPER_IMPORTS[name])
    first = next(i for i, (text, _) in enumerate(out) if text.startswith("from "))
    out = [*out[:first], *((text, 0) for text in head), *out[first:]]
    for anchor, addition in _PATCHES.get(name, ()):
        at = next(i for i, (text, _) in enumerate(out) if text == anchor)
        out[at + 1 : at + 1] = [(text, 0) for text in addition.split("\n")]
    out += [(text, 0) for text in helpers.split("\n")]
    return MutatedFile("\n".join(text for text, _ in out), [line for _, line in out])


def generated_files(root: Path) -> dict[str, str]:
    """Files of the engine that get no mutants, as they are needed beside those that do; by names."""
    found = {}
    for path in sorted((root / "cy").rglob("*.p[xy][dixy]")):
        name = str(path.relative_to(root))
        found[name] = patched(name, path.read_text(encoding="utf-8"))
    found["cy/base/mutant.pxd"] = MUTANT_PXD.replace("'''", '"""')
    return found
