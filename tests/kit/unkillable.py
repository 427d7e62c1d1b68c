"""A file system whose server takes requests and never answers: who asks it for a file survives SIGKILL (state D)."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOOKUP, INIT = 1, 26
VERSION = (7, 31)
REQUEST = struct.Struct("=IIQ")
REPLY = struct.Struct("=IiQ")
INIT_REPLY = struct.Struct("=IIIIHHIIHHI28x")
LARGEST = 2**17

MS_NOSUID, MS_NODEV = 2, 4


class Server:
    """The end of the file system that is mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self._fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}".encode()
        if libc.mount(b"polpod-test", os.fsencode(path), b"fuse", MS_NOSUID | MS_NODEV, options) != 0:
            raise OSError(ctypes.get_errno(), "mount", str(path))
        unique = self._take(INIT)
        body = INIT_REPLY.pack(*VERSION, 0, 0, 0, 0, 4096, 0, 0, 0, 0)
        os.write(self._fd, REPLY.pack(REPLY.size + len(body), 0, unique) + body)

    def trap(self) -> None:
        """Take the next question for a file: from here on nothing but `close` ends who asked."""
        self._take(LOOKUP)

    def _take(self, wanted: int, bound: float = 30.0) -> int:
        ready = select.poll()
        ready.register(self._fd, select.POLLIN)
        while True:
            assert ready.poll(bound * 1000), f"nobody asked for {wanted} within {bound:g} s"
            _, code, unique = REQUEST.unpack_from(os.read(self._fd, LARGEST))
            if code == wanted:
                return int(unique)

    def close(self) -> None:
        """Whoever waits is told that the file system is gone."""
        os.close(self._fd)
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


@contextmanager
def unanswering(path: Path) -> Iterator[Server]:
    """Such a file system at `path`, which is made."""
    path.mkdir()
    server = Server(path)
    try:
        yield server
    finally:
        server.close()
