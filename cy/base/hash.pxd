# A hash over memory, in words of 8 bytes: four of them at once, as each multiplication waits for the one before.
#
# 64 bits: two of 10^7 contents have one hash once in 4 * 10^5 times. Not meant against anybody who wants that.
from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #ifndef PT_HASH_H
    #define PT_HASH_H
    #include <stdint.h>
    #include <string.h>

    static inline uint64_t pt_hash_word(uint64_t h, uint64_t w) {
        h = (h ^ w) * 0x9FB21C651E98DF25ULL;
        return h ^ (h >> 32);
    }
    static inline uint64_t pt_hash_words(uint64_t h, const void *from, size_t bytes) {
        const char *p = (const char *)from, *end = p + (bytes & ~(size_t)7);
        uint64_t lane[4] = {h, h ^ 0x9E3779B97F4A7C15ULL, h ^ 0xC2B2AE3D27D4EB4FULL, h ^ 0x165667B19E3779F9ULL}, w[4];
        for (; end - p >= 32; p += 32) {
            memcpy(w, p, 32);
            for (int i = 0; i < 4; i++) lane[i] = pt_hash_word(lane[i], w[i]);
        }
        for (; p < end; p += 8) {
            memcpy(w, p, 8);
            lane[0] = pt_hash_word(lane[0], w[0]);
        }
        return pt_hash_word(pt_hash_word(pt_hash_word(lane[0], lane[1]), lane[2]), lane[3]);
    }
    #endif
    """
    uint64_t hash_word "pt_hash_word"(uint64_t h, uint64_t w) noexcept nogil
    # Context: `bytes` is a multiple of 8.
    uint64_t hash_words "pt_hash_words"(uint64_t h, const void *frm, size_t bytes) noexcept nogil
