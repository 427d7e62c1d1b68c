"""Backups of running instances, and what comes of them: another directory, or the same one a day later (F53, F54)."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kit.client import Refused
from kit.disk import small_disk
from kit.fault import fault
from kit.host import Host
from kit.invariants import Ledger
from kit.jobs import waits_for
from kit.other_user import NOBODY, call_as, let_in
from kit.processes import alive
from kit.waiting import until

TASKS = 100
MIB = 2**20


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory for backups, which is not the state directory."""
    with tempfile.TemporaryDirectory(prefix="backups-") as directory:
        yield Path(directory)


def restored(host: Host, backup: Path) -> str:
    done = host.maintain("restore", str(backup))
    assert done.returncode == 0, done.stderr
    return done.stdout


def all_over(host: Host) -> bool:
    counts = host.call("daemon.status")
    return (
        not {"pending", "in_progress", "assigned", "review"} & counts["tasks"].keys()
        and not {
            "starting",
            "running",
        }
        & counts["runs"].keys()
    )


def test_backups_of_a_busy_instance_are_what_a_power_cut_would_leave(host: Host, elsewhere: Path) -> None:
    host.configure(maxConcurrency=8)
    host.start()
    go = elsewhere / "go"
    backups = []
    with host.client() as client:
        for number in range(TASKS):
            after = [str(number)] if number % 5 == 4 else []
            shell = "true" if number else waits_for(go)  # the first runs in every backup
            task_id = client.call("task.submit", shell=shell, cwd="/", depends_on=after)["id"]
            if not number:
                host.running(task_id)
            if number % 25 == 0:
                backups.append(elsewhere / str(number))
                assert client.call("store.backup", path=str(backups[-1]))["bytes"] > 0
    go.touch()
    acknowledged = [number for number in range(TASKS) if number % 25 == 0]
    until(lambda: all_over(host), "everything is done", 60)
    assert host.stop() == 0
    for backup, before in zip(backups, acknowledged, strict=True):
        with Host(maxConcurrency=8) as other:
            restored(other, backup)
            ledger = Ledger(other.paths)
            assert ledger.look()[1]["status"] == "running"
            other.start()
            until(lambda host=other: all_over(host), "everything of the backup is done", 60)  # type: ignore[misc]
            counts = other.call("daemon.status")["tasks"]
            assert counts == {"done": before + 1}
            assert other.stop() == 0
            ledger.settled()
            assert "Traceback" not in other.log(), other.log()


TRAP = "trap 'touch {mark}' TERM; touch {up}; while [ ! -e {go} ]; do sleep 0.05; done"


def started(host: Host, name: str) -> tuple[str, dict[str, int]]:
    """A task that leaves a mark when it is sent SIGTERM, and its run, once it is up."""
    up = host.root / f"{name}.up"
    script = TRAP.format(mark=host.root / f"{name}.signalled", up=up, go=host.root / f"{name}.go")
    task_id = host.submit(shell=script)
    run = host.running(task_id)
    until(up.exists, "the job is up")
    return task_id, run


