"""Work in a forked copy of this process: it has the engine loaded, and may crash alone."""

import faulthandler
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from ptstress.child import begin_contained

_POLL_S = 0.1


@dataclass(frozen=True)
class Ended:
    """How the copy ended. ``said``: what the work returned; ``None``: nothing. ``crash``: the name of the signal, or empty."""

    said: bytes | None
    crash: str = ""


def run_apart(work: Callable[[], bytes], stopped: Callable[[], bool]) -> Ended:
    """Do the work apart. When it is stopped the copy is ended within a moment, and has said nothing.

    What it raises it prints, and then it has neither said anything nor crashed. It dies with this process.
    """
    reader, writer = os.pipe()
    parent = os.getpid()
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        os.close(reader)
        _copy(work, writer, parent)
    os.close(writer)
    said = b""
    with open(reader, "rb", buffering=0) as pipe:
        while not stopped():
            if select.select([pipe], [], [], _POLL_S)[0]:
                more = pipe.read(1 << 16)
                if not more:
                    break
                said += more
        else:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return Ended(None)
    status = os.waitpid(process, 0)[1]
    if os.WIFSIGNALED(status):
        return Ended(None, signal.Signals(os.WTERMSIG(status)).name)
    return Ended(said if os.WEXITSTATUS(status) == 0 else None)


def _copy(work: Callable[[], bytes], writer: int, parent: int) -> None:
    code = 1
    try:
        begin_contained(parent)
        faulthandler.disable()              # a crash is an answer, and nothing for the screen
        with open(writer, "wb") as pipe:
            pipe.write(work())
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)
