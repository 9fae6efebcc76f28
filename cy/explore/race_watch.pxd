# Fibres under ThreadSanitizer: it is told which of them runs, and asked what it saw.
#
# Guarantee: of what is compiled with -fsanitize=thread, accesses of two fibres of one execution are ordered by nothing but the
# atomic operations of that code, so two conflicting plain accesses that only the schedule kept apart are reported. The hand-over
# from one fibre to the next orders nothing, nor does what the scheduler itself reads; reset() comes before
# every access of an execution, and all of them come before finish() and the next reset().
# Of a system that is not instrumented nothing is watched: its calls of memcpy and the like would be seen, and nothing else.
# This extension is never instrumented.
#
# Reports go to a file in memory while an exploration runs: what was written there since the last look tells which execution
# raced. TSAN_OPTIONS must not have them stop the process, nor leave out what it has reported before.
#
# Source: compiler-rt/include/sanitizer/tsan_interface.h and common_interface_defs.h.
# Not modelled: races that the sanitizer has forgotten, as it remembers four accesses to each word; weak memory, as executions
# are sequentially consistent here.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from cy.base.explorable cimport explorable
from cy.base.hook cimport pt_site
from cy.explore.scheduler cimport ready_t, sched_done, sched_point, sched_wait, scheduler

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <stdint.h>
    #include <stdio.h>
    #include <sys/mman.h>
    #include <unistd.h>

    /* Weak: the run-time library is there if an instrumented system is. */
    __attribute__((weak)) void *__tsan_get_current_fiber(void);
    __attribute__((weak)) void *__tsan_create_fiber(unsigned flags);
    __attribute__((weak)) void __tsan_destroy_fiber(void *fiber);
    __attribute__((weak)) void __tsan_switch_to_fiber(void *fiber, unsigned flags);
    __attribute__((weak)) void __tsan_set_fiber_name(void *fiber, const char *name);
    __attribute__((weak)) void __tsan_ignore_thread_begin(void);
    __attribute__((weak)) void __tsan_ignore_thread_end(void);
    __attribute__((weak)) void __sanitizer_set_report_fd(void *fd);

    enum { PT_FIBRES_ORDERED = 0, PT_FIBRES_UNORDERED = 1 };

    static inline void pt_tsan_report_to(int file) { __sanitizer_set_report_fd((void *)(intptr_t)file); }
    /* Named in reports as in stories. */
    static inline void *pt_tsan_fibre(uint32_t number) {
        char name[16];
        void *fibre = __tsan_create_fiber(0);
        snprintf(name, sizeof(name), "CPU%u", number);
        __tsan_set_fiber_name(fibre, name);
        return fibre;
    }
    static inline int pt_memory_file(void) { return memfd_create("ptstress-races", MFD_CLOEXEC); }
    static inline int64_t pt_file_end(int file) { return lseek(file, 0, SEEK_CUR); }
    static inline void pt_file_close(int file) { close(file); }
    """
    enum:
        ORDERED "PT_FIBRES_ORDERED"
        UNORDERED "PT_FIBRES_UNORDERED"
    void tsan_report_to "pt_tsan_report_to"(int file) noexcept nogil
    void *tsan_current "__tsan_get_current_fiber"() noexcept nogil
    void *tsan_fibre "pt_tsan_fibre"(uint32_t number) noexcept nogil
    void tsan_destroy "__tsan_destroy_fiber"(void *fiber) noexcept nogil
    void tsan_switch "__tsan_switch_to_fiber"(void *fiber, unsigned int flags) noexcept nogil
    void tsan_ignore_begin "__tsan_ignore_thread_begin"() noexcept nogil
    void tsan_ignore_end "__tsan_ignore_thread_end"() noexcept nogil
    int memory_file "pt_memory_file"() noexcept nogil
    int64_t file_end "pt_file_end"(int file) noexcept nogil
    void file_close "pt_file_close"(int file) noexcept nogil

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
    # reset() and finish() are ordered with everything, so nothing they do can race: half of the time without it.
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
cdef inline void race_watch_begin(race_watch *w, scheduler *s) noexcept nogil:
    cdef uint32_t i
    w.seen = file_end(w.file)
    for i in range(w.nr):
        s.hook[i].point = __point
        s.hook[i].wait = __wait
        tsan_switch(w.fibre[i], ORDERED)
        tsan_switch(w.caller, UNORDERED)

# All fibres are done or abandoned. One that was given up in the middle has calls on its stack that will never return: the next
# execution gets a new one.
cdef inline void race_watch_end(race_watch *w, scheduler *s) noexcept nogil:
    cdef uint64_t in_the_middle = (s.runnable | s.waiting) & ~s.fresh
    cdef uint32_t i
    for i in range(w.nr):
        tsan_switch(w.fibre[i], UNORDERED)
        if in_the_middle >> i & 1:
            tsan_ignore_end()           # it stands in __point or __wait
        tsan_switch(w.caller, ORDERED)
        if in_the_middle >> i & 1:
            tsan_destroy(w.fibre[i])
            w.fibre[i] = tsan_fibre(i)

# From now on what runs is fibre `to` of the scheduler, or its caller.
cdef inline void race_watch_switch(race_watch *w, uint32_t to) noexcept nogil:
    tsan_switch(w.fibre[to] if to < w.nr else w.caller, UNORDERED)

# sched_done() of the fibre that runs.
cdef inline uint32_t race_watch_done(scheduler *s) noexcept nogil:
    cdef uint32_t next
    tsan_ignore_begin()
    next = sched_done(s)
    tsan_ignore_end()
    return next

# Whether a race was reported since race_watch_begin.
cdef inline bint race_watch_raced(const race_watch *w) noexcept nogil:
    return file_end(w.file) != w.seen

# pt_hook.point and .wait: what the scheduler looks at for others, such as the lock that one of them waits for, is no access of
# the fibre that happens to run.
cdef inline void __point(void *ctx, const pt_site *site, const void *addr) noexcept nogil:
    tsan_ignore_begin()
    sched_point(ctx, site, addr)
    tsan_ignore_end()

cdef inline void __wait(void *ctx, const pt_site *site, ready_t ready, const void *arg) noexcept nogil:
    tsan_ignore_begin()
    sched_wait(ctx, site, ready, arg)
    tsan_ignore_end()
