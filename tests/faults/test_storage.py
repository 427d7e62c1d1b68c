"""Disks that are full, gone or slow, and files that others damage, remove, lock or pin (F49 to F63)."""

from __future__ import annotations

import base64
import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from kit.client import Client
from kit.disk import Disk, make_image, mounted_image, small_disk
from kit.earlier import bring_back
from kit.fault import fault
from kit.host import Host
from kit.invariants import Ledger, settle
from kit.jobs import waits_for
from kit.processes import alive, state
from kit.starting import WITHOUT_OVERRIDE, polpod
from kit.waiting import until

from polpod.runner import contract, small_files
from polpod.store.databases import TASKS
from polpod.store.gate import IDLE
from polpod.store.sqlite import open_writer

KIB = 2**10
MIB = 2**20


@contextmanager
def on_a_small_disk(host: Host, size: str, **settings: object) -> Iterator[Disk]:
    """The state directory is on a disk of its own, until the daemon has stopped."""
    with small_disk(host.paths.path, size) as disk:
        host.configure(**settings)
        yield disk
        if host.daemon is not None and host.daemon.poll() is None:
            host.stop()
    host.configure()


def refused_for_space(host: Host, length: int) -> bool:
    """Whether the daemon takes no description of this length, for that reason and no other."""
    with host.client() as client:
        client.send("task.submit", shell="true", cwd="/", hold=True, description="d" * length)
        answer = client.receive()
    assert "result" in answer or answer["error"]["data"]["type"] == "disk_full", answer
    return "error" in answer


# Full disks


@pytest.mark.root
@pytest.mark.parametrize("size", ["5m", "9m", "18m"])
def test_a_disk_that_the_databases_fill_themselves_is_usable_as_soon_as_anything_is_freed(
    host: Host, size: str
) -> None:
    with on_a_small_disk(host, size) as disk:
        host.start()
        until(lambda: host.call("daemon.health")["ok"], "it has recovered")
        disk.fill(leave=os.statvfs(host.paths.path).f_bavail * 4096 - 256 * KIB)
        go = host.root / "go"
        running = host.submit(shell=waits_for(go, "exit 7"))
        host.running(running)
        until(lambda: all(refused_for_space(host, 100_000) for _ in range(5)), "the disk is full")
        go.touch()
        disk.free()
        assert host.finished(running)["result"]["exit_code"] == 7
        assert host.finished(host.submit("true"))["status"] == "done"


@fault(
    50,
    "the logs' disk is full",
    promise="The job alone learns of it, by what its write says; it is neither held up nor ended, the daemon and other runs "
    "go on, and the run's `error` says that output may be missing.",
    injected="logs on a tmpfs of 2 MiB, and a job that writes 8 MiB",
    seen_failing="the look at what space is left for a log (runner/loglimit.py)",
)
@pytest.mark.root
def test_f50_a_full_disk_of_logs_ends_no_job_and_is_said_of_its_run(host: Host) -> None:
    os.mkdir(host.paths.logs)
    with small_disk(host.paths.logs, "2m"):
        host.start()
        go, mark = host.root / "go", host.root / "mark"
        loud = host.submit(shell=f"head -c {8 * MIB} /dev/zero; touch {mark}; {waits_for(go, 'exit 3')}")
        run = host.running(loud)
        until(mark.exists, "the job goes on behind its failed writes")
        assert os.statvfs(host.paths.logs).f_bavail == 0
        other = host.finished(host.submit(shell="echo $$ || exit 5"))
        assert (other["status"], other["result"]["exit_code"]) == ("failed", 5)
        assert "output may be missing" in other["result"]["error"]
        assert host.running(loud)["id"] == run["id"]
        assert host.call("task.logs", id=loud)["data"]
        go.touch()
        task = host.finished(loud)
        assert (task["result"]["reason"], task["result"]["exit_code"], task["retries"]) == ("exited", 3, 0)
        assert "output may be missing" in task["result"]["error"]
        os.truncate(run["log_path"], KIB)
        fine = host.finished(host.submit("echo", "word"))
        assert (fine["status"], fine["result"]["error"]) == ("done", None)
        assert host.stop() == 0
    Ledger(host.paths).settled()


