"""Disks of their own for tests, mounted over a directory: small ones, and such that can lose power.  Needs root."""

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


@contextmanager
def mounted_image(image: Path, path: str) -> Iterator[None]:
    """The file system in this file at this directory.

    A copy of the file holds what a power cut would leave: what the file system has not handed to its disk is not in it.
    """
    subprocess.run(["mount", "-o", "loop", str(image), path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def frozen(path: str) -> Iterator[None]:
    """Whoever writes to the disk that is mounted there, or has it synced, waits until this is over (not tmpfs)."""
    subprocess.run(["fsfreeze", "--freeze", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", path], check=True)


def make_image(image: Path, size: int) -> None:
    """An empty ext4 in a new file of this size (bytes)."""
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
