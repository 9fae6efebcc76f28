"""Failures that a user can act on, each with its exit code."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a verb's exit status means."""

    PASS = 0
    USAGE = 1
    VIOLATION = 2
    RESOURCE = 3
    UNSUPPORTED = 4
    KILLED = 5
    NOT_REPRODUCED = 6
    UNTRUSTWORTHY = 7


class PtstressError(Exception):
    """One clear line for the user: where, what was found, what was expected."""

    exit_code = ExitCode.USAGE


class UsageError(PtstressError):
    """Bad input: a flag, a file, a program, a replay string."""


class ResourceError(PtstressError):
    """Not enough of something: memory, arena, disk. The message says how much is needed."""

    exit_code = ExitCode.RESOURCE


class UnsupportedError(PtstressError):
    """This machine or build cannot do it."""

    exit_code = ExitCode.UNSUPPORTED
