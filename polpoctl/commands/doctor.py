"""`doctor`: what is wrong with the state directory, its daemon and this host, a line for each thing that was looked at."""

from __future__ import annotations

from polpoctl.executable import maintain
from polpoctl.place import locate

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    """None of its own."""


def run(args: Namespace) -> int:
    locate(args)
    maintain(args, "doctor")
