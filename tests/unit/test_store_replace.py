"""Putting databases in the place of others: interrupted at every step, it is completed at the next opportunity."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from polpod.errors import StoreError
from polpod.store import replace

WERE = {"state.db": b"old tasks", "state.db-wal": b"old wal", "runs.db": b"old runs", "polpo.json": b"{}", "logs": b""}


def database(path: Path, text: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = wal")
        db.execute("CREATE TABLE t (x)")
        db.execute("INSERT INTO t VALUES (?)", (text,))


def holds(path: Path) -> str:
    with closing(sqlite3.connect(path)) as db:
        (text,) = db.execute("SELECT x FROM t").fetchone()
    return str(text)


def state(tmp_path: Path) -> tuple[Path, Path]:
    """A state directory, and in it what is to be put in place."""
    directory = tmp_path / ".polpo"
    prepared = directory / "prepared-1"
    prepared.mkdir(parents=True)
    for name, data in WERE.items():
        (directory / name).write_bytes(data)
    database(prepared / "state.db", "new tasks")
    database(prepared / "runs.db", "new runs")
    return directory, prepared


def check(directory: Path, aside: Path) -> None:
    assert holds(directory / "state.db") == "new tasks"
    assert holds(directory / "runs.db") == "new runs"
    assert not (directory / "state.db-wal").exists() or (directory / "state.db-wal").read_bytes() != b"old wal"
    assert (directory / "polpo.json").read_bytes() == b"{}", "nothing came in its place"
    assert {p.name: p.read_bytes() for p in aside.iterdir()} == {
        name: data for name, data in WERE.items() if name.startswith(("state", "runs"))
    }
    assert not list(directory.glob("incoming-*"))


def test_what_was_there_lies_aside(tmp_path: Path) -> None:
    directory, prepared = state(tmp_path)
    check(directory, Path(replace.commit(str(directory), str(prepared))))


def test_everything_is_on_disk_before_anything_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, prepared = state(tmp_path)
    (prepared / "polpo.json").write_bytes(b"{}")
    synced: list[str] = []
    monkeypatch.setattr(replace, "sync", synced.append)
    replace.commit(str(directory), str(prepared))
    wanted = {str(prepared / name) for name in ("state.db", "runs.db", "polpo.json")}
    assert wanted <= set(synced[: synced.index(str(prepared))])


def test_what_was_not_prepared_to_its_end_goes(tmp_path: Path) -> None:
    directory, _ = state(tmp_path)
    (directory / "salvage-x").mkdir()
    (directory / "salvage-x" / "state.db").touch()
    (directory / "aside-1").mkdir()
    replace.finish(str(directory))
    assert {p.name for p in directory.iterdir()} == {*WERE, "aside-1"}


class Cut(BaseException):
    """The power is gone."""


def test_an_interruption_anywhere_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    for cut in range(100):
        directory, prepared = state(tmp_path / str(cut))
        done = 0

        def count(*_: object) -> None:
            nonlocal done
            done += 1
            if done > cut:
                raise Cut

        with monkeypatch.context() as patched:
            for name in ("rename", "rmdir", "mkdir"):
                _before(patched, name, count)
            try:
                replace.commit(str(directory), str(prepared))
                break
            except Cut:
                steps += 1
        replace.finish(str(directory))
        assert not prepared.exists()
        if not list(directory.glob("aside-*")):  # it never came so far as to be decided
            assert {n: (directory / n).read_bytes() for n in WERE} == WERE
            continue
        (aside,) = directory.glob("aside-*")
        check(directory, aside)
    assert steps > 6


def _before(patched: pytest.MonkeyPatch, name: str, count: object) -> None:
    original = getattr(os, name)

    def cut_or_do(*args: object, **kwargs: object) -> None:
        count(*args)  # type: ignore[operator]
        original(*args, **kwargs)

    patched.setattr(os, name, cut_or_do)


def test_a_name_is_never_used_twice(tmp_path: Path) -> None:
    directory, prepared = state(tmp_path)
    first = replace.commit(str(directory), str(prepared))
    (directory / "prepared-2").mkdir()
    database(directory / "prepared-2" / "state.db", "newer")
    second = replace.commit(str(directory), str(directory / "prepared-2"))
    assert first != second
    assert holds(Path(second, "state.db")) == "new tasks"
    assert holds(Path(directory, "state.db")) == "newer"


def test_what_cannot_be_moved_is_named(tmp_path: Path) -> None:
    directory, _ = state(tmp_path)
    (directory / "incoming-x").mkdir()
    (directory / "incoming-x" / "strange").touch()
    with pytest.raises(StoreError, match="incoming-x"):
        replace.finish(str(directory))
