# The scenes and their wrong variants, by name.

BUSTED = {
    "unlink": {
        "no_grace_period": NO_GRACE_PERIOD, "running_period": RUNNING_PERIOD, "silent_reader": SILENT_READER,
        "unordered_reader": UNORDERED_READER},
    "sync": {"no_grace_period": NO_GRACE_PERIOD},
    "backlog": {"no_backpressure": NO_BACKPRESSURE},
    "srcu_unlink": {
        "no_grace_period": NO_GRACE_PERIOD, "silent_reader": SILENT_READER, "unordered_reader": UNORDERED_READER,
        "other_half": OTHER_HALF, "no_first_scan": NO_FIRST_SCAN},
    "srcu_sync": {"no_grace_period": NO_GRACE_PERIOD},
    "mutex": {"test_then_set": TEST_THEN_SET, "unordered_unlock": UNORDERED_UNLOCK},
    "two_locks": {"opposite_order": OPPOSITE_ORDER},
    "rwsem": {"blind_writer": BLIND_WRITER},
    "together": {},
    "downgrade": {"up_then_down": UP_THEN_DOWN},
    "downgrade_lets_in": {},
    "stream": {"rude_reader": RUDE_READER},
    "twins": {"no_retry": NO_RETRY, "no_odd": NO_ODD},
    "handout": {"unlocked": UNLOCKED},
    "write_lock": {"no_seq_recheck": NO_SEQ_RECHECK, "no_drain": NO_DRAIN},
    "detach": {"unlocked_detach": UNLOCKED_DETACH},
    "bounds": {"no_bounds_recheck": NO_BOUNDS_RECHECK},
    "attached": {"no_pmd_recheck": NO_PMD_RECHECK, "freed_at_once": FREED_AT_ONCE},
    "publish": {"unordered_install": UNORDERED_INSTALL},
    "fill_flush": {"no_gen_recheck": NO_GEN_RECHECK, "late_gen": LATE_GEN},
    "fill_full_flush": {"no_gen_recheck": NO_GEN_RECHECK, "late_gen": LATE_GEN},
    "reuse": {"freed_before_flush": FREED_BEFORE_FLUSH, "no_flush": NO_FLUSH, "no_hw_period": NO_HW_PERIOD},
    "two_gathers": {"no_pending_look": NO_PENDING_LOOK},
    "MP": {"unordered_stores": UNORDERED_STORES, "unordered_loads": UNORDERED_LOADS},
    "MP+fences": {"unordered_stores": UNORDERED_STORES, "unordered_loads": UNORDERED_LOADS},
    "MP+acquire-behind": {"unordered": UNORDERED},
    "MP+acquire-between": {"unordered": UNORDERED},
    "MP+address": {"unordered": UNORDERED},
    "MP+lock": {},
    "SB": {"unordered": UNORDERED},
    "SB+membarrier": {"unordered": UNORDERED, "no_membarrier": NO_MEMBARRIER},
    "SB+release+acquire": {"unordered": UNORDERED},
    "2+2W": {"unordered": UNORDERED},
    "R": {"unordered_stores": UNORDERED_STORES, "unordered_loads": UNORDERED_LOADS},
    "S": {"unordered": UNORDERED},
    "LB": {},
    "CoRR": {},
    "IRIW": {"unordered": UNORDERED},
}


cdef int choose_scene(rig *r, str name, str busted) except -1:
    if name not in BUSTED:
        raise ValueError(f"scene {name!r}: expected one of {', '.join(BUSTED)}")
    if busted and busted not in BUSTED[name]:
        raise ValueError(f"wrong variant {busted!r} of {name!r}: expected one of {', '.join(BUSTED[name])}")
    r.busted = BUSTED[name][busted] if busted else 0
    if not (rcu_scene(&r.scene, name) or srcu_scene(&r.scene, name) or lock_scene(&r.scene, name) or arena_scene(&r.scene, name)
            or vma_scene(&r.scene, name) or map_scene(r, &r.scene, name) or tlb_scene(r, &r.scene, name)
            or litmus_scene(&r.scene, name)):
        raise ValueError(f"scene {name!r} has no body")
    return 0
