"""`polpoctl doctor`: what is wrong is planted in real state directories, with real daemons and runs (F54, F57, F63)."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kit.disk import make_image, mounted_image, small_disk
from kit.fault import fault
from kit.host import Host
from kit.processes import alive, state
from kit.waiting import until

from polpod.errors import StartError
from polpod.maintenance import verbs

WITH_KIND = (
    "import sys; from polpod import filesystem; filesystem.kind = lambda path: {kind:#x};"
    "from polpod.__main__ import main; sys.exit(main())"
)
"""A polpod to which statfs answers this."""


def with_kind(host: Host, kind: int, *words: str) -> tuple[int, str]:
    """As `kit.starting.polpod`, on a file system of this kind."""
    argv = [sys.executable, "-c", WITH_KIND.format(kind=kind), "--root", str(host.root), *words]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60)
    return done.returncode, done.stdout


def doctor(host: Host, *words: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit status, and what was said about each thing."""
    done = host.maintain("--json", "doctor", *words)
    assert done.stderr == "", done.stderr
    said: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(done.stdout):
        said.setdefault(one["name"], []).append(one)
    assert done.returncode == any(one["level"] == "problem" for ones in said.values() for one in ones)
    return done.returncode, said


def the(said: dict[str, list[dict[str, Any]]], name: str, level: str) -> dict[str, Any]:
    """The one thing of that level that was said about it."""
    (found,) = (one for one in said[name] if one["level"] == level)
    return found


def test_a_healthy_daemon_has_nothing_to_complain_of(host: Host) -> None:
    host.start()
    assert host.finished(host.submit("true"))["status"] == "done"
    code, said = doctor(host)
    assert code == 0
    expected = {"directory", "space", "daemon", "launcher", "stuck runs", "state.db", "runs.db", "containment"}
    assert expected | {"file system", "limits", "unknown runs", "deleted logs", "descriptors", "versions"} == set(said)
    assert [one for ones in said.values() for one in ones if one["level"] == "problem"] == []
    assert str(host.daemon and host.daemon.pid) in the(said, "daemon", "ok")["says"]
    lines = host.maintain("doctor").stdout.splitlines()
    assert len(lines) == sum(map(len, said.values()))
    assert all(line.split()[0] in ("ok", "warning", "problem") for line in lines)


def test_without_a_daemon_it_says_how_to_start_one(host: Host) -> None:
    code, said = doctor(host)
    assert (code, the(said, "daemon", "warning")["next"]) == (0, f"polpoctl --root {host.root} start")
    Path(host.paths.config).unlink()
    os.rmdir(host.paths.path)
    code, said = doctor(host)
    assert code == 1
    assert "there is no" in the(said, "directory", "problem")["says"]
    assert not os.path.exists(host.paths.path)
    host.start()


def test_a_stopped_daemon_is_told_from_one_that_is_gone(host: Host) -> None:
    daemon = host.start()
    daemon.send_signal(signal.SIGSTOP)
    until(lambda: state(daemon.pid) == "T", "it has stopped")
    try:
        code, said = doctor(host)
    finally:
        daemon.send_signal(signal.SIGCONT)
    assert code == 1
    found = the(said, "daemon", "problem")
    assert "is stopped" in found["says"]
    assert found["next"] == f"kill -CONT {daemon.pid}"


def test_modes_and_owners(host: Host) -> None:
    os.chmod(host.paths.path, 0o777)
    code, said = doctor(host)
    assert (code, the(said, "directory", "problem")["next"]) == (1, f"chmod go-w {host.paths.path}")
    os.chmod(host.paths.path, 0o755)
    code, said = doctor(host)
    assert (code, the(said, "directory", "warning")["next"]) == (0, f"chmod o= {host.paths.path}")
    os.chmod(host.paths.path, 0o700)
    Path(host.paths.logs).touch()
    assert "no directory" in the(doctor(host)[1], "directory", "problem")["says"]
    if os.geteuid() == 0:
        os.unlink(host.paths.logs)
        os.chown(host.paths.config, 65534, -1)
        found = the(doctor(host)[1], "directory", "problem")
        assert found["next"] == f"chown 0 {host.paths.config}"
        os.chown(host.paths.config, 0, -1)


def test_what_goes_while_it_looks_is_no_defect(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.start()
    assert host.stop() == 0
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: [*listed(path), "state.db-shm"])
    assert verbs.main(str(host.root), host.socket, ["doctor"]) == 0


