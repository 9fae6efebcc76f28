# Fibres under ThreadSanitizer: it is told which of them runs, and asked what it saw.
#
# Guarantee: of what is compiled with -fsanitize=thread, accesses of two fibres of one execution are ordered by nothing but the
# atomic operations of that code, so two conflicting accesses, one of them plain, that only the schedule kept apart are reported.
# The hand-over from one fibre to the next orders nothing, nor does what the scheduler looks at for others; reset() comes before
# every access of an execution, and all of them come before finish() and the next reset().
# Of a system that is not instrumented nothing is watched: its calls of memcpy and the like would be seen, and nothing else.
# This extension is never instrumented, and calls nothing of the kind on the system's memory.
#
# Reports go to a file in memory while an exploration runs: what was written there since the last look tells which execution
# raced. TSAN_OPTIONS must not have them stop the process, nor leave out what it has reported before.
#
# Not modelled: races that the sanitizer has forgotten, as it remembers four accesses to each word; weak memory, as executions
# are sequentially consistent here.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from cy.base.explorable cimport explorable
from cy.explore.scheduler cimport scheduler
from cy.explore.tsan cimport (
    ORDERED, UNORDERED, file_close, file_end, memory_file, tsan_current, tsan_destroy, tsan_fibre, tsan_ignore_begin,
    tsan_ignore_end, tsan_report_to, tsan_switch)

cdef enum:
    STDERR = 2

cdef struct race_watch:
    bint on
    int file                    # of reports
    int64_t seen                # of its bytes, before this execution
    uint32_t nr
    void *caller
    void *fibre[64]             # as the sanitizer knows them

# Context: the thread that will run the executions. Returns 0, or -1 if there is no memory. Ends with race_watch_leave.
cdef inline int race_watch_enter(race_watch *w, const explorable *system) noexcept nogil:
    cdef uint32_t i
    w.on = False
    if not system.instrumented:
        return 0
    w.file = memory_file()
    if w.file < 0:
        return -1
    w.on = True
    w.seen = 0
    w.nr = system.nr_fibres
    w.caller = tsan_current()
    for i in range(w.nr):
        w.fibre[i] = tsan_fibre(i)
    tsan_report_to(w.file)
    # reset() and finish() are ordered with everything, so nothing they do can race: to look at it took half of the time.
    tsan_ignore_begin()
    return 0

# Gives back what race_watch_enter took; may be called without it. Reports go to standard error again.
cdef inline void race_watch_leave(race_watch *w) noexcept nogil:
    cdef uint32_t i
    if not w.on:
        return
    tsan_ignore_end()
    tsan_report_to(STDERR)
    for i in range(w.nr):
        tsan_destroy(w.fibre[i])
    file_close(w.file)
    w.on = False

# Before the fibres of an execution start, behind its reset().
cdef inline void race_watch_begin(race_watch *w) noexcept nogil:
    cdef uint32_t i
    w.seen = file_end(w.file)
    for i in range(w.nr):
        tsan_switch(w.fibre[i], ORDERED)
        tsan_switch(w.caller, UNORDERED)

# All fibres are done or abandoned. One that was given up in the middle has calls on its stack that will never return: the next
# execution gets a new one.
cdef inline void race_watch_end(race_watch *w, const scheduler *s) noexcept nogil:
    cdef uint64_t in_the_middle = (s.runnable | s.waiting) & ~s.fresh
    cdef uint32_t i
    for i in range(w.nr):
        tsan_switch(w.fibre[i], UNORDERED)
        tsan_switch(w.caller, ORDERED)
        if in_the_middle >> i & 1:
            tsan_destroy(w.fibre[i])
            w.fibre[i] = tsan_fibre(i)

# From now on what runs is fibre `to` of the scheduler, or its caller.
cdef inline void race_watch_switch(const race_watch *w, uint32_t to) noexcept nogil:
    tsan_switch(w.fibre[to] if to < w.nr else w.caller, UNORDERED)

# Whether a race was reported since race_watch_begin.
cdef inline bint race_watch_raced(const race_watch *w) noexcept nogil:
    return file_end(w.file) != w.seen
