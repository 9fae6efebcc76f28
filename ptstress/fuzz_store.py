"""What campaigns leave for each other in the example database: failures, and programs that brought something new.

The database is Hypothesis's, a folder with one file for each value, which many processes may use at once.
The tests in ``tests/fuzz`` keep their examples in the same one. Values are examples as JSON, so that they
outlive changes of the strategies.
"""

from collections.abc import Iterator
from pathlib import Path

from hypothesis.database import DirectoryBasedExampleDatabase

from ptstress.errors import UsageError
from ptstress.fuzz_example import FuzzExample, read_example, spell

FOLDER = "fuzz-database"
_FAILURES, _CORPUS = b"ptstress.fuzz.failures", b"ptstress.fuzz.corpus"
MOST_READ = 2000


class Store:
    """Examples in the folder ``path``, which is made when something is kept. Raises ``UsageError`` if it cannot be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--database {path}: cannot be written: {error.strerror}") from None
        self._database = DirectoryBasedExampleDatabase(path)

    def failures(self) -> list[FuzzExample]:
        """Examples that failed when they were kept, the shortest first."""
        return sorted(self._read(_FAILURES), key=lambda e: len(e.program.text()))

    def corpus(self) -> list[FuzzExample]:
        """Programs that brought something new, as examples."""
        return list(self._read(_CORPUS))

    def keep_failure(self, example: FuzzExample) -> None:
        """For others to replay and shrink."""
        self._database.save(_FAILURES, spell(example))

    def drop_failure(self, example: FuzzExample) -> None:
        """It does not fail any more, or a simpler one took its place."""
        self._database.delete(_FAILURES, spell(example))

    def keep_program(self, example: FuzzExample) -> None:
        """For others to mutate."""
        self._database.save(_CORPUS, spell(example))

    def _read(self, key: bytes) -> Iterator[FuzzExample]:
        for number, data in enumerate(self._database.fetch(key)):
            if number >= MOST_READ:
                return
            try:
                yield read_example(data, str(self.path))
            except UsageError:
                # Of another version, or not whole.
                self._database.delete(key, data)