def _no_logs(logs: Path) -> None:
    logs.rename(logs.with_name("aside"))


def _file_for_logs(logs: Path) -> None:
    _no_logs(logs)
    logs.touch()


def _closed_logs(logs: Path) -> None:
    logs.chmod(0o500)


@fault(
    51,
    "the directory of logs is gone, is a file, or cannot be written",
    promise="One that is gone is made again. Otherwise the attempt fails with `spawn_failed` and the path; no other run is "
    "affected, and once the place is mended work goes on.",
    injected="rename, a file in its place, or chmod, under a daemon without CAP_DAC_OVERRIDE",
    seen_failing="the record of a log that could not be opened (`_fail_to_start` in runner/runner.py)",
)
@pytest.mark.parametrize(
    ("spoil", "fails"),
    [(_no_logs, False), (_file_for_logs, True), (_closed_logs, True)],
    ids=["gone", "file", "closed"],
)
def test_f51_a_log_that_cannot_be_made_fails_its_attempt_alone(host: Host, spoil, fails: bool) -> None:  # type: ignore[no-untyped-def]
    host.start(under=WITHOUT_OVERRIDE)
    go = host.root / "go"
    running = host.submit(shell=waits_for(go, "echo said; exit 3"))
    host.running(running)
    logs = Path(host.paths.logs)
    spoil(logs)
    for _ in range(3):
        task = host.finished(host.submit("true"))
        (run,) = host.runs(task["id"])
        if fails:
            assert (task["status"], run["reason"], task["retries"]) == ("failed", "spawn_failed", 0)
            assert host.paths.log(run["id"]) in run["error"]
        else:
            assert (task["status"], logs.stat().st_mode & 0o777) == ("done", 0o700)
    go.touch()
    assert host.finished(running)["result"]["exit_code"] == 3
    logs.chmod(0o700)
    if logs.with_name("aside").exists():
        shutil.rmtree(logs) if logs.is_dir() else logs.unlink()
        logs.with_name("aside").rename(logs)
    assert host.call("task.logs", id=running)["data"]
    assert host.finished(host.submit("true"))["status"] == "done"
    settle(host)


# Power


@fault(
    52,
    "the power goes right after work was accepted",
    promise="What was answered was on disk before: every id that was given exists, and a result that was shown stays; the "
    "two databases may be cut at different points.",
    injected="the state on an ext4 of its own, whose image is copied, as it is on its disk, after the last answer; a start "
    "on the copy (every pair of cuts: tests/model/test_two_prefixes.py)",
    seen_failing="`PRAGMA synchronous = FULL` for what is answered (store/group.py), and for results (`_take` in services/collector.py)",
)
@pytest.mark.root
def test_f52_what_was_acknowledged_is_there_after_a_power_cut(host: Host, tmp_path: Path) -> None:
    image, cut = tmp_path / "disk", tmp_path / "cut"
    make_image(image, 32 * MIB)
    with mounted_image(image, host.paths.path):
        host.configure()
        with open(host.paths.config) as ours:  # the test's own file, not polpod's
            os.fsync(ours.fileno())
        host.start()
        ids = [host.submit("true", hold=True, title=f"number {n}") for n in range(20)]
        done = host.finished(host.submit("sh", "-c", "exit 3"))  # the last: nothing after it makes its commits durable
        host.kill()
        shutil.copyfile(image, cut)
        until(host.end_runners, "nothing of it runs")
    with mounted_image(cut, host.paths.path):
        host.start()
        assert [host.task(task_id)["title"] for task_id in ids] == [f"number {n}" for n in range(20)]
        again = host.finished(done["id"])
        assert (again["result"], again["retries"]) == (done["result"], 0)
        fresh = host.submit("true")
        assert fresh not in [done["id"], *ids]
        assert host.finished(fresh)["status"] == "done"
        settle(host)


