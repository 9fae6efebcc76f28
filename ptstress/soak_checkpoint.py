"""Checkpoint and lock of a soak: where it stands, and who works on it.

Two lines: format and checksum, then the state. The one before is kept, and the log can replace both.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ptstress import __version__
from ptstress.durable import Disk
from ptstress.errors import UsageError
from ptstress.soak_state import SoakState, replay_log

LOG, CHECKPOINT, PREVIOUS, LOCK = "log.jsonl", "checkpoint.json", "checkpoint.previous.json", "lock"
_MAGIC, _FORMAT = "ptstress-checkpoint", 1


def encode_checkpoint(state: SoakState) -> bytes:
    """The file of a state."""
    body = msgspec.json.encode(state)
    return f"{_MAGIC} {_FORMAT} {_checksum(body)}\n".encode() + body + b"\n"


def decode_checkpoint(data: bytes) -> SoakState:
    """The state in a file. Raises ``ValueError`` with what is wrong."""
    head, _, rest = data.partition(b"\n")
    words = head.decode("utf-8", "replace").split()
    if len(words) != 3 or words[0] != _MAGIC:
        raise ValueError("is torn" if len(data) < 64 else "is not a checkpoint")
    if words[1] != str(_FORMAT):
        raise ValueError(f"has format {words[1]}, expected {_FORMAT}")
    body = rest.removesuffix(b"\n")
    if _checksum(body) != words[2]:
        raise ValueError("is torn: its checksum differs")
    try:
        return msgspec.json.decode(body, type=SoakState)
    except msgspec.DecodeError as error:
        raise ValueError(f"is from another version: {error}") from None


def save_checkpoint(disk: Disk, folder: Path, state: SoakState) -> None:
    """Write a state, atomically, and keep the one before. Raises ``OSError``."""
    disk.replace(folder / CHECKPOINT, encode_checkpoint(state), PREVIOUS)


def load_state(folder: Path) -> tuple[SoakState, list[str]]:
    """Where the soak in a folder stands, and what was odd. Raises ``UsageError`` if it holds none."""
    if not (folder / LOG).is_file():
        raise UsageError(f"{folder}: no soak: expected a results folder of 'ptstress soak', with {LOG}")
    state, notes = _last_checkpoint(folder)
    state, bad = replay_log(state, _lines(folder / LOG))
    if bad:
        notes.append(f"{folder / LOG}: {bad} lines cannot be read and were left out")
    if state is None:
        raise UsageError(f"{folder}: no soak: its log does not begin with the start of one")
    if state.version != __version__:
        notes.append(f"{folder}: begun by version {state.version}, goes on with {__version__}")
    return state, notes


def lock_folder(folder: Path) -> int:
    """Claim a folder for this process; returns a descriptor. Raises ``UsageError`` if somebody has it.

    The kernel lets go of the lock when its holder dies, however it dies.
    """
    try:
        fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(f"{folder}: results cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise UsageError(f"{folder}: process {holder} works on it; wait until it ends") from None
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except OSError:
        return fd  # the lock holds without its text, as on a full disk
    return fd


def _last_checkpoint(folder: Path) -> tuple[SoakState | None, list[str]]:
    notes: list[str] = []
    for name in (CHECKPOINT, PREVIOUS):
        try:
            return decode_checkpoint((folder / name).read_bytes()), notes
        except OSError:
            continue
        except ValueError as error:
            other = PREVIOUS if name == CHECKPOINT and (folder / PREVIOUS).is_file() else LOG
            notes.append(f"{folder / name} {error}; goes on from {other}")
    return None, notes


def _lines(path: Path) -> Iterator[bytes]:
    """Complete lines. A kill leaves at most the last one torn, which is the end and no error."""
    try:
        with open(path, "rb") as stream:
            for line in stream:
                if line.endswith(b"\n") and line.strip():
                    yield line
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None


def _checksum(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()