@pytest.mark.parametrize("verb", ["doctor", "check"])
def test_another_user_is_told_whose_directory_it_is(
    host: Host, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    os.chmod(host.paths.path, 0)  # he may see that it is there, and no more
    try:
        code = verbs.main(str(host.root), host.socket, [verb])
    except StartError as exc:
        print(exc)
        code = exc.exit_code
    os.chmod(host.paths.path, 0o700)
    said = capsys.readouterr().out
    assert (code, said.count("\n")) == (1, 1), said
    assert f"{host.paths.path} belongs to uid {os.getuid()}, not to uid {os.getuid() + 1}" in said


def test_settings_that_are_wrong(host: Host) -> None:
    Path(host.paths.config).write_text('{"settings": {"killGrace": "soon"}}')
    assert "killGrace" in the(doctor(host)[1], "settings", "problem")["says"]
    host.configure()


def test_space_below_the_reserve(host: Host) -> None:
    host.configure(reserve=2**52)
    host.start()
    code, said = doctor(host)
    assert code == 1
    assert "nothing starts" in the(said, "space", "problem")["says"]


def test_databases_that_are_damaged_or_newer(host: Host) -> None:
    host.start()
    assert host.stop() == 0
    good = Path(host.paths.tasks_db).read_bytes()
    Path(host.paths.tasks_db).write_bytes(good[:8192] + bytes(len(good) - 8192))
    found = the(doctor(host)[1], "state.db", "problem")
    assert found["next"] == f"polpoctl --root {host.root} store check"
    Path(host.paths.tasks_db).write_bytes(good)
    with closing(sqlite3.connect(host.paths.runs_db, isolation_level=None)) as db:
        db.execute("PRAGMA user_version = 99")
    assert "later polpod" in the(doctor(host)[1], "runs.db", "problem")["says"]


def test_what_keeps_work_from_starting(host: Host) -> None:
    host.start()
    host.call("queue.set", name="builds", paused=True)
    found = the(doctor(host)[1], "queues", "warning")
    assert found["next"] == f"polpoctl --root {host.root} resume builds"
    host.configure(reserve=2**52)
    assert host.stop() == 0
    host.start()
    until(lambda: host.call("daemon.status")["launcher"]["paused"], "the launcher says why")
    code, said = doctor(host)
    assert code == 1
    assert "MiB" in the(said, "launcher", "problem")["says"]


def test_run_directories_that_no_row_knows(host: Host) -> None:
    host.start()
    go = host.root / "go"
    run = host.running(host.submit(shell=f"while [ ! -e {go} ]; do sleep 0.05; done"))
    assert the(doctor(host)[1], "unknown runs", "ok")["says"] == "none"
    host.kill()
    with closing(sqlite3.connect(host.paths.runs_db, isolation_level=None)) as db:
        db.execute("DELETE FROM runs")
    os.mkdir(f"{host.paths.run_directories}/run-77")
    _, said = doctor(host)
    living, dead = sorted(said["unknown runs"], key=lambda one: "run-77" in one["says"])
    assert f"pid {run['pid']}" in living["says"]
    assert dead["next"] == f"rm -r {host.paths.run_directories}/run-77"
    assert alive(run["pid"])
    go.touch()
    until(lambda: not alive(run["pid"]), "it ends by itself")


@fault(
    63,
    "a deleted log that is still open keeps its space",
    promise="`polpoctl doctor` names it, its size and who holds it; the cap of a log punches holes and never unlinks.",
    injected="rm of the log of a running job that wrote a MiB",
    seen_failing="looking at the link of each descriptor (doctor/processes.py)",
)
def test_f63_a_log_that_was_deleted_while_it_is_written(host: Host) -> None:
    host.start()
    up = host.root / "up"
    task_id = host.submit(shell=f"head -c 1048576 /dev/zero; touch {up}; sleep 1000")
    run = host.running(task_id)
    until(up.exists, "it has written")
    log = host.paths.log(run["id"])
    os.unlink(log)
    found = the(doctor(host)[1], "deleted logs", "warning")
    assert log in found["says"]
    assert "1024 KiB" in found["says"]
    assert f"run {run['id']}" in found["next"]
    host.call("task.cancel", select={"ids": [task_id]})
    host.finished(task_id)
    assert the(doctor(host)[1], "deleted logs", "ok")


def test_too_few_descriptors(host: Host) -> None:
    host.configure(maxConcurrency=100)
    host.start(under=("prlimit", "--nofile=200"))
    found = the(doctor(host)[1], "descriptors", "warning")
    assert "of 200" in found["says"]


def test_why_there_are_no_cgroups(host: Host) -> None:
    host.configure(containment="session")
    host.start()
    said = doctor(host)[1]
    assert "as polpo.json says" in the(said, "containment", "ok")["says"]
    assert "tasks may ask for nice (from " in the(said, "limits", "ok")["says"]
    lacks = [one for one in said["limits"] if one["level"] == "warning"]
    assert [one["says"].split(" controller")[0] for one in lacks] == [
        "memory_max needs the memory",
        "cpus needs the cpu",
        "tasks_max needs the pids",
    ]
    assert {one["next"] for one in lacks} == {"set it to auto"}


# F57: databases on file systems of other hosts


@fault(
    57,
    "the database is on a network file system",
    promise="The daemon does not start there, and says so; `polpoctl doctor` does, too. Overlay and tmpfs are warned of.",
    injected="a daemon to which statfs(2) answers NFS, CIFS, 9p or FUSE",
    seen_failing="the check at the start (daemon.py); that the kind is asked of the disk: test_the_doctor_knows_real_file_systems",
)
@pytest.mark.parametrize(
    ("kind", "name"), [(0x6969, "NFS"), (0xFF534D42, "CIFS"), (0x01021997, "9p"), (0x65735546, "FUSE")]
)
def test_f57_a_state_directory_on_another_hosts_disk_is_refused(host: Host, kind: int, name: str) -> None:
    status, output = with_kind(host, kind)
    assert status == 1, output
    assert f"is on {name}" in output
    assert "Traceback" not in output
    assert not os.path.exists(host.paths.tasks_db)


@pytest.mark.parametrize(("kind", "level"), [(0x6969, "problem"), (0x794C7630, "warning")])
def test_the_doctor_says_what_the_directory_lies_on(host: Host, kind: int, level: str) -> None:
    _, said = with_kind(host, kind, "--maintenance", "doctor")
    assert f"{level.ljust(8)} file system: " in said


@pytest.mark.root
def test_the_doctor_knows_real_file_systems(host: Host, tmp_path: Path) -> None:
    make_image(tmp_path / "disk", 16 * 2**20)
    for disk, said in (
        (mounted_image(tmp_path / "disk", host.paths.path), "ok       file system: local (type 0xef53)"),
        (small_disk(host.paths.path, "16m"), f"warning  file system: {host.paths.path} is on tmpfs"),
    ):
        with disk:
            host.configure()
            assert said in host.maintain("doctor").stdout
