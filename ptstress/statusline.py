"""Where the status line goes: one live line on a terminal, plain lines elsewhere, on stderr."""

import sys
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

LIVE_INTERVAL_S = 0.5
PLAIN_INTERVAL_S = 5.0


class StatusLine:
    """The status line of a verb; ``interval_s``: how often it is worth a new one."""

    def __init__(self, quiet: bool) -> None:
        console = Console(stderr=True, highlight=False)
        self.quiet = quiet
        self.live: Live | None = None
        if console.is_terminal and not quiet:
            self.live = Live(
                console=console, refresh_per_second=4, transient=True, redirect_stdout=False, redirect_stderr=False
            )
        self.interval_s = LIVE_INTERVAL_S if self.live else PLAIN_INTERVAL_S

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *details: object) -> None:
        if self.live:
            self.live.stop()

    def show(self, line: str, keep: bool = True) -> None:
        """Show a line; elsewhere than on a terminal only if it is worth keeping."""
        if self.live:
            self.live.update(Text(line, overflow="ellipsis", no_wrap=True))
        elif not self.quiet and keep:
            print(line, file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """A line that stays, on a terminal too."""
        if self.live:
            self.live.console.print(Text(line))
        else:
            self.show(line)
