# Configuration of a machine: names and numbers from Python, checked.

PROTECTIONS = {"mmap_lock": PROTECT_MMAP_LOCK, "vma_lock": PROTECT_VMA_LOCK, "covering": PROTECT_COVERING, "rcu": PROTECT_RCU}
RECLAIMS = {
    "sync": RECLAIM_SYNC, "async": RECLAIM_ASYNC, "taskwork": RECLAIM_TASKWORK, "zero": RECLAIM_ZERO, "upper": RECLAIM_UPPER,
}
SLEEP_MODES = {
    "vma_lock": SLEEP_VMA_LOCK, "revalidate": SLEEP_REVALIDATE, "hoist": SLEEP_HOIST, "refcount": SLEEP_REFCOUNT,
    "srcu": SLEEP_SRCU, "srcu-mm": SLEEP_SRCU_MM,
}
BUG_BITS = {
    "M15-sleep": BUG_M15_SLEEP,
    "M01-ref": BUG_M01_REF,
    "M01-relock": BUG_M01_RELOCK,
    "M13-srcu": BUG_M13_SRCU,
    "M03-notifier": BUG_M03_NOTIFIER,
    "MX-drop-markers": BUG_MX_DROP_MARKERS,
    "M05-mmap-read": BUG_M05_MMAP_READ,
    "M08-srcu-scan": BUG_M08_SRCU_SCAN,
    "MX-backpressure": BUG_MX_BACKPRESSURE,
    "M01-guard": BUG_M01_GUARD,
    "M02-anon-vma": BUG_M02_ANON_VMA,
    "M01-gup-pte": BUG_M01_GUP_PTE,
    "P01": BUG_P01,
    "P02": BUG_P02,
    "P04": BUG_P04,
    "P05": BUG_P05,
    "P07": BUG_P07,
    "P08": BUG_P08,
    "M15-lock-order": BUG_M15_LOCK_ORDER,
    "M01-recycled": BUG_M01_RECYCLED,
    "M07-exit": BUG_M07_EXIT,
    "P18": BUG_P18,
    "P19": BUG_P19,
    "P16": BUG_P16,
    "P20": BUG_P20,
    "P17": BUG_P17,
    "P21": BUG_P21,
    "P23": BUG_P23,
    "P24": BUG_P24,
    "P24-batch": BUG_P24_BATCH,
    "M07-scan": BUG_M07_SCAN,
    "M01-scan": BUG_M01_SCAN,
    "M08-ipi": BUG_M08_IPI,
    "M08-zero": BUG_M08_ZERO,
    "M10-zero": BUG_M10_ZERO,
    "M07-table": BUG_M07_TABLE,
    "M10-frame": BUG_M10_FRAME,
    "M15-dirty": BUG_M15_DIRTY,
    "M09-free": BUG_M09_FREE,
    "M10-discard": BUG_M10_DISCARD,
    "P13": BUG_P13,
    "P13-local": BUG_P13_LOCAL,
    "M10-mprotect": BUG_M10_MPROTECT,
    "M11-mprotect": BUG_M11_MPROTECT,
    "M11-age": BUG_M11_AGE,
    "M01-install": BUG_M01_INSTALL,
    "M04-r11": BUG_M04_R11,
    "M02-teardown": BUG_M02_TEARDOWN,
    "M01-upper": BUG_M01_UPPER,
    "MX-install-leak": BUG_MX_INSTALL_LEAK,
    "MX-frame-leak": BUG_MX_FRAME_LEAK,
    "MX-freed-twice": BUG_MX_FREED_TWICE,
    "M15-trylock": BUG_M15_TRYLOCK,
    "M15-pin": BUG_M15_PIN,
    "MX-zap-again": BUG_MX_ZAP_AGAIN,
    "MX-zero-writable": BUG_MX_ZERO_WRITABLE,
    "M10-wp": BUG_M10_WP,
    "MX-walk-hole": BUG_MX_WALK_HOLE,
    "MX-ref-leak": BUG_MX_REF_LEAK,
    "M02-retry": BUG_M02_RETRY,
    "MX-queued-twice": BUG_MX_QUEUED_TWICE,
    "MX-two-parents": BUG_MX_TWO_PARENTS,
    "MX-vma-put": BUG_MX_VMA_PUT,
    "MX-madvise-relock": BUG_MX_MADVISE_RELOCK,
}
VERBS = (
    VERB_READ, VERB_WRITE, VERB_WALK, VERB_MMAP, VERB_MUNMAP, VERB_DONTNEED, VERB_GUP_FAST, VERB_MPROTECT, VERB_POPULATE,
    VERB_GUARD_INSTALL, VERB_GUARD_REMOVE, VERB_AGE, VERB_EXIT, VERB_FREE, VERB_DISCARD, VERB_SCAN, VERB_SYNC,
)
KNOB_DEFAULTS = {
    "need_resched": 0, "gather_batch": 0, "gather_alloc_fail": 0, "trylock_fail": 0, "alloc_fail": 0, "flush_delay": 0,
    "flush_ceiling": 33, "gp_batch": 32, "scan_batch": 0, "table_free": "rcu",
    "reuse": "lifo", "delay_interval": 0, "backlog_max": 512,
    "stall_ms": 1000, "walk_sleep": 0, "sleep_us": 0, "walk_stall": 0, "walk_stall_ms": 0,
    "tsan_plant": 0, "crash_plant": 0, "hang_plant": 0,
}
CONFIG_DEFAULTS = {
    "geometry": (9, 9, 9, 9), "protection": "vma_lock", "reclaim": "sync", "dontneed_vma_lock": True,
    "drop_lock_before_flush": True, "vma_reuse": "typesafe", "sleep_mode": "vma_lock", "secondary_mmu": False,
    "workers": 1, "mms": 1, "tables": 4096, "frames": 65536, "vmas": 1024, "ring_events": 4096, "measure": False, "seed": 0,
    "bugs": (), "knobs": {},
}


