"""`reassess`: carry out the checks of tasks once more that are done, failed, or wait for a person."""

from __future__ import annotations

from polpoctl import acting, selection
from polpoctl.client import connect

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    selection.options(parser)


def run(args: Namespace) -> int:
    return acting.perform(args, connect(args), "task.reassess")[1]
