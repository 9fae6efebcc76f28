# What a fibre has in hand while it stands at a schedule point: its stack from there up, and the registers that a callee saves.
#
# Together with the memory of the system this is all that what it does from here on depends on. Two fibres with equal frames go on
# alike; the other way round does not hold: a value that nobody will look at again may still lie on the stack.
# Mechanism: in place of the scheduler's functions a hook gets ones that push the registers, note where the stack ends, and
# call these. What lies below is the scheduler's, and is no part of it. on_fibres.pxd wipes the stack before a fibre starts.
# Not modelled: other machines than x86-64.
from libc.stdint cimport uint64_t
from cy.base.hash cimport hash_words
from cy.base.hook cimport pt_hook

cdef extern from *:
    """
    #ifndef PT_FRAMES_H
    #define PT_FRAMES_H
    #include <stddef.h>
    /* The code below finds its members by their offset. */
    struct pt_frame {
        const char *low;                                /* end of the stack at the last point; NULL: it has not come to one */
        void (*point)(void *, const struct pt_site *, const void *);
        void (*wait)(void *, const struct pt_site *, pt_ready_t, const void *);
        void *ctx;
        const char *top;
        uint64_t hash;
        int hashed;                                     /* hash is that of the frame as it is */
    };
    #if defined(__x86_64__)
    #define PT_FRAMES_KEPT 1
    /* Six registers and the return address, and 8 bytes more for the alignment of the call. What the scheduler leaves below
     * is wiped: a fibre's next frames lie there, and have words that it never writes. */
    #define PT_KEEP(function) \\
        __asm__("push %rbp\\n\\tpush %rbx\\n\\tpush %r12\\n\\tpush %r13\\n\\tpush %r14\\n\\tpush %r15\\n\\t" \\
                "mov %rsp, (%rdi)\\n\\tmovl $0, 48(%rdi)\\n\\tmov %rdi, %rax\\n\\tmov 24(%rdi), %rdi\\n\\tsub $8, %rsp\\n\\t" \\
                "call *" function "(%rax)\\n\\t" \\
                "lea -2048(%rsp), %rdi\\n\\tmov $256, %ecx\\n\\txor %eax, %eax\\n\\trep stosq\\n\\tadd $8, %rsp\\n\\t" \\
                "pop %r15\\n\\tpop %r14\\n\\tpop %r13\\n\\tpop %r12\\n\\tpop %rbx\\n\\tpop %rbp\\n\\tret")
    __attribute__((naked, noinline, unused))
    static void pt_kept_point(void *frame, const struct pt_site *site, const void *addr) { PT_KEEP("8"); }
    __attribute__((naked, noinline, unused))
    static void pt_kept_wait(void *frame, const struct pt_site *site, pt_ready_t ready, const void *arg) { PT_KEEP("16"); }
    static inline void pt_keep_frame(struct pt_frame *f, struct pt_hook *h) {
        f->low = NULL;
        f->hashed = 0;
        f->point = h->point;
        f->wait = h->wait;
        f->ctx = h->ctx;
        h->point = pt_kept_point;
        h->wait = pt_kept_wait;
        h->ctx = f;
    }
    #else
    #define PT_FRAMES_KEPT 0
    static inline void pt_keep_frame(struct pt_frame *f, struct pt_hook *h) { (void)f; (void)h; }
    #endif
    #endif
    """
    bint FRAMES_KEPT "PT_FRAMES_KEPT"
    struct frame "pt_frame":
        const char *low
        const char *top
        uint64_t hash
        bint hashed
    # Let the hook, as the scheduler has filled it, keep the frame of its fibre from here on. Context: the fibre is fresh.
    void keep_frame "pt_keep_frame"(frame *f, pt_hook *hook) noexcept nogil

# Context: the fibre stands at a point, or is fresh.
cdef inline uint64_t frame_hash(frame *f) noexcept nogil:
    if f.low == NULL:
        return 0
    if not f.hashed:
        f.hash = hash_words(0, f.low, f.top - f.low)
        f.hashed = True
    return f.hash
