# ThreadSanitizer's interface for fibres and reports, where its run-time library is loaded: then these are there, else NULL.
#
# Source: compiler-rt/include/sanitizer/tsan_interface.h and common_interface_defs.h.
from libc.stdint cimport int64_t, uint32_t

cdef extern from *:
    """
    #ifndef PT_TSAN_H
    #define PT_TSAN_H
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <stdint.h>
    #include <stdio.h>
    #include <sys/mman.h>
    #include <unistd.h>

    __attribute__((weak)) void *__tsan_get_current_fiber(void);
    __attribute__((weak)) void *__tsan_create_fiber(unsigned flags);
    __attribute__((weak)) void __tsan_destroy_fiber(void *fiber);
    __attribute__((weak)) void __tsan_switch_to_fiber(void *fiber, unsigned flags);
    __attribute__((weak)) void __tsan_set_fiber_name(void *fiber, const char *name);
    __attribute__((weak)) void __tsan_ignore_thread_begin(void);
    __attribute__((weak)) void __tsan_ignore_thread_end(void);
    __attribute__((weak)) void __sanitizer_set_report_fd(void *fd);

    enum { PT_TSAN_ORDERED = 0, PT_TSAN_UNORDERED = 1 };

    /* Named in reports as in stories. */
    static inline void *pt_tsan_fibre(uint32_t number) {
        char name[16];
        void *fibre = __tsan_create_fiber(0);
        snprintf(name, sizeof(name), "CPU%u", number);
        __tsan_set_fiber_name(fibre, name);
        return fibre;
    }
    static inline void pt_tsan_report_to(int file) { __sanitizer_set_report_fd((void *)(intptr_t)file); }
    static inline int pt_memory_file(void) { return memfd_create("ptstress-races", MFD_CLOEXEC); }
    static inline int64_t pt_file_end(int file) { return lseek(file, 0, SEEK_CUR); }
    static inline void pt_file_close(int file) { close(file); }
    #endif
    """
    enum:
        ORDERED "PT_TSAN_ORDERED"           # a switch: what was done before it happens before what follows
        UNORDERED "PT_TSAN_UNORDERED"
    void *tsan_current "__tsan_get_current_fiber"() noexcept nogil
    void *tsan_fibre "pt_tsan_fibre"(uint32_t number) noexcept nogil
    void tsan_destroy "__tsan_destroy_fiber"(void *fiber) noexcept nogil
    void tsan_switch "__tsan_switch_to_fiber"(void *fiber, unsigned int flags) noexcept nogil
    # Between them, accesses of the running fibre are not seen. They nest.
    void tsan_ignore_begin "__tsan_ignore_thread_begin"() noexcept nogil
    void tsan_ignore_end "__tsan_ignore_thread_end"() noexcept nogil
    # Reports go there, until the next call.
    void tsan_report_to "pt_tsan_report_to"(int file) noexcept nogil
    int memory_file "pt_memory_file"() noexcept nogil
    int64_t file_end "pt_file_end"(int file) noexcept nogil
    void file_close "pt_file_close"(int file) noexcept nogil
