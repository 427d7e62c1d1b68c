"""The content of artifacts beside the databases: into a backup, back from one, and what a record has none of.

    content/artifacts/<id>   in a state directory, a backup, and what was put aside

Rules:

1. Content never changes under its name, so that two directories of one file system share the file.
2. What is there is never overwritten.  A file appears under its name whole and on disk, or not at all.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

from polpod.durable import make_directory, sync
from polpod.store.findings import Finding, problem
from polpod.store.organisation import Artifacts
from polpod.store.sqlite import Connection

OURS = re.compile(r"polpod-[0-9a-f]{16}")
"""Ids of artifacts that polpod took; where others keep their content is their own affair."""

SHOWN = 20

CONTENT = "content"
_ARTIFACTS = os.path.join(CONTENT, "artifacts")
_PARTIAL = ".partial"


def carry(source: str, target: str, go_on: Callable[[], None] = lambda: None) -> list[int]:
    """Put what `source` has and `target` has not into `target`, all or nothing; the size of each.

    Raises OSError, and what `go_on` does.
    """
    here, there = os.path.join(source, _ARTIFACTS), os.path.join(target, _ARTIFACTS)
    names = [name for name in _files(here) if not os.path.lexists(os.path.join(there, name))]
    if not names:
        return []
    make_directory(there, 0o700)
    sizes = []
    with ExitStack() as undo:
        undo.callback(forget_half, target)
        for name in names:
            go_on()
            with suppress(FileNotFoundError):  # it was removed just now
                sizes.append(_put(os.path.join(here, name), there, name))
                undo.callback(os.unlink, os.path.join(there, name))
        sync(there)
        undo.pop_all()
    return sizes


def forget_half(directory: str) -> None:
    """Remove what a kill left of a file that was being copied into the directory, while nobody else does that."""
    with suppress(OSError):
        os.unlink(os.path.join(directory, CONTENT, _PARTIAL))


def lacking(db: Connection, directory: str) -> Iterator[Finding]:
    """The artifacts of this state.db whose content is not, or not whole, in the directory.  Raises sqlite3.Error."""
    docs = [doc for (doc,) in db.execute(f"SELECT CAST(doc AS BLOB) FROM {Artifacts.name}")]
    artifacts = [Artifacts.entity_of(doc) for doc in docs if Artifacts.problem(doc) is None]
    wrong = 0
    for artifact in artifacts:
        path = os.path.join(directory, _ARTIFACTS, artifact.id)
        there = os.path.getsize(path) if os.path.isfile(path) else None
        if there == artifact.size_bytes or not OURS.fullmatch(artifact.id):
            continue
        if db.execute(f"SELECT 1 FROM {Artifacts.name} WHERE id = ?", (artifact.id,)).fetchone() is None:
            continue  # it was removed just now, the record first
        wrong += 1
        how = "is not there" if there is None else f"has {there} bytes, and {artifact.size_bytes} were taken"
        if wrong <= SHOWN:
            yield problem(CONTENT, f"the content of artifact {artifact.id} {how}", "none")
    if wrong > SHOWN:
        yield problem(CONTENT, f"nor is that of {wrong - SHOWN} more artifacts in order", "none")


def _files(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
    except FileNotFoundError:
        return []


def _put(path: str, directory: str, name: str) -> int:
    target = os.path.join(directory, name)
    try:
        os.link(path, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        partial = os.path.join(os.path.dirname(directory), _PARTIAL)
        with open(path, "rb") as file, open(partial, "wb", opener=_open_own) as copy:
            shutil.copyfileobj(file, copy)
        sync(partial)
        os.rename(partial, target)
    return os.path.getsize(target)


def _open_own(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