@fault(
    54,
    "a database is restored from an older backup while runs of today live",
    promise="Runs that the backup knows are adopted if their runners live here; others are listed as foreign and left "
    "alone, their ids and logs are not used again, and nothing is signalled.",
    injected="a backup, more work, SIGKILL to the daemon, `store restore`, a new start",
    seen_failing="ids above those of run directories and logs (recovery and restore)",
)
def test_f54_yesterdays_backup_while_todays_runs_live(host: Host, elsewhere: Path) -> None:
    host.start()
    old, adopted = started(host, "old")
    host.call("store.backup", path=str(elsewhere / "b"))
    _, foreign = started(host, "today")
    host.kill()
    said = restored(host, elsewhere / "b")
    assert "1 runs of the backup live here still" in said
    assert f"left alone: {foreign['id']}" in said

    host.start()
    since = host.call("daemon.status")["started_at"]

    def started_anew() -> list[dict[str, Any]]:
        events = host.call("event.list", after=0, kinds=["daemon:started"])["events"]
        return [event for event in events if event["at"] > since]  # the others are of the daemon before

    (event,) = until(started_anew, "it has recovered")
    assert event["body"]["foreign"] == [foreign["id"]]
    assert host.runs(old)[-1]["pid"] == adopted["pid"]
    fresh = host.submit("true")
    assert host.finished(fresh)["status"] == "done"
    assert host.runs(fresh)[0]["id"] > foreign["id"]
    assert fresh == "3", "the id of the task that the backup does not know is not given again"
    assert alive(foreign["pid"])
    assert alive(adopted["pid"])
    (host.root / "old.go").touch()
    assert host.finished(old)["status"] == "done"
    assert host.stop() == 0
    assert alive(foreign["pid"])
    assert not list(host.root.glob("*.signalled"))
    (host.root / "today.go").touch()
    until(lambda: not alive(foreign["pid"]), "today's run ends by itself")


def test_the_backup_of_a_living_instance_elsewhere_hurts_the_original_not(host: Host, elsewhere: Path) -> None:
    host.start()
    task_id, run = started(host, "here")
    host.call("store.backup", path=str(elsewhere / "b"))
    with Host() as other:
        assert "1 runs were live in the backup and are not here" in restored(other, elsewhere / "b")
        other.start()
        until(lambda: len(other.runs(task_id)) == 2, "its lost run was tried again")
        assert other.runs(task_id)[0]["status"] == "lost"
        other.call("task.cancel", select={"ids": [task_id]})
        assert other.finished(task_id)["status"] == "cancelled"
        assert other.stop() == 0
    assert alive(run["pid"])
    assert host.running(task_id)["pid"] == run["pid"]


def test_a_run_of_the_same_number_is_not_taken_for_that_of_the_backup(host: Host, elsewhere: Path) -> None:
    """Here and there a run 1 lives: whoever took one for the other would end the job of the original."""
    host.start()
    task_id, run = started(host, "here")
    host.call("store.backup", path=str(elsewhere / "b"))
    with Host() as other:
        other.start()
        _, stranger = started(other, "there")
        assert stranger["id"] == run["id"]
        other.kill()
        assert "1 runs were live in the backup and are not here" in restored(other, elsewhere / "b")
        other.start()
        until(lambda: len(other.runs(task_id)) == 2, "the lost run was tried again")
        other.call("task.cancel", select={"ids": [task_id]})
        assert other.finished(task_id)["status"] == "cancelled"
        assert other.stop() == 0
        assert alive(stranger["pid"])
        (other.root / "there.go").touch()  # nothing here knows it any more, so nobody else ends it
        until(lambda: not alive(stranger["pid"]), "the stranger has ended")
    assert host.running(task_id)["pid"] == run["pid"]
    assert alive(run["job_pid"])


def test_a_run_that_claimed_after_the_backup_is_adopted(host: Host, elsewhere: Path) -> None:
    """In the backup it is about to start; here its runner has long claimed it, in the database that is replaced."""
    host.start()
    task_id, run = started(host, "late")
    host.call("store.backup", path=str(elsewhere / "b"))
    with closing(sqlite3.connect(elsewhere / "b" / "runs.db", isolation_level=None)) as db:
        db.execute("UPDATE runs SET status = 'starting', pid = NULL, start_ticks = NULL, claim_until_mono = 0")
    host.kill()
    restored(host, elsewhere / "b")
    host.start()
    assert host.running(task_id)["pid"] == run["pid"]
    (host.root / "late.go").touch()
    assert host.finished(task_id)["status"] == "done"
    assert len(host.runs(task_id)) == 1
    assert not list(host.root.glob("*.signalled"))


