"""The content of artifacts as files, with quotas (A.5.3, A.11 artifact content, A.11.2)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

from polpod import persistence as p

pytestmark = pytest.mark.anyio


@pytest.fixture
def storage(tmp_path: Path) -> p.FileSystemArtifactStorage:
    return p.FileSystemArtifactStorage(tmp_path, max_artifact_bytes=10, max_total_bytes=25)


async def test_store_retrieve_delete(storage: p.FileSystemArtifactStorage, tmp_path: Path) -> None:
    """A.11: store/retrieve; size returned; exists before and after; delete True and False; miss; one file by its id."""
    assert await storage.exists("a") is False
    assert await storage.store("a", b"12345") == 5
    assert await storage.exists("a") is True
    assert await storage.retrieve("a") == b"12345"
    assert (tmp_path / "artifacts" / "a").read_bytes() == b"12345"
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == ["a"]
    assert await storage.delete("a") is True
    assert await storage.delete("a") is False
    assert await storage.exists("a") is False
    with pytest.raises(p.RecordNotFoundError, match="a"):
        await storage.retrieve("a")


async def test_the_first_content_survives_a_power_cut_with_the_directories_made_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = set()

    def fsync(fd: int, real: Callable[[int], None] = os.fsync) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    await p.FileSystemArtifactStorage(tmp_path / "of" / "ours").store("a", b"12345")
    directories = (tmp_path, tmp_path / "of", tmp_path / "of" / "ours", tmp_path / "of" / "ours" / "artifacts")
    assert set(map(str, directories)) <= synced


async def test_the_total_grows_and_shrinks(storage: p.FileSystemArtifactStorage) -> None:
    """A.11: total 0, grows, shrinks; overwrite counts the difference only; empty content."""
    assert await storage.total_size() == 0
    await storage.store("a", b"1234567890")
    await storage.store("b", b"")
    await storage.store("c", b"1234567890")
    assert await storage.retrieve("b") == b""
    assert await storage.total_size() == 20
    await storage.store("a", b"12345")
    await storage.store("b", b"1234567890")
    assert await storage.total_size() == 25
    await storage.store("c", b"0987654321")
    assert await storage.retrieve("c") == b"0987654321"
    assert await storage.delete("c")
    assert await storage.total_size() == 15


async def test_limits(storage: p.FileSystemArtifactStorage) -> None:
    """A.11: too large, full; A.5.3: exactly as much is accepted; what was refused leaves everything as it was."""
    await storage.store("a", b"x" * 10)
    with pytest.raises(p.ArtifactTooLargeError):
        await storage.store("a", b"x" * 11)
    await storage.store("b", b"x" * 10)
    with pytest.raises(p.ArtifactStorageFullError):
        await storage.store("c", b"x" * 6)
    assert not await storage.exists("c")
    await storage.store("c", b"x" * 5)
    with pytest.raises(p.ArtifactStorageFullError):
        await storage.store("c", b"x" * 6)
    assert (await storage.total_size(), await storage.retrieve("c")) == (25, b"xxxxx")


async def test_too_large_is_said_before_full(tmp_path: Path) -> None:
    """A.5.3: checked first."""
    storage = p.FileSystemArtifactStorage(tmp_path, max_artifact_bytes=5, max_total_bytes=5)
    await storage.store("a", b"12345")
    with pytest.raises(p.ArtifactTooLargeError):
        await storage.store("b", b"123456")


def test_what_it_is(storage: p.FileSystemArtifactStorage) -> None:
    """A.11: backend name, protocol."""
    assert storage.backend_name == "filesystem"
    assert isinstance(storage, p.ArtifactStorageBackend)


@pytest.mark.parametrize(("artifact", "total"), [(0, 5), (-1, 5), (5, 4)])
def test_limits_that_nothing_could_keep(artifact: int, total: int, tmp_path: Path) -> None:
    """A.5.3: ValueError at construction."""
    with pytest.raises(ValueError, match="max_"):
        p.FileSystemArtifactStorage(tmp_path, max_artifact_bytes=artifact, max_total_bytes=total)


BAD_IDS = ["..", ".", "", " ", "../a", "/etc/passwd", "a/b", "a/../../b", "a\0b", "\ud800", "é" * 128]


@pytest.mark.parametrize("artifact_id", BAD_IDS, ids=ascii)
async def test_an_id_that_is_no_file_name_is_refused(artifact_id: str, storage: p.FileSystemArtifactStorage) -> None:
    """A.11: traversal and absolute ids rejected in store, retrieve, delete, exists; A.5.3: an inner `/`, too."""
    for call in (
        storage.store(artifact_id, b"x"),
        storage.retrieve(artifact_id),
        storage.delete(artifact_id),
        storage.exists(artifact_id),
    ):
        with pytest.raises(ValueError, match="artifact_id"):
            await call


@pytest.mark.parametrize("artifact_id", ["a.tmp", ".hidden", "lock", "partial", "..a", "é" * 127, "a b", "-", "a\\b"])
async def test_an_id_is_any_file_name(artifact_id: str, storage: p.FileSystemArtifactStorage) -> None:
    await storage.store(artifact_id, b"123")
    assert await storage.retrieve(artifact_id) == b"123"
    assert await storage.total_size() == 3


# More than one writer, and writers that die.

WRITERS = """
import sys, trio
from polpod.persistence import ArtifactStorageFullError, FileSystemArtifactStorage