def _choose(what, name, table):
    if name not in table:
        raise ValueError(f"{what} {name!r} is unknown; expected one of: {', '.join(sorted(table))}")
    return table[name]


cdef int fill_protect(machine *x, mm *m, str name) except -1:
    if name.startswith(PLUGIN):
        return plug_protect(m, &x.protect, name[len(PLUGIN):])
    protect_fill(m, &x.protect, _choose("protection", name, PROTECTIONS))
    return 0


cdef int fill_reclaim(machine *x, mm *m, str text) except -1:
    """The policies of ``never`` or ``sync+...``; those of other packages fill in last."""
    cdef uint32_t policies = 0
    names = [] if text == "never" else text.split("+")
    for name in names:
        if not name.startswith(PLUGIN):
            policies |= <uint32_t>_choose("reclaim", name, RECLAIMS)
    reclaim_fill(m, &x.reclaim, policies)
    for name in names:
        if name.startswith(PLUGIN):
            plug_reclaim(m, &x.reclaim, name[len(PLUGIN):])
    return 0


def _complete(given, defaults, what):
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        raise ValueError(f"{what} {unknown[0]!r} is unknown; expected one of: {', '.join(sorted(defaults))}")
    return {**defaults, **given}


def _count_in(config, name, low, high):
    value = int(config[name])
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; expected {low} to {high}")
    return value


cdef int fill_mm(machine *x, dict config) except -1:
    """Fill everything of the mm that does not depend on where its memory lies."""
    cdef uint32_t bits[5]
    cdef mm *m = &x.mms[0]
    geometry = tuple(config["geometry"])
    if not 3 <= len(geometry) <= 5:
        raise ValueError(f"geometry {geometry} has {len(geometry)} levels; expected 3 to 5")
    for level, width in enumerate(geometry):
        bits[level] = width
    if geo_init(&m.geo, bits, len(geometry)) != 0:
        raise ValueError(f"geometry {geometry} is impossible; expected 1 to 9 index bits in each level")
    fill_protect(x, m, config["protection"])
    fill_reclaim(x, m, config["reclaim"])
    if x.reclaim.unlinked != NULL and x.protect.detach_upper == NULL:
        raise ValueError(f"reclaim upper frees tables that protection {config['protection']!r} relies on")
    sleep_fill(m, &x.sleep, _choose("sleep_mode", config["sleep_mode"], SLEEP_MODES))
    m.secondary.present = bool(config["secondary_mmu"])
    m.dontneed_vma_lock = bool(config["dontneed_vma_lock"])
    m.drop_lock_before_flush = bool(config["drop_lock_before_flush"])
    m.vma_typesafe = _choose("vma_reuse", config["vma_reuse"], {"rcu": 0, "typesafe": 1})
    m.bugs = 0
    for bug in config["bugs"]:
        if not PT_CHECKS:
            raise ValueError(f"bug {bug!r} does not exist in the build {PT_BUILD_NAME.decode()}; use stress or sched")
        m.bugs |= <uint64_t>1 << <int>_choose("bug", bug, BUG_BITS)
    knobs = _complete(config["knobs"], KNOB_DEFAULTS, "knob")
    m.knobs.need_resched = knobs["need_resched"]
    m.knobs.gather_batch = knobs["gather_batch"]
    m.knobs.trylock_fail = knobs["trylock_fail"]
    m.knobs.alloc_fail = knobs["alloc_fail"]
    m.knobs.gather_alloc_fail = knobs["gather_alloc_fail"]
    m.knobs.flush_delay = knobs["flush_delay"]
    m.knobs.flush_ceiling = knobs["flush_ceiling"]
    m.knobs.gp_batch = 0 if PT_SCHED else knobs["gp_batch"]
    m.knobs.scan_batch = knobs["scan_batch"]
    m.knobs.table_free_ipi = _choose("table_free", knobs["table_free"], {"rcu": 0, "ipi": 1})
    m.knobs.walk_sleep = knobs["walk_sleep"]
    m.knobs.sleep_us = knobs["sleep_us"]
    m.knobs.walk_stall = knobs["walk_stall"]
    m.knobs.walk_stall_ms = knobs["walk_stall_ms"]
    m.knobs.tsan_plant = knobs["tsan_plant"]
    m.knobs.crash_plant = knobs["crash_plant"]
    m.knobs.hang_plant = knobs["hang_plant"]
    x.delay_interval = knobs["delay_interval"]
    fifo = _choose("reuse", knobs["reuse"], {"lifo": 0, "fifo": 1})
    x.frames.fifo = fifo
    x.tables.fifo = fifo
    x.vmas.fifo = fifo
    for domain in range(MAX_MMS):
        x.srcu[<int>domain].backlog_max = knobs["backlog_max"]
        x.srcu[<int>domain].bugs = m.bugs
    for domain in range(NR_RCU):
        x.rcu[<int>domain].membarrier = rcu_membarrier_available()
        x.rcu[<int>domain].backlog_max = knobs["backlog_max"]
        x.rcu[<int>domain].stall_ns = <uint64_t>knobs["stall_ms"] * 1000000
    return 0