# Locks and readers


@contextmanager
def locked(*paths: str) -> Iterator[None]:
    """Another program holds the write lock of these databases, as a shell does that was left open."""
    connections = [sqlite3.connect(path, isolation_level=None) for path in paths]
    for db in connections:
        db.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        for db in connections:
            db.close()


def answered(client: Client, within: float = 0.0) -> bool:
    return bool(select.select([client._socket], [], [], within)[0])


@fault(
    55,
    "the database is locked by another program",
    promise="Reads go on. A write waits up to 5 s and then says `unavailable`, with nothing of it stored; what polpod itself "
    "has to write waits for as long as it takes, and no outcome is lost.",
    injected="BEGIN EXCLUSIVE on both databases, for a moment and for longer than the busy timeout, while a job ends",
    seen_failing="waiting with what must be written (services/insist.py)",
)
def test_f55_a_locked_database_is_waited_for(host: Host) -> None:
    host.start()
    go = host.root / "go"
    running = host.submit(shell=waits_for(go, "exit 7"))
    pid = host.running(running)["pid"]
    with host.client() as writer:
        with locked(host.paths.tasks_db, host.paths.runs_db):
            writer.send("task.submit", shell="true", cwd="/", hold=True)
            assert host.task(running)["state"] == "running"
            assert not answered(writer), "it waits"
        assert writer.receive()["result"]["created"], "latency, not an error"
        before = len(host.call("task.list")["tasks"])
        with locked(host.paths.tasks_db, host.paths.runs_db):
            go.touch()
            assert writer.error("task.submit", shell="true", cwd="/", hold=True) == "unavailable"
            until(lambda: not alive(pid), "the runner has ended: its word is in exit.json")
            until(lambda: "trying again" in host.log(), "the daemon waits with the outcome")
            assert host.call("daemon.health")
            assert len(host.call("task.list")["tasks"]) == before
    task = host.finished(running)
    assert (task["result"]["exit_code"], task["retries"], task["recoveries"]) == (7, 0, 0)
    assert host.finished(host.submit("true"))["status"] == "done"
    settle(host)


