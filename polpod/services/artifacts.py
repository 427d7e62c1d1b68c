"""What jobs leave behind: files that come and go in parts, beside their records in the task store.

Rules:

1. A file is whole, on disk, and of the size and hash that were announced before anybody is told of it: the content is
   moved into its place first, then the record is stored.  Content without a record is removed by the next sweep.
2. Only content with an id of ours is ever swept.
3. What is under way is bounded: so many uploads, each of a size that was announced; one that nobody goes on with ends.
4. Nothing of an upload outlives the daemon.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio

from polpod import crash
from polpod.config import Artifacts as Limits
from polpod.contracts.persistence.content import FileSystemArtifactStorage
from polpod.contracts.persistence.errors import ArtifactStorageFullError, ArtifactTooLargeError, RecordNotFoundError
from polpod.errors import (
    Conflict,
    DiskFull,
    InvalidRequest,
    NotFound,
    PolpodError,
    RequestError,
    TooLarge,
    Unavailable,
)
from polpod.model.organisation.artifacts import Artifact
from polpod.paths import StateDirectory
from polpod.store.content import OURS
from polpod.store.gate import Gate
from polpod.store.organisation import Artifacts
from polpod.store.records import Tx

MOST_UPLOADS = 32
MOST_OF_ONE = 8
"""Of one run or user, so that none keeps the others out."""
IDLE = 300.0
"""Seconds after which an upload that nobody goes on with makes room for others."""

SWEEP_EVERY = 3600.0

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Upload:
    """A file that is under way."""

    artifact: Artifact
    path: str
    by: str
    """Who began it, and alone may go on."""
    received: int = 0
    hash: Any = field(default_factory=hashlib.sha256)
    touched: float = field(default_factory=trio.current_time)
    writing: trio.Lock = field(default_factory=trio.Lock)


class Uploads:
    """Everything under way, and the content that is there."""

    def __init__(self, paths: StateDirectory, limits: Limits, tasks: Gate[Tx]) -> None:
        self._tasks, self._limits = tasks, limits
        self._directory = os.path.join(paths.content, "uploads")
        self._artifacts = os.path.join(paths.content, "artifacts")
        self._content = FileSystemArtifactStorage(
            paths.content, max_artifact_bytes=limits.max_bytes, max_total_bytes=limits.max_total_bytes
        )
        self._uploads: dict[str, Upload] = {}
        shutil.rmtree(self._directory, ignore_errors=True)  # rule 4

    async def begin(self, artifact: Artifact, by: str) -> str:
        """Expect the content of this artifact, whose id is chosen here.  Raises TooLarge, DiskFull, Unavailable."""
        self._forget_idle()
        if len(self._uploads) >= MOST_UPLOADS:
            raise Unavailable(f"{MOST_UPLOADS} uploads are under way: try again when one is over")
        if sum(upload.by == by for upload in self._uploads.values()) >= MOST_OF_ONE:
            raise Unavailable(f"{by} has {MOST_OF_ONE} uploads under way: try again when one is over")
        artifact_id = f"polpod-{secrets.token_hex(8)}"
        try:
            self._content.require_small(artifact.path, artifact.size_bytes)
        except ArtifactTooLargeError as exc:
            raise TooLarge(f"{exc}; `artifacts.maxBytes` in polpo.json says so") from exc
        under_way = sum(upload.artifact.size_bytes for upload in self._uploads.values())
        if await self._content.total_size() + under_way + artifact.size_bytes > self._limits.max_total_bytes:
            await self.sweep()
            if await self._content.total_size() + under_way + artifact.size_bytes > self._limits.max_total_bytes:
                raise self._full()
        path = os.path.join(self._directory, artifact_id)
        with _as_refusals():
            await trio.to_thread.run_sync(_create, path)
        self._uploads[artifact_id] = Upload(msgspec.structs.replace(artifact, id=artifact_id), path, by)
        return artifact_id

    async def write(self, artifact_id: str, by: str, offset: int, data: bytes) -> int:
        """Add the next bytes; how many there are now.  Raises NotFound, Conflict, TooLarge, DiskFull."""
        upload = self._upload(artifact_id, by)
        async with upload.writing:
            if offset != upload.received:
                raise Conflict(f"artifact {artifact_id} has {upload.received} bytes: go on there, not at {offset}")
            if offset + len(data) > upload.artifact.size_bytes:
                raise TooLarge(
                    f"artifact {artifact_id} was announced with {upload.artifact.size_bytes} bytes, and this is more"
                )
            try:
                with _as_refusals():
                    await trio.to_thread.run_sync(_append, upload.path, data)
            except RequestError:
                self._drop(artifact_id)
                raise
            upload.hash.update(data)
            upload.received += len(data)
            upload.touched = trio.current_time()
        return upload.received

    async def end(self, artifact_id: str, by: str, sha256: str, keep: Callable[[Tx, Artifact], None]) -> Artifact:
        """All was sent: check it, put it in its place, and store its record by `keep`.

        Raises NotFound, InvalidRequest (size or hash differ), DiskFull, and what `keep` raises.
        """
        upload = self._upload(artifact_id, by)
        upload.by = ""  # from here on nobody goes on with it; the sweep leaves it alone until its record is there
        try:
            return await self._end(upload, sha256, keep)
        finally:
            self._drop(artifact_id)

    async def _end(self, upload: Upload, sha256: str, keep: Callable[[Tx, Artifact], None]) -> Artifact:
        artifact = msgspec.structs.replace(upload.artifact, sha256=sha256)
        try:
            if upload.received != upload.artifact.size_bytes:
                raise InvalidRequest(f"{upload.received} bytes came of {upload.artifact.size_bytes}", "$.id")
            if upload.hash.hexdigest() != sha256:
                raise InvalidRequest("what came has another SHA-256", "$.sha256")
            with _as_refusals():
                await self._content.adopt(artifact.id, upload.path)
        except ArtifactStorageFullError as exc:
            raise self._full() from exc
        crash.point("artifact.stored")
        await self._tasks.write(lambda tx: keep(tx, artifact))
        return artifact

    async def read(self, artifact: Artifact, offset: int, size: int) -> bytes:
        """Raises NotFound: there is no content any more."""
        try:
            with _as_refusals():
                return await self._content.read(artifact.id, offset, size)
        except RecordNotFoundError as exc:
            raise NotFound(f"the content of artifact {artifact.id} is gone") from exc

    async def remove(self, artifact_id: str) -> None:
        """The record first, so that no record is without its content."""
        await self._tasks.write(lambda tx: tx[Artifacts].delete(artifact_id))
        await self._content.delete(artifact_id)

    async def sweep(self) -> int:
        """Remove content of ours whose record is gone, as that of a task that was removed; how many there were."""
        there = [name for name in await trio.to_thread.run_sync(_names, self._artifacts) if OURS.fullmatch(name)]
        under_way = set(self._uploads)  # before the look at the records: one that ends meanwhile may have missed it
        kept = await self._tasks.read(lambda tx: {name for name in there if tx[Artifacts].count(Artifacts.id.eq(name))})
        gone = [name for name in there if name not in kept and name not in under_way]
        for name in gone:
            await self._content.delete(name)
        return len(gone)

    def _upload(self, artifact_id: str, by: str) -> Upload:
        upload = self._uploads.get(artifact_id)
        if upload is None or upload.by != by:
            raise NotFound(f"no upload {artifact_id} is under way: begin anew")
        return upload

    def _drop(self, artifact_id: str) -> None:
        upload = self._uploads.pop(artifact_id, None)
        if upload is None:
            return
        with suppress(OSError):
            os.unlink(upload.path)

    def _forget_idle(self) -> None:
        before = trio.current_time() - IDLE
        for artifact_id in [i for i, upload in self._uploads.items() if upload.touched < before]:
            self._drop(artifact_id)

    def _full(self) -> DiskFull:
        most = self._limits.max_total_bytes
        return DiskFull(
            f"artifacts may take {most} bytes together (`artifacts.maxTotalBytes` in polpo.json), and this would be more: "
            "`polpoctl artifact remove ID` makes room"
        )

    async def serve(self) -> None:
        """Sweep now and then, until cancelled."""
        while True:
            try:
                await self.sweep()
            except (PolpodError, OSError) as exc:
                log.warning("artifacts: %s; trying again in an hour", exc)
            await trio.sleep(SWEEP_EVERY)


def _create(path: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    _append(path, b"")


def _append(path: str, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


@contextmanager
def _as_refusals() -> Iterator[None]:
    """The file system's errors, as its caller is told of them."""
    try:
        yield
    except OSError as exc:
        kind = DiskFull if exc.errno in (errno.ENOSPC, errno.EDQUOT) else RequestError
        raise kind(f"{exc.filename or 'artifacts'}: {exc.strerror}") from exc
