"""`resume`: let paused queues start tasks again."""

from __future__ import annotations

from polpoctl import queues

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    queues.options(parser)


def run(args: Namespace) -> int:
    return queues.pause(args, False)