async def main():
    storage = FileSystemArtifactStorage(sys.argv[1], max_artifact_bytes=10, max_total_bytes=105)
    sys.stdin.readline()
    for number in range(20):
        try:
            await storage.store(f"{sys.argv[2]}{number}", b"x" * 10)
        except ArtifactStorageFullError:
            pass

trio.run(main)
"""
HOLDER = """
import sys, time
from polpod.persistence import FileSystemArtifactStorage

storage = FileSystemArtifactStorage(sys.argv[1], max_artifact_bytes=10, max_total_bytes=25)
with storage._locked():
    (storage._work / "partial").write_bytes(b"half")
    print("held", flush=True)
    time.sleep(600)
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")


def test_writers_of_two_processes_keep_to_the_limit(tmp_path: Path) -> None:
    """A.11.2: total-size limit with two writers; together they fill it."""
    with ExitStack() as ended:
        processes = [start(WRITERS, str(tmp_path), name) for name in "ab"]
        for process in processes:
            ended.enter_context(process)
            ended.callback(process.kill)
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            process.communicate(timeout=60)
            assert process.returncode == 0
    assert sum(path.stat().st_size for path in (tmp_path / "artifacts").iterdir()) == 100


async def test_writers_of_one_process_keep_to_the_limit(tmp_path: Path) -> None:
    storages = [p.FileSystemArtifactStorage(tmp_path, max_artifact_bytes=10, max_total_bytes=105) for _ in range(2)]
    full = []

    async def store(number: int) -> None:
        try:
            await storages[number % 2].store(str(number), b"x" * 10)
        except p.ArtifactStorageFullError:
            full.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(store, number)
    assert (len(full), await storages[0].total_size()) == (10, 100)


async def test_a_writer_that_is_killed_leaves_nothing_in_the_way(
    storage: p.FileSystemArtifactStorage, tmp_path: Path
) -> None:
    """A.5.3 atomicity: half a file is no content, counts for nothing, and holds no lock."""
    await storage.store("a", b"before")
    process = start(HOLDER, str(tmp_path))
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    process.communicate()
    assert (await storage.retrieve("a"), await storage.total_size()) == (b"before", 6)
    await storage.store("a", b"after")
    assert await storage.retrieve("a") == b"after"
    assert sorted(os.listdir(tmp_path / ".artifacts")) == ["lock"]


async def test_content_whose_metadata_never_came_can_be_stored_again(
    storage: p.FileSystemArtifactStorage, backend: p.PersistenceBackend
) -> None:
    """A.11.2: crash between artifact content and metadata: nothing but the file is there, and counts once."""
    await storage.store("a", b"1234567890")
    assert await backend.artifacts.get("a") is None
    await storage.store("a", b"1234567890")
    assert await storage.total_size() == 10
    assert await storage.delete("a")


@pytest.mark.parametrize("plant", ["file", "directory"])
async def test_errors_of_the_file_system_leave_as_they_are(plant: str, tmp_path: Path) -> None:
    """A.5.3: other OSErrors propagate unchanged; nothing half done stays."""
    storage = p.FileSystemArtifactStorage(tmp_path)
    if plant == "file":
        (tmp_path / "artifacts").write_text("in the way")
    else:
        (tmp_path / "artifacts" / "a").mkdir(parents=True)
    with pytest.raises(OSError, match="artifacts"):
        await storage.store("a", b"x")
    if plant == "directory":
        assert os.listdir(tmp_path / ".artifacts") == ["lock"]
