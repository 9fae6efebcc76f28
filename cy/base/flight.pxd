# Flight recorder: what a cpu did last to locks and tables, in a ring that the parent maps too.
#
# The history tells when operations began and ended. This tells what lies between: in which order they got their locks, what
# each recheck read, which table went, in which of its lives. A lock is noted with the lock held, so that the notes of one
# lock are, by their stamps, in the order of its holders. A stamp costs more than all the rest: a recheck, which follows a lock at
# once, has that of the note before it. The first report of a run freezes all rings.
# Context: own cpu, any. The ring is private to the worker; its stores are bare. Nothing in builds without PT_FLIGHT.
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from cy.base.atomics cimport peek
from cy.base.build cimport PT_FLIGHT
from cy.base.clock cimport stamp_now
from cy.base.cpu cimport cpu
from cy.base.shm cimport FLIGHT_RECHECK, MAX_FLIGHT, flight_entry

# `detail`: of a lock its class, of a recheck 1 if it held, of a table its level. `what`: the lock, the entry that was looked at,
# the lock of the table. `value`: what a recheck read; of a table how often it was allocated, and its number below.
cdef inline void flight_note(cpu *c, uint32_t kind, uint32_t detail, const void *what, uint64_t value) noexcept nogil:
    cdef flight_entry *e
    if not PT_FLIGHT or peek(&c.header.nr_reports) != 0:
        return
    e = &c.shared.flight[c.shared.nr_flight & (MAX_FLIGHT - 1)]
    e.stamp = c.shared.flight[(c.shared.nr_flight - 1) & (MAX_FLIGHT - 1)].stamp if kind == FLIGHT_RECHECK else stamp_now()
    e.what = <uint64_t>what
    e.value = value
    e.seq = c.seq
    e.kind = <uint16_t>kind
    e.detail = <uint16_t>detail
    c.shared.nr_flight += 1
