"""What ptstress finds through the entry point."""
from ptstress.schemes import Scheme

SCHEMES = (
    Scheme(
        "lazy-sync", "linux-6.18, but each table that DONTNEED frees is locked anew and looked at once more",
        "vma_lock", "plugin:lazy", dontneed_vma_lock=True, drop_lock_before_flush=True, tables_as="sync",
    ),
    Scheme("hasty-sync", "wrong: tables are unlinked without their lock", "vma_lock", "plugin:hasty"),
    Scheme(
        "eager", "mmap_lock whose readers overtake writers that wait; tables that DONTNEED empties are freed", "plugin:eager",
        "sync", locks_as="mmap_lock",
    ),
)
