# One Python thread acts for several cpus, one call at a time: SRCU. No call may have to wait.

cdef class SrcuBench(Rig):
    """SRCU, one call at a time. ``cpu`` says who acts."""

    def __init__(self, *args, **kwargs):
        srcu_setup(self.r)

    def read_lock(self, cpu: int) -> int:
        """Enter a section; the index to leave it with."""
        return srcu_read_lock(self.at(cpu), sleepers(self.r))

    def read_unlock(self, cpu: int, index: int) -> None:
        """Leave it."""
        srcu_read_unlock(self.at(cpu), sleepers(self.r), index & 1)

    def sections(self, cpu: int) -> int:
        """How many sections a cpu is in."""
        return srcu_sections(sleepers(self.r), self.at(cpu).id)

    def call(self, cpu: int, parcel: int) -> None:
        """Queue the callback of a parcel, which must not be queued."""
        call_srcu(self.at(cpu), sleepers(self.r), &self.r.board.parcel[<uint32_t>parcel % NR_PARCELS].head, poison_parcel)

    def ran(self, parcel: int) -> bool:
        """Whether the callback of a parcel ran."""
        return self.r.board.parcel[<uint32_t>parcel % NR_PARCELS].value == PT_POISON

    def poll(self, cpu: int) -> None:
        """Run what is due, drive a grace period."""
        srcu_poll(self.at(cpu), sleepers(self.r), 0)

    def synchronize(self, cpu: int) -> None:
        """A full grace period. No cpu may be inside a section."""
        synchronize_srcu(self.at(cpu), sleepers(self.r))

    def backpressure(self, cpu: int) -> None:
        """Wait while too many callbacks are queued."""
        srcu_backpressure(self.at(cpu), sleepers(self.r))
