"""Clients that die, stick or lose contact, bytes of any kind, secrets, and hosts without descriptors or processes
(F79 to F87; F85 is in test_bad_submissions, F88 in test_notifications)."""

from __future__ import annotations

import fcntl
import json
import os
import random
import resource
import select
import signal
import socket
import sqlite3
import stat
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from kit.client import Refused
from kit.fault import fault
from kit.host import Host
from kit.invariants import read_runs, settle
from kit.jobs import waits_for
from kit.processes import holders, state, zygote
from kit.waiting import until

MIB = 2**20


def polpoctl(host: Host, *argv: str, code: str | None = None, **options: Any) -> subprocess.Popen[bytes]:
    """Start polpoctl; `code`: Python that is executed in its place, which calls its main."""
    start = ["-m", "polpoctl"] if code is None else ["-c", code]
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": "/"} | options
    return subprocess.Popen([sys.executable, *start, argv[0], "--socket", host.socket, *argv[1:]], **options)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes, str]:
    """Its exit code, what it printed, and what it said."""
    with process:
        out, said = process.communicate(timeout=60)
    return process.returncode, out, said.decode()


def tell(host: Host, *argv: str, **options: Any) -> tuple[int, bytes, str]:
    """polpoctl, to its end."""
    return ended(polpoctl(host, *argv, **options))


