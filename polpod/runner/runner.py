"""The life of a run, from its lock to its last word (DESIGN §6, steps 2 to 4).

Rules:

1. Nothing is executed before the claim has changed exactly one row, and nothing if a kill came first.
2. Nothing is recorded before it is proven that nothing of the job is left, or that what is left was to be left.
3. All that is needed is imported before the first line runs: the package may be replaced or removed at any time.
4. It ends by `os._exit`: closing the last connection to runs.db would make a checkpoint, which is the daemon's to make.
"""

from __future__ import annotations

import errno
import math
import os
import resource
import select
import sqlite3
import time
from contextlib import suppress
from typing import Any, NoReturn

from polpod import crash
from polpod.paths import RunDirectory
from polpod.runner import contract, directory, identity, job, ladder, syscalls, watch
from polpod.runner.containment import Cgroup
from polpod.runner.doorbell import ring
from polpod.runner.heartbeat import Heartbeat
from polpod.runner.job import Job
from polpod.runner.loglimit import LogLimit
from polpod.runner.outcome import judge, out_of_memory
from polpod.runner.record import record
from polpod.runner.row import Row
from polpod.runner.session import Session
from polpod.runner.tree import Tree
from polpod.runner.usage import Usage
from polpod.runner.watch import Watch

LOG_STARVED = "its log's disk was full: output may be missing"

NOT_LIMITED = "runs cannot be limited so any more: `polpoctl doctor` says why"

PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
"""Errors of the host that pass by themselves: the run never starts, and its task is tried again (F87)."""


def main(path: str, go: int | None) -> NoReturn:
    """Carry out the run whose directory is at `path`, once a byte comes out of the pipe `go`; then end this process."""
    run = RunDirectory(path)
    exit_code = 1
    try:
        live(run, go)
        exit_code = 0
    except BaseException as exc:  # noqa: BLE001 -- the boundary: there is no terminal, and nobody above us
        with suppress(OSError):
            directory.write_trouble(run, f"{type(exc).__name__}: {exc}")
    finally:
        os._exit(exit_code)


def live(run: RunDirectory, go: int | None) -> None:
    """The life of one run.  Raises whatever kept it from being claimed."""
    watch.block_signals()
    syscalls.become_subreaper()
    crash.point("runner.start")
    lock = directory.lock(run.lock)
    spec = directory.take_spec(run)
    syscalls.set_name(_name(spec["run_id"]))
    deadline = spec["claim_until_mono"] / 1e9
    if not _told_to_go(go, deadline):
        return
    crash.point("runner.go")
    try:
        log = job.open_log(spec["log_path"])
    except OSError as exc:
        if exc.errno in PASSING:
            raise
        _fail_to_start(run, spec, deadline, f"log {spec['log_path']}: {exc.strerror}")
        return
    if complaint := _limit(spec):
        _fail_to_start(run, spec, deadline, complaint)
        return
    _carry_out(run, spec, deadline, log, lock)


def _carry_out(run: RunDirectory, spec: contract.RunSpec, deadline: float, log: int, lock: int) -> None:
    cgroup = Cgroup(spec["cgroup"]) if spec["cgroup"] is not None else None
    row, marks = Row(spec), _marks()
    try:
        row.open()
        directory.sign_lock(lock, _signature(spec, marks))
    except (sqlite3.Error, OSError):
        pass  # the claim opens it again; the signature is for those who look without a database
    # Whatever can be done before, is: from the fork to the job's exec, each page that we write is copied once more.
    main_process = job.fork_blocked(spec, log, dies_with_runner=cgroup is None)
    crash.point("runner.job_forked")
    if cgroup is not None:
        try:
            cgroup.enter(main_process.pid)
        except ProcessLookupError:
            pass  # it has complained and is gone
    marks |= {"job_pid": main_process.pid, "job_start_ticks": identity.start_ticks(main_process.pid)}
    if not row.claim(marks, deadline):
        return
    crash.point("runner.claimed")
    leaders = {marks["pid"]: marks["start_ticks"], marks["job_pid"]: marks["job_start_ticks"]}
    session = Session(spec["run_id"], spec["nonce"], spec["log_path"], leaders, os.getpid())
    limit = LogLimit(log, spec["log_limit"], spec["log_head"])
    chores = (limit, Heartbeat(row, spec["daemon_lock"]), Usage(spec["log_path"], cgroup))
    watched = Watch(main_process.pid, chores)
    tree = Tree(watched, cgroup, session)

    kill = _kill_before_release(row)
    if kill is None:
        job.release(main_process)
        crash.point("runner.released")
        kill = _supervise(row, spec, main_process, watched, tree)
    else:
        job.withhold(main_process)
        until = time.monotonic() + contract.LEFTOVER_GRACE
        while watched.job_lives and time.monotonic() < until:
            watched.wait(until)
        if watched.job_lives:  # it waits for a writer of its stdin, say
            ladder.climb(main_process, watched, tree, 0.0)
    if kill == "signalled" and (explained := _kill_request(row)):  # its row may be younger than our first look at it
        kill = explained[0]
    crash.point("runner.job_ended")
    if spec["leftovers"] == "kill" or kill is not None:
        leftovers = ladder.end_leftovers(tree, time.monotonic() + contract.LEFTOVER_GRACE)
    else:
        leftovers = 0 if tree.gone() else tree.count()
    crash.point("runner.proven")
    oom, used = cgroup is not None and cgroup.oom_kills() > 0, _used(cgroup)
    ended = {
        "ended_at": contract.timestamp(watched.ended_at),
        "duration": watched.ended_mono - marks["started_mono"] / 1e9,
        "leftovers": leftovers,
    }
    assert watched.wait_status is not None
    verdict = judge(watched.wait_status, kill=kill, complaint=job.complaint(main_process), oom=oom)
    if verdict["reason"] == "oom":
        verdict["error"] = out_of_memory(used["max_rss"], spec.get("limits", {}).get("memory.max"))
    limit.run()
    if limit.starved and verdict["error"] is None:
        verdict["error"] = LOG_STARVED
    _report(run, spec, row, verdict | ended | used)


