"""polpoctl on a terminal: widths, colours, escapes, Ctrl-C, a reader that goes away, a daemon that restarts."""

from __future__ import annotations

import base64
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from typing import Any

import pytest
from kit.scripted import HANG_UP, RUN, SILENCE, STATUS, TASK, Refusal, Scripted, ending
from kit.waiting import until

from polpoctl.render import columns

# Where the tests run in a shell's background, SIGINT would be ignored.
CODE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from polpoctl.__main__ import main
sys.argv[0] = 'polpoctl'
main()
"""
COMMAND = (sys.executable, "-c", CODE)
COLOUR = re.compile(r"\x1b\[\d+m")
LONG = "make -j4 check日本 with a title that is far too long for any terminal " * 3


@pytest.fixture
def polpod() -> Iterator[Scripted]:
    with Scripted() as scripted:
        yield scripted


def environment(**env: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/", "LANG": "C.UTF-8", "TERM": "xterm"} | env


def on_terminal(polpod: Scripted, width: int, *argv: str, **env: str) -> list[str]:
    """The lines that the command shows on a terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    command = [*COMMAND, argv[0], "--socket", polpod.path, *argv[1:]]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment(**env)
    ) as process:
        os.close(theirs)
        shown = b""
        while data := read(ours):
            shown += data
        os.close(ours)
        assert process.stderr is not None
        assert (process.wait(60), process.stderr.read()) == (0, b"")
    return shown.decode().splitlines()


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: the other side has closed it
        return b""


def process(polpod: Scripted, *argv: str) -> subprocess.Popen[bytes]:
    command = [*COMMAND, argv[0], "--socket", polpod.path, *argv[1:]]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())


def part(data: bytes, offset: int = 0, end: bool = False) -> dict[str, Any]:
    coded = base64.b64encode(data).decode()
    return {"run_id": 17, "offset": offset, "data": coded, "next_offset": offset + len(data), "end": end}


TASKS = [TASK | {"title": LONG}, TASK | {"id": "1234567", "title": "a\x1b[2J\nb", "state": "failed"}]


@pytest.mark.parametrize("width", [200, 80, 60, 30, 12])
@pytest.mark.parametrize(
    "argv", [("list",), ("status",), ("show", "5"), ("runs",), ("events",), ("queue",), ("wait", "5"), ("cancel", "5")]
)
def test_no_line_of_a_table_is_wider_than_the_terminal(polpod: Scripted, width: int, argv: tuple[str, ...]) -> None:
    event = {"seq": 1, "at": TASK["created_at"], "kind": "task:created", "subject": "task/5", "body": {"title": LONG}}
    polpod.answers = {
        "task.list": {"tasks": TASKS, "next": None},
        "daemon.status": STATUS | {"root": "/" + LONG},
        "task.get": {"task": TASKS[0], "runs": [RUN]},
        "run.list": {"runs": [RUN], "next": None},
        "event.list": {"events": [event], "first": 1, "next": 1},
        "queue.list": {"queues": [{"name": LONG, "slots": 2, "paused": True, "busy": 1, "ready": 0}]},
        "task.wait": {"finished": True, "tasks": [ending(message=LONG)]},
        "task.cancel": {"results": [{"id": LONG, "status": "cancelled"}]},
    }
    lines = [COLOUR.sub("", line) for line in on_terminal(polpod, width, *argv)]
    assert lines
    assert [line for line in lines if columns(line) > width] == []


def test_the_title_gives_way_and_what_else_there_is_stays(polpod: Scripted) -> None:
    polpod.answers = {"task.list": {"tasks": TASKS, "next": None}}
    heading, first, second = (COLOUR.sub("", line) for line in on_terminal(polpod, 70, "list"))
    assert heading.split() == ["ID", "STATE", "QUEUE", "SUBMITTED", "TOOK", "TITLE"]
    assert first.startswith("5        ready   default  ")
    assert first.endswith("…")
    assert second.startswith("1234567  failed  default  ")
    assert second.endswith(r"  a\x1b[2J\nb")


def test_a_column_in_the_middle_gives_way_too(polpod: Scripted) -> None:
    polpod.answers = {"queue.list": {"queues": [{"name": LONG, "slots": 2, "paused": True, "busy": 1, "ready": 0}]}}
    for width in (40, 120):
        assert COLOUR.sub("", on_terminal(polpod, width, "queue")[1]).endswith("…  2      1     0      paused")


