"""Parsers: what is the same in every command's, and all of them in one for completion and manual pages.

A command builds its own parser only: making all of them would cost each start more than everything else together.
"""

from __future__ import annotations

import argparse

from polpoctl import exits
from polpoctl.catalog import COMMANDS
from polpoctl.render import terminal_width

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import NoReturn, TypeVar

    T = TypeVar("T")

# polpoctl has no translations.  Looking for them, argparse loads `locale` and asks the file system for each string that
# it says, which is a tenth of a start.
setattr(argparse, "_", str)  # noqa: B010 - a plain assignment is an error to the type checker


PAGE = 80
"""Columns of a help text."""


class Parser(argparse.ArgumentParser):
    """argparse's, with errors that are raised, no abbreviations, and a width that need not be found out."""

    def __init__(self, prog: str, description: str, **_of_later_pythons: object) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, formatter_class=_Formatter)

    def error(self, message: str) -> NoReturn:
        raise exits.usage(f"{message}\nmore: {self.prog} --help")


class _Formatter(argparse.HelpFormatter):
    """As wide as the terminal, up to a page; argparse makes one for each option, and would load `shutil` to ask."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=min(PAGE, terminal_width() or PAGE), max_help_position=24)


def module(name: str) -> ModuleType:
    """The module of a command."""
    return __import__(f"polpoctl.commands.{name}", fromlist=["run"])


def parser(name: str) -> Parser:
    """The parser of one command."""
    made = Parser(f"polpoctl {name}", f"{COMMANDS[name].capitalize()}.")
    common(made)
    module(name).options(made)
    return made


def common(made: argparse.ArgumentParser) -> None:
    """The options that every command has."""
    made.add_argument("--root", metavar="DIR", help="the directory whose .polpo is meant")
    made.add_argument("--socket", metavar="PATH", help="the socket of the polpod that is meant")
    made.add_argument("--url", metavar="URL", help="a polpod on another host: wss://HOST:PORT")
    made.add_argument("--key-file", metavar="FILE", help="with --url: the file that has your key")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="colours (default: auto)")


def pair(text: str) -> tuple[str, str]:
    """The parts of `NAME=VALUE`, as a type of argparse.  Raises ArgumentTypeError."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def count(text: str) -> int:
    """A whole number from 0 on, as a type of argparse.  Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def positive(text: str) -> int:
    """A whole number above 0, as a type of argparse.  Raises ArgumentTypeError."""
    if (number := count(text)) == 0:
        raise argparse.ArgumentTypeError("a number above 0 is needed")
    return number


def amount(text: str) -> float:
    """A number above 0, as a type of argparse.  Raises ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def price(text: str) -> float:
    """A number from 0 on, as a type of argparse.  Raises ArgumentTypeError."""
    return 0.0 if text == "0" else amount(text)


def or_none(type_: Callable[[str], T], *words: str) -> Callable[[str], T | None]:
    """As the type of argparse that is given, but None for an empty value and for these words."""
    return lambda text: None if text in ("", *words) else type_(text)


def whole() -> Parser:
    """One parser with all commands as subparsers, from the same declarations."""
    made = Parser("polpoctl", "Hand work to polpod, and see what becomes of it.")
    common(made)
    subparsers = made.add_subparsers(dest="name", metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = subparsers.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        common(command)
        module(name).options(command)
    return made


def within(whole: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parser, and those of its commands."""
    commands = [a.choices for a in whole._actions if isinstance(a, argparse._SubParsersAction)]
    return [whole, *(parser for choices in commands for parser in choices.values())]
