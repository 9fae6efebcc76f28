# The state of a machine as one number, for an explorer that does not go on where it has been before.
#
# Guarantee: machines of one configuration with the same number, whose workers stand at the same places with the same in hand,
# behave alike from here on, whoever goes on, and are judged alike. What only counts or measures time is left out: the shared
# counters, the clocks of grace periods and of debt.
# Of the stamps of operations it counts which one ended before which other began.
# What no operation has touched since the reset is as the reset made it, and is not looked at.
# Context: every worker stands at a schedule point. Makes none. Looks at everything bare.
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from cy.base.cpu cimport NR_RCU, PWC_ENTRIES, TLB_ENTRIES, cpu, pwc_entry, tlb_entry
from cy.base.hash cimport hash_word, hash_words
from cy.base.shm cimport event
from cy.check.machine cimport machine
from cy.mm.types cimport ITEM_ZAPPED, arena, arena_item, mm, mm_list, page, ptdesc, vma
from cy.sync.rcu cimport rcu_domain
from cy.sync.srcu cimport srcu_struct

cdef inline uint64_t machine_state(machine *x) noexcept nogil:
    cdef mm *first = &x.mms[0]
    cdef uint32_t tables = x.tables.nr - x.tables.nr_untouched, vmas = x.vmas.nr - x.vmas.nr_untouched
    cdef uint64_t h = hash_words(0, first, x.nr_mms * sizeof(mm))
    cdef uint32_t i
    h = _arena_state(_arena_state(_arena_state(h, &x.frames), &x.tables), &x.vmas)
    h = hash_words(h, first.pages, (x.frames.nr - x.frames.nr_untouched) * sizeof(page))
    for i in range(tables):
        h = _table_state(h, &first.ptdescs[i], x.tables.items[i].state)
    h = hash_words(h, first.entries, tables * first.geo.max_fanout * sizeof(uint64_t))
    h = hash_words(h, first.vma_objects, vmas * sizeof(vma))
    for i in range(x.nr_mms):
        h = hash_words(h, x.mms[i].set.slots, vmas * sizeof(uint64_t))
    for i in range(NR_RCU):
        h = _domain_state(h, &x.rcu[i])
    for i in range(first.nr_srcu):
        h = _srcu_state(h, &x.srcu[i])
    h = hash_words(h, &x.list, sizeof(mm_list))
    for i in range(x.nr_workers):
        h = _cpu_state(h, &x.cpus[i])
    return _events_state(h, x)

cdef inline uint64_t _arena_state(uint64_t h, const arena *a) noexcept nogil:
    cdef const arena_item *item
    cdef uint32_t i
    h = hash_words(h, &a.lock, <size_t>(<const char *>&a.mags[a.nr_cpus] - <const char *>&a.lock))
    h = hash_word(h, a.items[a.nr - 1].next)
    for i in range(a.nr - a.nr_untouched):
        item = &a.items[i]
        # Of one that waits to be freed `next` says since when.
        h = hash_word(h, <uint64_t>item.gen << 32 | (0 if item.state == ITEM_ZAPPED else item.next))
        h = hash_word(h, <uint64_t>item.state << 32 | item.owner)
    return h

# Links, and when it was unlinked, which an oracle notes there, count on the way from the unlink to the end of the grace periods.
# Before and after they are what an earlier life has left.
cdef inline uint64_t _table_state(uint64_t h, const ptdesc *t, uint32_t state) noexcept nogil:
    if state == ITEM_ZAPPED:
        h = hash_word(hash_words(h, &t.rcu, sizeof(t.rcu)), t.next)
    h = hash_word(h, <uint64_t>t.lock.val << 32 | t.level)
    return hash_words(h, &t.detached, <size_t>(<const char *>t + sizeof(ptdesc) - <const char *>&t.detached))

cdef inline uint64_t _domain_state(uint64_t h, const rcu_domain *d) noexcept nogil:
    return hash_word(hash_word(hash_word(h, d.gp_seq), d.gp_completed), d.gp_lock.val)

cdef inline uint64_t _srcu_state(uint64_t h, const srcu_struct *s) noexcept nogil:
    h = hash_word(hash_word(hash_word(h, s.idx), s.gp_seq), s.gp_completed)
    h = hash_word(h, <uint64_t>s.gp_lock.val << 32 | s.state)
    return hash_words(h, s.data, s.nr_cpus * sizeof(s.data[0]))

# All of it but its hook, its clock, and what is left in places that nobody looks at before they are written again.
cdef inline uint64_t _cpu_state(uint64_t h, const cpu *c) noexcept nogil:
    cdef uint32_t i
    h = hash_words(h, &c.id, <size_t>(<const char *>&c.header - <const char *>&c.id))
    h = hash_words(h, &c.verb, <size_t>(<const char *>&c.gp_over_ns - <const char *>&c.verb))
    h = hash_words(h, &c.frames_next, <size_t>(<const char *>&c.held - <const char *>&c.frames_next))
    for i in range(c.nr_held):
        h = hash_word(hash_word(h, <uintptr_t>c.held[i].lock), c.held[i].lock_class)
    h = hash_words(h, &c.flush_gen, <size_t>(<const char *>&c.tlb - <const char *>&c.flush_gen))
    for i in range(TLB_ENTRIES):
        if c.tlb[i].tag != 0 or c.tlb[i].fills & 1 != 0:
            h = hash_words(h ^ i, &c.tlb[i], sizeof(tlb_entry))
        elif c.tlb[i].fills != 0:
            h = hash_word(h ^ i, c.tlb[i].fills)
    for i in range(PWC_ENTRIES):
        if c.pwc[i].tag != 0 or c.pwc[i].fills & 1 != 0:
            h = hash_words(h ^ i, &c.pwc[i], sizeof(pwc_entry))
        elif c.pwc[i].fills != 0:
            h = hash_word(h ^ i, c.pwc[i].fills)
    return h

cdef inline uint64_t _events_state(uint64_t h, const machine *x) noexcept nogil:
    cdef const event *e
    cdef const event *other
    cdef uint32_t i, k
    cdef uint64_t at, before
    for i in range(x.nr_workers):
        at = 0
        while at < x.shared[i].nr_events:
            e = &x.cpus[i].events[at]
            h = hash_words(h, &e.start, (e.lines + 1) * sizeof(event) - 2 * sizeof(uint64_t))
            h = hash_word(h, (e.t0 != 0) | (e.t1 != 0) << 1)
            # The operations of each other worker that ended before it began are the first so many ones.
            for k in range(x.nr_workers):
                before = 0
                if k != i and e.t0 != 0:
                    while before < x.shared[k].nr_events:
                        other = &x.cpus[k].events[before]
                        if other.t1 == 0 or other.t1 > e.t0:
                            break
                        before += 1 + other.lines
                h = hash_word(h, before)
            at += 1 + e.lines
    return h
