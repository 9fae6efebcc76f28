# Pins: references that keep a frame from being reused after its entry is gone.
#
# Nobody counts mappings: a mapped frame has no reference of its own, so that a zap does without an atomic for each page.
# A frame that leaves its page comes back to the arena only after its entry was cleared, the flush and a hardware
# grace period; there its pins are read, and a pinned frame waits for another grace period (cy/mm/deferred.pxd).
#
# [PT-041] store buffering: who pins raises the count, then reads the entry again; who frees has cleared the entry, then
# reads the count. Each has a full barrier between. One of them sees the other: the entry is gone and the pin is given
# back unused, or the frame is kept. A pin that is given back unused may have met the frame's next life; it delays
# its end and does nothing else, so an allocation leaves the count alone.
# Source: mm/gup.c try_grab_folio_fast, Documentation/core-api/pin_user_pages.rst.
# Not modelled: references for a long time.
from libc.stdint cimport uint64_t
from cy.base.atomics cimport atomic_add_mb, smp_load_acquire
from cy.base.cpu cimport cpu
from cy.mm.types cimport page

# Context: an entry that maps the frame is locked; or it is read again afterwards, and the pin used only if it is unchanged.
cdef inline void page_pin(cpu *c, page *p) noexcept nogil:
    c.nr_pins += 1
    atomic_add_mb(&p.pins, 1)            # [PT-041] pairs with: page_is_pinned.

# Context: if the frame was stored to, page.dirty is set: memory pressure looks at the pins first and at that afterwards.
cdef inline void page_unpin(cpu *c, page *p) noexcept nogil:
    c.nr_pins -= 1
    atomic_add_mb(&p.pins, <uint64_t>-1)

# Context: the frame's entry was cleared. What was done through a pin that is gone is visible afterwards.
cdef inline bint page_is_pinned(page *p) noexcept nogil:
    return smp_load_acquire(&p.pins) != 0    # [PT-041] pairs with: page_pin. The barrier is that of the grace period.

# Bare reading, for the controlled scheduler.
cdef inline int page_is_unpinned(const void *p) noexcept nogil:
    return (<const page *>p).pins == 0