def write_much(host: Host, mib: int) -> None:
    frame = [{"description": "d" * 100_000} for _ in range(20)]
    with host.client() as client:
        for _ in range(mib // 2):
            answer = client.call("task.submit_many", defaults={"shell": "true", "cwd": "/", "hold": True}, tasks=frame)
            client.call("task.remove", select={"ids": [result["id"] for result in answer["results"]]})


@fault(
    56,
    "the WAL grows without end while somebody reads",
    promise="No client's reading keeps it long: who follows pages by cursor. Another program's read transaction can, then "
    "`daemon.health` and `polpoctl doctor` say so; as soon as that ends the WAL is emptied, though nothing is written.",
    injected="writes of many MiB beside long polls, then beside a transaction that reads in another process",
    seen_failing="the repeated attempt to empty the WAL (store/gate.py); the alarm (`wal` in daemon.health)",
)
def test_f56_a_reader_cannot_make_the_wal_grow_for_ever(host: Host) -> None:
    host.start()
    wal = Path(f"{host.paths.tasks_db}-wal")
    waited = host.submit("true", hold=True)
    with host.client() as waiting, host.client() as following:
        waiting.send("task.wait", ids=[waited])
        following.send("event.list", after=0, kinds=["none"], wait=30)
        write_much(host, 40)
        assert wal.stat().st_size < 16 * MIB
    with closing(sqlite3.connect(host.paths.tasks_db, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM tasks").fetchone()
        write_much(host, 80)
        until(lambda: host.call("daemon.health")["checks"]["wal"] is False, "it says that the WAL is long")
        assert "somebody has been reading for long" in host.maintain("doctor").stdout
        assert host.task(waited)["status"] == "pending"
        since = time.monotonic()
        until(lambda: time.monotonic() > since + 2 * IDLE, "it has tried in vain to empty the WAL")
    until(lambda: wal.stat().st_size == 0, "the WAL is emptied")
    until(lambda: host.call("daemon.health")["ok"], "all is well again")


# Many tasks


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def store_many(host: Host, template: str, number: int) -> None:
    """Copies of a task, written where its daemon, which has stopped, keeps them."""
    made_anew = ("id", "seq", "doc")
    with closing(sqlite3.connect(host.paths.tasks_db)) as db, db:
        columns = [name for (name,) in db.execute("SELECT name FROM pragma_table_info('tasks')")]
        same = [name for name in columns if name not in made_anew]
        (seq,) = db.execute("SELECT max(seq) FROM tasks").fetchone()
        db.execute(
            f"INSERT INTO tasks ({', '.join(same)}, id, seq, doc) "
            f"WITH RECURSIVE n(i) AS (SELECT {seq + 1} UNION ALL SELECT i + 1 FROM n WHERE i < {seq + number}) "
            f"SELECT {', '.join(same)}, CAST(i AS TEXT), i, json_set(doc, '$.id', CAST(i AS TEXT), '$.seq', i) "
            "FROM n, tasks WHERE id = ?",
            (template,),
        )
        for name in ("tasks.last_id", "tasks.last_seq"):
            db.execute(
                "UPDATE settings SET doc = json_set(doc, '$.value', ?) WHERE name = ?", (str(seq + number), name)
            )


def cost_of_a_day(host: Host) -> float:
    """Seconds of CPU time for which a fixed amount of everyday work kept the daemon busy."""
    assert host.daemon is not None
    before = cpu_seconds(host.daemon.pid)
    with host.client() as client:
        for _ in range(100):
            task_id = client.call("task.submit", command=["true"], cwd="/", queue="aside")["id"]
            client.call("daemon.status")
            assert len(client.call("task.list", limit=10)["tasks"]) == 10
            client.call("task.cancel", select={"ids": [task_id]})
        for _ in range(10):
            task_id = client.call("task.submit", command=["true"], cwd="/", priority=1)["id"]
            # Who asked again and again would keep it busy, the more so the longer the job takes.
            until(lambda: client.call("task.wait", ids=[task_id])["finished"], "it is over")
            assert client.call("task.get", id=task_id)["task"]["status"] == "done"
    return cpu_seconds(host.daemon.pid) - before


@fault(
    58,
    "a big queue",
    promise="What is asked, submitted or ends costs the same whether ten tasks wait or a hundred thousand: lists page, and "
    "what is next comes from an index.",
    injected="100,000 ready tasks behind the one that runs; the daemon's CPU time for the same work before and after",
    seen_failing="the index of what is ready (`tasks_ready_queue_priority_seq`)",
)
def test_f58_a_hundred_thousand_tasks_wait_and_nothing_is_slower(host: Host) -> None:
    """W19."""
    host.configure(queues={"crowd": {"slots": 1}})
    host.start()
    host.call("queue.set", name="aside", paused=True)
    crowd = [host.submit("sleep", "1000", queue="crowd", priority=int(n == 0)) for n in range(12)]
    host.running(crowd[0])
    few = cost_of_a_day(host)
    assert host.stop() == 0
    store_many(host, crowd[1], 100_000)
    host.start()
    until(lambda: host.call("daemon.health")["ok"], "it has recovered")
    assert host.call("daemon.status")["tasks"]["pending"] >= 100_000
    assert cost_of_a_day(host) < 3 * few + 0.3


# Upgrades


DYING = """
import os, signal, sys
from polpod.__main__ import main
from polpod.store.sqlite import Connection

left, migrating = int(sys.argv.pop(1)), False
execute = Connection.execute

def counted(self, statement, values=()):
    global left, migrating
    migrating = migrating or (self.path.endswith("state.db") and statement == "BEGIN IMMEDIATE")
    if migrating:
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
    return execute(self, statement, values)

Connection.execute = counted
sys.exit(main())
"""
"""A polpod that dies before the n-th statement from the beginning of its first migration."""


def schema(path: str) -> tuple[int, list[str]]:
    """Version and tasks."""
    with closing(sqlite3.connect(path)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        return version, [task_id for (task_id,) in db.execute("SELECT id FROM tasks ORDER BY seq")]


@fault(
    59,
    "the upgrade of the schema is interrupted",
    promise="Each step is one transaction behind a backup (`state.db.v1.bak`), so the database is at one version or at the "
    "next, with everything in it, and the next start goes on. A database of a later version is refused and not touched.",
    injected="SIGKILL before each statement of a migration of the daemon's; a database that says version 99",
    seen_failing="one transaction a step (store/migrate.py); the check of the version",
)
def test_f59_a_migration_that_dies_anywhere_is_done_by_the_next_start(host: Host, tmp_path: Path) -> None:
    host.start()
    ids = [host.submit("true", hold=True) for _ in range(5)]
    assert host.stop() == 0
    latest = len(TASKS.schema.scripts)
    bring_back(host.paths.tasks_db, 1)
    old = Path(host.paths.tasks_db).read_bytes()
    backup = f"{host.paths.tasks_db}.v1.bak"
    seen = []
    for number in range(0, 1000, 9):  # of more than a hundred statements
        for left_over in Path(host.paths.path).glob("state.db*"):
            left_over.unlink()
        Path(host.paths.tasks_db).write_bytes(old)
        argv = [sys.executable, "-c", DYING, str(number), "--root", str(host.root)]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as dying:
            until(lambda: dying.poll() is not None or os.path.exists(host.socket), "it is dead, or has migrated")
            dying.kill()
        version, tasks = schema(host.paths.tasks_db)
        assert tasks == ids
        assert schema(backup) == (1, ids)
        seen.append(version)
        if version == latest:
            break
        open_writer(host.paths.tasks_db, TASKS.schema).close()
        assert schema(host.paths.tasks_db) == (latest, ids)
    assert len(seen) > 5, seen
    assert seen == sorted(seen)
    assert seen[0] == 1
    host.start()
    assert [task["id"] for task in host.call("task.list")["tasks"]] == ids
    assert host.finished(host.submit("true"))["status"] == "done"
    settle(host)

    with closing(sqlite3.connect(host.paths.tasks_db)) as db:
        db.execute("PRAGMA user_version = 99")
    before = Path(host.paths.tasks_db).read_bytes()
    status, output = polpod("--root", str(host.root))
    assert (status, "Traceback" in output) == (1, False), output
    assert "written by a later polpod" in output
    assert Path(host.paths.tasks_db).read_bytes() == before


# What cleaners remove, and what nobody removes


@fault(
    61,
    "a cleaner removes the socket, the run directories, the logs and the lock",
    promise="The socket comes back within seconds, directories when they are needed; no second daemon gets in, and what runs "
    "is neither lost nor started again. SIGHUP is no way to listen anew: it asks to stop, in order.",
    injected="rm of all of them under a daemon with a running job; of the directories once more in the middle of a start",
    seen_failing="the look at the socket's inode (`_listen` in daemon.py); directories that are listed without asking",
)
def test_f61_what_a_cleaner_removes_comes_back(host: Host) -> None:
    daemon = host.start()
    go = host.root / "go"
    running = host.submit(shell=waits_for(go, "exit 7"))
    run = host.running(running)
    os.unlink(host.socket)
    os.unlink(host.paths.lock)
    shutil.rmtree(host.paths.run_directories)
    shutil.rmtree(host.paths.logs)
    status, output = polpod("--root", str(host.root))
    assert (status, f"{host.paths.path}: another polpod" in output) == (75, True), output
    until(lambda: os.path.exists(host.socket), "it listens anew")
    assert host.call("daemon.status")["pid"] == daemon.pid
    assert host.running(running)["pid"] == run["pid"]
    fresh = host.finished(host.submit("echo", "word"))
    assert host.call("task.logs", id=fresh["id"])["data"]
    go.touch()
    task = host.finished(running)
    assert (task["result"]["exit_code"], task["retries"], task["recoveries"]) == (7, 0, 0)
    host.kill()
    daemon = host.start(wait=False, POLPOD_CRASH_AT="recover.planned", POLPOD_CRASH_SIGNAL="SIGSTOP")
    until(lambda: state(daemon.pid) == "T", "it has begun to recover")
    shutil.rmtree(host.paths.run_directories)
    shutil.rmtree(host.paths.logs)
    daemon.send_signal(signal.SIGCONT)
    assert host.finished(host.submit("true"))["status"] == "done"
    assert host.stop(signal.SIGHUP) == 0
    Ledger(host.paths).settled()


@fault(
    62,
    "a log without a limit fills the disk",
    promise="Of each run's log the first MiB and the newest output are kept, up to `logLimit`; offsets stay true. What a "
    "client gets wrong, however often, is no line in the daemon's own log.",
    injected="a job that writes 60 numbered MiB as fast as it can under a limit of 4 MiB; 2,000 malformed requests",
    seen_failing="the hole that is punched (runner/loglimit.py)",
)
def test_f62_a_log_keeps_its_head_and_its_tail_within_its_limit(host: Host) -> None:
    """W22."""
    host.configure(logLimit=4 * MIB)
    host.start()
    script = "for n in range(60): os.write(1, b''.join(b'%015d\\n' % (n * 65536 + i) for i in range(65536)))"
    task = host.finished(host.submit(sys.executable, "-c", f"import os\n{script}"))
    (run,) = host.runs(task["id"])
    status = os.stat(run["log_path"])
    assert (task["status"], status.st_size) == ("done", 60 * MIB)
    assert status.st_blocks * 512 <= 4 * MIB + MIB // 2
    first = host.call("task.logs", id=task["id"], offset=0)
    assert base64.b64decode(first["data"]).startswith(b"%015d\n%015d\n" % (0, 1))
    last = host.call("task.logs", id=task["id"], tail=1)
    assert base64.b64decode(last["data"]) == b"%015d\n" % (60 * 65536 - 1)
    before = len(host.log())
    for _ in range(20):
        with host.client() as client:
            client.send_raw(b'{"jsonrpc": "2.0", "id": 1, "method": "no.such"}\n' * 100)
            for _ in range(100):
                assert "error" in client.receive()
    assert len(host.log()) - before < 1000


# Witnesses that cannot be read


@pytest.mark.parametrize("nobody_watches", [True, False], ids=["while nobody watched", "under its eyes"])
def test_an_outcome_that_cannot_be_read_now_is_waited_for(host: Host, nobody_watches: bool) -> None:
    """Only that there is no record says that there is none: an error of the disk, or of the host, says nothing."""
    host.start(under=WITHOUT_OVERRIDE)
    task_id = host.submit("sleep", "1000")
    run = host.running(task_id)
    witness = Path(host.paths.run(run["id"]).exit)
    row = Ledger(host.paths).look()[run["id"]]
    if nobody_watches:
        host.kill()
    os.kill(run["pid"], signal.SIGSTOP)  # it will not write its own
    ended = dict.fromkeys(contract.OUTCOME) | {
        "id": row["id"], "nonce": row["nonce"], "status": "failed", "reason": "exited", "exit_code": 7,
        "ended_at": contract.timestamp(),
    }  # fmt: skip
    small_files.write(str(witness), contract.encode_exit(ended), os.O_CREAT)
    witness.chmod(0)
    os.kill(run["pid"], signal.SIGKILL)
    until(lambda: not alive(run["pid"]), "the runner is dead")
    if nobody_watches:
        host.start(under=WITHOUT_OVERRIDE)
    until(lambda: host.log().count("what became of run 1, looking again") >= 2, "it looks, and looks again")
    assert host.runs(task_id)[0]["status"] == "running"
    witness.chmod(0o600)
    task = host.finished(task_id)
    assert (task["status"], task["result"]["exit_code"], task["recoveries"]) == ("failed", 7, 0)
