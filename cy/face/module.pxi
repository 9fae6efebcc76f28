# What a build tells about itself, and the layout of the shared region.

SHM_MAGIC = 0x70747374726573_31


def flags() -> dict:
    """Name and switches of this build, as the compiler saw them."""
    return {
        "name": PT_BUILD_NAME.decode(),
        "abi": PT_ABI.decode(),
        "checks": bool(PT_CHECKS),
        "delay": bool(PT_DELAY),
        "flight": bool(PT_FLIGHT),
        "sched": bool(PT_SCHED),
        "rcu_xchg": bool(PT_RCU_XCHG),
        "tsan": bool(PT_TSAN),
        "membarrier": bool(rcu_membarrier_available()),
    }


def layout() -> dict:
    """Sizes in bytes of what the shared region holds; see cy/base/shm.pxd."""
    return {
        "magic": SHM_MAGIC,
        "header_bytes": sizeof(shm_header),
        "worker_bytes": sizeof(shm_worker),
        "event_bytes": sizeof(event),
        "report_bytes": sizeof(report),
        "op_bytes": sizeof(op),
        "max_reports": MAX_REPORTS,
        "max_workers": MAX_CPUS,
        "nr_counters": NR_COUNTERS,
        "nr_verbs": NR_VERBS,
    }


def shared_bytes(uint32_t workers, uint64_t ring_events) -> int:
    """Bytes of the region shared by ``workers`` with rings of ``ring_events`` lines."""
    return sizeof(shm_header) + workers * (sizeof(shm_worker) + ring_events * sizeof(event))


def clock_pair() -> tuple:
    """One begin and one end stamp, in clock ticks: for the self-test of the clock."""
    return pt_clock_begin(), pt_clock_end()


cdef uint32_t usable_cores():
    return len(os.sched_getaffinity(0))


# The same as OP_DTYPE and EVENT_DTYPE of ptstress/vocabulary.py; a test compares.
OP_DTYPE_C = np.dtype(
    [("start", "u8"), ("end", "u8"), ("arg", "u8"), ("verb", "u2"), ("flags", "u2"), ("worker", "u4")])
EVENT_DTYPE_C = np.dtype(
    [("t0", "u8"), ("t1", "u8"), ("start", "u8"), ("end", "u8"), ("value", "u8"), ("incarnation", "u8"),
     ("seq", "u4"), ("status", "i4"), ("verb", "u2"), ("lines", "u2"), ("aux", "u4")])
