"""Work that cannot be done as it was asked for: a clear word about it, nothing lost, nobody else affected (F85)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.client import Refused
from kit.fault import fault
from kit.host import Host
from kit.starting import WITHOUT_OVERRIDE
from kit.waiting import until


@pytest.fixture
def served(host: Host) -> Iterator[Host]:
    host.configure(maxConcurrency=4)
    host.start()
    yield host
    assert host.task(host.submit("true"))
    assert "Traceback" not in host.log(), host.log()


def not_started(host: Host, task_id: str) -> dict[str, Any]:
    """The only run of a task that could not be started, and is not tried again."""
    task = host.finished(task_id)
    assert (task["status"], task["retries"]) == ("failed", 0)
    assert task["result"]["reason"] == "spawn_failed"
    (run,) = host.runs(task_id)
    assert (run["status"], run["reason"]) == ("failed", "spawn_failed")
    assert task["result"]["error"] == run["error"]
    return run


def good(host: Host) -> None:
    """Others are not affected."""
    assert host.finished(host.submit("true"))["status"] == "done"


def text_file(path: Path, text: str, mode: int) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


# At submit


def test_a_cwd_that_is_not_there_or_no_directory_is_refused(served: Host) -> None:
    (served.root / "file").touch()
    for cwd, why in (
        ("gone", "No such file"),
        ("file", "not a directory"),
        ("file/below", "Not a directory"),
        ("x" * 300, "too long"),
    ):
        with pytest.raises(Refused, match=why) as refused:
            served.submit("true", cwd=str(served.root / cwd))
        assert (refused.value.code, refused.value.data["path"]) == (-32602, "$.cwd")
    assert served.call("task.list", all=True)["tasks"] == []
    good(served)


def test_a_cwd_that_the_daemons_user_cannot_enter_is_refused_with_a_hint(host: Host) -> None:
    host.start(under=WITHOUT_OVERRIDE)
    closed = host.root / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o600)
    try:
        for cwd in (closed, closed / "inner"):
            with pytest.raises(Refused, match=r"cannot enter.*polpod of your own") as refused:
                host.submit("true", cwd=str(cwd))
            assert refused.value.word == "permission_denied"
    finally:
        closed.chmod(0o700)
    good(host)


# Between submit and start


def test_a_cwd_that_goes_before_the_start_fails_that_task_with_errno_and_hint(served: Host) -> None:
    cwd = served.root / "cwd"
    cwd.mkdir()
    task_id = served.submit("true", cwd=str(cwd), hold=True)
    cwd.rmdir()
    served.call("task.release", select={"ids": [task_id]})
    error = not_started(served, task_id)["error"]
    assert "ENOENT" in error or "No such file" in error
    assert str(cwd) in error
    cwd.mkdir()
    served.call("task.retry", select={"ids": [task_id]})
    assert served.finished(task_id)["status"] == "done"
    good(served)


def test_a_cwd_that_became_a_file_fails_that_task(served: Host) -> None:
    cwd = served.root / "cwd"
    cwd.mkdir()
    task_id = served.submit("true", cwd=str(cwd), hold=True)
    cwd.rmdir()
    cwd.touch()
    served.call("task.release", select={"ids": [task_id]})
    error = not_started(served, task_id)["error"]
    assert str(cwd) in error
    assert "ENOTDIR" in error or "Not a directory" in error


def test_a_stdin_that_is_not_there_fails_that_task(served: Host) -> None:
    error = not_started(served, served.submit("cat", stdin=str(served.root / "none")))["error"]
    assert str(served.root / "none") in error
    good(served)


# Commands that cannot be executed


@pytest.mark.parametrize(
    ("make", "words", "code"),
    [
        (lambda root: {"command": [str(root / "none")]}, ("ENOENT", "No such file"), 127),
        (lambda root: {"command": ["no-such-command-5d1b"]}, ("ENOENT", "No such file"), 127),
        (lambda root: {"command": [text_file(root / "plain", "#!/bin/sh\n", 0o644)]}, ("EACCES", "Permission denied"), 126),
        (lambda root: {"command": [str(root)]}, ("EACCES", "Permission denied"), 126),
        (lambda root: {"command": [text_file(root / "bad", "\0\1 no program", 0o755)]}, ("ENOEXEC", "Exec format error"), 126),
        (lambda root: {"command": [text_file(root / "x", "#!/no/such\n", 0o755)]}, ("ENOENT", "No such file"), 127),
        (lambda root: {"command": [text_file(root / "gone" / "program", "#!/bin/sh\n", 0o755)]}, ("ENOENT", "No such file"), 127),
        (lambda root: {"command": ["true"], "cwd": str(root / "gone")}, ("ENOENT", "No such file"), 126),
        (lambda root: {"command": ["true", "a" * 200_000]}, ("E2BIG", "Argument list too long"), 126),
        (lambda root: {"command": ["true"], "env": {"A": "a" * 200_000}}, ("E2BIG", "Argument list too long"), 126),
    ],
    ids=[
        "no-file", "no-name", "not-executable", "directory", "no-program", "no-interpreter", "program-gone", "cwd-gone",
        "long-argument", "large-environment",
    ],
)  # fmt: skip
@fault(
    85,
    "what should be executed, or where, is gone or not to be executed; arguments or environment are too large",
    promise="That attempt fails as `spawn_failed`, with the errno in words, a path and a hint, as a shell would exit; it is "
    "repeated only if retries were asked for; nobody else is affected. No user is ever looked up.",
    injected="each of them, some of them removed between the submit and the start",
    seen_failing="the complaint of a job that could not be executed; retries of it that nobody asked for",
)
def test_f85_what_cannot_be_executed_fails_with_its_errno_and_is_not_repeated(
    served: Host, make: Any, words: tuple[str, str], code: int
) -> None:
    gone = served.root / "gone"
    gone.mkdir()
    fields = make(served.root)
    task_id = served.submit(hold=True, **fields)
    shutil.rmtree(gone)
    served.call("task.release", select={"ids": [task_id]})
    run = not_started(served, task_id)
    error = run["error"]
    assert run["exit_code"] == code  # as a shell says it
    assert any(word in error for word in words), error
    assert fields.get("cwd", fields["command"][0]) in error
    why = served.call("task.why", id=task_id)
    assert any(error in sentence for sentence in why["sentences"])
    assert why["next"]
    good(served)


@pytest.mark.root
def test_a_daemon_whose_user_was_deleted_runs_jobs(host: Host) -> None:
    nobody_known = 'mount --bind /dev/null /etc/passwd && mount --bind /dev/null /etc/group && exec "$@"'
    host.start(under=("unshare", "--mount", "sh", "-c", nobody_known, "sh"))
    task_id = host.submit(shell="cat /etc/passwd; exit 3")
    assert host.finished(task_id)["result"]["exit_code"] == 3
    assert Path(host.runs(task_id)[0]["log_path"]).read_text() == ""


def test_what_cannot_be_started_is_tried_again_only_when_that_was_asked_for(served: Host) -> None:
    program = served.root / "later"
    task_id = served.submit(str(program), max_retries=50, retry_delay=0.2)
    until(lambda: len([r for r in served.runs(task_id) if r["reason"] == "spawn_failed"]) >= 2, "it is tried again")
    (served.root / "made").write_text("#!/bin/sh\nexit 0\n")
    (served.root / "made").chmod(0o755)
    os.rename(served.root / "made", program)
    until(lambda: served.task(task_id)["status"] == "done", "it is done in the end")
    task = served.task(task_id)
    assert task["retries"] == len(served.runs(task_id)) - 1


# Logs


def test_a_log_that_cannot_be_written_fails_that_attempt_and_names_the_path(served: Host) -> None:
    """F51.  A directory in the place of the log: even root cannot write into that."""
    good(served)
    os.mkdir(served.paths.log(2))
    bad = served.submit("true")
    assert not_started(served, bad)["error"].count(served.paths.log(2)) >= 1
    with pytest.raises(Refused, match=f"{served.paths.log(2)}: not a file"):
        served.call("task.logs", id=bad)
    good(served)
    assert served.call("task.logs", id="3")["end"] is True


@pytest.mark.parametrize("name", ["logs", "tmp"])
def test_a_directory_that_somebody_cleaned_up_is_made_again_and_a_live_run_survives_it(served: Host, name: str) -> None:
    running = served.submit(shell="while [ ! -e go ]; do sleep 0.02; done; exit 3")
    served.running(running)
    place = Path(served.paths.path, name)
    shutil.rmtree(place)
    good(served)
    assert place.stat().st_mode & 0o777 == 0o700
    (served.root / "go").touch()
    assert served.finished(running)["result"]["exit_code"] == 3


def test_a_submission_that_is_repeated_after_its_cwd_went_is_the_same_task(host: Host) -> None:
    host.start()
    cwd = host.root / "short-lived"
    cwd.mkdir()
    work = {"shell": "true", "cwd": str(cwd), "hold": True}
    task_id = host.submit(**work, idempotency_key="key")
    cwd.rmdir()
    assert host.call("task.submit", **work, idempotency_key="key") == {"id": task_id, "created": False}
    again = host.call("task.submit_many", defaults=work, tasks=[{"idempotency_key": "key"}, {"idempotency_key": "new"}])
    assert again["results"][0] == {"id": task_id, "created": False}
    assert again["results"][1]["error"]["data"]["path"] == "$.cwd"
