# Geometry: levels and fan-outs, chosen at run time per mm.
#
# Level 0 is the pte_table, 1 the pmd_table, 2 the pud_table, 3 the p4d_table or the pgd, 4 the pgd
# of five levels. `shift[l]` is the address bit at which level l's index begins; a table of level l
# spans 1 << shift[l + 1] bytes. A page is 4 KiB and a table costs 4 KiB in every geometry.
#
# Addresses and page numbers are global: bits MM_SHIFT.. of a page number tell the mm, those below the page in it, and
# an index into a table is a few bits in the middle. So operations, TLB tags, events and reports of several mms never
# look alike, and those of mm 0 are plain page numbers.
# Source: arch/x86/include/asm/pgtable_64_types.h.
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    PAGE_SHIFT = 12
    MM_SHIFT = 48
    MAX_MMS = 8
    MAX_LEVELS = 5
    PTE_LEVEL = 0
    PMD_LEVEL = 1
    PUD_LEVEL = 2
    P4D_LEVEL = 3

cdef struct geometry:
    uint32_t levels             # 3..5: how many levels, the pgd included
    uint32_t bits[5]            # index bits of each level
    uint32_t mask[5]            # the same as a mask: fan-out - 1
    uint32_t shift[6]           # shift[levels] is the width of an address
    uint32_t max_fanout         # entries of the widest table
    uint32_t max_bits           # its index bits
    uint64_t task_size          # bytes of an address space

cdef inline uint32_t geo_fanout(const geometry *geo, uint32_t level) noexcept nogil:
    return <uint32_t>1 << geo.bits[level]

cdef inline uint32_t geo_index(const geometry *geo, uint32_t level, uint64_t addr) noexcept nogil:
    return <uint32_t>(addr >> geo.shift[level]) & geo.mask[level]

# Bytes mapped by one entry of `level`.
cdef inline uint64_t geo_entry_span(const geometry *geo, uint32_t level) noexcept nogil:
    return <uint64_t>1 << geo.shift[level]

# Bytes mapped by one table of `level`.
cdef inline uint64_t geo_table_span(const geometry *geo, uint32_t level) noexcept nogil:
    return <uint64_t>1 << geo.shift[level + 1]

# The first address behind the table of `level` that covers `addr`, not past `end`.
cdef inline uint64_t geo_addr_end(const geometry *geo, uint32_t level, uint64_t addr, uint64_t end) noexcept nogil:
    cdef uint64_t boundary = (addr + geo_table_span(geo, level)) & ~(geo_table_span(geo, level) - 1)
    return boundary if boundary - 1 < end - 1 else end

cdef inline uint64_t geo_task_size(const geometry *geo) noexcept nogil:
    return geo.task_size

# Returns 0, or -1 if the fan-outs do not make an address space.
cdef inline int geo_init(geometry *geo, const uint32_t *bits, uint32_t levels) noexcept nogil:
    cdef uint32_t level
    if levels < 3 or levels > MAX_LEVELS:
        return -1
    geo.levels = levels
    geo.max_fanout = 0
    geo.max_bits = 0
    geo.shift[0] = PAGE_SHIFT
    for level in range(levels):
        if bits[level] < 1 or bits[level] > 9:
            return -1
        geo.bits[level] = bits[level]
        geo.mask[level] = (<uint32_t>1 << bits[level]) - 1
        geo.shift[level + 1] = geo.shift[level] + bits[level]
        if geo_fanout(geo, level) > geo.max_fanout:
            geo.max_fanout = geo_fanout(geo, level)
            geo.max_bits = bits[level]
    geo.task_size = <uint64_t>1 << geo.shift[levels]
    return 0
