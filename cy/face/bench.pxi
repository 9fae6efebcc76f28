# Bench: a machine whose workers measure what the engine costs, for `ptstress bench`.

MEASURES = {
    "rcu": MEASURE_RCU, "read": MEASURE_READ, "write": MEASURE_WRITE, "cycle": MEASURE_CYCLE,
    "record": MEASURE_RECORD, "stamps": MEASURE_STAMPS,
}


cdef enum:
    MEASURE_LIMIT_MS = 120000   # a measurement that takes so long is stuck


cdef class Bench(Machine):
    """A machine that repeats one kind of work on its worker threads and says how long each of them took."""

    cdef measure job

    def measure(self, what, shares, unit=512) -> list:
        """Let each worker do its share: (first page, pages, turns), turns 0 to stand by; see cy/check/measure.pxd.

        Workers begin together. Returns two CPU times of each, in nanoseconds: of its loop without the stores of a
        cycle, and of these stores. ValueError if an operation failed.
        """
        cdef uint32_t i
        cdef bint parked
        if len(shares) != self.x.nr_workers:
            raise ValueError(f"{len(shares)} shares for {self.x.nr_workers} workers")
        if not self.started:
            self._start_crew()
        self.job.mm = &self.x.mms[0]
        self.job.what = _choose("measure", what, MEASURES)
        self.job.unit = unit
        for i in range(self.x.nr_workers):
            self.job.shares[i].first, self.job.shares[i].pages, self.job.shares[i].turns = shares[i]
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
            raise ValueError(f"{what}: operations failed: {failed}")
        return [(self.job.shares[i].ns, self.job.shares[i].fault_ns) for i in range(self.x.nr_workers)]
