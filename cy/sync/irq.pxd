# Sections with interrupts off, and waiting for them.
#
# In the kernel a cpu with interrupts off takes no IPI, and RCU counts it as a reader. Here such a section is a read
# section of RCU_TABLES and of RCU_IRQ, a domain that nothing else reads: irq_sync_all() waits for RCU_IRQ and
# for hardware accesses, because an IPI is taken between two instructions, never within one. It proves that every
# section and every access that was under way when it began is over, and nothing about ordinary RCU readers: an IPI
# is taken inside rcu_read_lock() too.
#
# Context of a section: does not sleep. Sections do not nest.
# Source: mm/gup.c (gup_fast), mm/mmu_gather.c tlb_remove_table_sync_one, Linux 718b13861d22.
# Not modelled: interrupts that come late; the flush itself as an IPI that waits for such sections.
from cy.base.cpu cimport RCU_HW, RCU_IRQ, RCU_TABLES, count, cpu
from cy.base.shm cimport C_SYNC_ONE
from cy.sync.rcu cimport rcu_domain, rcu_read_lock, rcu_read_unlock, synchronize_rcu

cdef inline void irq_off_begin(cpu *c, rcu_domain *rcu) noexcept nogil:
    rcu_read_lock(c, &rcu[RCU_TABLES])
    rcu_read_lock(c, &rcu[RCU_IRQ])

cdef inline void irq_off_end(cpu *c, rcu_domain *rcu) noexcept nogil:
    rcu_read_unlock(c, &rcu[RCU_IRQ])
    rcu_read_unlock(c, &rcu[RCU_TABLES])

# An IPI to all cpus, waited for. Context: may sleep; outside sections and hardware accesses.
cdef inline void irq_sync_all(cpu *c, rcu_domain *rcu) noexcept nogil:
    count(c, C_SYNC_ONE)
    synchronize_rcu(c, &rcu[RCU_IRQ])
    synchronize_rcu(c, &rcu[RCU_HW])
