"""polpoctl as a process, against a scripted polpod: what it prints where, and how it exits (DESIGN §10)."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.scripted import HANG_UP, RUN, STATUS, TASK, Refusal, Scripted, ending

from polpoctl import catalog

CODE = "import sys; from polpoctl.__main__ import main; sys.argv[0] = 'polpoctl'; main()"


@pytest.fixture
def polpod() -> Iterator[Scripted]:
    with Scripted() as scripted:
        yield scripted


def polpoctl(
    *argv: str | bytes, stdin: bytes = b"", cwd: str | None = None, **env: str
) -> subprocess.CompletedProcess[bytes]:
    clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return subprocess.run(
        [sys.executable, "-c", CODE, *argv],
        input=stdin,
        capture_output=True,
        env=clean | env,
        cwd=cwd or "/",
        timeout=60,
    )


def ask(polpod: Scripted, *argv: str | bytes, **rest: Any) -> subprocess.CompletedProcess[bytes]:
    return polpoctl(*argv[:1], "--socket", polpod.path, *argv[1:], **rest)


def part(data: bytes, offset: int = 0, *, run: int | None = 17, end: bool = False) -> dict[str, Any]:
    coded = base64.b64encode(data).decode()
    return {"run_id": run, "offset": offset, "data": coded, "next_offset": offset + len(data), "end": end}


ACTIONS = ("cancel", "retry", "remove", "hold", "release")
"""Commands that print what became of each task."""

ANSWERS: dict[str, Any] = {
    "daemon.status": STATUS,
    "task.submit": {"id": "5", "created": True},
    "task.list": {"tasks": [TASK], "next": None},
    "task.get": {"task": TASK, "runs": [RUN]},
    "run.list": {"runs": [RUN], "next": None},
    "task.why": {
        "id": "5",
        "status": "failed",
        "sentences": ["Its command exited with 3."],
        "next": ["polpoctl retry 5"],
    },
    "task.logs": [part(b"out\n"), part(b"", 4, end=True)],
    "task.wait": {"finished": True, "tasks": [ending("5", "done", exit_code=0, reason="exited")]},
    "task.update": {"task": TASK},
    "queue.list": {"queues": [{"name": "default", "slots": 2, "paused": True, "busy": 1, "ready": 0}]},
    "queue.set": {"queue": {"name": "default", "slots": 2, "paused": True}},
    "event.list": {
        "events": [
            {"seq": 9, "at": TASK["created_at"], "kind": "task:created", "subject": "task/5", "body": {"a": "b"}}
        ],
        "first": 1,
        "next": 9,
    },
    **{f"task.{action}": {"results": [{"id": "5", "status": "pending"}]} for action in ACTIONS},
}

COMMANDS: dict[str, tuple[tuple[str, ...], str, Any]] = {
    "status": (("status",), "socket\t{path}\n", STATUS),
    "submit": (("submit", "--", "true"), "5\n", {"id": "5", "created": True}),
    "list": (("list",), "5\tready\tdefault\t2026-01-02T03:04:05.678901Z\t\tmake check\n", [TASK]),
    "show": (("show", "5"), "command\tmake check\n", {"task": TASK, "runs": [RUN]}),
    "runs": (("runs", "5"), "17\t5\t1\tfailed\texited\t3\t2026-01-02T03:04:06.000000Z\t1.500\twork\n", [RUN]),
    "why": (("why", "5"), "Its command exited with 3.\nnext: polpoctl retry 5\n", ANSWERS["task.why"]),
    "wait": (("wait", "5"), "5\tdone\t\n", ANSWERS["task.wait"]["tasks"]),
    "edit": (("edit", "5", "--title", "x"), "5\tpending\tmake check\n", [TASK]),
    "queue": (("queue",), "default\t2\t1\t0\tpaused\n", ANSWERS["queue.list"]["queues"]),
    "pause": (("pause", "default"), "default\t2\t1\t0\tpaused\n", ANSWERS["queue.list"]["queues"]),
    "resume": (("resume",), "default\t2\t1\t0\tpaused\n", ANSWERS["queue.list"]["queues"]),
    "events": (
        ("events",),
        '9\t2026-01-02T03:04:05.678901Z\ttask:created\ttask/5\t{"a": "b"}\n',
        ANSWERS["event.list"]["events"][0],
    ),
    "rpc": (("rpc", "task.why", '{"id": "5"}'), json.dumps(ANSWERS["task.why"]) + "\n", ANSWERS["task.why"]),
    **{action: ((action, "5"), "5\tpending\n", [{"id": "5", "status": "pending"}]) for action in ACTIONS},
}
"""Command → arguments, a part of what it prints, and its JSON."""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_prints_its_data_and_nothing_else(polpod: Scripted, name: str) -> None:
    argv, text, value = COMMANDS[name]
    polpod.answers = dict(ANSWERS)
    done = ask(polpod, *argv)
    assert (done.returncode, done.stderr) == (0, b"")
    assert text.replace("{path}", polpod.path) in done.stdout.decode()
    done = ask(polpod, argv[0], "--json", *argv[1:])
    assert (done.returncode, done.stderr, json.loads(done.stdout)) == (0, b"", value)


def test_without_a_command_it_is_status_and_common_options_may_come_first(polpod: Scripted) -> None:
    polpod.answers = dict(ANSWERS)
    done = polpoctl(POLPO_SOCKET=polpod.path)
    assert done.stdout.startswith(b"polpod\t0.1.0, running, pid 4242, up 1h02m\n")
    done = polpoctl("--json", "--socket", polpod.path, "--color=never", "list")
    assert json.loads(done.stdout) == [TASK]


def test_help_lists_every_command_and_an_unknown_one_is_told_its_neighbours() -> None:
    done = polpoctl("--help")
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.search(rb"\n  completion {2,}print a completion script", done.stdout)
    assert set(re.findall(r"^  (\w+) {2,}\w", done.stdout.decode(), re.MULTILINE)) == catalog.COMMANDS.keys()
    done = polpoctl("cancle")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"did you mean cancel" in done.stderr


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("not_found", 3),
        ("conflict", 1),
        ("refused", 1),
        ("permission_denied", 6),
        ("disk_full", 75),
        ("unavailable", 75),
    ],
)
def test_what_polpod_refuses_has_its_exit_code(polpod: Scripted, word: str, code: int) -> None:
    polpod.answers = {"task.submit": Refusal(word, "because\x1b[31m"), "task.cancel": {"results": [
        {"id": "9", "error": Refusal(word, "because").error}]}}  # fmt: skip
    done = ask(polpod, "submit", "--", "true")
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"polpoctl: because\\x1b[31m\n")
    done = ask(polpod, "cancel", "9")
    assert (done.returncode, done.stderr) == (code, b"polpoctl: 9: because\n")


def test_an_invalid_value_is_a_usage_error(polpod: Scripted) -> None:
    polpod.answers = {"task.submit": Refusal("invalid", "$.priority: too high", -32602)}
    assert ask(polpod, "submit", "--priority", "9", "--", "true").returncode == 2


def test_no_daemon_is_told_with_the_sockets_that_were_tried(tmp_path: Path) -> None:
    """W40."""
    done = polpoctl("list", XDG_STATE_HOME=f"{tmp_path}/state", XDG_RUNTIME_DIR=f"{tmp_path}/run", cwd=str(tmp_path))
    assert (done.returncode, done.stdout) == (4, b"")
    for path in (
        f"{tmp_path}/run/polpo/polpod.sock",
        "/run/polpo/polpod.sock",
        f"{tmp_path}/state/polpo/.polpo/polpod.sock",
    ):
        assert path in done.stderr.decode()
    assert b"polpoctl start" in done.stderr


def test_the_nearest_state_directory_is_used(polpod: Scripted, tmp_path: Path) -> None:
    polpod.answers = dict(ANSWERS)
    (tmp_path / ".polpo").mkdir()
    (tmp_path / "deep" / "down").mkdir(parents=True)
    (tmp_path / ".polpo" / "polpod.sock").symlink_to(polpod.path)
    assert polpoctl("list", cwd=str(tmp_path / "deep" / "down")).returncode == 0


def test_submit_sends_the_environment_the_directory_and_the_umask(polpod: Scripted, tmp_path: Path) -> None:
    polpod.answers = dict(ANSWERS)
    ask(polpod, "submit", "--env", "X=1", "--", "make", "--", "-j", cwd=str(tmp_path), LC_ALL="C", POLPO_TASK_ID="3")
    sent = polpod.called("task.submit")
    assert (sent["command"], sent["cwd"], sent["umask"]) == (["make", "--", "-j"], str(tmp_path), _umask())
    assert (sent["env"]["LC_ALL"], sent["env"]["X"], sent["env"]["PATH"]) == ("C", "1", os.environ["PATH"])
    assert "POLPO_TASK_ID" not in sent["env"]
    ask(polpod, "submit", "--clean-env", "--", "make", LC_ALL="C", TZ="UTC")
    assert set(polpod.called("task.submit", 2)["env"]) <= {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ"}


def test_what_is_not_utf8_is_refused_by_name_or_left_out_with_a_notice(polpod: Scripted, tmp_path: Path) -> None:
    polpod.answers = dict(ANSWERS)
    done = ask(polpod, "submit", "--", "cat", b"caf\xe9")
    assert (done.returncode, done.stdout) == (2, b"")
    assert rb"b'caf\xe9' is not UTF-8" in done.stderr
    bad = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(bad)
    done = ask(polpod, "submit", "--", "cat", cwd=os.fsdecode(bad))
    assert (done.returncode, polpod.calls) == (2, [])
    assert rb"caf\xe9" in done.stderr
    done = ask(polpod, "submit", "--", "cat", NAME=os.fsdecode(b"caf\xe9"))
    assert (done.returncode, done.stdout) == (0, b"5\n")
    assert done.stderr == b"polpoctl: not passed on, since not UTF-8: NAME\n"
    assert "NAME" not in polpod.called("task.submit")["env"]


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


# Batches


def numbered(refuse: str = "") -> Any:
    """task.submit_many that gives each task the number in its title, and refuses one of them."""

    def answer(params: dict[str, Any]) -> Any:
        refusal = {"error": Refusal("not_found", "no such dependency").error}
        titles = [task["title"] for task in params["tasks"]]
        return {"results": [refusal if title == refuse else {"id": title, "created": True} for title in titles]}

    return answer


def test_a_batch_prints_ids_in_order_and_names_the_lines_that_are_none(polpod: Scripted) -> None:
    lines = [
        b'{"title": "1"}', b"", b"not json", b"[]", b'{"title": "2"}', b'{"title": "a\\u0000"}', b'{"title": "3"}',
        b'{"n": 1e400}', b'{"title": "\\ud800"}', b'{"title": "4"}', b'{"n": %s}' % (b"[" * 70 + b"]" * 70), b'{"title": "\xe9"}',
        b'{"title": "5"}',
    ]  # fmt: skip
    polpod.answers = {"task.submit_many": numbered(refuse="3")}
    done = ask(polpod, "submit", "--batch", "-", "--queue", "q", stdin=b"\n".join(lines), LC_ALL="C")
    assert (done.returncode, done.stdout) == (1, b"1\n2\n4\n5\n")
    named = [int(line.split(b"line ")[1].split(b":")[0]) for line in done.stderr.splitlines()]
    assert sorted(named) == [3, 4, 6, 7, 8, 9, 11, 12]
    sent = polpod.called("task.submit_many")
    assert (sent["defaults"]["queue"], sent["defaults"]["env"]["LC_ALL"], "command" in sent["defaults"]) == (
        "q",
        "C",
        False,
    )
    assert all(set(task) == {"title"} for task in sent["tasks"])


def test_a_batch_goes_in_chunks_with_all_ids_in_order(polpod: Scripted, tmp_path: Path) -> None:
    polpod.answers = {"task.submit_many": numbered()}
    small = [json.dumps({"title": str(n)}) for n in range(2500)]
    large = [json.dumps({"title": str(n), "description": "x" * 300_000}) for n in range(2500, 2510)]
    (tmp_path / "batch").write_text("\n".join(small + large) + "\n")
    done = ask(polpod, "submit", "--batch", str(tmp_path / "batch"))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.split() == [str(n).encode() for n in range(2510)]
    sizes = [len(params["tasks"]) for _, params in polpod.calls]
    assert max(sizes) <= 1000
    assert all(len(json.dumps(params["tasks"])) < 2**20 + 400_000 for _, params in polpod.calls)
    assert len(sizes) >= 5


def test_a_slow_writer_sees_each_id_before_it_writes_on(polpod: Scripted) -> None:
    polpod.answers = {"task.submit_many": numbered()}
    command = [sys.executable, "-c", CODE, "submit", "--socket", polpod.path, "--json", "--batch", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for n in range(3):
            process.stdin.write(b'{"title": "%d"}\n' % n)
            process.stdin.flush()
            assert json.loads(process.stdout.readline()) == {"id": str(n), "created": True, "line": n + 1}
        process.stdin.close()
        assert process.wait(60) == 0


def test_a_line_too_long_for_a_frame_is_refused_alone(polpod: Scripted) -> None:
    polpod.answers = {"task.submit_many": numbered()}
    lines = [b'{"title": "1"}', b'{"title": "%s"}' % (b"x" * 5_000_000), b'{"title": "2"}']
    done = ask(polpod, "submit", "--batch", "-", stdin=b"\n".join(lines))
    assert (done.returncode, done.stdout) == (1, b"1\n2\n")
    assert b"line 2: longer than" in done.stderr


def test_a_batch_refused_as_a_whole_has_the_code_of_the_reason(polpod: Scripted) -> None:
    polpod.answers = {"task.submit_many": Refusal("disk_full", "no space")}
    done = ask(polpod, "submit", "--batch", "-", stdin=b'{"title": "1"}\n{"title": "2"}\n')
    assert (done.returncode, done.stdout) == (75, b"")
    assert done.stderr == b"polpoctl: line 1: no space\npolpoctl: line 2: no space\n"


def test_a_batch_whose_polpod_goes_while_it_is_sent_has_the_ids_that_were_told(tmp_path: Path) -> None:
    """The second chunk is larger than what a socket takes, so that it is being sent when polpod answers the first and goes."""
    taken: list[int] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                request = json.loads(lines.readline())
                taken.append(len(request["params"]["tasks"]))
                results = [{"id": str(n), "created": True} for n in range(taken[0])]
                answer = {"jsonrpc": "2.0", "id": request["id"], "result": {"results": results}}
                connection.sendall(json.dumps(answer).encode() + b"\n")

        thread = threading.Thread(target=answer)
        thread.start()
        line = json.dumps({"command": ["true"], "title": "x" * 2000}).encode() + b"\n"
        done = polpoctl("submit", "--batch", "-", "--socket", str(tmp_path / "s"), stdin=line * 1000)
        thread.join()
    assert (done.returncode, len(done.stdout.splitlines())) == (4, taken[0]), done.stderr
    assert f"nobody knows whether line {taken[0] + 1} and later ones were taken" in done.stderr.decode()


def test_a_batch_whose_polpod_goes_away_says_what_is_in_doubt(polpod: Scripted) -> None:
    polpod.answers = {"task.submit_many": HANG_UP}
    done = ask(polpod, "submit", "--batch", "-", stdin=b'{"title": "1"}\n')
    assert (done.returncode, done.stdout) == (4, b"")
    assert b"line 1 and later ones" in done.stderr


@pytest.mark.parametrize(
    "argv",
    [
        ("submit",),
        ("run",),
        ("submit", "--batch", "/nonexistent"),
        ("submit", "--batch", "-", "--", "true"),
        ("submit", "--batch", "-", "--idempotency-key", "k"),
        ("cancel",),
        ("wait",),
        ("list", "--limit", "0"),
        ("edit", "5"),
        ("edit", "5", "--retries", "-1"),
        ("edit", "5", "--label", "-"),
        ("queue", "--slots", "3"),
        ("queue", "q", "--slots", "-1"),
        ("queue", "q", "--slots", "many"),
        ("runs", "--limit", "0"),
        ("logs", "5", "-n", "-1"),
        ("logs", "5", "--run", "0"),
        ("events", "--after", "-1"),
        ("rpc", "task.get", "["),
        ("rpc", "task.get", "[]"),
        ("rpc", "task.get", '{"id": %s}' % ("1" * 5000)),
        ("list", "--limit", "1" * 5000),
        ("events", "--after", "1" * 5000),
        ("config", "get"),
        ("completion", "csh"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(polpod: Scripted, argv: tuple[str, ...]) -> None:
    done = ask(polpod, *argv)
    assert (done.returncode, done.stdout) == (125 if argv[0] == "run" else 2, b"")
    assert done.stderr.startswith(b"polpoctl: ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("argv", "method", "ids"),
    [
        (("wait", "5", "--any", "6"), "task.wait", ["5", "6"]),
        (("cancel", "--queue", "q", "5", "--json", "6-7"), "task.cancel", ["5", "6-7"]),
        (("list", "--all", "5"), "task.list", ["5"]),
    ],
)
def test_options_may_stand_anywhere_among_ids(
    polpod: Scripted, argv: tuple[str, ...], method: str, ids: list[str]
) -> None:
    polpod.answers = dict(ANSWERS)
    assert ask(polpod, *argv).returncode == 0
    sent = polpod.called(method)
    assert sent.get("ids", sent.get("select", {}).get("ids")) == ids


def test_the_runs_of_no_task_are_not_found(polpod: Scripted) -> None:
    polpod.answers = {"run.list": {"runs": [], "next": None}, "task.get": Refusal("not_found", "there is no task 9")}
    done = ask(polpod, "runs", "9")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"polpoctl: there is no task 9\n")


# Pages, selectors, waiting


def test_a_list_is_read_page_by_page_up_to_its_limit(polpod: Scripted) -> None:
    def page(params: dict[str, Any]) -> Any:
        first = params.get("after", 0) + 1
        last = min(first + params["limit"] - 1, 2500)
        tasks = [TASK | {"id": str(n)} for n in range(first, last + 1)]
        return {"tasks": tasks, "next": last if last < 2500 else None}

    polpod.answers = {"task.list": page}
    assert len(ask(polpod, "list", "--all").stdout.splitlines()) == 2500
    assert [params["limit"] for _, params in polpod.calls] == [1000, 1000, 1000]
    done = ask(polpod, "list", "--limit", "1200")
    assert (len(done.stdout.splitlines()), done.stderr) == (
        1200,
        b"polpoctl: there are more than these 1200; --limit N shows more\n",
    )
    assert ask(polpod, "list", "--limit", "2500").stderr == b""


def test_show_says_the_limits_of_a_task_and_where_its_newest_run_is(polpod: Scripted) -> None:
    limits = {"memory_max": 3 * 2**29, "cpus": 1.5, "tasks_max": 100, "nice": -5}
    polpod.answers = {"task.get": {"task": TASK | limits, "runs": [RUN | {"cgroup": "/old"}, RUN]}}
    said = ask(polpod, "show", "5").stdout.decode().splitlines()
    assert "limits\t1.5 GiB of memory, 1.5 CPUs, 100 processes, nice -5" in said
    assert "placement\tcgroup /sys/fs/cgroup/polpo/run-17" in said
    of_before = {name: value for name, value in TASK.items() if name not in limits}
    run = RUN | {"containment": "session", "cgroup": None}
    polpod.answers = {"task.get": {"task": of_before, "runs": [run]}}
    said = ask(polpod, "show", "5").stdout.decode().splitlines()
    assert [line for line in said if line.startswith(("limits", "placement"))] == ["placement\tsession"]
    polpod.answers = {"task.get": {"task": TASK, "runs": []}}
    assert b"placement" not in ask(polpod, "show", "5").stdout


def test_an_edit_keeps_the_labels_that_it_does_not_name_and_takes_ranges(polpod: Scripted) -> None:
    polpod.answers = dict(ANSWERS)
    polpod.answers["task.get"] = {"task": TASK | {"labels": {"a": "1", "b": "2"}}}
    polpod.answers["task.list"] = {"tasks": [TASK, TASK | {"id": "6"}], "next": None}
    polpod.answers["task.update"] = lambda p: Refusal("conflict", "it runs") if p["id"] == "6" else {"task": TASK}
    done = ask(polpod, "edit", "5-6", "--label", "b=3", "--timeout", "1m")
    assert (done.returncode, done.stderr) == (1, b"polpoctl: 6: it runs\n")
    sent = polpod.called("task.update")
    assert sent == {"id": "5", "version": 3, "labels": {"a": "1", "b": "3"}, "max_duration": 60}


@pytest.mark.parametrize(
    ("argv", "sent"),
    [
        (("--title", ""), {"title": None}),
        (("--title", "none", "--description", ""), {"title": "none", "description": ""}),
        (("--timeout", "", "--stale-after", "none"), {"max_duration": None, "stale_threshold": None}),
        (("--retries", "none", "--not-before", ""), {"max_retries": None, "not_before": None}),
        (("--memory", "none", "--cpus", "", "--tasks", "none"), {"memory_max": None, "cpus": None, "tasks_max": None}),
        (("--memory", "2M", "--cpus", "2", "--nice", "-3"), {"memory_max": 2**21, "cpus": 2, "nice": -3}),
        (("--nice", "none"), {"nice": None}),
        (("--after", ""), {"depends_on": []}),
        (("--after", "3", "--after", "4"), {"depends_on": ["3", "4"]}),
        (("--label", ""), {"version": 3, "labels": {}}),
        (("--label", "a-", "--label", "c=3"), {"version": 3, "labels": {"b": "2", "c": "3"}}),
        (("--label", "", "--label", "c-=3"), {"version": 3, "labels": {"c-": "3"}}),
    ],
)
def test_an_edit_clears_what_is_given_an_empty_value(
    polpod: Scripted, argv: tuple[str, ...], sent: dict[str, Any]
) -> None:
    polpod.answers = dict(ANSWERS)
    polpod.answers["task.get"] = {"task": TASK | {"labels": {"a": "1", "b": "2"}}}
    assert ask(polpod, "edit", "5", *argv).returncode == 0
    assert polpod.called("task.update") == {"id": "5"} | sent


@pytest.mark.parametrize(("slots", "sent"), [("3", 3), ("0", 0), ("unlimited", None), ("", None)])
def test_the_slots_of_a_queue_are_a_number_or_unlimited(polpod: Scripted, slots: str, sent: int | None) -> None:
    polpod.answers = dict(ANSWERS)
    assert ask(polpod, "queue", "default", "--slots", slots).returncode == 0
    assert polpod.called("queue.set") == {"name": "default", "slots": sent}


@pytest.mark.parametrize(
    ("endings", "argv", "code"),
    [
        ([ending("1")], (), 0),
        ([ending("1"), ending("2", "failed", exit_code=3, reason="exited")], (), 1),
        ([ending("1", "cancelled")], (), 1),
        ([ending("1", "blocked", message="task 9 failed")], (), 1),
        ([ending("1", "failed"), ending("2", "unknown"), ending("3")], (), 5),
        ([ending("1"), ending("2", "failed", exit_code=3)], ("--exit-status",), 3),
        ([ending("1", "failed", signal=9, exit_code=None)], ("--exit-status",), 137),
        ([ending("1", "failed", exit_code=4), ending("2", "failed", exit_code=3)], ("--exit-status",), 4),
        ([ending("1", "blocked")], ("--exit-status",), 1),
        ([ending("1", "unknown")], ("--exit-status",), 5),
        ([ending("1", "failed", exit_code=0)], ("--exit-status",), 1),
        ([ending("1", None), ending("2", "failed", exit_code=7)], ("--any",), 1),
        ([ending("1", None), ending("2")], ("--any",), 0),
    ],
)
def test_waiting_exits_as_the_tasks_ended(
    polpod: Scripted, endings: list[dict[str, Any]], argv: tuple[str, ...], code: int
) -> None:
    polpod.answers = {"task.wait": {"finished": True, "tasks": endings}}
    assert ask(polpod, "wait", *argv, *(entry["id"] for entry in endings)).returncode == code
    assert polpod.called("task.wait")["any"] is ("--any" in argv)


def test_waiting_asks_again_until_its_time_ran_out(polpod: Scripted) -> None:
    polpod.answers = {"task.wait": {"finished": False, "tasks": [ending("1"), ending("2", None)]}}
    done = ask(polpod, "wait", "--timeout", "0.3", "--keep-waiting", "--exit-status", "1", "2")
    assert (done.returncode, done.stdout) == (124, b"1\tdone\t\n")
    assert done.stderr == b"polpoctl: time ran out; not ended: 2\n"
    assert polpod.called("task.wait")["timeout"] <= 0.3
    assert polpod.called("task.wait")["keep_waiting"] is True


def test_with_exit_status_an_error_of_polpoctl_s_own_is_125(polpod: Scripted) -> None:
    polpod.answers = {"task.wait": Refusal("not_found"), "task.submit": Refusal("permission_denied")}
    assert ask(polpod, "wait", "9").returncode == 3
    assert ask(polpod, "wait", "--exit-status", "9").returncode == 125
    assert ask(polpod, "run", "--", "true").returncode == 125
    assert polpoctl("run", "--socket", "/nonexistent", "--", "true").returncode == 125


# run and logs


@pytest.mark.parametrize(
    ("entry", "code", "said"),
    [
        (ending(exit_code=0, reason="exited"), 0, b""),
        (ending(outcome="failed", exit_code=3, reason="exited", message="it exited with 3"), 3, b""),
        (ending(outcome="failed", signal=9, reason="signalled"), 137, b"signal 9"),
        (ending(outcome="failed", signal=15, reason="timeout", message="it ran too long"), 143, b"it ran too long"),
        (ending(outcome="failed", reason="spawn_failed", exit_code=127), 127, b"No such file or directory"),
        (ending(outcome="unknown", message="the outcome of run 17 is unknown"), 5, b"is unknown"),
        (ending(outcome="blocked", message="task 4 failed"), 1, b"task 4 failed"),
        (ending(outcome="cancelled"), 1, b"cancelled"),
    ],
)
def test_run_passes_bytes_on_and_exits_as_the_job(
    polpod: Scripted, entry: dict[str, Any], code: int, said: bytes
) -> None:
    polpod.answers = dict(ANSWERS)
    polpod.answers["task.logs"] = [part(b"\xff\x00\r"), part(b"x\n", 3), part(b"", 5, end=True)]
    polpod.answers["task.wait"] = {"finished": True, "tasks": [entry]}
    polpod.answers["task.get"] = {
        "task": TASK,
        "runs": [RUN | {"exit_code": 127, "error": "No such file or directory"}],
    }
    done = ask(polpod, "run", "--", "job")
    assert (done.returncode, done.stdout) == (code, b"\xff\x00\rx\n")
    assert said in done.stderr
    assert said or not done.stderr


def test_run_with_json_prints_the_end_on_stdout_and_the_log_beside_it(polpod: Scripted) -> None:
    polpod.answers = dict(ANSWERS)
    done = ask(polpod, "run", "--json", "--", "true")
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, ANSWERS["task.wait"]["tasks"][0], b"out\n")


def test_logs_are_bytes_as_they_are(polpod: Scripted) -> None:
    polpod.answers = dict(ANSWERS)
    data = bytes(range(256)) + b"\x1b[2J\r\n"
    polpod.answers["task.logs"] = [part(data), part(b"", len(data), end=True)]
    done = ask(polpod, "logs", "-n", "20", "--run", "17", "5")
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")
    assert (polpod.calls[0][1]["tail"], polpod.calls[0][1]["run"]) == (20, 17)


def test_logs_of_a_task_that_has_not_run_are_empty_and_it_says_so(polpod: Scripted) -> None:
    polpod.answers = {"task.logs": part(b"", run=None)}
    done = ask(polpod, "logs", "5")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"polpoctl: task 5 has not run yet\n")


def test_events_after_a_number_are_read_to_the_end_and_gaps_are_said(polpod: Scripted) -> None:
    def page(params: dict[str, Any]) -> Any:
        first = max(params["after"] + 1, 10)
        events = [
            {"seq": n, "at": "", "kind": "k", "subject": "s", "body": {}} for n in range(first, min(first + 5, 21))
        ]
        return {"events": events, "first": 10, "next": events[-1]["seq"] if events else params["after"]}

    polpod.answers = {"event.list": page}
    done = ask(polpod, "events", "--json", "--after", "3")
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == list(range(10, 21))
    assert done.stderr == b"polpoctl: events 4 to 9 are not kept any more\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command_and_option(shell: str) -> None:
    done = polpoctl("completion", shell)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert all(word in text for word in ("completion", "idempotency-key", "exit-status", "polpoctl"))