def test_the_directory_of_a_daemon_at_work_is_no_backup(host: Host, elsewhere: Path) -> None:
    host.start()
    held = host.submit("true", hold=True)
    with Host() as other:
        done = other.maintain("restore", host.paths.path)
        assert (done.returncode, "is at work" in done.stderr) == (1, True), done.stderr
        assert os.listdir(other.paths.path) == ["polpo.json"]
        host.kill()
        said = restored(other, Path(host.paths.path))
        assert "to take it back" not in said, "nothing was there"
        other.start()
        assert [t["id"] for t in other.call("task.list")["tasks"]] == [held]


def test_what_was_there_is_kept_and_can_be_taken_back(host: Host, elsewhere: Path) -> None:
    host.start()
    host.submit("true", hold=True)
    host.call("store.backup", path=str(elsewhere / "b"))
    host.submit("true", hold=True)
    host.kill()
    done = host.maintain("--json", "restore", str(elsewhere / "b"))
    assert done.returncode == 0, done.stderr
    aside = json.loads(done.stdout)["aside"]
    assert {"state.db", "state.db-wal", "runs.db", "polpo.json"} <= set(os.listdir(aside))
    host.start()
    assert len(host.call("task.list")["tasks"]) == 1
    host.kill()
    restored(host, Path(aside))
    host.start()
    assert len(host.call("task.list")["tasks"]) == 2


# The content of artifacts


def keep(host: Host, data: bytes) -> str:
    """The id of an artifact with that content."""
    task_id = host.submit("true", hold=True)
    with host.client() as client:
        artifact_id = client.call("artifact.begin", path="f", size=len(data), task_id=task_id)["id"]
        client.call("artifact.write", id=artifact_id, offset=0, data=base64.b64encode(data).decode())
        client.call("artifact.end", id=artifact_id, sha256=hashlib.sha256(data).hexdigest())
    return str(artifact_id)


def content(host: Host, artifact_id: str) -> bytes:
    return base64.b64decode(host.call("artifact.get", id=artifact_id)["data"])


def contents(directory: str | Path) -> Path:
    return Path(directory) / "content" / "artifacts"


@pytest.mark.parametrize("storage", ["sqlite", "file"])
@pytest.mark.parametrize("served", [True, False], ids=["served", "stopped"])
def test_artifacts_come_along_with_their_content(elsewhere: Path, storage: str, served: bool) -> None:
    with Host(storage=storage) as host:
        host.start()
        kept = keep(host, b"built")
        if served:
            host.call("store.backup", path=str(elsewhere / "b"))
        else:
            assert host.stop() == 0
            assert host.maintain("backup", str(elsewhere / "b")).returncode == 0
        copy = contents(elsewhere / "b") / kept
        assert copy.samefile(contents(host.paths.path) / kept), "on one file system it takes no room"
        assert copy.stat().st_mode & 0o777 == 0o600
        assert {copy.parent.stat().st_mode & 0o777, copy.parent.parent.stat().st_mode & 0o777} == {0o700}
        checked = host.maintain("check", str(elsewhere / "b"))
        assert (checked.returncode, "in order: " in checked.stdout) == (0, True), checked.stdout
        assert ", 0 " not in checked.stdout, "of the tables without a row nothing is said"
    with Host() as other:
        Path(other.paths.config).unlink()
        assert "the content of 1 artifacts was put back" in restored(other, elsewhere / "b")
        assert not [*Path(other.paths.path).glob("aside-*/*")], "nothing was there before"
        other.start()
        assert content(other, kept) == b"built"


def test_a_backup_without_artifacts_is_two_databases_and_the_settings(host: Host, elsewhere: Path) -> None:
    host.start()
    host.call("store.backup", path=str(elsewhere / "b"))
    assert sorted(os.listdir(elsewhere / "b")) == ["polpo.json", "runs.db", "state.db"]