def test_a_long_value_goes_on_below_its_beginning(polpod: Scripted) -> None:
    env = [f"NAME_{n}" for n in range(10, 30)]
    spec = {"command": ["cat", "x" * 100], "shell": None, "cwd": "/", "env": env, "umask": 18, "stdin": None}
    polpod.answers = {"task.get": {"task": TASK | {"spec": spec}, "runs": []}}
    shown = on_terminal(polpod, 40, "show", "5")
    values: dict[str, list[str]] = {}
    for line in shown:
        if begun := line[:13].strip():
            name = begun
        values.setdefault(name, []).append(line[13:])
    assert (" ".join(values["environment"]), "".join(values["command"])) == (" ".join(env), "cat" + "x" * 100)


@pytest.mark.parametrize("width", [60, 70])
def test_help_is_as_wide_as_the_terminal(polpod: Scripted, width: int) -> None:
    assert max(map(len, on_terminal(polpod, width, "submit", "--help"))) in range(width - 10, width + 1)


def test_colours_are_for_terminals_that_want_them(polpod: Scripted) -> None:
    polpod.answers = {"task.list": {"tasks": TASKS, "next": None}}
    assert "\x1b[31mfailed\x1b[0m" in on_terminal(polpod, 80, "list")[2]
    for argv, env in (
        (("list",), {"NO_COLOR": "1"}),
        (("list",), {"TERM": "dumb"}),
        (("list", "--color", "never"), {}),
    ):
        assert "\x1b" not in "".join(on_terminal(polpod, 80, *argv, **env))
    assert "\x1b[31m" in "".join(on_terminal(polpod, 80, "list", "--color", "always", NO_COLOR="1"))


def test_a_terminal_gets_json_to_read(polpod: Scripted) -> None:
    polpod.answers = {"daemon.status": STATUS}
    assert on_terminal(polpod, 80, "status", "--json")[1] == '  "version": "0.1.0",'


def test_control_c_ends_with_130_and_no_traceback(polpod: Scripted) -> None:
    polpod.answers = {"task.wait": SILENCE}
    with process(polpod, "wait", "5") as waiting:
        polpod.called("task.wait")
        waiting.send_signal(signal.SIGINT)
        assert waiting.communicate(timeout=60) == (b"", b"")
        assert waiting.returncode == 130


def test_the_first_control_c_of_run_cancels_and_its_end_is_waited_for(polpod: Scripted) -> None:
    def after_the_cancelling(params: dict[str, Any]) -> Any:
        polpod.called("task.cancel")
        return part(b"cleaning up\n", 6)

    polpod.answers = {
        "task.submit": {"id": "5", "created": True},
        "task.logs": [part(b"begun\n"), after_the_cancelling, part(b"", 18, end=True)],
        "task.cancel": {"results": [{"id": "5", "status": "in_progress"}]},
        "task.wait": {"finished": True, "tasks": [ending(outcome="cancelled", signal=15)]},
    }
    with process(polpod, "run", "--", "job") as run:
        polpod.called("task.logs", 2)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (143, b"begun\ncleaning up\n")
    assert b"cancelling task 5" in err
    assert polpod.called("task.cancel") == {"select": {"ids": ["5"]}}


def test_the_second_control_c_of_run_detaches(polpod: Scripted) -> None:
    polpod.answers = {
        "task.submit": {"id": "5", "created": True},
        "task.logs": SILENCE,
        "task.cancel": {"results": [{"id": "5", "error": Refusal("unavailable", "not now").error}]},
    }
    with process(polpod, "run", "--", "job") as run:
        polpod.called("task.logs")
        run.send_signal(signal.SIGINT)
        assert run.stderr is not None
        assert b"cancelling task 5" in run.stderr.readline()
        assert b"could not be cancelled: not now" in run.stderr.readline()
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (130, b"")
    assert err == b"polpoctl: detached; task 5 goes on: polpoctl logs -f 5\n"


def test_a_reader_that_goes_away_ends_it_quietly(polpod: Scripted) -> None:
    polpod.answers = {"task.list": {"tasks": [TASK] * 5000, "next": None}}
    with process(polpod, "list") as listing:
        assert listing.stdout is not None
        assert listing.stdout.readline().startswith(b"5\t")
        listing.stdout.close()
        assert listing.stderr is not None
        assert listing.stderr.read() == b""
        assert listing.wait(60) == 141


