"""Finds and imports the builds of the engine. The only module that imports one."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from ptstress import sanitizer
from ptstress.errors import UnsupportedError, UsageError
from ptstress.vocabulary import BUILDS

BUILD_SUMMARIES = (
    ("fast", "nothing added: for measurements"),
    ("stress", "delay points, poison and generation checks, lock order, bugs: the default of run"),
    ("sched", "every shared access is a schedule point: explore and replay"),
    ("tsan", "ThreadSanitizer; built on demand"),
    ("tsan_sched", "ThreadSanitizer on explored schedules; built on demand"),
)


def build_present(build: str) -> bool:
    """Whether the extension of a build is there."""
    return find_spec(f"ptstress._engine_{build}") is not None


def require_build(build: str) -> None:
    """Raises ``UsageError`` for an unknown build, ``UnsupportedError`` for one that is not built."""
    if build not in BUILDS:
        raise UsageError(f"build {build!r}: expected one of {', '.join(BUILDS)}")
    if not build_present(build):
        raise UnsupportedError(f"build {build!r} is not there: expected the extension ptstress._engine_{build}")


def load_engine(build: str) -> ModuleType:
    """The extension of a build. Raises as ``require_build``, and if it cannot be loaded."""
    require_build(build)
    if build == "tsan_sched":
        sanitizer.require_loaded(build)
    try:
        return import_module(f"ptstress._engine_{build}")
    except ImportError as error:
        raise UnsupportedError(f"build {build!r} cannot be loaded: {error}") from None


def load_explorer() -> ModuleType:
    """The explorer's extension. Raises ``UnsupportedError``."""
    try:
        return import_module("ptstress._explore")
    except ImportError as error:
        raise UnsupportedError(f"the explorer cannot be loaded: {error}") from None


def load_history_checker() -> ModuleType:
    """The history checker's extension. Raises ``UnsupportedError``."""
    try:
        return import_module("ptstress._history")
    except ImportError as error:
        raise UnsupportedError(f"the history checker cannot be loaded: {error}") from None