def test_content_that_a_backup_lacks_is_named_and_what_is_there_stays(host: Host, elsewhere: Path) -> None:
    host.start()
    gone, cut, there = keep(host, b"one"), keep(host, b"two"), keep(host, b"three")
    host.call("store.backup", path=str(elsewhere / "b"))
    of_backup = contents(elsewhere / "b")
    (of_backup / gone).unlink()
    for name in (cut, there):
        (of_backup / name).unlink()
        (of_backup / name).write_bytes(b"tw" if name == cut else b"other")
    checked = host.maintain("check", str(elsewhere / "b"))
    assert checked.returncode == 1
    assert f"the content of artifact {gone} is not there" in checked.stdout
    assert f"the content of artifact {cut} has 2 bytes, and 3 were taken" in checked.stdout
    assert there not in checked.stdout
    assert host.maintain("check").returncode == 0
    assert host.stop() == 0
    assert "artifact" not in restored(host, elsewhere / "b").replace("artifacts", "")
    assert (contents(host.paths.path) / there).read_bytes() == b"three"
    with Host() as other:
        said = restored(other, elsewhere / "b")
        assert f"the content of artifact {gone} is not there" in said
        assert other.maintain("check").returncode == 1


def test_content_that_a_restored_backup_does_not_know_can_be_taken_back(host: Host, elsewhere: Path) -> None:
    host.start()
    host.call("store.backup", path=str(elsewhere / "b"))
    kept = keep(host, b"built")
    assert host.stop() == 0
    done = host.maintain("--json", "restore", str(elsewhere / "b"))
    aside = json.loads(done.stdout)["aside"]
    host.start()
    until(lambda: not (contents(host.paths.path) / kept).exists(), "it was swept")
    assert host.stop() == 0
    restored(host, Path(aside))
    host.start()
    assert content(host, kept) == b"built"


def test_content_that_a_kill_left_half_put_back_goes(host: Host, elsewhere: Path) -> None:
    host.start()
    kept = keep(host, b"built")
    half = contents(host.paths.path).parent / ".partial"
    half.write_bytes(b"bu")
    assert host.stop() == 0
    host.start()
    assert not half.exists()
    assert content(host, kept) == b"built"


# Refusals


def test_a_target_that_cannot_be_is_refused(host: Host, elsewhere: Path) -> None:
    host.start()
    host.call("store.backup", path=str(elsewhere / "b"))
    before = {p.name: p.read_bytes() for p in (elsewhere / "b").iterdir()}
    with host.client() as client:
        for path, word in (
            (elsewhere / "b", "conflict"),
            (elsewhere / "no" / "b", "not_found"),
            (Path("relative"), "invalid"),
            (Path("/proc/b"), "refused"),
        ):
            assert client.error("store.backup", path=str(path)) == word
    assert {p.name: p.read_bytes() for p in (elsewhere / "b").iterdir()} == before
    assert os.listdir(elsewhere) == ["b"]


def test_without_a_daemon_the_files_are_copied_and_beside_one_they_are_not(host: Host, elsewhere: Path) -> None:
    host.start()
    held = host.submit("true", hold=True)
    done = host.maintain("backup", str(elsewhere / "b"))
    assert (done.returncode, "another polpod" in done.stderr) == (75, True)
    done = host.maintain("restore", str(elsewhere))
    assert done.returncode == 75
    host.kill()
    done = host.maintain("backup", str(elsewhere / "b"))
    assert (done.returncode, done.stderr) == (0, "")
    with Host() as other:
        restored(other, elsewhere / "b")
        other.start()
        assert [t["id"] for t in other.call("task.list")["tasks"]] == [held]


def test_a_backup_that_is_not_in_order_is_not_restored(host: Host, elsewhere: Path) -> None:
    host.start()
    host.submit("true", hold=True)
    host.call("store.backup", path=str(elsewhere / "b"))
    assert host.stop() == 0
    state = elsewhere / "b" / "state.db"
    state.write_bytes(state.read_bytes()[:8192])
    before = {name: Path(host.paths.path, name).read_bytes() for name in ("state.db", "runs.db")}
    done = host.maintain("restore", str(elsewhere / "b"))
    assert done.returncode == 1
    assert "not restored" in done.stderr
    assert str(state) in done.stderr
    assert {name: Path(host.paths.path, name).read_bytes() for name in before} == before
    assert not list(Path(host.paths.path).glob("[aip]*-*"))


