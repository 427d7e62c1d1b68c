"""What a power cut may leave of the files below a directory, by the rules that POSIX gives and no better ones.

A file's content is what it was at its last fsync; a name is what its directory said at the directory's last fsync.  What
came later may be there, be lost, or be there with zeros for content.  Real disks lose less; nothing may rely on that.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CALLS = ("open", "write", "fsync", "fdatasync", "ftruncate", "rename", "unlink", "mkdir", "link")
"""Of `os`: what changes files."""

Names = dict[str, int]


class Power:
    """Watches the calls of this process; `at_each` is called before each of them that is about a file below `root`."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, at_each: Callable[[], None]) -> None:
        self.root = root
        self._at_each = at_each
        self._busy = False
        self._contents: dict[int, bytes] = {}
        """At the last fsync, by inode."""
        self._names: dict[str, Names] = {}
        self._held: list[int] = []
        """An inode's number is nobody else's while it is open."""
        self._real = {name: getattr(os, name) for name in CALLS}
        for directory, _, files in os.walk(root):  # what is there already has been there for long
            self._names[directory] = self._names_in(directory)
            for name in files:
                path = os.path.join(directory, name)
                self._contents[os.stat(path).st_ino] = Path(path).read_bytes()
        for name in CALLS:
            monkeypatch.setattr(os, name, self._watched(name))

    def close(self) -> None:
        for fd in self._held:
            os.close(fd)

    def lost(self, to: Path) -> None:
        """Only what was synced."""
        self._rebuild(str(self.root), to)

    def emptied(self, to: Path) -> None:
        """Every name is there, and what was not synced is not."""
        self._copy(to, lambda synced, now: synced if synced is not None else b"")

    def zeroed(self, to: Path) -> None:
        """As `emptied`, with the length that the file had come to."""
        self._copy(to, lambda synced, now: (synced or b"").ljust(len(now), b"\0"))

    def kept(self, to: Path) -> None:
        """All that was written, but in files that grow only by what is synced."""
        self._copy(to, lambda synced, now: now if synced is None else synced)

    def _copy(self, to: Path, survives: Callable[[bytes | None, bytes], bytes]) -> None:
        for directory, _, files in os.walk(self.root):
            here = to / Path(directory).relative_to(self.root)
            here.mkdir(exist_ok=True)
            for name in files:
                path = Path(directory, name)
                (here / name).write_bytes(survives(self._contents.get(path.stat().st_ino), path.read_bytes()))

    def _rebuild(self, directory: str, to: Path) -> None:
        to.mkdir(exist_ok=True)
        for name, inode in self._names.get(directory, {}).items():
            if inode:
                (to / name).write_bytes(self._contents.get(inode, b""))
            else:
                self._rebuild(os.path.join(directory, name), to / name)

    def _watched(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._busy:
                return real(*args, **kwargs)
            self._busy = True
            try:
                self._at_each()
                result = real(*args, **kwargs)
                if name in ("fsync", "fdatasync"):
                    self._synced(args[0])
                return result
            finally:
                self._busy = False

        return call

    def _synced(self, fd: int) -> None:
        found = os.fstat(fd)
        path = os.readlink(f"/proc/self/fd/{fd}")
        if stat.S_ISDIR(found.st_mode):
            self._names[path] = self._names_in(path)
        else:
            self._contents[self._hold(path)] = Path(path).read_bytes()

    def _names_in(self, directory: str) -> Names:
        return {entry.name: 0 if entry.is_dir() else self._hold(entry.path) for entry in os.scandir(directory)}

    def _hold(self, path: str) -> int:
        fd = self._real["open"](path, os.O_RDONLY)
        self._held.append(fd)
        return os.fstat(fd).st_ino
