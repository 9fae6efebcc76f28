"""Files that are whole or not there: a crash, a kill or a full disk leaves the old one or the new one.

What must outlive the process is written under another name, forced to the disk, and renamed.
"""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

#: Errors that go away when somebody makes room.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Disk:
    """How files are written. Every method may raise ``OSError``; a test puts a full disk in its place."""

    def open_log(self, path: Path) -> int:
        """A descriptor that appends."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def append(self, fd: int, data: bytes) -> int:
        """Append as much as there is room for; returns how much."""
        return os.write(fd, data)

    def sync(self, fd: int) -> None:
        """Force what was appended to the disk."""
        os.fdatasync(fd)

    def replace(self, path: Path, data: bytes, keep_as: str | None = None) -> None:
        """Write a file in place of the old one, which is kept under another name if one is given."""
        temporary = path.with_name(f".{path.name}.new")
        try:
            _write_synced(temporary, data)
            if keep_as and path.exists():
                os.replace(path, path.with_name(keep_as))
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)

    def make_folder(self, path: Path, files: Mapping[str, bytes]) -> None:
        """Create a folder with these files. Raises ``FileExistsError`` if there is one with files."""
        temporary = path.with_name(f".{path.name}.new")
        try:
            temporary.mkdir(exist_ok=True)
            for name, data in files.items():
                _write_synced(temporary / name, data)
            _sync_folder(temporary)
            os.rename(temporary, path)
        except OSError as error:
            for left in temporary.glob("*"):
                left.unlink(missing_ok=True)
            if temporary.is_dir():
                temporary.rmdir()
            if error.errno == errno.ENOTEMPTY:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            raise
        _sync_folder(path.parent)


def make_unique_folder(disk: Disk, base: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """Create ``base/name`` with these files, or ``name-2`` and so on if that is taken."""
    number = 1
    while True:
        path = base / (name if number == 1 else f"{name}-{number}")
        if not path.exists():
            try:
                disk.make_folder(path, files)
                return path
            except FileExistsError:
                pass
        number += 1


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
