"""`completion`: a script that teaches a shell polpoctl's commands and options, from the parsers themselves."""

from __future__ import annotations

from polpoctl import exits, parsers
from polpoctl.render import Screen

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


def run(args: Namespace) -> int:
    from shtab import complete  # only here: it costs more than all other commands together

    script = complete(parsers.whole(), shell=args.shell)
    screen = Screen(args)
    if screen.json:
        screen.value({"shell": args.shell, "script": script})
    else:
        screen.line(script.rstrip())
    return exits.OK