def line(number: int, method: str, /, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n"


def pid_of(host: Host) -> int:
    assert host.daemon is not None
    return host.daemon.pid


def descriptors(host: Host) -> int:
    return len(os.listdir(f"/proc/{pid_of(host)}/fd"))


def connections(host: Host) -> int:
    """Sockets that the daemon has open; runs have none."""
    found = 0
    for descriptor in Path(f"/proc/{pid_of(host)}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += os.readlink(descriptor).startswith("socket:")
    return found


def peak_memory(host: Host) -> int:
    """Bytes."""
    with open(f"/proc/{pid_of(host)}/status") as status:
        return next(int(row.split()[1]) * 1024 for row in status if row.startswith("VmHWM:"))


IMPATIENT = """if 1:
    import polpoctl.client, polpoctl.commands.wait
    polpoctl.client.Lasting.__init__.__defaults__ = (0.3,)
    polpoctl.commands.wait.RECONNECT = 0.3
    from polpoctl.__main__ import main
    main()"""
"""A polpoctl that waits for a daemon for less than a second."""


# Clients that die


DYING = """if 1:
    import json, os, signal, socket, sys
    path, work = sys.argv[1], json.loads(sys.argv[2])

    def message(key):
        params = work | {"idempotency_key": f"key-{key:04}"}
        return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "task.submit", "params": params}).encode() + b"\\n"

    for sent in range(len(message(0)) + 1):
        pid = os.fork()
        if not pid:
            client = socket.socket(socket.AF_UNIX)
            client.connect(path)
            client.sendall(message(sent)[:sent])
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
    print(len(message(0)))
"""
"""Clients that submit `work`, each with a key of its own, and are killed after one byte more than the one before."""


@fault(
    79,
    "a client is killed in the middle of a submit",
    promise="There is a whole task or none, and who asks again with the idempotency key has exactly one.",
    injected="SIGKILL to a client after each byte that it sends, and to `polpoctl submit` at random moments",
    seen_failing="frames that count without their newline; the look for the key",
)
def test_f79_a_client_killed_at_any_byte_leaves_a_whole_task_or_none(host: Host) -> None:
    host.start()
    work = {"command": ["true"], "cwd": "/", "env": {}, "hold": True, "title": "t", "project": "bytes"}
    with host.client() as client:
        client.call("daemon.health")
        before = connections(host)
        arguments = [sys.executable, "-I", "-c", DYING, host.socket, json.dumps(work)]
        killed = subprocess.run(arguments, capture_output=True, check=True, timeout=60)
        with host.client() as last:  # accepted after all of them
            last.call("daemon.health")
        until(lambda: connections(host) <= before, "all of them are forgotten")
    length = int(killed.stdout)
    # Without its newline a message is not whole, however complete it looks.
    (task,) = host.call("task.list", select={"project": "bytes"})["tasks"]
    assert (task["idempotency_key"], task["title"], task["hold"]) == (f"key-{length:04}", "t", True)
    for key in (0, length // 2, length - 1, length):
        again = host.call("task.submit", **work, idempotency_key=f"key-{key:04}")
        assert again["created"] is (key != length)
    assert len(host.call("task.list", select={"project": "bytes"})["tasks"]) == 4
    with pytest.raises(Refused) as refused:
        host.call("task.submit", **work | {"command": ["false"]}, idempotency_key=f"key-{length:04}")
    assert refused.value.word == "conflict"

    rng, moment = random.Random(79), threading.Event()
    for key in map(str, range(12)):
        submit = ("submit", "--project", "moments", "--clean-env", "--idempotency-key", key, "--hold", "--", "true")
        with polpoctl(host, *submit) as dying:
            moment.wait(rng.uniform(0, 0.15))  # never set: a random moment of its life
            dying.kill()
        code, out, _ = tell(host, *submit)
        (task,) = (t for t in _moments(host) if t["idempotency_key"] == key)
        assert (code, out.decode().split()) == (0, [task["id"]])
    assert len(_moments(host)) == 12


def _moments(host: Host) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = host.call("task.list", select={"project": "moments"})["tasks"]
    return found


@fault(
    80,
    "a follower that is slow or stuck blocks the job or the daemon",
    promise="A job writes into its file and waits for nobody; a follower that reads later reads all; a client that lets "
    "its answers pile up is let go, and the daemon's memory is bounded.",
    injected="`polpoctl logs -f` into pipes that nobody reads; clients that ask for 64 pieces of a log and read none",
    seen_failing="the bound on answers that are not read",
)
def test_f80_followers_that_do_not_read_hold_up_nobody(host: Host) -> None:
    host.start()
    go, size = host.root / "go", 10 * MIB
    task_id = host.submit(shell=f"head -c {size} /dev/zero; {waits_for(go, 'echo end; exit 3')}")
    log = host.running(task_id)["log_path"]
    stuck = [polpoctl(host, "logs", "-f", task_id) for _ in range(3)]
    with ExitStack() as hogs:
        try:
            until(lambda: os.path.getsize(log) == size, "the job has written all")
            until(lambda: all(_unread(follower) for follower in stuck), "their pipes are full")
            for _ in range(8):
                hog = hogs.enter_context(socket.socket(socket.AF_UNIX))
                hog.connect(host.socket)
                hog.sendall(b"".join(line(number, "task.logs", id=task_id) for number in range(64)))
                gone = select.poll()
                gone.register(hog, 0)
                assert gone.poll(30_000), "its connection is ended"
            assert host.finished(host.submit("true"))["status"] == "done"
            go.touch()
            assert host.finished(task_id)["result"]["exit_code"] == 3
            assert peak_memory(host) < 400 * MIB
            code, out, said = ended(stuck[0])
            assert (code, said, len(out)) == (0, "", size + len("end\n"))
        finally:
            for follower in stuck[1:]:
                follower.kill()
                ended(follower)
    settle(host)


def _unread(process: subprocess.Popen[bytes]) -> bool:
    """Whether its pipe is full: it can only wait."""
    assert process.stdout is not None
    (waiting,) = struct.unpack("i", fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4)))
    return bool(waiting >= fcntl.fcntl(process.stdout, fcntl.F_GETPIPE_SZ) - 4096 and state(process.pid) == "S")


@fault(
    81,
    "the daemon restarts while somebody waits or follows",
    promise="`wait`, `logs -f` and `run` go on where they were once it is back; where it does not come back they end "
    "with 4 (`run` with 125), never with 0.",
    injected="SIGKILL to the daemon under five real clients, a start, and once no start",
    seen_failing="calls that are made again after contact was lost; the exit code of lost contact",
)
def test_f81_clients_outlast_a_restart_or_say_that_they_did_not(host: Host) -> None:
    host.start()
    go, said = host.root / "go", b"".join(b"line %d\n" % n for n in range(1000))
    (host.root / "said").write_bytes(said)
    shell = f"cat {host.root}/said; {waits_for(go, f'cat {host.root}/said; exit 7')}"
    with host.client() as client:
        task_id = client.call("task.submit", shell=shell, cwd="/")["id"]
        running = polpoctl(host, "run", "--", "sh", "-c", shell)
        for log in (host.paths.log(1), host.paths.log(2)):
            until(lambda log=log: os.path.exists(log) and os.path.getsize(log) == len(said), "both have begun")  # type: ignore[misc]
        client.call("daemon.health")
        before = connections(host)
        waiting = polpoctl(host, "wait", task_id)
        status = polpoctl(host, "wait", "--exit-status", task_id)
        following = polpoctl(host, "logs", "-f", task_id)
        given_up = [polpoctl(host, *argv, task_id, code=IMPATIENT) for argv in (("wait",), ("logs", "-f"))]
        until(lambda: connections(host) >= before + 5, "all are connected")

    host.kill()
    for impatient in given_up:
        code, _, why = ended(impatient)
        assert (code, "contact lost" in why, "Traceback" in why) == (4, True, False)
    go.touch()
    host.start()
    assert ended(waiting)[:2] == (1, f"{task_id}\tfailed\tTask {task_id} failed: its command exited with 7.\n".encode())
    assert ended(status)[0] == 7
    assert ended(following)[:2] == (0, said * 2)
    assert ended(running)[:2] == (7, said * 2)
    settle(host)


# Bytes


NASTY = bytes(range(256)) + b"\xc3\x28 \xff\xfe\n\x1b[31mred\x1b]0;title\x07\n10%\r50%\r100%\r\nend without newline"
LONG = 100_000_000


@fault(
    82,
    "invalid UTF-8, a line of 100 MB, NUL bytes, escape codes, progress bars",
    promise="A log has the bytes that were written, and `logs` passes them on as they are, to a terminal too; everything "
    "that polpod renders itself has its control codes escaped.",
    injected="jobs that write them, read back by offsets and by `polpoctl logs`; a title full of escape codes",
    seen_failing="the escaping of what is shown; bytes that are decoded on their way",
)
def test_f82_bytes_are_kept_and_what_is_shown_is_escaped(host: Host) -> None:
    host.configure(logLimit=2 * LONG)
    host.start()
    (host.root / "nasty").write_bytes(NASTY)
    title = "\x1b[31mred\x1b]0;title\x07\r\n\x9b2J"
    nasty = host.submit("cat", str(host.root / "nasty"), title=title)
    long = host.submit(shell=f"head -c {LONG} /dev/zero | tr '\\0' x; echo end")
    assert host.finished(nasty)["status"] == host.finished(long)["status"] == "done"

    assert tell(host, "logs", nasty) == (0, NASTY, "")
    assert tell(host, "logs", "-n", "1", nasty)[1] == b"end without newline"
    for argv in (("list", "--all"), ("show", nasty), ("runs", nasty), ("why", nasty), ("events",), ("wait", nasty)):
        code, out, said = tell(host, *argv)
        assert (code, said) == (0, "")
        assert "\\x1b[31mred" in out.decode() or argv[0] in ("events", "runs", "why", "wait")
        assert all(c.isprintable() or c in "\n\t" for c in out.decode())
    code, _, said = tell(host, "show", title)
    assert (code, "\x1b" in said) == (3, False)

    assert os.path.getsize(host.runs(long)[0]["log_path"]) == LONG + len("end\n")
    offset = 0
    with polpoctl(host, "logs", "-f", long) as following:
        assert following.stdout is not None
        while piece := following.stdout.read(MIB):
            assert piece.count(b"x") == min(len(piece), LONG - offset)
            offset += len(piece)
    assert (following.returncode, offset) == (0, LONG + len("end\n"))
    assert peak_memory(host) < 200 * MIB
    settle(host)


@fault(
    83,
    "a notice on stdout breaks what reads JSON",
    promise="stdout has data alone, and with `--json` nothing but JSON; whatever else is to be said goes to stderr.",
    injected="every occasion for a notice that a real daemon gives: a restart, refusals, what is left out, what is absent",
    seen_failing="notices on stdout",
)
def test_f83_notices_never_mix_with_data(host: Host) -> None:
    host.start()
    env = os.environb | {b"NOT_UTF8": b"\xff"}
    held = host.submit("true", hold=True)
    cases: list[tuple[tuple[str, ...], int, str]] = [
        (("submit", "--hold", "--", "true"), 0, "NOT_UTF8"),
        (("run", "--", "sh", "-c", "echo said; exit 3"), 3, "NOT_UTF8"),
        (("logs", held), 0, "has not run yet"),
        (("hold", held, "987654"), 1, "987654"),
        (("edit", "--title", "x", held, "987654"), 1, "987654"),
        (("show", "987654"), 3, "987654"),
        (("wait", "--timeout", "0", held), 124, held),
        (("pause", "default", ""), 1, "name"),
        (("resume", "default"), 0, ""),
        (("frobnicate",), 2, "no command"),
    ]
    for argv, code, notice in cases:
        for extra in ((), ("--json",)):
            got, out, said = tell(host, argv[0], *extra, *argv[1:], env=env)
            assert (got, notice in said, "polpoctl: " in out.decode()) == (code, True, False), (argv, out, said)
            assert all(text.startswith(("polpoctl: ", "said")) for text in said.splitlines()), said
            if extra and out:
                json.loads(out)

    go = host.root / "go"
    with host.client() as client:
        task_id = client.call("task.submit", shell=waits_for(go), cwd="/")["id"]
        until(lambda: client.call("task.get", id=task_id)["task"]["state"] == "running", "it runs")
        before = connections(host)
        waiting = polpoctl(host, "wait", "--json", task_id)
        until(lambda: connections(host) > before, "it waits")
    host.kill()
    go.touch()
    host.start()
    code, out, said = ended(waiting)
    assert (code, [task["outcome"] for task in json.loads(out)]) == (0, ["done"])
    assert "contact lost" in said
    settle(host)


# Secrets


CANARY, DAEMON_S = "canary-6b1f3d", "canary-of-the-daemon-90ae"


@fault(
    84,
    "the daemon's environment leaks into jobs, or a job's secrets into state, events and logs",
    promise="A job has the environment that it was submitted with and no other; its values are kept in one file, which is "
    "private, and shown only to who asks for them; where a secret is not to be kept at all, a job reads it from a file.",
    injected="canaries in the daemon's environment and in a task's; all files, answers and events are searched",
    seen_failing="values in `show`; jobs that begin with the daemon's environment; a run directory that keeps its spec",
)
def test_f84_a_canary_stays_where_it_belongs(host: Host) -> None:
    """W41."""
    host.start(DAEMON_SECRET=DAEMON_S)
    go, seen = host.root / "go", host.root / "seen"
    (host.root / "secret").write_text(f"{CANARY}-by-reference\n")
    shell = f"env -0 > {seen}; read -r referred; [ $referred = {CANARY[:6]}* ] && exit 9; {waits_for(go, 'exit 1')}"
    env = {"PATH": os.environ["PATH"], "TOKEN": CANARY}
    task_id = host.submit(shell=shell, env=env, stdin=str(host.root / "secret"))
    host.running(task_id)
    until(lambda: seen.exists() and seen.stat().st_size, "the job has begun")
    job = dict(entry.split("=", 1) for entry in seen.read_text().split("\0") if entry)
    assert {name: value for name, value in job.items() if not name.startswith("POLPO_")} in (
        env,
        env | {"PWD": job.get("PWD")},
    )

    plain = host.submit(shell="env", env=None)
    host.finished(plain)
    assert DAEMON_S not in Path(host.runs(plain)[0]["log_path"]).read_text()
    go.touch()
    host.finished(task_id)
    answers = [
        host.call("task.get", id=task_id), host.call("task.list", all=True), host.call("task.why", id=task_id),
        host.call("event.list", after=0, limit=1000), host.call("run.list"), host.call("task.logs", id=task_id),
    ]  # fmt: skip
    shown = [tell(host, *argv)[1:] for argv in (("show", task_id), ("events", "--after", "0"), ("list", "--all"))]
    assert CANARY not in f"{answers}{shown}"
    assert answers[0]["task"]["spec"]["env"] == ["PATH", "TOKEN"]
    assert host.call("task.get", id=task_id, env=True)["task"]["spec"]["env"] == env

    until(lambda: read_runs(host.paths)[1]["collected_at"], "it is collected")
    kept = {path.name: path for path in Path(host.paths.path).rglob("*") if path.is_file() and _has(path, CANARY)}
    assert kept.keys() <= {"state.db", "state.db-wal"}
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in (*kept.values(), Path(host.paths.path)))
    settle(host)
    with closing(sqlite3.connect(host.paths.tasks_db)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert [t for t in tables if CANARY in str(db.execute(f"SELECT * FROM {t}").fetchall())] == ["specs"]
    everything = [*Path(host.paths.path).rglob("*"), host.output]
    assert [path for path in everything if path.is_file() and _has(path, DAEMON_S)] == []
    assert not any(_has(path, f"{CANARY}-by-reference") for path in everything if path.is_file())


def _has(path: Path, text: str) -> bool:
    return text.encode() in path.read_bytes()


# A host that has nothing left

LIMIT = 96
"""Descriptors: KEPT of them the daemon's own, which is enough for it and for the few runs of the test, 32 for clients."""


@fault(
    86,
    "descriptors leak, or are used up by clients and by many tasks",
    promise="A live run costs the daemon at most two descriptors and an ended one none; clients cannot take those of "
    "runs; without any left it goes on when there are some.",
    injected="a limit of 96: ten live runs, a hundred clients, then one descriptor free, and none, while a task is submitted",
    seen_failing="pidfds that stay open; the bound on connections; the errors of accept and of a runner's pipe "
    "that are not the end",
)
def test_f86_descriptors_are_few_and_running_out_of_them_is_survived(host: Host) -> None:
    host.configure(maxConcurrency=20)
    host.start(under=("prlimit", f"--nofile={LIMIT}:{LIMIT}"))
    go = host.root / "go"

    def ask(number: int) -> socket.socket:
        client = crowd.enter_context(socket.socket(socket.AF_UNIX))
        client.settimeout(60)
        client.connect(host.socket)
        client.sendall(line(number, "daemon.health"))
        return client

    with host.client() as early, ExitStack() as crowd:
        until(lambda: early.call("daemon.health")["ok"], "it has recovered")

        def over(task_id: str) -> bool:
            return bool(early.call("task.get", id=task_id)["task"]["status"] == "failed")

        before, alone = descriptors(host), connections(host)
        running = [early.call("task.submit", shell=waits_for(go, "exit 3"), cwd="/")["id"] for _ in range(10)]
        until(lambda: early.call("daemon.status")["runs"] == {"running": 10}, "ten run")
        # A database may have a reader or two more by now, each with two files.
        assert descriptors(host) - before <= 2 * 10 + 4

        clients = [ask(number) for number in range(100)]
        others = [early.call("task.submit", shell="exit 4", cwd="/")["id"] for _ in range(3)]
        for task_id in others:
            until(lambda task_id=task_id: over(task_id), f"{task_id} runs beside the crowd")  # type: ignore[misc]
        assert "clients are connected" in host.log()
        for client in clients[:90]:  # who leaves makes room for those who wait
            client.close()
        for client in clients[90:]:
            assert b'"result"' in client.recv(65536)
            client.close()

        until(lambda: connections(host) <= alone, "the crowd is forgotten")
        until(
            lambda: all(run["collected_at"] for run in read_runs(host.paths).values() if run["ended_at"]),
            "nothing of the others is being removed",
        )
        _leave(pid_of(host), 1)  # enough to prepare a run, and too few for a pipe
        nearly = early.call("task.submit", shell="exit 5", cwd="/")["id"]

        def refused() -> bool:
            _leave(pid_of(host), 1)  # of those that were given back meanwhile, too
            return bool(early.call("task.get", id=nearly)["task"]["launch_failures"])

        until(refused, "its runner needs two")
        assert "no pipe for its runner" in early.call("task.get", id=nearly)["runs"][0]["error"]
        early.call("task.hold", select={"ids": [nearly]})
        _leave(pid_of(host), 0)
        last = early.call("task.submit", shell="exit 5", cwd="/")["id"]
        late = ask(100)
        until(lambda: "cannot accept" in host.log(), "there is none for a client")
        until(lambda: early.call("task.get", id=last)["task"]["launch_failures"], "or a run")
        assert early.call("task.get", id=last)["runs"][0]["reason"] == "never_started"
        resource.prlimit(pid_of(host), resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
        early.call("task.release", select={"ids": [nearly]})
        assert b'"result"' in late.recv(65536)
        go.touch()
        for task_id in (*running, nearly, last):
            until(lambda task_id=task_id: over(task_id), f"{task_id} is over")  # type: ignore[misc]
        late.close()
        until(lambda: descriptors(host) <= before + 4, "all descriptors are given back")
    assert host.stop() == 0
    host.start()  # which sweeps what nobody could tidy without a descriptor
    until(lambda: host.call("daemon.health")["ok"], "it has recovered")
    settle(host)


def _leave(pid: int, number: int) -> None:
    """Lower the limit so far that only so many numbers of descriptors are free below it."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    limit = [free for free in range(len(taken) + number + 1) if free not in taken][number]
    lowest, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)  # what it uses for a moment is no reason for a higher one
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(limit, lowest), LIMIT))


@contextmanager
def no_more_processes(*pids: int) -> Iterator[Callable[[], object]]:
    """These may not fork until what this gives is called."""
    controller = Path("/sys/fs/cgroup/pids") if os.path.exists("/sys/fs/cgroup/pids") else Path("/sys/fs/cgroup")
    group = controller / f"polpod-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "pids.max").write_text("0")
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
        yield lambda: (group / "pids.max").write_text("max")
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (controller / "cgroup.procs").write_text(pid)
        until(lambda: not (group / "cgroup.procs").read_text(), "it is empty")
        group.rmdir()


@pytest.mark.root
@fault(
    87,
    "the host lets nobody fork",
    promise="What cannot be forked never started: the task waits a little and is tried again, at no retry's expense, with "
    "an event; nothing crashes.",
    injected="`pids.max` of a cgroup, first over a runner that is about to fork its job, then over the zygote",
    seen_failing="a zygote that dies of it; a runner that calls it a failure of the job",
)
def test_f87_what_cannot_be_forked_is_tried_again(host: Host) -> None:
    daemon = host.start(
        POLPOD_CRASH_AT="runner.go", POLPOD_CRASH_SIGNAL="SIGSTOP", POLPOD_CRASH_ONCE=f"{host.root}/once"
    )
    first = host.submit("true")
    (runner,) = until(lambda: holders(host.paths.run(1).lock), "its runner is there")
    until(lambda: state(runner) == "T", "it is about to fork")
    forks = until(lambda: zygote(daemon.pid), "there is a zygote")
    with no_more_processes(runner, forks) as relent:
        os.kill(runner, signal.SIGCONT)
        second = host.submit("true")
        for task_id in (first, second):
            task = until(lambda task_id=task_id: _put_back(host, task_id), f"{task_id} waits for another try")  # type: ignore[misc]
            assert (task["retries"], task["recoveries"]) == (0, 0)
            (run, *_) = host.runs(task_id)
            assert (run["status"], run["reason"]) == ("lost", "never_started")
            assert "temporarily unavailable" in run["error"]
        relent()
        for task_id in (first, second):
            task = host.finished(task_id)
            assert (task["status"], task["retries"]) == ("done", 0)
            events = host.call("event.list", after=0, kinds=["task:recovered"], subject=f"task/{task_id}")["events"]
            assert {event["body"]["reason"] for event in events} == {"never_started"}
    assert zygote(daemon.pid) == forks
    settle(host)


def _put_back(host: Host, task_id: str) -> dict[str, Any] | None:
    task = host.task(task_id)
    return task if task["status"] == "pending" and task["launch_failures"] else None
