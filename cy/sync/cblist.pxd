# The callbacks of one cpu that wait for grace periods of one domain, in two segments: `next` wait for a grace period to be
# chosen for them, `wait` for the grace period `wait_gp`. Context of everything here: own cpu.
# Source: kernel/rcu/rcu_segcblist.c, which has two segments more.
from libc.stdint cimport uint64_t
from cy.base.clock cimport figure_ns
from cy.base.cpu cimport cpu, rcu_cblist, rcu_head

cdef inline void cblist_init(rcu_cblist *l) noexcept nogil:
    l.next_head = NULL
    l.next_tail = &l.next_head
    l.wait_head = NULL
    l.wait_gp = 0
    l.nr_next = 0
    l.nr_wait = 0

cdef inline uint64_t cblist_nr(const rcu_cblist *l) noexcept nogil:
    return <uint64_t>l.nr_next + l.nr_wait

cdef inline void cblist_add(rcu_cblist *l, rcu_head *head, void (*func)(cpu *c, rcu_head *head) noexcept nogil) noexcept nogil:
    head.func = func
    head.next = NULL
    l.next_tail[0] = head
    l.next_tail = &head.next
    l.nr_next += 1

# Their grace period is over: run those that wait for it. They may queue others. Returns how many ran.
cdef inline uint64_t cblist_run(cpu *c, rcu_cblist *l) noexcept nogil:
    cdef rcu_head *head = l.wait_head
    cdef rcu_head *following
    cdef uint64_t nr = l.nr_wait
    l.wait_head = NULL
    l.nr_wait = 0
    c.gp_over_ns = figure_ns(&c.hook)
    while head != NULL:
        following = head.next
        head.func(c, head)
        head = following
    return nr

# Let those without a grace period wait for `gp`. Context: none wait.
cdef inline void cblist_wait(rcu_cblist *l, uint64_t gp) noexcept nogil:
    l.wait_head = l.next_head
    l.nr_wait = l.nr_next
    l.wait_gp = gp
    l.next_head = NULL
    l.next_tail = &l.next_head
    l.nr_next = 0
