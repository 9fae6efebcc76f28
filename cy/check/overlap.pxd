# How often two operations truly met: at the same time, on the same table, by two workers.
#
# A pair of operations counts once, however many tables they share. Each worker's operations follow each
# other, so two workers are compared by moving along both: all pairs that overlap are found in linear time.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.shm cimport NR_VERBS, event

# Add to matrix[verb][verb], at [lesser][greater]. Shards share the pairs of workers out among them.
# Context: as data_oracle_burst. `shift`: log2 of the pages of a pte_table.
cdef inline void overlaps_count(event **rings, const uint64_t *counts, uint32_t nr_workers, uint32_t shift,
                                uint32_t shard, uint32_t nr_shards, uint64_t *matrix) noexcept nogil:
    cdef uint32_t a, b, pair = 0
    for a in range(nr_workers):
        for b in range(a + 1, nr_workers):
            if pair % nr_shards == shard:
                _count_pair(rings[a], rings[a] + counts[a], rings[b], rings[b] + counts[b], shift, matrix)
            pair += 1

cdef inline void _count_pair(const event *a, const event *a_end, const event *b, const event *b_end,
                             uint32_t shift, uint64_t *matrix) noexcept nogil:
    while a < a_end and b < b_end:
        if a.t1 < b.t0:
            a += 1 + a.lines
        elif b.t1 < a.t0:
            b += 1 + b.lines
        else:
            if _same_table(a, b, shift):
                if a.verb <= b.verb:
                    matrix[a.verb * NR_VERBS + b.verb] += 1
                else:
                    matrix[b.verb * NR_VERBS + a.verb] += 1
            if a.t1 < b.t1:
                a += 1 + a.lines
            else:
                b += 1 + b.lines

cdef inline bint _same_table(const event *a, const event *b, uint32_t shift) noexcept nogil:
    return (
        a.start < a.end and b.start < b.end and a.verb < NR_VERBS and b.verb < NR_VERBS
        and a.start >> shift <= (b.end - 1) >> shift and b.start >> shift <= (a.end - 1) >> shift)