if os.geteuid() == 0:

    @pytest.fixture
    def small(elsewhere: Path) -> Iterator[Path]:
        """A disk of 64 KiB."""
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "polpod-test", str(elsewhere)], check=True)
        try:
            yield elsewhere
        finally:
            subprocess.run(["umount", "--lazy", str(elsewhere)], check=True)

    def test_a_full_disk_is_told_and_nothing_is_left_on_it(host: Host, small: Path) -> None:
        host.start()
        with pytest.raises(Refused, match="no space left") as refused:
            host.call("store.backup", path=str(small / "b"))
        assert refused.value.word == "disk_full"
        assert os.listdir(small) == []
        assert host.finished(host.submit("true"))["status"] == "done"
        assert host.stop() == 0
        done = host.maintain("backup", str(small / "b"))
        assert (done.returncode, os.listdir(small)) == (75, [])

    @pytest.mark.parametrize("verb", ["backup DIR", "restore DIR", "salvage", "config set reserve 0"])
    def test_root_makes_nothing_that_the_daemon_of_another_user_cannot_open(
        host: Host, elsewhere: Path, verb: str
    ) -> None:
        host.start()
        host.call("store.backup", path=str(elsewhere / "b"))
        assert host.stop() == 0
        Path(host.paths.lock).unlink()
        overwritten = Path(host.paths.runs_db).read_bytes()
        Path(host.paths.runs_db).write_bytes(overwritten[:8192])
        for path in [host.paths.path, *Path(host.paths.path).rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
        before = os.listdir(host.paths.path)
        directory = str(elsewhere / ("new" if verb.startswith("backup") else "b"))
        done = host.maintain(*verb.replace("DIR", directory).split())
        assert (done.returncode, "Traceback" in done.stderr) == (6, False), done.stderr
        assert f"{host.paths.path} belongs to uid {NOBODY}, not to uid 0" in done.stderr
        assert sorted(os.listdir(host.paths.path)) == sorted(before)
        assert {path.stat().st_uid for path in Path(host.paths.path).rglob("*")} == {NOBODY}
        assert host.maintain("check").returncode == 1
        assert {path.stat().st_uid for path in Path(host.paths.path).rglob("*")} == {NOBODY}

    @pytest.mark.parametrize("room", [0, 96 * 1024])
    def test_a_full_disk_is_no_damage(host: Host, elsewhere: Path, room: int) -> None:
        """Reading alone needs a -shm file."""
        with small_disk(host.paths.path, "4m") as disk:
            host.configure()
            host.start()
            host.submit("true", hold=True)
            host.call("store.backup", path=str(elsewhere / "b"))
            assert host.stop() == 0
            Path(host.paths.ballast).unlink(missing_ok=True)
            runs_db = Path(host.paths.runs_db)
            runs_db.write_bytes(runs_db.read_bytes()[:8192])
            disk.fill(leave=room)
            before = sorted(os.listdir(host.paths.path))
            for verb in (["check"], ["salvage"], ["restore", str(elsewhere / "b")]):
                done = host.maintain(*verb)
                if room and verb == ["check"]:
                    continue
                assert (done.returncode, done.stdout) == (75, ""), done.stdout + done.stderr
                assert "no space left" in done.stderr
                assert "store restore" not in done.stderr
            said = host.maintain("doctor").stdout
            assert "versions" in said
            assert room or "no space left → make room" in said
            left = {name for name in os.listdir(host.paths.path) if not name.endswith(("-shm", "-wal"))}
            assert left == set(before)
            disk.free()
            restored(host, elsewhere / "b")
            host.start()
            assert len(host.call("task.list")["tasks"]) == 1
            assert host.stop() == 0

    def test_on_another_file_system_content_is_copied(host: Host, elsewhere: Path) -> None:
        host.start()
        kept = keep(host, b"built")
        with small_disk(str(elsewhere), "8m"):
            host.call("store.backup", path=str(elsewhere / "b"))
            copy = contents(elsewhere / "b") / kept
            assert copy.read_bytes() == b"built"
            assert (copy.stat().st_nlink, copy.stat().st_mode & 0o777) == (1, 0o600)
            assert os.listdir(copy.parent.parent) == ["artifacts"]
            with Host() as other:
                restored(other, elsewhere / "b")
                assert (contents(other.paths.path) / kept).read_bytes() == b"built"

    def test_a_restore_that_fills_the_disk_takes_its_content_away_again(host: Host, elsewhere: Path) -> None:
        host.start()
        for _ in range(3):
            keep(host, bytes(MIB))
        host.call("store.backup", path=str(elsewhere / "b"))
        with Host() as other, small_disk(other.paths.path, "3m"):
            done = other.maintain("restore", str(elsewhere / "b"))
            assert (done.returncode, "no space left" in done.stderr) == (75, True), done.stderr
            left = [path for path in Path(other.paths.path).rglob("*") if path.is_file()]
            assert not [path for path in left if path.stat().st_size > 8]

    def test_the_reserve_is_left_free_by_what_a_backup_needs_on_its_way(elsewhere: Path) -> None:
        """What is not in SQLite is copied beside runs.db first, wherever the backup is to be."""
        with small_disk(str(elsewhere), "8m"), Host(storage="file", reserve=2**52) as host:
            host.start()
            with host.client() as client:
                assert client.error("store.backup", path=str(elsewhere / "b")) == "disk_full"
            assert os.listdir(elsewhere) == []

    def test_only_the_owner_may(host: Host, elsewhere: Path) -> None:
        host.start()
        host.root.chmod(0o755)
        let_in(host.paths.path, host.socket)
        (answer,) = call_as(NOBODY, host.socket, [("store.backup", {"path": str(elsewhere / "b")})])
        assert answer["error"]["data"]["type"] == "permission_denied"


def test_the_reserve_is_left_free(host: Host) -> None:
    host.configure(reserve=2**52)
    host.start()
    with host.client() as client:
        assert client.error("store.backup", path=str(host.root / "b")) == "disk_full"
    assert not (host.root / "b").exists()


def test_what_a_killed_backup_left_goes_with_the_next_one_of_its_name(host: Host, elsewhere: Path) -> None:
    host.start()
    for name in (".b.1.partial", ".b.2.partial", ".c.1.partial"):
        (elsewhere / name).mkdir()
        (elsewhere / name / "state.db").write_bytes(bytes(4096))
    being_written = os.open(elsewhere / ".b.2.partial", os.O_RDONLY)
    fcntl.flock(being_written, fcntl.LOCK_EX)
    host.call("store.backup", path=str(elsewhere / "b"))
    os.close(being_written)
    assert sorted(os.listdir(elsewhere)) == [".b.2.partial", ".c.1.partial", "b"]


def test_a_stop_does_not_wait_for_a_backup_and_leaves_no_half_of_one(host: Host, elsewhere: Path) -> None:
    host.start()
    with closing(sqlite3.connect(host.paths.tasks_db, timeout=60, isolation_level=None)) as db:
        db.execute("CREATE TABLE ballast (x)")
        for _ in range(8):
            db.execute("INSERT INTO ballast VALUES (zeroblob(?))", (32 * MIB,))
    with host.client() as client:
        client.send("store.backup", path=str(elsewhere / "b"))
        until(lambda: os.listdir(elsewhere), "the copying has begun")
        assert host.stop() == 0
    left = os.listdir(elsewhere)
    assert left in ([], ["b"]), left
