"""The engine's lower floors under test, as another project would use them: headers, and nothing else of ptstress.

``Rig`` runs a scene, a small concurrent program, under the explorer or on real threads; ``SyncBench`` and
``MmBench`` let one Python thread act for several cpus, one call at a time. The same source is compiled once
per build; see ``build_kit.py``.
"""
cimport cython
from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from cy.base.atomics cimport (
    READ_ONCE, READ_ONCE32, WRITE_ONCE, WRITE_ONCE32, atomic_add, atomic_add_return, atomic_add_return32, cmpxchg32,
    membarrier_all_cpus, peek, plain_load, plain_store, sched_wait, smp_load_acquire, smp_mb, smp_rmb, smp_store_release,
    smp_wmb, xchg, xchg_acquire32, xchg_or_membarrier)
from cy.base.bugs cimport BUG_M07_TABLE, BUG_M10_FRAME
from cy.base.clock cimport sched_yield
from cy.base.coordination cimport pt_rel
from cy.base.cpu cimport RCU_HW, RCU_TABLES, cpu, delay_point, rcu_head, tlb_entry
from cy.base.entry cimport (
    PT_ACCESSED, PT_DIRTY, PT_POISON, PT_PRESENT, PT_RW, PT_USER, mk_pte, mk_table, pte_none, pte_pfn)
from cy.base.explorable cimport explorable
from cy.base.geometry cimport PAGE_SHIFT, PMD_LEVEL, PTE_LEVEL, geo_fanout, geo_init
from cy.base.hook cimport pt_current_slot, pt_hook, pt_set_current
from cy.base.shm cimport (
    C_RCU_BACKLOG_MAX, C_RCU_BACKPRESSURE, C_RCU_CALLBACKS, C_VERB_NOW, MAX_REPORTS, NR_COUNTERS, report, shm_header, shm_worker)
from cy.check.census cimport check_quiescent
from cy.check.machine cimport machine, machine_layout, machine_layout_fill, machine_reset, machine_wire
from cy.core.populate cimport pmd_alloc, pte_alloc
from cy.core.table_empty cimport pmd_clear_table
from cy.mm.arena cimport arena_alloc, arena_free, arena_nr_free
from cy.mm.deferred cimport frame_free, frames_poll
from cy.mm.frame cimport frame_alloc
from cy.mm.gather cimport (
    mmu_gather, tlb_finish_mmu, tlb_flush_mmu, tlb_flush_mmu_tlbonly, tlb_flush_range_add, tlb_gather_mmu, tlb_remove_page)
from cy.mm.hw cimport hw_access
from cy.mm.map cimport (
    attached_by_pml, attached_by_pte, entry_offset, pte_index, pte_lock, pte_offset_map_lock, pte_offset_map_rw_nolock,
    pte_unmap_unlock, ptep_get)
from cy.mm.table cimport pagetable_alloc, pagetable_free_private, table_free_rcu
from cy.mm.tlb cimport flush_tlb_mm, flush_tlb_range, tlb_fill, tlb_lookup, tlb_slot, tlb_walk_begin
from cy.mm.types cimport ARENA_NONE, arena, mm, ptdesc, vma
from cy.mm.vma cimport vm_area_alloc, vm_area_init, vma_lookup_lockless, vma_set_bounds, vma_set_insert, vma_set_remove
from cy.mm.vma_lock cimport (
    VMA_EXCLUDE_READERS, lock_vma_under_rcu, mmap_read_unlock, mmap_write_downgrade, mmap_write_lock,
    mmap_write_unlock, vma_end_read, vma_mark_attached, vma_mark_detached, vma_start_read, vma_start_write)
from cy.sync.lockclass cimport (
    LOCK_MMAP, LOCK_PML, LOCK_PTL, LOCK_RCU, LOCK_VMA, lock_held_push, lock_held_pop, might_sleep)
from cy.sync.rcu cimport (
    call_rcu, rcu_advance, rcu_backpressure, rcu_barrier, rcu_can_advance, rcu_domain, rcu_gp_reached, rcu_gp_target,
    rcu_membarrier_available, rcu_poll, rcu_read_lock, rcu_read_unlock, synchronize_rcu)
from cy.sync.rwsem cimport (
    RWSEM_WAITER, RWSEM_WRITER, down_read, down_read_trylock, down_write, downgrade_write, rw_semaphore,
    up_read, up_write)
from cy.sync.seqcount cimport seq_begin, seq_retry, seq_write_begin, seq_write_end, seqcount_init, seqcount_t
from cy.sync.spinlock cimport spin_lock, spin_trylock, spin_unlock, spinlock_t
from cy.sync.srcu cimport (
    SRCU_IDLE, SRCU_SCAN2, call_srcu, srcu_advance, srcu_backpressure, srcu_barrier, srcu_can_advance, srcu_gp_reached,
    srcu_gp_target, srcu_poll, srcu_read_lock, srcu_read_unlock, srcu_sections, srcu_struct, srcu_struct_init, synchronize_srcu)

include "rig.pxi"
include "rcu.pxi"
include "srcu.pxi"
include "locks.pxi"
include "arena.pxi"
include "vma.pxi"
include "map.pxi"
include "tlb.pxi"
include "litmus.pxi"
include "scenes.pxi"
include "bench_sync.pxi"
include "bench_srcu.pxi"
include "bench_mm.pxi"
