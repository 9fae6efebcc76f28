"""The command line: ``ptstress run soak resume explore scopes rules bugs fuzz replay again check compare bench list doctor``.

A foreseeable error is one line on stderr and an exit code of ``ExitCode``; never a traceback.
"""

import os
import sys
from collections.abc import Sequence

import click
import msgspec
from msgspec import Struct

from ptstress import __version__
from ptstress.bench_commands import bench
from ptstress.check_commands import check
from ptstress.commands import doctor, explore, replay, run
from ptstress.compare_commands import compare
from ptstress.errors import ExitCode, PtstressError
from ptstress.fuzz_commands import fuzz
from ptstress.hunt_commands import bugs
from ptstress.listing import list_
from ptstress.sanitizer import NotLoadedError, become_sanitized
from ptstress.scope_commands import rules, scopes
from ptstress.soak_commands import again, resume, soak

#: Every verb, in the order of the help text.
VERBS = (run, soak, resume, explore, scopes, rules, bugs, fuzz, replay, again, check, compare, bench, list_, doctor)


class JsonError(Struct):
    """What ``--json`` gives when a verb could not do its work."""

    error: str
    exit_code: int
    verdict: str = "error"
    schema: str = "ptstress.error/1"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _invoke(arguments, own_process=argv is None)
    except BrokenPipeError:
        # The reader of our output has gone; the interpreter would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.USAGE


def _invoke(arguments: list[str], own_process: bool) -> int:
    try:
        code = cli.main(args=arguments, prog_name="ptstress", standalone_mode=False)
        sys.stdout.flush()
        return int(code or ExitCode.PASS)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return ExitCode.USAGE
    except click.Abort:
        return _fail("interrupted", ExitCode.USAGE, arguments)
    except click.ClickException as error:
        return _fail(_click_message(error), ExitCode.USAGE, arguments)
    except NotLoadedError as error:
        if own_process:
            become_sanitized(arguments)
        return _fail(str(error), error.exit_code, arguments)
    except PtstressError as error:
        return _fail(str(error), error.exit_code, arguments)
    except MemoryError:
        return _fail("out of memory", ExitCode.RESOURCE, arguments)
    except KeyboardInterrupt:
        return _fail("interrupted", ExitCode.USAGE, arguments)


def _fail(message: str, code: ExitCode, arguments: list[str]) -> int:
    print(f"ptstress: {message}", file=sys.stderr)
    if "--json" in arguments[:-1] and arguments[arguments.index("--json") + 1] == "-":
        print(msgspec.json.encode(JsonError(message, code)).decode())
    return code


def _click_message(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split())
    if isinstance(error, click.BadParameter) and error.param is not None and text.startswith("Invalid value for"):
        name = error.param.opts[-1]
        text = text.partition(": ")[2]
        text = text if text.startswith(name.strip("-")) else f"{name}: {text}"
    hint = f" (ptstress {error.ctx.command.name} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
    return text[:1].lower() + text[1:].rstrip(".") + hint.replace(" cli ", " ")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ptstress")
def cli() -> None:
    """A workbench for page-table locking and reclaim.

    Exit codes: 0 pass, 1 usage, 2 violation, 3 resources, 4 unsupported here, 5 worker killed or hung, 6 not
    reproduced, 7 evidence untrustworthy.
    """


for verb in VERBS:
    cli.add_command(verb)
