# Entry bits and predicates, x86-64 layout.
#
# A leaf entry holds the number of a data frame, a table entry the number of a table; number 0 is the
# zero page and, for tables, the pgd, so a table entry never holds 0.
# Source: arch/x86/include/asm/pgtable_types.h, pgtable.h, pgtable_64.h; include/linux/swapops.h for markers.
from libc.stdint cimport uint32_t, uint64_t
from cy.base.build cimport PT_CHECKS

ctypedef uint64_t pte_t
ctypedef uint64_t pmd_t

cdef extern from *:
    """
    #define PT_PRESENT  ((uint64_t)1)
    #define PT_RW       ((uint64_t)2)
    #define PT_USER     ((uint64_t)4)
    #define PT_ACCESSED ((uint64_t)1 << 5)
    #define PT_DIRTY    ((uint64_t)1 << 6)
    #define PT_SPECIAL  ((uint64_t)1 << 9)
    /* A guard marker, all of the entry: not present, not none, no frame. The kernel's is a swap entry. */
    #define PT_GUARD    ((uint64_t)1 << 10)
    #define PT_PFN_SHIFT 12
    /* Written over every word of a freed table or frame. Not present, so it never looks mapped, and
     * not none, so a reader cannot mistake it for an empty entry. */
    #define PT_POISON   ((uint64_t)0x6b6b6b6b6b6b6b10ull)
    #define PT_TABLE_FLAGS (PT_PRESENT | PT_RW | PT_USER | PT_ACCESSED)
    """
    uint64_t PT_PRESENT
    uint64_t PT_RW
    uint64_t PT_USER
    uint64_t PT_ACCESSED
    uint64_t PT_DIRTY
    uint64_t PT_SPECIAL
    uint64_t PT_GUARD
    uint64_t PT_POISON
    uint64_t PT_TABLE_FLAGS
    enum:
        PT_PFN_SHIFT

# True if nothing but A or D is set: hardware may set them in an entry that was just cleared.
cdef inline bint pte_none(pte_t pte) noexcept nogil:
    return (pte & ~(PT_ACCESSED | PT_DIRTY)) == 0

cdef inline bint pte_present(pte_t pte) noexcept nogil:
    return (pte & PT_PRESENT) != 0

cdef inline bint pte_write(pte_t pte) noexcept nogil:
    return (pte & PT_RW) != 0

cdef inline bint pte_special(pte_t pte) noexcept nogil:
    return (pte & PT_SPECIAL) != 0

# Such an entry is neither none nor present: a touch of it fails. Hardware sets nothing in it.
cdef inline bint is_guard_pte_marker(pte_t pte) noexcept nogil:
    return pte == PT_GUARD

cdef inline uint32_t pte_pfn(pte_t pte) noexcept nogil:
    return <uint32_t>(pte >> PT_PFN_SHIFT)

cdef inline pte_t mk_pte(uint32_t pfn, uint64_t flags) noexcept nogil:
    return (<uint64_t>pfn << PT_PFN_SHIFT) | flags

cdef inline bint pmd_none(pmd_t pmd) noexcept nogil:
    return pte_none(pmd)

# A table entry: present, and made by mk_table.
cdef inline bint pmd_is_table(pmd_t pmd) noexcept nogil:
    return (pmd & (PT_TABLE_FLAGS | PT_SPECIAL)) == PT_TABLE_FLAGS

# An entry for table `pfn`. In checking builds the unused bits 52-58 hold its generation, so that an entry
# that outlived its table is told from one to the table that came after it.
cdef inline pmd_t mk_table(uint32_t pfn, uint32_t gen) noexcept nogil:
    if PT_CHECKS:
        return mk_pte(pfn, PT_TABLE_FLAGS) | (<uint64_t>(gen & 0x7f) << 52)
    return mk_pte(pfn, PT_TABLE_FLAGS)

cdef inline bint pmd_gen_is(pmd_t pmd, uint32_t gen) noexcept nogil:
    return ((pmd >> 52) & 0x7f) == (gen & 0x7f)
