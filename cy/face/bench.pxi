# Bench: a machine whose workers measure what the engine costs, for `ptstress bench`.

MEASURES = {
    "rcu": MEASURE_RCU, "read": MEASURE_READ, "write": MEASURE_WRITE, "cycle": MEASURE_CYCLE,
    "record": MEASURE_RECORD, "stamps": MEASURE_STAMPS, "map": MEASURE_MAP, "walk": MEASURE_WALK, "stall": MEASURE_STALL,
}


cdef enum:
    MEASURE_LIMIT_MS = 120000   # a measurement that takes so long is stuck


cdef class Bench(Machine):
    """A machine that repeats work on its worker threads and says how long each of them took."""

    cdef measure job

    def measure(self, what, shares, unit=512) -> list:
        """Let each worker do its share of one kind of work: (first page, pages, turns), turns 0 to stand by.

        Returns two CPU times of each, in nanoseconds: of its loop without the stores of a cycle, and of these stores.
        Otherwise as ``together``.
        """
        return [times[:2] for times in self.together([(what, *share) for share in shares], unit)]

    def together(self, shares, unit=512) -> list:
        """Let each worker do its own: (what, first page, pages, turns), turns 0 to stand by, None for as long as others
        work. See cy/check/measure.pxd for what there is.

        Workers begin together. Returns three times of each, in nanoseconds: CPU time of its loop without the stores of a
        cycle, CPU time of these stores, and their time on the wall. ValueError if an operation failed.
        """
        cdef uint32_t i
        cdef bint parked
        if len(shares) != self.x.nr_workers:
            raise ValueError(f"{len(shares)} shares for {self.x.nr_workers} workers")
        if not self.started:
            self._start_crew()
        self.job.machine = self.x
        self.job.unit = unit
        self.job.nr_working = self.job.nr_done = 0
        for i, (what, first, pages, turns) in enumerate(shares):
            self.job.shares[i].what = _choose("measure", what, MEASURES)
            self.job.shares[i].first, self.job.shares[i].pages = first, pages
            self.job.shares[i].turns = MEASURE_BACKGROUND if turns is None else turns
            self.job.nr_working += 1 if turns else 0
        self.crew.check = measure_run
        self.crew.check_ctx = &self.job
        with nogil:
            crew_post(&self.crew, JOB_CHECK)
            parked = crew_wait(&self.crew, MEASURE_LIMIT_MS)
        if not parked:
            self.broken = True
            raise RuntimeError("a worker is stuck")
        failed = [self.job.shares[i].failed for i in range(self.x.nr_workers)]
        if any(failed):
            raise ValueError(f"{shares}: operations failed: {failed}")
        return [(self.job.shares[i].ns, self.job.shares[i].fault_ns, self.job.shares[i].fault_wall_ns)
                for i in range(self.x.nr_workers)]
