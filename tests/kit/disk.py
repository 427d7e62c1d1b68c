"""A small disk of its own for a test: a tmpfs, mounted over a directory.  Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Disk:
    """What is mounted at `path`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._filler = Path(path, "filler")

    def fill(self, leave: int = 0) -> None:
        """Use up all of its space but `leave` bytes."""
        space = os.statvfs(self._path)
        with self._filler.open("ab", buffering=0) as file, suppress(OSError):
            file.write(bytes(max(0, space.f_bavail * space.f_frsize - leave)))
            while not leave:
                file.write(bytes(4096))

    def free(self) -> None:
        """Take back what `fill` used."""
        self._filler.unlink()

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self._path], check=True)


@contextmanager
def small_disk(path: str, size: str) -> Iterator[Disk]:
    """A new and empty disk at this directory; `size` as `mount` takes it, such as "4m"."""
    options = f"size={size},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "polpod-test", path], check=True)
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
