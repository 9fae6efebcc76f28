# Places in the source, and steps at them, as Python sees them.


cdef class SitePairs:
    """Pairs of accesses, by two fibres, one after the other to one object; see ``site_pairs.pxd``.

    Hand it to ``Explorer.explore``, of any number of Explorers over one build of the engine.
    """

    cdef site_pairs set

    def __cinit__(self):
        if site_pairs_init(&self.set) != 0:
            raise MemoryError("no memory for a set of pairs")

    def __dealloc__(self):
        site_pairs_fini(&self.set)

    def __len__(self) -> int:
        return self.set.seen.count

    @property
    def saturated(self) -> bool:
        """Full: there are more pairs than it can hold."""
        return bool(self.set.seen.saturated)

    def since(self, first: int) -> list[tuple[tuple[str, int, str], tuple[str, int, str]]]:
        """Pairs from number ``first`` on, in the order in which they were seen; a place is file, line, kind."""
        return [(_place(self.set.pairs[i].first), _place(self.set.pairs[i].second))
                for i in range(_count("first", first, 0, self.set.seen.count), self.set.seen.count)]


cdef tuple _place(const pt_site *site):
    return site.file.decode(), site.line, KINDS[site.kind]


def source_name(func: str) -> tuple[str, str]:
    """Folder path of the module and name of a function, from its name in C.

    ``__pyx_f_2cy_4core_3zap_zap_pte_range`` is ``("cy/core/zap", "zap_pte_range")``. Names that Cython did
    not make are returned as they are, with an empty module.
    """
    rest = func.removeprefix("__pyx_f_")
    if rest == func:
        return "", func
    parts = []
    while (digits := re.match(r"\d+", rest)) is not None:
        begin = digits.end()
        end = begin + int(digits.group())
        parts.append(rest[begin:end])
        rest = rest[end + 1:]
    return "/".join(parts), rest


cdef dict _source(const pt_site *site):
    module, func = source_name(site.func.decode())
    file = site.file.decode()
    base = os.path.basename(file)
    if module and os.path.splitext(base)[0] == module.rpartition("/")[2]:
        file = f"{module}{os.path.splitext(base)[1]}"
    return {"kind": KINDS[site.kind], "file": file, "line": site.line, "func": func}


cdef dict _pending(uint32_t fibre, access *a, explorable *system):
    cdef uint64_t offset = <uintptr_t>a.addr - <uintptr_t>system.base
    return {"fibre": fibre, **_source(a.site), "offset": offset if offset < system.bytes else None}


cdef _step(trace_step *step, explorable *system):
    return {
        "fibre": step.fibre, **_source(step.site),
        "offset": step.offset if step.before_bytes else None,
        "before": step.before if step.before_bytes else None, "after": step.after if step.before_bytes else None,
        "early": step.early if step.is_early else None, "time": step.time, "choices": step.choices,
    }
