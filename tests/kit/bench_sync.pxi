# One Python thread acts for several cpus, one call at a time: RCU and locks. No call may have to wait.

# Lock classes, for the calls below.
MMAP, PML, PTL = LOCK_MMAP, LOCK_PML, LOCK_PTL

cdef class SyncBench(Rig):
    """RCU and locks, one call at a time. ``cpu`` says who acts.

    Locks are numbered 0 and 1; a lock class is given with each call, as in the engine.
    """

    # -- RCU ---------------------------------------------------------------------------------

    def read_lock(self, cpu: int) -> None:
        """Enter a section of the software walkers."""
        rcu_read_lock(self.at(cpu), tables_rcu(self.r))

    def read_unlock(self, cpu: int) -> None:
        """Leave it."""
        rcu_read_unlock(self.at(cpu), tables_rcu(self.r))

    def call(self, cpu: int, parcel: int) -> None:
        """Queue the callback of a parcel, which must not be queued."""
        call_rcu(self.at(cpu), tables_rcu(self.r), &self.r.board.parcel[<uint32_t>parcel % NR_PARCELS].head, poison_parcel)

    def ran(self, parcel: int) -> bool:
        """Whether the callback of a parcel ran."""
        return self.r.board.parcel[<uint32_t>parcel % NR_PARCELS].value == PT_POISON

    def renew(self, parcel: int) -> None:
        """Make a parcel as if it had never been freed."""
        self.r.board.parcel[<uint32_t>parcel % NR_PARCELS].value = 0

    def poll(self, cpu: int) -> None:
        """Run what is due, drive a grace period."""
        rcu_poll(self.at(cpu), tables_rcu(self.r), 0)

    def advance(self, cpu: int) -> None:
        """Begin a grace period if none runs; end it if it may end."""
        rcu_advance(self.at(cpu), tables_rcu(self.r))

    def synchronize(self, cpu: int) -> None:
        """A full grace period. No other cpu may be inside a section."""
        synchronize_rcu(self.at(cpu), tables_rcu(self.r))

    def barrier(self, cpu: int) -> None:
        """Run all callbacks of this cpu. No other cpu may be inside a section."""
        rcu_barrier(self.at(cpu), tables_rcu(self.r))

    def backpressure(self, cpu: int) -> None:
        """Wait while too many callbacks are queued."""
        rcu_backpressure(self.at(cpu), tables_rcu(self.r))

    def periods(self) -> tuple:
        """Numbers of the newest grace period that began and the newest that ended."""
        return tables_rcu(self.r).gp_seq, tables_rcu(self.r).gp_completed

    def set_verb(self, cpu: int, verb: int) -> None:
        """What the cpu is said to be doing."""
        pt_rel(&self.at(cpu).shared.counter[C_VERB_NOW], verb)

    # -- locks -------------------------------------------------------------------------------

    def lock(self, cpu: int, number: int, lock_class: int) -> None:
        """Take a spinlock that is free."""
        spin_lock(self.at(cpu), &self.r.board.lock[number & 1], lock_class)

    def trylock(self, cpu: int, number: int, lock_class: int) -> bool:
        """Try to take it."""
        return spin_trylock(self.at(cpu), &self.r.board.lock[number & 1], lock_class)

    def unlock(self, cpu: int, number: int) -> None:
        """Release it."""
        spin_unlock(self.at(cpu), &self.r.board.lock[number & 1])

    def might_sleep(self, cpu: int) -> None:
        """The check that blocking code makes."""
        might_sleep(self.at(cpu))

    def down_read(self, cpu: int) -> None:
        """Take the semaphore for reading; no writer may be inside or waiting."""
        down_read(self.at(cpu), &self.r.board.sem[0], LOCK_MMAP)

    def down_read_trylock(self, cpu: int) -> bool:
        """Try to."""
        return down_read_trylock(self.at(cpu), &self.r.board.sem[0], LOCK_MMAP)

    def down_write(self, cpu: int) -> None:
        """Take it for writing; nobody may be inside."""
        down_write(self.at(cpu), &self.r.board.sem[0], LOCK_MMAP)

    def downgrade(self, cpu: int) -> None:
        """The writer becomes a reader."""
        downgrade_write(self.at(cpu), &self.r.board.sem[0])

    def up_read(self, cpu: int) -> None:
        """Release it as a reader."""
        up_read(self.at(cpu), &self.r.board.sem[0])

    def up_write(self, cpu: int) -> None:
        """Release it as a writer."""
        up_write(self.at(cpu), &self.r.board.sem[0])

    # -- sequence counter --------------------------------------------------------------------

    def seq_begin(self) -> int:
        """A reader begins."""
        return seq_begin(&self.r.board.seq)

    def seq_retry(self, seq: int) -> bool:
        """Whether it must read again."""
        return seq_retry(&self.r.board.seq, seq)

    def seq_write_begin(self) -> None:
        """The writer begins."""
        seq_write_begin(&self.r.board.seq)

    def seq_write_end(self) -> None:
        """The writer ends."""
        seq_write_end(&self.r.board.seq)