def test_run_detaches_when_nobody_reads(polpod: Scripted) -> None:
    polpod.answers = {
        "task.submit": {"id": "5", "created": True},
        "task.logs": lambda params: part(b"x" * 60_000, params["offset"]),
    }
    with process(polpod, "run", "--", "yes") as run:
        assert run.stdout is not None
        run.stdout.read(10)
        run.stdout.close()
        assert run.stderr is not None
        assert run.stderr.read() == b"polpoctl: nobody reads any more; task 5 goes on: polpoctl logs -f 5\n"
        assert run.wait(60) == 141
    assert [name for name, _ in polpod.calls if name == "task.cancel"] == []


def test_a_full_disk_under_stdout_is_an_error(polpod: Scripted) -> None:
    polpod.answers = {"task.submit": {"id": "5", "created": True}}
    command = [*COMMAND, "submit", "--socket", polpod.path, "--", "true"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment(), timeout=60)
    assert (done.returncode, done.stderr) == (1, b"polpoctl: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("argv", [(), ("--keep-waiting", "--exit-status")])
def test_the_time_to_wait_runs_out_while_polpod_is_away_too(polpod: Scripted, argv: tuple[str, ...]) -> None:
    polpod.answers = {"task.wait": SILENCE}
    with process(polpod, "wait", *argv, "--timeout", "2", "5") as waiting:
        polpod.called("task.wait")
        polpod.stop()
        out, err = waiting.communicate(timeout=30)  # polpod is waited for twice as long
    assert (waiting.returncode, out) == (124, b"")
    assert err.endswith(b"polpoctl: time ran out while polpod was away\n")


@pytest.mark.parametrize(("argv", "code"), [((), 4), (("--keep-waiting",), 0)])
def test_whoever_keeps_waiting_waits_for_polpod_as_long_as_it_takes(
    polpod: Scripted, argv: tuple[str, ...], code: int
) -> None:
    polpod.answers = {"task.wait": [HANG_UP, {"finished": True, "tasks": [ending()]}]}
    without_patience = "import polpoctl.commands.wait as wait; wait.RECONNECT = 0.0\n" + CODE
    command = [sys.executable, "-c", without_patience, "wait", "--socket", polpod.path, *argv, "5"]
    done = subprocess.run(command, capture_output=True, env=environment(), timeout=60)
    assert done.returncode == code, done.stderr


def test_a_followed_log_goes_on_over_a_restart_of_polpod(polpod: Scripted) -> None:
    """Every byte once: the first polpod falls silent in the middle, the second is asked for what follows."""
    log = b"one\ntwo\nthree\n"

    def parts(params: dict[str, Any]) -> Any:
        offset = params.get("offset", 0)
        return (
            SILENCE if offset == 8 and not restarted else part(log[offset : offset + 4], offset, end=offset == len(log))
        )

    restarted: list[bool] = []
    polpod.answers = {"task.logs": parts, "task.wait": {"finished": True, "tasks": []}}
    with process(polpod, "logs", "-f", "5") as following:
        until(lambda: any(params.get("offset") == 8 for _, params in list(polpod.calls)), "it asks for what follows")
        polpod.stop()
        restarted.append(True)
        polpod.start()
        out, err = following.communicate(timeout=60)
    assert (following.returncode, out) == (0, log)
    assert [line.split(b" at ")[0] for line in err.splitlines()] == [
        b"polpoctl: contact lost, waiting for polpod",
        b"polpoctl: contact again",
    ]


def outlook(**members: Any) -> dict[str, Any]:
    task = {"id": "5", "status": "in_progress", "percent": 40.0, "text": "linking", "elapsed": 10.0, "usual": None}
    return {"tasks": [task | {"left": 15.0} | members]}


def on_stderr(polpod: Scripted, width: int, *argv: str, same: bool = False, **env: str) -> tuple[int, str, str]:
    """The code of the command, what it writes to the terminal that stderr is, and to a pipe unless `same` is the terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    attributes = termios.tcgetattr(theirs)
    attributes[1] &= ~termios.OPOST  # what was written, as it was
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    command = [*COMMAND, argv[0], "--socket", polpod.path, *argv[1:]]
    out = theirs if same else subprocess.PIPE
    with subprocess.Popen(command, stdin=theirs, stdout=out, stderr=theirs, env=environment(**env)) as process:
        os.close(theirs)
        shown = b""
        while data := read(ours):
            shown += data
        os.close(ours)
        piped = b"" if process.stdout is None else process.stdout.read()
        return process.wait(30), shown.decode(), piped.decode()


LINE = "\r[########............]  40%  linking  about 15s left\x1b[K"
GONE = "\r\x1b[K"
WAITING = [{"finished": False, "tasks": [ending(outcome=None)]}, {"finished": True, "tasks": [ending()]}]


def test_wait_shows_how_far_the_work_is_and_leaves_nothing_behind(polpod: Scripted) -> None:
    polpod.answers = {"task.wait": list(WAITING), "task.estimate": outlook()}
    for env in ({}, {"NO_COLOR": "1"}):
        polpod.answers["task.wait"] = list(WAITING)
        assert on_stderr(polpod, 80, "wait", "5", **env) == (0, LINE + GONE, "5\tdone\t\n")
    assert polpod.called("task.wait")["timeout"] == 1.0
    polpod.answers["task.wait"] = list(WAITING)
    assert on_stderr(polpod, 20, "wait", "5")[1] == "\r40%  about 15s left\x1b[K" + GONE
    polpod.answers["task.wait"] = list(WAITING)
    assert on_stderr(polpod, 3, "wait", "5")[1] == ""


@pytest.mark.parametrize("why", ["a dumb terminal", "nothing is known", "an older polpod", "many tasks"])
def test_wait_shows_nothing_where_there_is_nothing_to_show(polpod: Scripted, why: str) -> None:
    polpod.answers = {"task.wait": [WAITING[0], *WAITING], "task.estimate": outlook(percent=None)}
    ids = ["5"] * (101 if why == "many tasks" else 1)
    if why == "an older polpod":
        polpod.answers["task.estimate"] = Refusal(None, code=-32601)
    env = {"TERM": "dumb"} if why == "a dumb terminal" else {}
    assert on_stderr(polpod, 80, "wait", *ids, **env) == (0, "", "5\tdone\t\n")
    asked = [name for name, _ in polpod.calls if name == "task.estimate"]
    if why == "nothing is known":
        assert asked  # once a second, however long the calls take
    else:
        assert len(asked) == (1 if why == "an older polpod" else 0)


def test_a_pipe_has_no_such_line(polpod: Scripted) -> None:
    polpod.answers = {"task.wait": list(WAITING), "task.estimate": outlook()}
    with process(polpod, "wait", "5") as waiting:
        assert waiting.communicate(timeout=30) == (b"5\tdone\t\n", b"")
    assert {name for name, _ in polpod.calls} == {"task.wait"}


def test_run_shows_it_between_lines_of_the_log_and_never_beside_one(polpod: Scripted) -> None:
    polpod.answers = {
        "task.submit": {"id": "5", "created": True},
        "task.logs": [part(b"one\n"), part(b"", 4), part(b"tw", 4), part(b"o\n", 6), part(b"", 8, end=True)],
        "task.wait": {"finished": True, "tasks": [ending()]},
        "task.estimate": outlook(),
    }
    logged = polpod.answers["task.logs"]
    # After the last part the log is asked for what comes after run 17.
    none = {"run_id": None, "offset": 0, "data": "", "next_offset": 0, "end": False}

    def logs(params: dict[str, Any]) -> Any:
        return none if params.get("after") == 17 else logged.pop(0)

    polpod.answers["task.logs"] = logs
    code, shown, _ = on_stderr(polpod, 80, "run", "--", "job", same=True)
    assert (code, shown) == (0, f"one\n{LINE}{GONE}two\n{LINE}{GONE}")


def test_a_notice_takes_its_place(polpod: Scripted) -> None:
    polpod.answers = {
        "task.wait": [WAITING[0], HANG_UP, WAITING[1]],
        "task.estimate": outlook(),
    }
    code, shown, _ = on_stderr(polpod, 80, "wait", "5")
    assert code == 0
    lost, again = (text for text in shown.split("\n")[:2])
    assert lost.startswith(f"{LINE}{GONE}polpoctl: contact lost, waiting for polpod at ")
    assert again == "polpoctl: contact again"
