"""What is swept of what jobs leave behind, and what is not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import trio
from kit.samples import NOW

from polpod.config import Artifacts as Limits
from polpod.model.organisation.artifacts import Artifact, ArtifactType
from polpod.paths import StateDirectory
from polpod.services.artifacts import Uploads
from polpod.store.gate import Gate
from polpod.store.records import Tx

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


def test_what_ends_during_the_look_of_a_sweep_is_not_swept(tmp_path: Path) -> None:
    def content(artifact_id: str) -> Path:
        return Path(StateDirectory(str(tmp_path)).content, "artifacts", artifact_id)

    def make(path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.touch()

    async def main() -> str:
        gate = Looked()
        uploads = Uploads(StateDirectory(str(tmp_path)), Limits(), cast(Gate[Tx], gate))
        artifact_id = await uploads.begin(ARTIFACT, "me")
        make(content(artifact_id))  # as while its record is being stored
        async with trio.open_nursery() as nursery:
            nursery.start_soon(uploads.sweep)
            await gate.looked.wait()
            await uploads.end(artifact_id, "me", hashlib.sha256(b"").hexdigest(), lambda tx, artifact: None)
            gate.go_on.set()
        return artifact_id

    assert content(trio.run(main)).exists()
