# Memory as Python sees it: which accesses order nothing.


cdef class Memory:
    """What an Explorer's executions share of memory that is weak; see ``cy/base/weak.pxd``."""

    cdef pt_weak *weak
    cdef pt_weakened *weakened
    cdef list modules           # keeps the names in `weakened` alive
    cdef bint busy

    def __cinit__(self):
        self.weak = <pt_weak *>calloc(1, sizeof(pt_weak))
        if self.weak == NULL:
            raise MemoryError("no memory for an Explorer")

    def __dealloc__(self):
        free(self.weakened)
        free(self.weak)

    def weaken(self, places, count_only: bool = False) -> None:
        """From now on the accesses at ``places``, pairs such as ``("cy/sync/rcu", 93)``, order nothing; none: all of them do.

        A release store becomes a plain one, an acquire load a relaxed one, a read-modify-write an unordered one, and a
        barrier nothing; and memory is weak in every execution. ``count_only``: all of them order what they ever do; only
        ``times`` is of interest.
        """
        cdef list modules = [_c_prefix(module) for module, _ in places]
        cdef pt_weakened *weakened = NULL
        if self.busy:
            raise RuntimeError("this Explorer is in use by another thread")
        weakened = <pt_weakened *>calloc(len(modules) + 1, sizeof(pt_weakened))
        if weakened == NULL:
            raise MemoryError("no memory for a list of places")
        for i, (_, line) in enumerate(places):
            weakened[i].module = <bytes>modules[i]
            weakened[i].line = line
        free(self.weakened)
        self.weakened = weakened
        self.modules = modules
        self.weak.weakened = weakened
        self.weak.nr_weakened = <uint32_t>len(modules)
        self.weak.weakened_orders = count_only

    def times(self) -> list[int]:
        """How often each of the places that ``weaken`` got was passed since then; a read-modify-write counts twice."""
        return [self.weakened[i].times for i in range(self.weak.nr_weakened)]


cdef bytes _c_prefix(module):
    """What Cython puts before the name of a function of this module: the other way round than ``source_name``."""
    return ("__pyx_f_" + "".join(f"{len(part)}{part}_" for part in module.split("/"))).encode()
