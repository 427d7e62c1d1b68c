"""What is swept of what jobs leave behind, and what is not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio
from kit.samples import NOW

from polpod.config import Artifacts as Limits
from polpod.model.organisation.artifacts import Artifact, ArtifactType
from polpod.paths import StateDirectory
from polpod.services.artifacts import Uploads
from polpod.store.content import lacking
from polpod.store.databases import TASKS
from polpod.store.gate import Gate
from polpod.store.group import open_store
from polpod.store.location import Sqlite
from polpod.store.organisation import Artifacts
from polpod.store.records import Tx
from polpod.store.sqlite import open_reader

ARTIFACT = Artifact(id="new", type=ArtifactType.CODE, path="f", task_id="1", created_by="a", created_at=NOW)


class Looked:
    """A gate whose look at the records is answered late: meanwhile something else happens."""

    def __init__(self) -> None:
        self.looked, self.go_on = trio.Event(), trio.Event()

    async def read(self, body: Callable[[Tx], Any]) -> set[str]:
        self.looked.set()
        await self.go_on.wait()
        return set()

    async def write(self, body: Callable[[Tx], Any]) -> None:
        """Its record is stored, and the look has missed it."""


def test_an_artifact_that_is_removed_just_now_lacks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check looks beside a daemon at work, which removes the record first."""
    one, other = (msgspec.structs.replace(ARTIFACT, id=f"polpod-{n:016x}", size_bytes=1) for n in (1, 2))
    with closing(open_store(Sqlite(str(tmp_path / "state.db")), TASKS)) as store:
        store.write(lambda tx: (tx[Artifacts].add(one), tx[Artifacts].add(other)))

        def removed(path: str) -> bool:
            if path.endswith(one.id):
                store.write(lambda tx: tx[Artifacts].delete(one.id))
            return False

        monkeypatch.setattr(os.path, "isfile", removed)
        with closing(open_reader(str(tmp_path / "state.db"))) as db:
            (found,) = lacking(db, str(tmp_path))
    assert other.id in found.says


def test_what_ends_during_the_look_of_a_sweep_is_not_swept(tmp_path: Path) -> None:
    paths = StateDirectory(str(tmp_path))
    content = os.path.join(paths.content, "artifacts")
    os.makedirs(content)

    async def main() -> None:
        gate = Looked()
        uploads = Uploads(paths, Limits(), cast(Gate[Tx], gate))
        artifact_id = await uploads.begin(ARTIFACT, "me")
        await trio.to_thread.run_sync(Path(content, artifact_id).touch)  # as while its record is being stored
        async with trio.open_nursery() as nursery:
            nursery.start_soon(uploads.sweep)
            await gate.looked.wait()
            await uploads.end(artifact_id, "me", hashlib.sha256(b"").hexdigest(), lambda tx, artifact: None)
            gate.go_on.set()

    trio.run(main)
    assert os.listdir(content)
