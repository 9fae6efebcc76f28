"""Python face of one engine build. See ``Machine``.

The same source is compiled once per build; ``flags()`` tells which one this is.
"""
import os
from importlib import import_module

import numpy as np

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.pycapsule cimport PyCapsule_CheckExact, PyCapsule_GetContext, PyCapsule_GetName, PyCapsule_GetPointer
from cpython.pycapsule cimport PyCapsule_IsValid, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int32_t, intptr_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset, strcmp
from cy.base.bugs cimport (
    BUG_M01_GUARD, BUG_M01_GUP_PTE, BUG_M01_INSTALL, BUG_M01_RECYCLED, BUG_M01_REF, BUG_M01_RELOCK, BUG_M01_SCAN,
    BUG_M01_UPPER, BUG_M02_ANON_VMA, BUG_M02_RETRY, BUG_M02_TEARDOWN, BUG_M03_NOTIFIER, BUG_M04_R11, BUG_M05_MMAP_READ,
    BUG_M07_EXIT, BUG_M07_SCAN, BUG_M07_TABLE, BUG_M08_IPI, BUG_M08_SRCU_SCAN, BUG_M08_ZERO, BUG_M09_FREE, BUG_M10_DISCARD,
    BUG_M10_FRAME, BUG_M10_MPROTECT, BUG_M10_WP, BUG_M10_ZERO, BUG_M11_AGE, BUG_M11_MPROTECT, BUG_M13_SRCU, BUG_M15_DIRTY,
    BUG_M15_LOCK_ORDER, BUG_M15_PIN, BUG_M15_SLEEP, BUG_M15_TRYLOCK, BUG_MX_BACKPRESSURE, BUG_MX_DROP_MARKERS,
    BUG_MX_FRAME_LEAK, BUG_MX_FREED_TWICE, BUG_MX_INSTALL_LEAK, BUG_MX_MADVISE_RELOCK, BUG_MX_QUEUED_TWICE, BUG_MX_REF_LEAK,
    BUG_MX_TWO_PARENTS, BUG_MX_VMA_PUT, BUG_MX_WALK_HOLE, BUG_MX_ZAP_AGAIN, BUG_MX_ZERO_WRITABLE, BUG_P01, BUG_P02, BUG_P04,
    BUG_P05, BUG_P07, BUG_P08, BUG_P13, BUG_P13_LOCAL, BUG_P16, BUG_P17, BUG_P18, BUG_P19, BUG_P20, BUG_P21, BUG_P23, BUG_P24,
    BUG_P24_BATCH)
from cy.base.build cimport PT_ABI, PT_BUILD_NAME, PT_CHECKS, PT_DELAY, PT_FLIGHT, PT_RCU_XCHG, PT_SCHED, PT_TSAN
from cy.base.clock cimport now_ns, pt_clock_begin, pt_clock_end
from cy.base.coordination cimport pt_rel
from cy.base.cpu cimport NR_RCU, cpu, pwc_entry, tlb_entry
from cy.base.explorable cimport explorable
from cy.base.geometry cimport MAX_MMS, PAGE_SHIFT, PTE_LEVEL, geo_fanout, geo_init
from cy.base.hook cimport pt_current_slot, pt_hook, pt_set_current
from cy.base.shm cimport (
    C_PARKED, C_STREAM_DONE, MAX_CPUS, MAX_REPORTS, NR_COUNTERS, NR_VERBS, VERB_AGE, VERB_DISCARD, VERB_DONTNEED, VERB_EXIT,
    VERB_FREE, VERB_GUARD_INSTALL, VERB_GUARD_REMOVE, VERB_GUP_FAST, VERB_MMAP, VERB_MPROTECT, VERB_MUNMAP, VERB_POPULATE,
    VERB_READ, VERB_SCAN, VERB_SYNC, VERB_WALK, VERB_WRITE, event, op, report, shm_header, shm_worker)
from cy.check.census cimport check_quiescent
from cy.check.data_types cimport MAP_GUARDED, MAP_RO, MAP_RW
from cy.check.execute cimport drain, execute
from cy.check.judge cimport judge, judge_all, judge_destroy, judge_forget_overlaps, judge_init, judge_reset, judge_share
from cy.check.latency cimport LATENCY_BUCKETS
from cy.check.machine cimport machine, machine_layout, machine_layout_fill, machine_reset, machine_table_bytes, machine_wire
from cy.check.state cimport machine_state
from cy.check.measure cimport (
    MEASURE_BACKGROUND, MEASURE_CYCLE, MEASURE_MAP, MEASURE_RCU, MEASURE_READ, MEASURE_RECORD, MEASURE_STALL, MEASURE_STAMPS,
    MEASURE_WALK, MEASURE_WRITE, measure, measure_run)
from cy.check.outcome cimport outcome_find, outcome_judge, outcome_read, outcome_table, outcome_table_fini, outcome_table_init
from cy.check.stream cimport CHAIN_MAX, MIX_CHAINS, STREAM_ARRAY, STREAM_MIX, chain, is_access, mix, stream
from cy.check.worker cimport (
    JOB_CHECK, JOB_RACE, crew, crew_post, crew_start, crew_stop, crew_wait, worker)
from cy.base.entry cimport is_guard_pte_marker, pmd_is_table, pte_none, pte_pfn, pte_present, pte_special
from cy.mm.policy cimport PT_POLICY_CAPSULE, policy
from cy.mm.rss cimport mm_rss
from cy.mm.types cimport DETACH_SCAN, DETACH_ZERO, arena_item, mm, page, protect_ops, ptdesc, reclaim_ops, vma
from cy.mm.vma cimport vma_at
from cy.protect.registry cimport PROTECT_COVERING, PROTECT_MMAP_LOCK, PROTECT_RCU, PROTECT_VMA_LOCK, protect_fill
from cy.protect.sleep cimport (
    SLEEP_HOIST, SLEEP_REFCOUNT, SLEEP_REVALIDATE, SLEEP_SRCU, SLEEP_SRCU_MM, SLEEP_VMA_LOCK, sleep_fill)
from cy.reclaim.registry cimport (
    RECLAIM_ASYNC, RECLAIM_SYNC, RECLAIM_TASKWORK, RECLAIM_UPPER, RECLAIM_ZERO, reclaim_fill)
from cy.sync.rcu cimport rcu_membarrier_available

cdef extern from "sys/mman.h" nogil:
    void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset) noexcept
    int munmap(void *addr, size_t length) noexcept
    enum:
        PROT_READ
        PROT_WRITE
        MAP_PRIVATE
        MAP_ANONYMOUS
        MAP_NORESERVE

include "module.pxi"
include "plugin.pxi"
include "config.pxi"
include "describe.pxi"
include "explore.pxi"
include "state.pxi"
include "space.pxi"
include "machine.pxi"
include "bench.pxi"
