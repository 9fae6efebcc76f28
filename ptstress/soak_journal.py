"""The results folder of a running soak. Once it is open, writing never fails the soak.

Log lines reach the kernel at once and the disk within a second. A failure's folder is whole on the disk
before the log mentions it. What finds no room is kept in memory and tried again; status lines are not.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ptstress.durable import DISK_FULL, Disk, make_unique_folder
from ptstress.errors import UsageError
from ptstress.failures import HISTORY
from ptstress.soak_checkpoint import LOG, lock_folder, save_checkpoint
from ptstress.soak_state import Alive, AnyEvent, FailureSeen, SoakState

SYNC_S = 1.0
#: Histories kept in memory while the disk is full: a few MiB each.
MAX_HISTORIES = 4


EVENT = "failure.json"


def failure_name(slice_number: int, oracle: str) -> str:
    """Name of a failure's folder."""
    return f"failure-{slice_number}-{oracle}"


def adopt_failures(folder: Path, state: SoakState) -> list[FailureSeen]:
    """Failures that have a folder and no line in the log: the parent was killed between the two."""
    known = {Path(found.path).name for found in state.found}
    adopted = []
    for path in sorted(folder.glob("failure-*")):
        try:
            event = msgspec.json.decode((path / EVENT).read_bytes(), type=FailureSeen)
        except (OSError, msgspec.DecodeError):
            continue
        if path.name not in known:
            event.path = str(path)
            adopted.append(event)
    return adopted


@dataclass
class _Waiting:
    """A failure whose folder found no room."""

    event: FailureSeen
    name: str
    files: dict[str, bytes]


@dataclass
class Journal:
    """Log, checkpoint and files of one soak. ``trouble``: why something waits to be written, or empty."""

    path: Path
    state: SoakState
    disk: Disk = field(default_factory=Disk)
    clock: Callable[[], float] = time.monotonic
    trouble: str = ""

    def __post_init__(self) -> None:
        self._lock = lock_folder(self.path)
        self._pending = bytearray()
        self._folders: list[_Waiting] = []
        self._files: dict[str, bytes] = {}
        self._stale_checkpoint = False
        self._synced_at = self.clock()
        self._dirty = False
        try:
            self._fd = self.disk.open_log(self.path / LOG)
            size = os.fstat(self._fd).st_size
            if size and _last_byte(self.path / LOG) != b"\n":
                self._pending += b"\n"
        except OSError as error:
            os.close(self._lock)
            raise UsageError(
                f"{self.path}: results cannot be written: {error.strerror}; give another folder with --results") from None

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._fd)
        os.close(self._lock)

    def log(self, event: AnyEvent, urgent: bool = True) -> None:
        """Number a line, add it to the state, and write it; ``urgent``: to the disk at once."""
        event.n = self.state.lines + 1
        event.t = round(time.time(), 3)
        self.state.apply(event)
        if not (self._pending and isinstance(event, Alive)):
            self._pending += msgspec.json.encode(event) + b"\n"
        self.flush(urgent)

    def add_failure(self, event: FailureSeen, files: Mapping[str, bytes]) -> None:
        """Keep a failure: its folder first, then the log line that names it."""
        name = failure_name(event.slice, event.oracle)
        event.path = str(self.path / name)
        self._folders.append(_Waiting(event, name, {**files, EVENT: msgspec.json.encode(event) + b"\n"}))
        self._drop_histories()
        self.flush()
        self.log(event)

    def complete_failure(self, path: str, files: Mapping[str, bytes]) -> None:
        """Replace and add files in the folder of a failure."""
        waiting = next((one for one in self._folders if one.event.path == path), None)
        if waiting:
            waiting.files.update(files)
            self._drop_histories()
            return
        for name, data in files.items():
            self.write(f"{Path(path).name}/{name}", data)

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the folder, now or as soon as there is room."""
        self._files[name] = data
        self.flush()

    def checkpoint(self) -> None:
        """Write the state down."""
        self._stale_checkpoint = True
        self.flush()

    def flush(self, urgent: bool = False) -> None:
        """Write what waits. Context: at least once a second."""
        try:
            self._write_folders()
            while self._pending:
                done = self.disk.append(self._fd, bytes(self._pending))
                del self._pending[:done]
                self._dirty = True
            now = self.clock()
            if self._dirty and (urgent or now - self._synced_at >= SYNC_S):
                self.disk.sync(self._fd)
                self._synced_at, self._dirty = now, False
            for name in list(self._files):
                self.disk.replace(self.path / name, self._files[name])
                del self._files[name]
            if self._stale_checkpoint:
                save_checkpoint(self.disk, self.path, self.state)
                self._stale_checkpoint = False
            self.trouble = ""
        except OSError as error:
            self._note(error)

    def _write_folders(self) -> None:
        while self._folders:
            one = self._folders[0]
            path = make_unique_folder(self.disk, self.path, one.name, one.files)
            del self._folders[0]
            one.event.path = str(path)

    def _drop_histories(self) -> None:
        with_history = [one for one in self._folders if HISTORY in one.files]
        for one in with_history[MAX_HISTORIES:]:
            del one.files[HISTORY]

    def _note(self, error: OSError) -> None:
        what = "disk full" if error.errno in DISK_FULL else "disk error"
        waiting = f", {len(self._folders)} failures kept in memory" if self._folders else ""
        self.trouble = f"{what}: {self.path}: {error.strerror}{waiting}"


def _last_byte(path: Path) -> bytes:
    with open(path, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1)
