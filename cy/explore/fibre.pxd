# Fibres: stacks that a scheduler switches between, all on one OS thread.
#
# Guarantee: fibre_switch() returns when somebody switches back, with the callee-saved registers and
# the stack as they were. A fibre may be given up at any time: fibre_init() starts it anew on the
# same stack, and nothing of the old one is run or unwound.
# Mechanism: x86-64 saves six registers and jumps; others use ucontext (a system call per switch).
# The switch ends in `pop; jmp`, not `ret`: the return predictor has never seen this address, and the
# wrong guess costs ten times the switch.
#
# Each stack is 64 KiB with an unmapped page below it: an overflow is a SIGSEGV, not a silent
# overwrite of the neighbour.
#
# Source: System V AMD64 ABI §3.2.1 (registers that a callee saves) and §3.2.2 (stack alignment).
# Not modelled: floating-point control words are not switched, shadow stacks (CET) are not supported; of sanitizers,
# ThreadSanitizer is told of the switch (race_watch.pxd), AddressSanitizer is not.
from libc.stdint cimport uint32_t

cdef extern from *:
    """
    #ifndef PT_FIBRE_H
    #define PT_FIBRE_H
    #include <stdint.h>
    #include <stddef.h>
    #include <sys/mman.h>

    #define PT_STACK_BYTES ((size_t)64 << 10)
    #define PT_GUARD_BYTES ((size_t)4096)
    /* Tops of neighbouring stacks would otherwise fall into the same cache sets. */
    #define PT_STACK_COLOUR(i) (((i) & 15) * (size_t)320)

    #if defined(__x86_64__) && !defined(PT_FIBRE_UCONTEXT)
    #define PT_FIBRE_KIND "x86-64"
    struct pt_fibre { void *sp; };

    __attribute__((naked, noinline, unused))
    static void pt_fibre_switch(struct pt_fibre *from, struct pt_fibre *to) {
        __asm__("push %rbp\\n\\tpush %rbx\\n\\tpush %r12\\n\\tpush %r13\\n\\tpush %r14\\n\\tpush %r15\\n\\t"
                "mov %rsp, (%rdi)\\n\\t"
                "mov (%rsi), %rsp\\n\\t"
                "pop %r15\\n\\tpop %r14\\n\\tpop %r13\\n\\tpop %r12\\n\\tpop %rbx\\n\\tpop %rbp\\n\\t"
                "pop %rdx\\n\\tjmp *%rdx");
    }
    /* First instruction of a fibre: entry and its argument wait in saved registers. */
    __attribute__((naked, noinline, unused))
    static void pt_fibre_start(void) {
        __asm__("mov %rbx, %rdi\\n\\tjmp *%r12");
    }
    static inline void pt_fibre_init(struct pt_fibre *f, char *top, void (*entry)(void *), void *arg) {
        uint64_t *sp = (uint64_t *)((uintptr_t)top & ~(uintptr_t)15);
        *--sp = 0;                                      /* entry never returns; ends a backtrace */
        *--sp = (uint64_t)(uintptr_t)pt_fibre_start;
        *--sp = 0;                                      /* rbp */
        *--sp = (uint64_t)(uintptr_t)arg;               /* rbx */
        *--sp = (uint64_t)(uintptr_t)entry;             /* r12 */
        *--sp = 0; *--sp = 0; *--sp = 0;                /* r13, r14, r15 */
        f->sp = sp;
    }
    #else
    #define PT_FIBRE_KIND "ucontext"
    #include <ucontext.h>
    struct pt_fibre { ucontext_t uc; };

    static inline void pt_fibre_switch(struct pt_fibre *from, struct pt_fibre *to) {
        swapcontext(&from->uc, &to->uc);
    }
    /* makecontext() passes ints only: entry and argument come in halves. */
    static void pt_fibre_start(unsigned eh, unsigned el, unsigned ah, unsigned al) {
        void (*entry)(void *) = (void (*)(void *))(uintptr_t)((uint64_t)eh << 32 | el);
        entry((void *)(uintptr_t)((uint64_t)ah << 32 | al));
    }
    static inline void pt_fibre_init(struct pt_fibre *f, char *top, void (*entry)(void *), void *arg) {
        uint64_t e = (uintptr_t)entry, a = (uintptr_t)arg;
        getcontext(&f->uc);
        f->uc.uc_stack.ss_sp = top - (PT_STACK_BYTES - PT_STACK_COLOUR(15));
        f->uc.uc_stack.ss_size = PT_STACK_BYTES - PT_STACK_COLOUR(15);
        f->uc.uc_link = NULL;
        makecontext(&f->uc, (void (*)(void))pt_fibre_start, 4,
                    (unsigned)(e >> 32), (unsigned)e, (unsigned)(a >> 32), (unsigned)a);
    }
    #endif

    static inline size_t pt_stacks_bytes(uint32_t n) {
        return (size_t)n * (PT_STACK_BYTES + PT_GUARD_BYTES);
    }
    static inline char *pt_stacks_alloc(uint32_t n) {
        char *p = (char *)mmap(NULL, pt_stacks_bytes(n), PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == (char *)MAP_FAILED) return NULL;
        for (uint32_t i = 0; i < n; i++)
            if (mprotect(p + i * (PT_STACK_BYTES + PT_GUARD_BYTES), PT_GUARD_BYTES, PROT_NONE)) {
                munmap(p, pt_stacks_bytes(n));
                return NULL;
            }
        return p;
    }
    static inline void pt_stacks_free(char *p, uint32_t n) {
        if (p) munmap(p, pt_stacks_bytes(n));
    }
    static inline char *pt_stack_top(char *p, uint32_t i) {
        return p + (i + 1) * (PT_STACK_BYTES + PT_GUARD_BYTES) - PT_STACK_COLOUR(i);
    }
    #endif
    """
    struct fibre "pt_fibre":
        pass
    const char *FIBRE_KIND "PT_FIBRE_KIND"
    void fibre_switch "pt_fibre_switch"(fibre *frm, fibre *to) noexcept nogil
    # `entry` must never return: it switches away for good.
    void fibre_init "pt_fibre_init"(fibre *f, char *top, void (*entry)(void *) noexcept nogil, void *arg) noexcept nogil
    # `n` stacks; NULL if there is no memory.
    char *stacks_alloc "pt_stacks_alloc"(uint32_t n) noexcept nogil
    void stacks_free "pt_stacks_free"(char *stacks, uint32_t n) noexcept nogil
    char *stack_top "pt_stack_top"(char *stacks, uint32_t i) noexcept nogil
