"""Which state directory is meant by a command that works on files."""

from __future__ import annotations

import os

from polpoctl.client import connect
from polpoctl.exits import Failure
from polpod.wire.jsonrpc import RemoteError

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import Namespace

PATIENCE = 5.0
"""Seconds to wait for a daemon that may be what is wrong."""


def locate(args: Namespace) -> None:
    """Where nobody said which directory is meant, it is that of the daemon that other commands would talk to."""
    if args.root is not None or os.environ.get("POLPO_ROOT"):
        return
    try:
        status = connect(args, PATIENCE).call("daemon.status")
    except (Failure, RemoteError):
        return
    args.root, args.socket = status["root"], status["socket"]