def _limit(spec: contract.RunSpec) -> str | None:
    """Set what the task may use at most; what kept us from it."""
    for file, value in spec.get("limits", {}).items():
        if spec["cgroup"] is None:
            return f"limit {file}: the run has no cgroup ({NOT_LIMITED})"
        try:
            Cgroup(spec["cgroup"]).limit(file, value)
        except OSError as exc:
            return f"limit {file}: {exc.strerror} ({NOT_LIMITED})"
    return None


def _supervise(row: Row, spec: contract.RunSpec, main_process: Job, watched: Watch, tree: Tree) -> str | None:
    """Wait for the main process to end; returns the reason of the kill that met it alive."""
    limit = spec["max_duration"]
    until = math.inf if limit is None else time.monotonic() + limit + contract.DURATION_MARGIN
    while True:
        asked = watched.wait(until)
        if not watched.job_lives:
            return None
        late = time.monotonic() >= until
        if asked or late:
            break
    if late and not asked:
        with suppress(sqlite3.Error, OSError):
            row.request_kill("timeout", spec["kill_grace"])
    reason, grace = _kill_request(row) or ("signalled" if asked else "timeout", spec["kill_grace"])
    ladder.climb(main_process, watched, tree, grace)
    return reason


def _kill_before_release(row: Row) -> str | None:
    if request := _kill_request(row):
        return request[0]
    return "signalled" if watch.asked_to_end() else None


def _kill_request(row: Row) -> tuple[str, float] | None:
    try:
        return row.kill_request()
    except (sqlite3.Error, OSError):
        return None  # unreadable is unexplained (B4)


def _fail_to_start(run: RunDirectory, spec: contract.RunSpec, deadline: float, complaint: str) -> None:
    """Record a run whose job could not even be forked."""
    row = Row(spec)
    marks = _marks()
    if row.claim(marks, deadline):
        ended = {"ended_at": contract.timestamp(), "duration": 0.0, "leftovers": 0, "cpu_seconds": 0.0, "max_rss": None}
        _report(run, spec, row, judge(None, kill=None, complaint=complaint, oom=False) | ended)


def _report(run: RunDirectory, spec: contract.RunSpec, row: Row, outcome: dict[str, Any]) -> None:
    payload = {"id": spec["run_id"], "nonce": spec["nonce"]} | outcome
    in_row = record(row, run, payload)
    crash.point("runner.recorded")
    if not in_row:
        # Our end rings at the daemon anyway, by the pidfd; only what the row does not say is worth a connection.
        ring(spec["socket"], payload)
    crash.point("runner.rung")


def _told_to_go(go: int | None, deadline: float) -> bool:
    """False: the daemon let go of the pipe, or said nothing until the deadline; then nothing was ever started."""
    if go is None:
        return True
    ready = select.poll()
    ready.register(go, select.POLLIN)
    told = bool(ready.poll(max(deadline - time.monotonic(), 0) * 1000)) and os.read(go, 1) != b""
    os.close(go)
    return told


def _marks() -> dict[str, Any]:
    """The columns of `contract.IDENTITY`, as long as there is no job."""
    return {
        "pid": os.getpid(),
        "pid_ns": identity.pid_namespace(),
        "start_ticks": identity.start_ticks(os.getpid()),
        "pidfd_inode": identity.own_inode(),
        "job_pid": None,
        "job_start_ticks": None,
        "started_at": contract.timestamp(),
        "started_mono": time.monotonic_ns(),
    }


def _signature(spec: contract.RunSpec, marks: dict[str, Any]) -> dict[str, Any]:
    kept = {key: spec[key] for key in ("run_id", "nonce", "task_id", "attempt", "log_path", "containment", "cgroup")}
    return {"version": contract.VERSION, "boot_id": identity.boot_id()} | kept | marks


def _used(cgroup: Cgroup | None) -> dict[str, Any]:
    """CPU seconds and peak memory (bytes) of the job: its reaped processes, or its cgroup, which forgets none.

    A forked process starts with our size, so a peak that is no larger than ours says nothing of the job: unknown.
    """
    reaped, own = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    cpu = reaped.ru_utime + reaped.ru_stime
    rss = reaped.ru_maxrss * 1024 if reaped.ru_maxrss > own.ru_maxrss else None
    if cgroup is None:
        return {"cpu_seconds": cpu, "max_rss": rss}
    return {"cpu_seconds": max(cpu, cgroup.cpu_seconds() or 0.0), "max_rss": cgroup.memory_peak() or rss}


def _name(run_id: int) -> str:
    """For `ps`, which shows 15 bytes."""
    name = f"polpod-run-{run_id}"
    return name if len(name) <= 15 else f"polpod-{run_id}"
