"""`pause`: let nothing more start from a queue; what runs goes on."""

from __future__ import annotations

from polpoctl import queues

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    queues.options(parser)


def run(args: Namespace) -> int:
    return queues.pause(args, True)