cdef object checked_ops(ops, uint32_t nr_workers, bint syncs):
    """The operations as a contiguous array of ``OP_DTYPE``; ValueError if one does not exist."""
    array = np.ascontiguousarray(ops).view(OP_DTYPE_C)
    wrong = ~np.isin(array["verb"], VERBS)
    if wrong.any():
        raise ValueError(f"operation {int(np.argmax(wrong))} has verb {int(array['verb'][wrong][0])}, which does not exist")
    waits = array["verb"] == VERB_SYNC
    if not syncs and waits.any():
        raise ValueError(f"operation {int(np.argmax(waits))} waits for another worker: only streams may")
    if (array["start"][waits] >= nr_workers).any():
        raise ValueError(f"an operation waits for a worker that does not exist; there are {nr_workers}")
    return array


cdef int fill_mix(mix *out, dict spec, list kept) except -1:
    """A mix: {"weights": {chain: n}, "start": page, "end": page, "unit": {verb: pages}, "aligned": bool, "mms": n}.

    A chain is a verb, or a tuple of verbs: done one after the other at one place.
    "places": uint64 array of shape (n, 2), start and end of each, in place of the one region; it goes into ``kept``.
    """
    cdef const uint64_t[:, ::1] places
    cdef uint32_t verb, i, pages
    cdef chain *one
    memset(out, 0, sizeof(mix))
    out.start = spec["start"]
    out.end = spec["end"]
    out.mms = spec.get("mms", 1)
    if out.start >= out.end:
        raise ValueError(f"a mix needs a region; got pages {out.start} to {out.end}")
    if len(spec.get("places", ())):
        places = spec["places"]
        for verb in range(<uint32_t>len(places)):
            if places[verb, 0] >= places[verb, 1]:
                raise ValueError(f"a mix needs places; got pages {places[verb, 0]} to {places[verb, 1]}")
        kept.append(spec["places"])
        out.places = &places[0, 0]
        out.nr_places = <uint32_t>len(places)
    units = spec.get("unit", {})
    for verb in range(NR_VERBS):
        out.unit[verb] = max(1, units.get(verb, 1))
    out.aligned = bool(spec.get("aligned", False))
    weights = {(key if isinstance(key, tuple) else (key,)): weight for key, weight in spec["weights"].items() if weight}
    if not 1 <= len(weights) <= MIX_CHAINS or not all(1 <= len(verbs) <= CHAIN_MAX for verbs in weights):
        raise ValueError(f"a mix needs 1 to {MIX_CHAINS} chains of 1 to {CHAIN_MAX} verbs with a weight")
    for i, (verbs, weight) in enumerate(sorted(weights.items())):
        one = &out.chains[i]
        out.weight_sum += weight
        one.upto = out.weight_sum
        for verb in verbs:
            one.verbs[one.length] = verb
            one.length += 1
            pages = 1 if is_access(verb) else out.unit[verb]
            one.unit = max(one.unit, pages)
    return 0
