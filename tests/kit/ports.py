"""Ports of this host that nobody uses."""

from __future__ import annotations

import socket
from contextlib import closing


def free_port() -> int:
    """One that is free now; a daemon that finds it taken all the same tries again until it is free."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port
