# Carry an execution on true OS threads: one thread per fibre, one baton.
#
# Guarantee: only the holder of the baton runs; the scheduler decides who gets it, so the same choices
# give the same steps as on fibres. Here thread-local storage, stacks and memory ordering are real.
# The execution may be given up while threads stand in the middle of a body: each of them jumps out of
# its body and ends. Nothing of the body is unwound; explorable.reset() copes with what it left.
#
# A baton is a semaphore per thread. A taker first yields a few times: waking a sleeper on another
# core costs 50 us, a yield less than one.
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from cy.base.hook cimport pt_hook
from cy.explore.policy cimport NOBODY
from cy.explore.scheduler cimport sched_begin, sched_done, sched_end, scheduler

cdef extern from *:
    """
    #ifndef PT_BATON_H
    #define PT_BATON_H
    #include <errno.h>
    #include <pthread.h>
    #include <sched.h>
    #include <semaphore.h>
    #include <setjmp.h>
    #include <signal.h>

    struct pt_baton { sem_t sem; };

    /* [PT-120] pairs with: pt_baton_take. All accesses of the giver come before those of the taker. */
    static inline void pt_baton_give(struct pt_baton *b) { sem_post(&b->sem); }

    /* [PT-120] pairs with: pt_baton_give. */
    static inline void pt_baton_take(struct pt_baton *b) {
        for (int i = 0; i < 100; i++) {
            if (sem_trywait(&b->sem) == 0) return;
            sched_yield();
        }
        while (sem_wait(&b->sem) != 0 && errno == EINTR) { }
    }
    static inline void pt_baton_init(struct pt_baton *b) { sem_init(&b->sem, 0, 0); }
    static inline void pt_baton_destroy(struct pt_baton *b) { sem_destroy(&b->sem); }

    struct pt_carrier {
        pthread_t thread;
        struct pt_baton baton;
        jmp_buf leave;
        void (*run)(void *arg);
        void *arg;
    };
    /* Run until run() returns or pt_carrier_leave() is called in it. */
    static void *pt_carrier_main(void *arg) {
        struct pt_carrier *c = (struct pt_carrier *)arg;
        if (_setjmp(c->leave) == 0) c->run(c->arg);
        return NULL;
    }
    static inline void pt_carrier_leave(struct pt_carrier *c) { _longjmp(c->leave, 1); }
    /* Signals stay with the caller's thread. Returns 0 or an errno. */
    static inline int pt_carrier_start(struct pt_carrier *c) {
        sigset_t all, old;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        int err = pthread_create(&c->thread, NULL, pt_carrier_main, c);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        return err;
    }
    static inline void pt_carrier_join(struct pt_carrier *c) { pthread_join(c->thread, NULL); }
    #endif
    """
    struct baton "pt_baton":
        pass
    void baton_give "pt_baton_give"(baton *b) noexcept nogil
    void baton_take "pt_baton_take"(baton *b) noexcept nogil
    void baton_init "pt_baton_init"(baton *b) noexcept nogil
    void baton_destroy "pt_baton_destroy"(baton *b) noexcept nogil
    struct carrier "pt_carrier":
        baton baton
        void (*run)(void *arg) noexcept nogil
        void *arg
    void carrier_leave "pt_carrier_leave"(carrier *c) noexcept nogil
    int carrier_start "pt_carrier_start"(carrier *c) noexcept nogil
    void carrier_join "pt_carrier_join"(carrier *c) noexcept nogil

cdef struct thread_seat:
    thread_crew *crew
    uint32_t number

cdef struct thread_crew:
    scheduler *sched
    carrier carriers[64]
    thread_seat seats[64]
    baton caller
    # Written: caller, before it gives the last batons. Read: whoever takes one.
    bint over

# One execution. Returns its outcome, or -errno if its threads could not be made.
# Context: none but the calling thread uses the system. All threads are joined when it returns.
cdef inline int run_on_threads(scheduler *s, uint64_t seed) noexcept nogil:
    cdef thread_crew *crew = <thread_crew *>calloc(1, sizeof(thread_crew))
    cdef uint32_t n = s.system.nr_fibres
    cdef uint32_t started = 0
    cdef uint32_t i, first
    cdef int err = 0
    if crew == NULL:
        return -12
    s.carrier = crew
    s.transfer = thread_transfer
    s.system.current_slot()[0] = NULL
    crew.sched = s
    baton_init(&crew.caller)
    first = sched_begin(s, seed)
    for i in range(n):
        __seat(crew, i)
        if err == 0:
            err = carrier_start(&crew.carriers[i])
            started += err == 0
    if err == 0 and first != NOBODY:
        baton_give(&crew.carriers[first].baton)
        baton_take(&crew.caller)
    crew.over = True
    for i in range(started):
        baton_give(&crew.carriers[i].baton)
    for i in range(started):
        carrier_join(&crew.carriers[i])
    for i in range(n):
        baton_destroy(&crew.carriers[i].baton)
    baton_destroy(&crew.caller)
    free(crew)
    return -err if err != 0 else <int>sched_end(s)

cdef inline void __seat(thread_crew *crew, uint32_t i) noexcept nogil:
    crew.seats[i].crew = crew
    crew.seats[i].number = i
    crew.carriers[i].run = thread_entry
    crew.carriers[i].arg = &crew.seats[i]
    baton_init(&crew.carriers[i].baton)

cdef inline void thread_entry(void *arg) noexcept nogil:
    cdef thread_seat *me = <thread_seat *>arg
    cdef scheduler *s = me.crew.sched
    cdef pt_hook **slot = s.system.current_slot()
    __take(me.crew, me.number)
    slot[0] = s.hook[me.number]
    s.system.body(s.system.self, me.number)
    slot[0] = NULL
    __give(me.crew, sched_done(s))

cdef inline void thread_transfer(scheduler *s, uint32_t frm, uint32_t to) noexcept nogil:
    cdef thread_crew *crew = <thread_crew *>s.carrier
    __give(crew, to)
    __take(crew, frm)

cdef inline void __give(thread_crew *crew, uint32_t to) noexcept nogil:
    baton_give(&crew.caller if to == NOBODY else &crew.carriers[to].baton)

# Does not return if the execution is over.
cdef inline void __take(thread_crew *crew, uint32_t me) noexcept nogil:
    baton_take(&crew.carriers[me].baton)
    if crew.over:
        carrier_leave(&crew.carriers[me])
