"""A run from its claim to its record: what was executed, in which surroundings, and what its row says (DESIGN §6)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kit.waiting import until
from runner_kit import LEVELS, State

from polpod.runner import contract, directory, identity

Columns = dict[str, Any]

LIBC_SIGNALS = 0b11 << 31
"""32 and 33: the C library keeps them to itself and lets nobody set them, and GNU make starts its commands with both ignored."""


def subset(row: Columns, *names: str) -> Columns:
    return {name: row[name] for name in names}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("exit 0", ("completed", "exited", 0, None)),
        ("exit 3", ("failed", "exited", 3, None)),
        ("exit 255", ("failed", "exited", 255, None)),
        ("kill -SEGV $$", ("failed", "signalled", None, signal.SIGSEGV)),
        ("kill -KILL $$", ("failed", "signalled", None, signal.SIGKILL)),
        ("kill -TERM $$", ("failed", "signalled", None, signal.SIGTERM)),
    ],
)
def test_a_job_s_end_is_its_run_s(state: State, level: str, command: str, expected: tuple[Any, ...]) -> None:
    row = state.shell(command, level=level).start().finish()
    assert (row["status"], row["reason"], row["exit_code"], row["signal"]) == expected
    assert row["error"] is None
    assert row["leftovers"] == 0


def test_the_row_says_who_ran_it_and_how_long(state: State) -> None:
    run = state.shell("read line < /dev/zero & kill $!; exit 0").start()
    row = run.finish()
    assert row["pid"] == run.pid
    assert row["job_pid"] not in (None, run.pid)
    assert None not in subset(row, "pid_ns", "start_ticks", "job_start_ticks", "started_at", "started_mono").values()
    assert row["created_at"] < row["started_at"] < row["ended_at"]
    assert 0 < row["duration"] < 60
    assert 0 < row["cpu_seconds"] < 60


@pytest.mark.parametrize("level", LEVELS)
def test_cpu_time_and_memory_are_the_job_s(state: State, level: str) -> None:
    program = "import time; block = bytearray(100 << 20)\nwhile time.process_time() < 0.3: pass"
    row = state.add("python3", "-c", program, level=level).start().finish()
    assert row["status"] == "completed"
    assert row["cpu_seconds"] >= 0.3
    assert row["max_rss"] > 100 << 20


def test_a_peak_below_the_runner_s_own_size_is_unknown(state: State) -> None:
    assert state.add("true").start().finish()["max_rss"] is None


def test_the_job_knows_its_run_but_not_its_nonce(state: State) -> None:
    run = state.add("env", "-0", env={"PATH": os.environ["PATH"], "WORD": "grüß\ndich", "POLPO_RUN_ID": "7"}).start()
    run.finish()
    env = dict(entry.split("=", 1) for entry in run.log.decode().split("\0") if entry)
    assert env == {
        "PATH": os.environ["PATH"],
        "WORD": "grüß\ndich",
        "POLPO_SOCKET": run.spec["socket"],
        "POLPO_TASK_ID": "task-1",
        "POLPO_RUN_ID": "1",
        "POLPO_RUN_MARK": contract.run_mark(run.spec["nonce"]),
        "POLPO_ATTEMPT": "1",
        "POLPO_TOKEN": "the job's secret",
    }
    assert run.spec["nonce"] not in run.log.decode()


def test_the_surroundings_are_those_of_the_submitter(state: State, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.write_text("from a file\n")
    run = state.shell(
        "umask; pwd; cat; ulimit -Sn; ulimit -Hc; nice; cat /proc/self/oom_score_adj",
        umask=0o027,
        cwd=str(tmp_path),
        stdin=str(words),
        rlimits={"RLIMIT_NOFILE": [123, 456], "RLIMIT_CORE": [0, 0]},
        nice=5,
        oom_score_adj=300,
    )
    run.start().finish()
    assert run.log.decode().split("\n") == ["0027", str(tmp_path), "from a file", "123", "0", "5", "300", ""]


@pytest.mark.parametrize("level", LEVELS)
def test_no_descriptor_of_ours_reaches_the_job(state: State, level: str) -> None:
    program = (
        "import os; print({n: os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if n < '3'})\n"
    )
    program += "print([n for n in map(int, os.listdir('/proc/self/fd')) if n > 2])"
    run = state.add("python3", "-I", "-c", program, level=level).start()
    assert run.finish()["status"] == "completed"
    standard, others = run.log.decode().splitlines()
    assert eval(standard) == {"0": "/dev/null", "1": run.spec["log_path"], "2": run.spec["log_path"]}
    assert others == "[3]"  # listdir's own


@pytest.mark.parametrize("level", LEVELS)
def test_signals_are_the_job_s_own(state: State, level: str) -> None:
    run = state.shell("grep -E '^Sig(Blk|Ign)' /proc/self/status; yes | head -n 1", level=level).start()
    assert run.finish()["status"] == "completed"
    _, blocked, _, ignored, yes = run.log.decode().split()
    assert (blocked, int(ignored, 16) & ~LIBC_SIGNALS, yes) == ("0" * 16, 0, "y")


def test_signals_that_polpod_inherited_as_ignored_do_not_reach_the_job(state: State) -> None:
    run = state.shell("grep SigIgn /proc/self/status")
    code = "import signal, os, sys; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15, 17, 34)]"
    code += "; os.execv(sys.executable, [sys.executable, '-I', '-m', 'polpod.runner', sys.argv[1]])"
    subprocess.run([sys.executable, "-c", code, run.directory.path], start_new_session=True, check=True)
    assert run.row["status"] == "completed"
    assert int(run.log.split()[1], 16) & ~LIBC_SIGNALS == 0


def test_the_job_has_a_group_of_its_own_and_no_terminal(state: State) -> None:
    run = state.shell("ps -o pid=,pgid=,sid=,tty= -p $$").start()
    row = run.finish()
    assert run.log.decode().split() == [*map(str, (row["job_pid"], row["job_pid"], row["pid"])), "?"]


def _plain_file(path: Path, mode: int, text: str = "no program\n") -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


SPAWN_FAILURES: dict[str, tuple[Callable[[Path], Columns], int, str]] = {
    "ENOENT": (lambda tmp: {"argv": ["no-such-program"]}, 127, "program no-such-program: ENOENT"),
    "ENOENT, by path": (lambda tmp: {"argv": [str(tmp / "nowhere")]}, 127, "nowhere: ENOENT"),
    "interpreter": (lambda tmp: {"argv": [_plain_file(tmp / "x", 0o755, "#!/no/where\n")]}, 127, "interpreter"),
    "EACCES": (lambda tmp: {"argv": [_plain_file(tmp / "x", 0o644)]}, 126, "EACCES, Permission denied (is it exec"),
    "EACCES, in PATH": (
        lambda tmp: {"argv": ["x"], "env": {"PATH": os.path.dirname(_plain_file(tmp / "x", 0o644))}},
        126,
        "program x: EACCES",
    ),
    "ENOEXEC": (lambda tmp: {"argv": [_plain_file(tmp / "x", 0o755)]}, 126, "ENOEXEC"),
    "a directory": (lambda tmp: {"argv": [str(tmp)]}, 126, "EACCES"),
    "E2BIG": (lambda tmp: {"argv": ["true"], "env": {"PATH": "/bin:/usr/bin", "X": "x" * 200_000}}, 126, "E2BIG"),
    "cwd gone": (lambda tmp: {"argv": ["true"], "cwd": str(tmp / "gone")}, 126, "gone: ENOENT"),
    "stdin gone": (lambda tmp: {"argv": ["true"], "stdin": str(tmp / "input")}, 126, "input: ENOENT"),
    "NUL": (lambda tmp: {"argv": ["true", "a\0b"]}, 126, "null byte"),
    "limit": (lambda tmp: {"argv": ["true"], "rlimits": {"RLIMIT_NOFILE": [9, 4]}}, 126, "resource limits"),
}


@pytest.mark.parametrize("case", SPAWN_FAILURES)
@pytest.mark.parametrize("level", LEVELS)
def test_what_cannot_be_executed_says_why(state: State, tmp_path: Path, level: str, case: str) -> None:
    changes, exit_code, words = SPAWN_FAILURES[case]
    row = state.add("replaced", level=level, **changes(tmp_path)).start().finish()
    assert subset(row, "status", "reason", "exit_code") == {
        "status": "failed",
        "reason": "spawn_failed",
        "exit_code": exit_code,
    }
    assert words in row["error"]


def test_a_log_that_cannot_be_opened_fails_that_run_alone(state: State, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    unlucky = state.add("touch", str(tmp_path / "executed"), log_path=str(tmp_path / "file" / "1.log")).start()
    other = state.add("true").start()
    row = unlucky.finish()
    assert subset(row, "status", "reason") == {"status": "failed", "reason": "spawn_failed"}
    assert f"{tmp_path}/file/1.log: Not a directory" in row["error"]
    assert other.finish()["status"] == "completed"
    assert not (tmp_path / "executed").exists()


def test_a_log_that_is_no_file_is_refused_and_waits_for_nobody(state: State, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    alone = state.add("true", log_path=str(tmp_path / "fifo")).start().finish()
    assert subset(alone, "status", "reason") == {"status": "failed", "reason": "spawn_failed"}
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    row = state.add("true", log_path=str(tmp_path / "fifo")).start().finish()
    os.close(reader)
    assert row["error"] == f"log {tmp_path}/fifo: not a regular file"


def test_the_log_is_appended_to_and_private(state: State) -> None:
    """W28."""
    run = state.shell("echo new; echo error >&2")
    Path(run.spec["log_path"]).parent.mkdir(exist_ok=True)
    Path(run.spec["log_path"]).write_text("old\n")
    fresh = state.shell("echo new")
    run.start().finish()
    fresh.start().finish()
    assert run.log == b"old\nnew\nerror\n"
    assert os.stat(fresh.spec["log_path"]).st_mode & 0o777 == 0o600


def test_without_its_go_nothing_is_executed(state: State, tmp_path: Path) -> None:
    run = state.add("touch", str(tmp_path / "executed")).start(go=False)
    until(lambda: not os.path.exists(run.directory.spec), "the runner read its spec")
    run.let_go()
    assert run.finish()["status"] == "starting"
    assert not (tmp_path / "executed").exists()
    assert run.trouble is None


def test_a_go_that_does_not_come_is_not_waited_for_past_the_claim_deadline(state: State, tmp_path: Path) -> None:
    run = state.add("touch", str(tmp_path / "executed"), claim_until_mono=1).start(go=False)
    assert run.finish()["status"] == "starting"
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("level", LEVELS)
def test_a_run_that_was_decided_cannot_be_claimed(state: State, tmp_path: Path, level: str) -> None:
    run = state.add("touch", str(tmp_path / "executed"), level=level).start(go=False)
    state.db.execute(contract.NEVER_STARTED, {"id": run.id, "error": "too late", "ended_at": contract.timestamp()})
    before = run.row
    run.tell()
    assert run.finish() == before
    assert not (tmp_path / "executed").exists()
    assert run.containment().wait_empty(60)


def test_claim_and_never_started_race_to_one_decision(state: State, tmp_path: Path) -> None:
    outcomes = set()
    for number in range(60):
        mark = tmp_path / str(number)
        run = state.add("touch", str(mark)).start()
        if number % 2:
            until(lambda run=run: run.signed, "it is about to claim")  # type: ignore[misc]
        given_up = state.db.execute(
            contract.NEVER_STARTED, {"id": run.id, "error": "race", "ended_at": contract.timestamp()}
        ).rowcount
        row = run.finish()
        assert row["status"] == ("lost" if given_up else "completed")
        assert mark.exists() == (not given_up)
        outcomes.add(row["status"])
    assert outcomes == {"lost", "completed"}


def test_another_run_s_nonce_claims_nothing(state: State, tmp_path: Path) -> None:
    run = state.add("touch", str(tmp_path / "executed"), nonce="another").start()
    assert run.finish()["status"] == "starting"
    assert not (tmp_path / "executed").exists()


def test_a_second_runner_of_the_same_directory_does_nothing(state: State) -> None:
    run = state.shell("echo once").start()
    row = run.finish()
    run.start()
    assert run.finish() == row
    assert run.log == b"once\n"
    assert run.trouble is not None


@pytest.mark.parametrize("level", LEVELS)
def test_a_leftover_that_ignores_term_is_killed_and_a_late_kill_changes_nothing(state: State, level: str) -> None:
    deaf = "(trap '' TERM; echo deaf; while :; do sleep 0.05; done) & until grep -q deaf $LOG; do :; done; exit 6"
    run = state.shell(deaf, level=level, env={"PATH": os.environ["PATH"], "LOG": state.paths.log(1)}).start()
    job_pid = run.running().row["job_pid"]
    until(lambda: identity.read(job_pid) is None, "the main process is reaped")
    run.kill_row("cancelled", 0)
    run.terminate()  # cuts the grace of what is left short
    row = run.finish()
    assert subset(row, "status", "reason", "exit_code") == {"status": "failed", "reason": "exited", "exit_code": 6}
    assert row["leftovers"] >= 1
    assert run.containment().empty()


def test_the_doorbell_carries_what_the_row_could_not_take(state: State) -> None:
    run = state.shell(f"mv {state.paths.runs_db} {state.paths.runs_db}.away; exit 5")
    with socket.socket(socket.AF_UNIX) as bell:
        bell.bind(run.spec["socket"])
        bell.listen()
        bell.settimeout(60)
        run.start()
        with bell.accept()[0] as caller, caller.makefile("rb") as lines:
            message = json.loads(lines.readline())
            assert lines.readline() == b""
    run.finish()
    assert message["jsonrpc"] == "2.0"
    assert message["method"] == "run.report"
    assert "id" not in message
    assert message["params"] == run.recorded
    assert message["params"]["exit_code"] == 5


def test_a_daemon_that_does_not_answer_the_door_holds_nobody_up(state: State) -> None:
    run = state.shell(f"mv {state.paths.runs_db} {state.paths.runs_db}.away")
    with socket.socket(socket.AF_UNIX) as bell, socket.socket(socket.AF_UNIX) as first:
        bell.bind(run.spec["socket"])
        bell.listen(0)
        first.connect(run.spec["socket"])  # the backlog is full now
        run.start().finish()
    assert run.recorded["status"] == "completed"


def test_the_lock_is_held_for_the_runner_s_life(state: State, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    run = state.shell("echo up; read line", stdin=str(fifo))
    assert not directory.held(run.directory.lock)
    run.start()
    with open(fifo, "w"):
        run.said(b"up")
        assert directory.held(run.directory.lock)
    run.finish()
    assert not directory.held(run.directory.lock)


def test_the_lock_names_the_runner_and_the_directory_can_be_removed(state: State) -> None:
    run = state.add("true").start()
    row = run.finish()
    assert (
        directory.read_lock(run.directory.lock).items()
        >= subset(row, "boot_id", "pid", "pid_ns", "start_ticks", "pidfd_inode", "started_at").items()
    )
    directory.remove(run.directory)
    assert not os.path.exists(run.directory.path)
    directory.remove(run.directory)  # again is no error


def test_spec_is_gone_once_read_and_was_private(state: State) -> None:
    """W28."""
    run = state.shell("exit 0")
    assert os.stat(run.directory.path).st_mode & 0o777 == 0o700
    assert os.stat(run.directory.spec).st_mode & 0o777 == 0o600
    run.start().finish()
    assert run.spec["token"].encode() not in Path(run.directory.exit_tmp).read_bytes()
    assert os.path.getsize(run.directory.exit_tmp) == contract.EXIT_SIZE
    assert sorted(os.listdir(run.directory.path)) == ["exit.tmp", "lock"]


def test_a_spec_of_an_unknown_version_is_refused_in_words(state: State) -> None:
    run = state.shell("exit 0", version=99).start()
    assert run.finish()["status"] == "starting"
    assert "version 99" in str(run.trouble)
