"""The content of artifacts: a file each, within quotas.

Rules:

1. `<data_dir>/artifacts/<id>` is content and nothing else; what is being written, and the lock, are in
   `<data_dir>/.artifacts/`.  A file appears under its name whole and on disk, or not at all.
2. Whoever writes or deletes holds the lock, and measures what is stored under it: writers of several processes together
   keep to `max_total_bytes` too.  It is a flock, so it ends with its holder; what one left half written, the next removes.
3. The file system's errors leave as they are (OSError).
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import anyio.to_thread

from polpod.contracts.persistence.errors import ArtifactStorageFullError, ArtifactTooLargeError, RecordNotFoundError
from polpod.durable import make_directory, sync

X = TypeVar("X")

MAX_ARTIFACT_BYTES = 50 * 2**20
MAX_TOTAL_BYTES = 2**30
LONGEST_ID = 255
"""Bytes of a file name."""

_IN_NO_NAME = re.compile("[/\0\ud800-\udfff]")


@runtime_checkable
class ArtifactStorageBackend(Protocol):
    @property
    def backend_name(self) -> str: ...
    async def store(self, artifact_id: str, content: bytes) -> int: ...
    async def retrieve(self, artifact_id: str) -> bytes: ...
    async def delete(self, artifact_id: str) -> bool: ...
    async def exists(self, artifact_id: str) -> bool: ...
    async def total_size(self) -> int: ...


class FileSystemArtifactStorage:
    """An id is the name of a file: ValueError for one that is none, such as `..` or with a `/`."""

    backend_name = "filesystem"

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        *,
        max_artifact_bytes: int = MAX_ARTIFACT_BYTES,
        max_total_bytes: int = MAX_TOTAL_BYTES,
    ) -> None:
        """`data_dir` need not exist yet.  Raises ValueError for limits that nothing could keep."""
        if max_artifact_bytes <= 0:
            raise ValueError(f"max_artifact_bytes: more than 0, not {max_artifact_bytes}")
        if max_total_bytes < max_artifact_bytes:
            raise ValueError(f"max_total_bytes: at least max_artifact_bytes, not {max_total_bytes}")
        self._content = Path(data_dir) / "artifacts"
        self._work = Path(data_dir) / ".artifacts"
        self._max_artifact, self._max_total = max_artifact_bytes, max_total_bytes

    async def store(self, artifact_id: str, content: bytes) -> int:
        """Store the content, in place of any; how many bytes it has.

        Raises ArtifactTooLargeError, ArtifactStorageFullError, ValueError, OSError.
        """
        path = self._path(artifact_id)
        self.require_small(artifact_id, len(content))

        def write() -> int:
            with self._locked():
                self._require_room(path, len(content))
                self._replace(path, content)
            return len(content)

        return await _in_thread(write)

    async def adopt(self, artifact_id: str, written: str) -> int:
        """Store what was written into that file of the same file system, which is gone then; how many bytes it has.

        Raises as `store`.
        """
        path = self._path(artifact_id)

        def move() -> int:
            size = os.path.getsize(written)
            self.require_small(artifact_id, size)
            with self._locked():
                self._require_room(path, size)
                sync(written)
                os.rename(written, path)
                sync(str(self._content))
            return size

        return await _in_thread(move)

    async def read(self, artifact_id: str, offset: int, size: int) -> bytes:
        """At most `size` bytes of the content from `offset`.  Raises RecordNotFoundError, ValueError, OSError."""

        def part() -> bytes:
            with self._path(artifact_id).open("rb") as file:
                file.seek(offset)
                return file.read(size)

        try:
            return await _in_thread(part)
        except FileNotFoundError:
            raise RecordNotFoundError(f"no content of artifact {artifact_id}") from None

    def require_small(self, artifact_id: str, size: int) -> None:
        """Raises ArtifactTooLargeError."""
        if size > self._max_artifact:
            raise ArtifactTooLargeError(f"{artifact_id}: {size} bytes, and at most {self._max_artifact}")

    async def retrieve(self, artifact_id: str) -> bytes:
        """Raises RecordNotFoundError, ValueError, OSError."""
        try:
            return await _in_thread(self._path(artifact_id).read_bytes)
        except FileNotFoundError:
            raise RecordNotFoundError(f"no content of artifact {artifact_id}") from None

    async def delete(self, artifact_id: str) -> bool:
        """Whether there was any.  Raises ValueError, OSError."""
        path = self._path(artifact_id)

        def remove() -> bool:
            with self._locked():
                if not path.is_file():
                    return False
                path.unlink()
                sync(str(self._content))
            return True

        return await _in_thread(remove)

    async def exists(self, artifact_id: str) -> bool:
        """Raises ValueError."""
        return await _in_thread(self._path(artifact_id).is_file)

    async def total_size(self) -> int:
        """Bytes of all content, as it is stored now."""
        return await _in_thread(self._total)

    def _require_room(self, path: Path, size: int) -> None:
        """Raises ArtifactStorageFullError unless there is room for so many bytes in place of what is there."""
        total = self._total() - _size(path) + size
        if total > self._max_total:
            raise ArtifactStorageFullError(f"{path.name}: {total} bytes in all, and at most {self._max_total}")

    def _path(self, artifact_id: str) -> Path:
        unfit = _IN_NO_NAME.search(artifact_id) or artifact_id in (".", "..") or not artifact_id.strip()
        if unfit or len(artifact_id.encode()) > LONGEST_ID:
            raise ValueError(f"artifact_id: cannot be the name of a file: {artifact_id!r}")
        return self._content / artifact_id

    def _total(self) -> int:
        if not self._content.is_dir():
            return 0
        return sum(map(_size, self._content.iterdir()))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Rule 2."""
        for directory in (self._content, self._work):
            make_directory(str(directory))
        fd = os.open(self._work / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _replace(self, path: Path, content: bytes) -> None:
        """Rule 1; under the lock there is one that is being written at most."""
        partial = self._work / "partial"
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            sync(str(self._content))
        finally:
            partial.unlink(missing_ok=True)


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):  # it was deleted just now
        return path.stat().st_size
    return 0


async def _in_thread(function: Callable[[], X]) -> X:
    return await anyio.to_thread.run_sync(function)
