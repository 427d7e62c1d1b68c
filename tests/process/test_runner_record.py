"""The outcome lasts: locked and replaced databases, full disks, a removed package; and logs keep their limit (DESIGN §6)."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from kit.waiting import until
from runner_kit import State, Zygote, ended

import polpod
from polpod.runner import contract, directory

MIB = 2**20


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[State]:
    """A state directory on a file system of 4 MiB."""
    root = tmp_path / "tiny"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "polpod-test", str(root)], check=True)
    try:
        with State(root) as state:
            yield state
    finally:
        subprocess.run(["umount", str(root)], check=True)


def fill(root: str) -> Path:
    """Take every byte that is left."""
    filler = Path(root, "filler")
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 512):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return filler


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold runs.db as another writer does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_claim_waits_for_a_locked_database(state: State) -> None:
    run = state.shell("exit 0")
    with locked(state.paths.runs_db):
        run.start()
        until(lambda: run.signed, "it is about to claim")
        assert not ended(run.pidfd, 0.2)
        assert run.row["status"] == "starting"
    assert run.finish()["status"] == "completed"


def test_a_claim_that_cannot_be_made_in_time_executes_nothing(state: State, tmp_path: Path) -> None:
    soon = time.monotonic_ns() + 10**9
    run = state.add("touch", str(tmp_path / "executed"), claim_until_mono=soon)
    with locked(state.paths.runs_db):
        run.start()
        assert run.finish()["status"] == "starting"
    assert "locked" in str(run.trouble)
    assert not (tmp_path / "executed").exists()


def test_a_database_that_stays_locked_leaves_exit_json(state: State) -> None:
    run = state.shell("echo up; read line; exit 8", stdin=_fifo(state)).start()
    with open(_fifo(state), "w"):
        run.said(b"up").running()
        lock = locked(state.paths.runs_db)
        lock.__enter__()
    try:
        assert run.finish()["status"] == "running"
    finally:
        lock.__exit__(None, None, None)
    assert (run.recorded["status"], run.recorded["exit_code"], run.recorded["nonce"]) == (
        "failed",
        8,
        run.spec["nonce"],
    )
    assert state.db.execute(contract.FINISH, run.recorded).rowcount == 1  # what the daemon does with it


def _fifo(state: State) -> str:
    path = os.path.join(state.paths.path, "fifo")
    if not os.path.exists(path):
        os.mkfifo(path)
    return path


@pytest.mark.root
def test_a_full_disk_does_not_take_the_outcome(tiny: State) -> None:
    run = tiny.shell("echo up; read line; exit 8", stdin=_fifo(tiny)).start()
    with open(_fifo(tiny), "w"):
        run.said(b"up").running()
        filler = fill(tiny.paths.root)
        assert os.statvfs(tiny.paths.root).f_bavail == 0
    row = run.finish()
    filler.unlink()
    outcome = run.recorded if row["status"] == "running" else row
    assert (outcome["status"], outcome["exit_code"]) == ("failed", 8)


@pytest.mark.root
def test_the_second_witness_needs_no_space(tiny: State) -> None:
    path = tiny.paths.run(99)
    directory.prepare(path, tiny.shell("true").spec)
    directory.take_spec(path)
    filler = fill(tiny.paths.root)
    payload = (
        {"id": 1, "nonce": "n"}
        | dict.fromkeys(contract.OUTCOME)
        | {"error": "é" * 5000, "ended_at": contract.timestamp()}
    )
    directory.record_exit(path, payload)
    filler.unlink()
    assert directory.read_exit(path.exit)["error"] == "é" * directory.ERROR_KEPT


@pytest.mark.root
def test_a_claim_that_a_full_disk_refuses_executes_nothing(tiny: State) -> None:
    run = tiny.shell("echo executed", claim_until_mono=time.monotonic_ns() + 10**9)
    filler = fill(tiny.paths.root)
    run.start()
    assert ended(run.pidfd)
    filler.unlink()
    assert run.row["status"] == "starting"
    assert run.log == b""


def test_when_both_witnesses_fail_the_runner_stays_until_one_stands(state: State) -> None:
    run = state.shell("echo up; read line; exit 8", stdin=_fifo(state)).start()
    hidden, moved = run.directory.path + ".hidden", state.paths.runs_db + ".hidden"
    with open(_fifo(state), "w"):
        run.said(b"up").running()
        os.rename(state.paths.runs_db, moved)
        os.mkdir(state.paths.runs_db)  # neither there nor gone
        os.rename(run.directory.path, hidden)
    until(lambda: not _children(run.pid), "the job is reaped")
    assert not ended(run.pidfd, 0.5)
    os.rename(hidden, run.directory.path)
    assert ended(run.pidfd, 60)
    os.rmdir(state.paths.runs_db)
    os.rename(moved, state.paths.runs_db)
    assert run.recorded["exit_code"] == 8


def _children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def test_when_the_state_directory_was_removed_nobody_stays(state: State, tmp_path: Path) -> None:
    run = state.shell("echo up; read line", stdin=_fifo(state)).start()
    with open(_fifo(state), "w"):
        run.said(b"up").running()
        os.rename(state.paths.path, tmp_path / "moved")
    assert ended(run.pidfd, 60)
    os.rename(tmp_path / "moved", state.paths.path)


def test_a_decision_against_us_keeps_our_word_beside_the_row(state: State) -> None:
    run = state.shell("echo up; read line; exit 8", stdin=_fifo(state)).start()
    with open(_fifo(state), "w"):
        run.said(b"up").running()
        lost = {"id": run.id, "error": "wrongly", "ended_at": contract.timestamp()}
        assert state.db.execute(contract.LOST, lost).rowcount == 1
    assert run.finish()["status"] == "lost"
    assert run.recorded["exit_code"] == 8


def test_an_older_runs_db_in_place_of_ours_gets_no_outcome_but_exit_json(state: State, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "older")) as older:
        older.execute("PRAGMA journal_mode = WAL")
        for script in contract.MIGRATIONS:
            older.executescript(script)
    run = state.shell("echo up; read line; exit 8", stdin=_fifo(state)).start()
    with open(_fifo(state), "w"):
        run.said(b"up").running()
        for suffix in ("", "-wal", "-shm"):
            os.rename(state.paths.runs_db + suffix, tmp_path / f"newer{suffix}")
        os.rename(tmp_path / "older", state.paths.runs_db)
    assert ended(run.pidfd)
    assert run.recorded["exit_code"] == 8
    for suffix in ("", "-wal", "-shm"):
        os.rename(tmp_path / f"newer{suffix}", state.paths.runs_db + suffix)


def test_a_restored_runs_db_that_is_not_in_wal_mode_leaves_exit_json(state: State, tmp_path: Path) -> None:
    """As VACUUM INTO makes it, and no daemon has opened it yet."""
    go = tmp_path / "go"
    run = state.shell(f"while [ ! -e {go} ]; do sleep 0.01; done; exit 7").start().running()
    copy = tmp_path / "copy.db"
    state.db.execute("VACUUM INTO ?", (str(copy),))
    state.db.close()
    for old in (state.paths.runs_db, f"{state.paths.runs_db}-wal", f"{state.paths.runs_db}-shm"):
        os.unlink(old)
    copy.rename(state.paths.runs_db)
    go.touch()
    assert ended(run.pidfd)
    assert run.recorded["exit_code"] == 7
    state.open()


def test_a_runner_makes_no_checkpoint_even_as_the_last_to_leave(state: State) -> None:
    run = state.shell("echo up; read line", stdin=_fifo(state)).start()
    with open(_fifo(state), "w"):
        run.said(b"up").running()
        state.db.execute("PRAGMA wal_autocheckpoint = 0")
        state.db.execute("CREATE TABLE ballast AS SELECT randomblob(8000000) AS b")  # a log that asks for a checkpoint
        state.db.close()
        before = Path(state.paths.runs_db).read_bytes()
    assert ended(run.pidfd)
    assert Path(state.paths.runs_db).read_bytes() == before
    assert os.path.getsize(state.paths.runs_db + "-wal") > 8000000
    state.open()
    assert run.row["status"] == "failed"


def test_a_runner_needs_no_file_of_its_package(state: State, tmp_path: Path) -> None:
    copy = tmp_path / "site" / "polpod"
    shutil.copytree(Path(polpod.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from polpod.runner import zygote; zygote.main(int(sys.argv[1]))"
    with Zygote(command=[sys.executable, "-I", "-S", "-c", code, str(copy.parent)]) as zygote:
        run = state.shell("echo up; read line; setsid sleep 1000 & exit 8", stdin=_fifo(state)).start(zygote)
        with open(_fifo(state), "w"):
            run.said(b"up").running()
            shutil.rmtree(copy)
        row = run.finish()
        assert (row["status"], row["exit_code"], row["leftovers"]) == ("failed", 8, 1)
        killed = state.shell("sleep 1000").start(zygote).running()
        killed.terminate()
        assert killed.finish()["reason"] == "signalled"


@pytest.mark.parametrize("held", [False, True])
def test_a_runner_writes_heartbeats_only_without_a_daemon(state: State, held: bool) -> None:
    # Its chore by itself: a minute is too long for a test.
    from polpod.runner.heartbeat import Heartbeat
    from polpod.runner.row import Row

    run = state.shell("exec sleep 1000").start().running()
    lock = directory.lock(state.paths.lock) if held else None
    heartbeat = Heartbeat(Row(run.spec), state.paths.lock)
    due = heartbeat.due
    heartbeat.run()
    assert (run.row["heartbeat_at"] is None) == held
    assert heartbeat.due >= due
    if lock is not None:
        os.close(lock)


def on_disk(path: str) -> int:
    return os.stat(path).st_blocks * 512


def test_a_log_keeps_its_limit_its_head_and_its_offsets(state: State) -> None:
    # 300 MiB as fast as they can be written, into a limit of 8: numbered lines, so that each place is known.
    run = state.add(
        "python3",
        "-c",
        "import os\nfor n in range(300): os.write(1, b''.join(b'%015d\\n' % (n * 65536 + i) for i in range(65536)))",
        log_limit=8 * MIB,
        log_head=MIB,
    ).start()
    most = 0
    path = run.spec["log_path"]
    while not ended(run.pidfd, 0.005):
        if os.path.exists(path):
            most = max(most, on_disk(path))
    assert run.row["status"] == "completed"
    assert os.path.getsize(path) == 300 * MIB
    assert most < 150 * MIB  # on a machine that is busy with other things the runner looks late
    with open(path, "rb") as log:
        head = log.read(MIB)
        assert head == b"".join(b"%015d\n" % i for i in range(65536))
        log.seek(-MIB, os.SEEK_END)
        assert log.read(16) == b"%015d\n" % (299 * 65536)
        hole = os.lseek(log.fileno(), 0, os.SEEK_HOLE)
        data = os.lseek(log.fileno(), hole, os.SEEK_DATA)
        log.seek(data)
        assert log.read(16) == b"%015d\n" % (data // 16)


def test_a_runner_is_small(state: State) -> None:
    # Among fifty, each while its job runs: SQLite is a third of it, the rest is what Python copies by counting references.
    runs = [state.add("sleep", "1000").start().running() for _ in range(50)]
    for run in runs:
        until(lambda run=run: _name(run.row["job_pid"]) == "sleep", "it is executed")  # type: ignore[misc]
    sizes = [int(_rollup(run.pid)["Pss:"]) for run in runs]
    assert sum(sizes) / len(sizes) < 3 * 1024


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _rollup(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split()[0]: line.split()[1] for line in lines}
