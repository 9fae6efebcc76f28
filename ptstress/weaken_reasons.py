"""Why nothing goes wrong, that an oracle sees, without one of the engine's orderings.

By label and function; where one label stands at several accesses of a function, ``/2`` means the second of them. A reason
names what else keeps the order, or what the explored memory does not show (cy/base/weak.pxd). It is wrong as soon as something
catches the ordering that is left out, and ``explore --weaken`` says so.
"""

_AT_ONCE = "what takes the entry is in memory at once or goes with the flush, which begins with a full barrier"
_TAKEN = "the exchange that took the entry is a full barrier"
_UNLINKED = "an exchange is in memory at once, and rcu_gp_target has a barrier of its own"
_COHERENT = "explored memory is multi-copy atomic: who sees the end of a section sees what went before"
_SRCU = "a table goes through RCU_TABLES first: PT-010 has a full barrier between its unlink and SRCU"
_SCAN = "a section that begins behind spin_trylock's acquire (PT-001) begins behind the grace period"
_ORACLE = "for an oracle that looks at another cpu's cache where a flush came amid a fill; the barrier of pwc_fill is caught"
_SET = "who finds no VMA looks at mm_lock_seq besides, or falls back to mmap_lock; a VMA that is found answers for itself"
_SLOT = "a slot behind the set holds some VMA in explored runs; who finds a wrong one asks the VMA itself"
_MARK = "entries are taken by exchanges; guards are not, but no oracle of a race misses an empty table (I36)"

REASONS: dict[tuple[str, str], str] = {
    ("PT-001", "spin_trylock"): "a table's own lock, acquired before, keeps its entry; slots are loaded by acquires",
    ("PT-002", "downgrade_write"): "vma_mark_detached, a full barrier, comes between; a late mm_lock_seq locks VMAs for longer",
    ("PT-003", "seq_begin"): _SET,
    ("PT-003", "seq_retry"): _SET,
    ("PT-003", "seq_write_begin"): "an exchange is in memory at once: what is stored behind it does not come before",
    ("PT-005", "pte_alloc"): "it asks whether the entry is none; who uses the table loads the entry again, in pte_offset_map",
    ("PT-006", "vma_snapshot"): "seq_begin (PT-003) and vm_seq (PT-150) are acquires, too, and tell of the same writer",
    ("PT-007", "vma_mark_attached"): "the fields went with the exchange of seq_write_begin, in vma_set_insert",
    ("PT-008", "vma_start_read"): "this reader has only looked at vm_mm: it has done nothing that a writer waits for",
    **{("PT-008", name): "a full barrier follows: vma_start_write gives its bit back, munmap begins a gather"
       for name in ("_wait_for_readers", "_wait_for_readers/2")},
    ("PT-009", "do_wp_page"): "the exchange that cleared the entry (PT-021) is a full barrier behind the contents",
    ("PT-009", "ptep_get_lockless"): "an exchange lies between entry and frame: of the TLB fill (PT-020), or of the pin (PT-041)",
    ("PT-009", "_try_to_unmap_one"): _TAKEN,
    ("PT-009", "_free_entry"): _TAKEN,
    ("PT-009", "_change_pte_range"): _TAKEN,
    ("PT-010", "_free_level"): _UNLINKED,
    ("PT-010", "pmd_clear_table_for"): _UNLINKED,
    ("PT-010", "unlink_empty_table"): _UNLINKED,
    ("PT-010", "rcu_gp_target"): "the unlink is an exchange, and the flush behind it one more",
    ("PT-011", "_rcu_gp_start"): "the unlinks of others went with their own full barriers; slots are loaded by acquires",
    ("PT-012", "rcu_read_unlock"): "record_end, or what gives the VMA back, is a full barrier right behind the section",
    ("PT-012", "_rcu_gp_done"): "what follows are stores, which a control dependency keeps behind, and bare loads",
    ("PT-013", "rcu_gp_reached"): _COHERENT,
    ("PT-013", "rcu_advance"): _COHERENT,
    ("PT-020", "flush_tlb_cpu"): "an addition is in memory at once, and that to full_flushes, which follows, is a full barrier",
    ("PT-021", "do_wp_page"): _AT_ONCE,
    ("PT-021", "table_empty_out"): _AT_ONCE,
    ("PT-021", "_zap_entries"): _AT_ONCE,
    ("PT-021", "_try_to_unmap_one"): _AT_ONCE,
    ("PT-021", "_change_pte_range"): _AT_ONCE,
    ("PT-022", "tlb_gather_mmu"): "an exchange is in memory at once, and entries are taken by exchanges",
    ("PT-030", "srcu_read_lock"): _SRCU,
    ("PT-030", "srcu_gp_target"): _SRCU,
    ("PT-030", "srcu_advance"): _SRCU,
    ("PT-030", "_half_is_empty"): _SCAN,
    ("PT-031", "srcu_read_unlock"): "a section stores into tables under their locks, whose release goes first",
    ("PT-031", "_half_is_empty"): _SCAN,
    ("PT-032", "_flip"): "a load is never later than a store behind it in explored memory",
    ("PT-033", "srcu_gp_reached"): _COHERENT,
    ("PT-033", "srcu_advance"): _COHERENT,
    ("PT-034", "table_put"): "a section of RCU_TABLES ends between a holder's last store and its put, and is waited for (PT-012)",
    ("PT-040", "flush_tlb_batched_pending"): "a flush is exchanges, which are in memory at once",
    ("PT-040", "flush_tlb_batched_pending/2"): "a flush is exchanges, which are in memory at once",
    ("PT-050", "mmput_last"): "what an operation stores goes with a lock or a section that the teardown takes or waits for",
    ("PT-051", "mmget_not_zero"): "a section follows, which begins with an acquire (PT-011) and mostly an exchange",
    ("PT-060", "mm_list_add"): "the mark is set by a compare-exchange, a full barrier",
    ("PT-060", "mm_list_take"): "mmget_not_zero comes between, a full barrier",
    ("PT-061", "async_left_behind"): _MARK,
    ("PT-061", "_take_mark"): _MARK,
    ("PT-062", "_vma_set_locked"): "vma_start_write gives its bit back by a full barrier, before anybody looks for tables",
    ("PT-062", "_keep_if_current"): "stores are not drawn so late that a table is still in the buffer some 30 points later",
    ("PT-062", "_settle"): "_keep_if_current has passed its own barrier, or the table that was installed is gone",
    ("PT-063", "vma_index_after"): _SLOT,
    ("PT-063", "vma_set_insert"): _SLOT,
    ("PT-151", "pwc_settle"): _ORACLE,
}
