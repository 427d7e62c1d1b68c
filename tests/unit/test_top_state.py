"""What keys do in polpoctl top, and what is then to be seen, with a daemon of 100,000 tasks that is a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.scripted import STATUS, TASK

from polpoctl.top import feed
from polpoctl.top.feed import Asked, Contact, Part, Told, Wanted
from polpoctl.top.feed import Text as Sentences
from polpoctl.top.paint import Painter
from polpoctl.top.state import State
from polpoctl.top.table import selector
from polpod.wire.errors import APPLICATION_ERROR
from polpod.wire.jsonrpc import RemoteError

MANY = 100_000
NOW = 1767323056.0  # ten seconds after TASK was created
MISSION = {
    "id": "7",
    "seq": 7,
    "name": "release",
    "status": "paused",
    "tasks": {"done": 3},
    "updated_at": TASK["created_at"],
}
REQUEST = {
    "id": "a12", "seq": 12, "task_id": "5", "mission_id": None, "project": None, "kind": "start", "status": "pending",
    "message": "May it?\nReally", "gate_name": "", "requested_at": TASK["created_at"],
}  # fmt: skip


def task(number: int, **fields: Any) -> dict[str, Any]:
    words = {
        "id": str(number),
        "seq": number,
        "title": f"job {number}",
        "hold": False,
        "run_id": None,
        "progress": None,
    }
    return TASK | words | fields


def running(number: int, **fields: Any) -> dict[str, Any]:
    return task(number, status="in_progress", state="running", started_at=TASK["created_at"], **fields)


class Daemon:
    """Answers a State at once; a call that changes something is only noted, in `done`."""

    def __init__(self) -> None:
        self.tasks: Callable[[int], dict[str, Any]] = task
        self.many = MANY
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.done: list[tuple[str, dict[str, Any]]] = []
        self.followed: list[str | None] = []
        self.refusal: RemoteError | None = None
        self.state: State | None = None
        self.state = State(self)
        self.again()

    def call(self, method: str, params: dict[str, Any]) -> Any:
        self.calls.append((method, params))
        if method == "daemon.status":
            return STATUS
        if self.refusal is not None:
            raise self.refusal
        match method:
            case "task.list" | "mission.get":
                first = params.get("after") or 0
                page = [self.tasks(n) for n in range(first + 1, min(first + params["limit"], self.many) + 1)]
                following = page[-1]["seq"] if page and page[-1]["seq"] < self.many else None
                return {"tasks": page, "next": following}
            case "queue.list":
                return {"queues": [{"name": "default", "slots": None, "paused": False, "busy": 1, "ready": 2}]}
            case "mission.list":
                return {"missions": [MISSION], "next": None}
            case "approval.list":
                return {"approvals": [REQUEST], "next": None}
            case "task.why":
                return {
                    "id": params["id"],
                    "status": "pending",
                    "sentences": ["It is held."],
                    "next": ["polpoctl release"],
                }
        self.done.append((method, params))
        if method.startswith("task."):
            return {"results": [{"id": i, "status": "noted"} for i in params["select"]["ids"]]}
        return {"queue": {"paused": True}, "approval": REQUEST}

    def want(self, wanted: Wanted) -> None:
        if self.state is not None:
            self.state.accept(feed.read(self.call, wanted))

    def again(self) -> None:
        """Something happened, so it is read again."""
        assert self.state is not None
        self.want(self.state.table.wanted())

    def ask(self, asked: Asked) -> None:
        assert self.state is not None
        self.state.accept(asked(self.call))
        self.again()

    def follow(self, number: int, task_id: str) -> None:
        self.followed.append(task_id)

    def leave_log(self) -> None:
        self.followed.append(None)

    def press(self, *keys: str) -> list[str]:
        """The screen after these keys."""
        assert self.state is not None
        for key in keys:
            self.state.press(key)
        return self.screen()

    def write(self, text: str) -> list[str]:
        return self.press("/", "clear", *text, "enter")

    def screen(self, width: int = 80, height: int = 24) -> list[str]:
        assert self.state is not None
        self.state.height = height
        picture = Painter(colour=True).picture(self.state, width, height, NOW)
        assert [len(row) for row in picture] == [width] * height
        return ["".join(character for character, _ in row).rstrip() for row in picture]


@pytest.fixture
def top() -> Daemon:
    return Daemon()


def selected(screen: list[str]) -> str:
    (line,) = (line for line in screen if line.startswith(">"))
    return line[1:].split()[0]


def test_of_a_hundred_thousand_tasks_one_page_is_asked_for_at_a_time(top: Daemon) -> None:
    assert selected(top.screen()) == "1"
    assert "page 1  more" in top.screen()[-2]
    assert selected(top.press("page-down")) == "19"
    assert selected(top.press("end")) == "200"
    assert selected(top.press("down")) == "201"
    assert "page 2" in top.screen()[-2]
    assert selected(top.press("end", "page-down")) == "401"
    assert selected(top.press("up")) == "400"
    assert selected(top.press("g")) == "1"
    assert selected(top.press("up")) == "1"
    asked = [params for method, params in top.calls if method == "task.list"]
    assert [params.get("after") for params in asked] == [None, 200, 400, 200, None]
    assert {params["limit"] for params in asked} == {200}


def test_however_few_lines_there_are_the_selected_one_is_seen(top: Daemon) -> None:
    """It is what a key would cancel."""
    top.press("down")
    assert [selected(top.screen(20, height)) for height in (5, 6)] == ["2", "2"]


def test_what_is_selected_stays_so_while_others_come_and_go(top: Daemon) -> None:
    top.many = 50
    assert selected(top.press("j", "j", "j")) == "4"
    top.tasks = lambda n: task(n + 2)
    top.again()
    assert selected(top.screen()) == "4"
    top.tasks = lambda n: task(n + 10)
    top.again()
    assert selected(top.screen()) == "12"  # it is gone, and this is in its place
    top.many = 0
    top.again()
    assert "nothing here" in top.screen()
    assert top.press("c", "enter", "down", "end", "page-up") == top.screen()


def test_a_page_whose_tasks_are_all_over_is_left(top: Daemon) -> None:
    top.press("end", "down")
    top.many = 150
    top.again()
    assert selected(top.screen()) == "1"


def test_a_filter_is_polpod_s_but_for_words_and_those_are_looked_for_in_some_thousand(top: Daemon) -> None:
    assert selected(top.write("queue=build status=failed os=linux 4321")) == "4321"
    assert "/queue=build status=failed os=linux 4321" in top.screen()[-2]
    asked = [params for method, params in top.calls if method == "task.list"][1:]
    assert len(asked) == feed.SEARCHED
    assert {params["limit"] for params in asked} == {1000}
    assert asked[0]["select"] == {"queue": "build", "status": ["failed"], "labels": {"os": "linux"}}
    assert "more" in top.screen()[-2]
    assert "nothing here; Page down looks further" in top.press(
        "end", "down"
    )  # from 5,001 to 10,000 there is none; further on there is
    assert selected(top.press("page-down")) == "14321"
    assert selected(top.press("escape")) == "1"
    assert top.press("/", "=", "enter")[-2].startswith("/=_ =: NAME=VALUE is needed")
    assert "NAME=VALUE" not in top.press("escape")[-2]


def test_a_selector_is_read_as_it_is_meant() -> None:
    assert selector("project=p status=done status=failed two words") == (
        {"project": "p", "status": ["done", "failed"]}, "two words",
    )  # fmt: skip
    assert selector("") == ({}, "")


def test_a_page_has_orders(top: Daemon) -> None:
    states = {1: "done", 2: "ready", 3: "running", 4: "failed"}
    top.many = 4
    top.tasks = lambda n: running(n) if n == 3 else task(n, state=states[n], result={"duration": float(n)})
    top.again()

    def order() -> list[str]:
        return [line[1:].split()[0] for line in top.screen()[3:7]]

    assert order() == ["1", "2", "3", "4"]
    assert "by state, within this page" in top.press("s")[-2]
    assert order() == ["3", "4", "2", "1"]
    top.press("s")
    assert order() == ["3", "4", "2", "1"]
    assert "queue" in top.press("s")[-2]
    assert "order of submission" in top.press("s")[-2]
    assert order() == ["1", "2", "3", "4"]


QUESTIONS = {
    "c": ("1", "Cancel task 1 (job 1)? y/n", ("task.cancel", {"select": {"ids": ["1"]}})),
    "r": ("1", "Run task 1 (job 1) again? y/n", ("task.retry", {"select": {"ids": ["1"]}})),
    "x": ("3", "Abort mission 7 (release)? y/n", ("mission.abort", {"id": "7"})),
    "a": ("4", r"Approve a12 (May it?\nReally)? y/n", ("approval.approve", {"id": "a12"})),
}


@pytest.mark.parametrize("key", QUESTIONS)
def test_what_cannot_be_taken_back_is_asked_about(top: Daemon, key: str) -> None:
    view, question, call = QUESTIONS[key]
    assert top.press(view, key)[-2] == question
    for no in ("n", "enter", "Y", "escape", key):
        assert "nothing was done" in top.press(no)[-2]
        top.press(key)
    assert top.done == []
    top.press("y")
    assert top.done == [call]


def test_what_can_be_taken_back_is_done_at_once(top: Daemon) -> None:
    assert top.press("h")[-2] == "task 1: noted"
    top.tasks = lambda n: task(n, hold=True)
    top.again()
    top.press("h")
    assert top.press("2", "p")[-2] == "queue default: paused"
    top.press("3", "p")
    assert top.done == [
        ("task.hold", {"select": {"ids": ["1"]}}),
        ("task.release", {"select": {"ids": ["1"]}}),
        ("queue.set", {"name": "default", "paused": True}),
        ("mission.resume", {"id": "7"}),
    ]


def test_nothing_is_asked_of_a_polpod_that_is_away(top: Daemon) -> None:
    assert top.state is not None
    top.state.accept(Contact("polpod closed the connection"))
    assert top.screen()[0] == "polpod is away: polpod closed the connection"
    assert selected(top.screen()) == "1"
    assert "nothing was done: polpod does not answer" in top.press("h")[-2]
    assert "nothing was done: polpod does not answer" in top.press("c", "y")[-2]
    assert top.press("enter")[0] == "polpod is away: polpod closed the connection"
    assert top.done == []


def test_what_one_may_not_see_is_said_in_its_place_and_the_rest_goes_on(top: Daemon) -> None:
    top.refusal = RemoteError(APPLICATION_ERROR, "a run may not list missions", {"type": "permission_denied"})
    assert top.press("3")[2] == "a run may not list missions"
    top.refusal = None
    assert "release" in top.press("tab", "backtab")[3]
    assert selected(top.press("1")) == "1"


def test_a_mission_s_tasks_are_a_table_of_their_own(top: Daemon) -> None:
    screen = top.press("3", "enter")
    assert screen[1] == "[tasks of mission 7 (release)]"
    assert top.calls[-1] == ("mission.get", {"id": "7", "limit": 200})
    assert selected(top.press("end", "down")) == "201"
    assert top.press("c")[-2] == "Cancel task 201 (job 201)? y/n"
    assert "release" in top.press("n", "escape")[3]


def test_why_is_answered_over_the_table(top: Daemon) -> None:
    assert top.press("w")[2:6] == ["task 1 (job 1): pending", "", "It is held.", "polpoctl release"]
    assert top.press("down")[2:6] == ["task 1 (job 1): pending", "", "It is held.", "polpoctl release"]
    assert selected(top.press("x")) == "1"


def test_help_is_read_on_a_small_terminal(top: Daemon) -> None:
    top.press("?")
    first = top.screen(40, 10)
    assert first[2].startswith("up down, k j: select;")
    assert first[-2] == "up, down: further; any other key: back"
    assert top.state is not None
    last: list[str] = []
    for _ in range(20):
        top.state.press("page-down")
        last = top.screen(40, 10)
    assert "Ctrl-L: draw anew; q, Ctrl-C: quit" in last[-3]
    top.state.press("k")
    assert top.screen(40, 10)[3:8] == last[2:7]
    assert selected(top.press("q")) == "1"


def test_a_log_is_left_and_goes_on_with_the_next_run(top: Daemon) -> None:
    assert top.state is not None
    top.tasks = lambda n: running(n, run_id=17)
    top.again()
    assert top.press("enter")[0] == "log of task 1  job 1"
    assert top.screen()[-2] == "no run yet"
    top.state.accept(Part(1, b"out\n", 17))
    assert top.screen()[1:2] + top.screen()[-2:-1] == ["out", "run 17"]
    assert top.press("c", "y")[-2] == "task 1: noted"
    top.state.accept(Part(1, b"", None, "it has ended", over=True))
    assert top.screen()[-2] == "run 17  it has ended"
    top.again()
    assert top.followed == ["1"]
    top.tasks = lambda n: running(n, run_id=18)
    top.again()
    assert top.followed == ["1", "1"]
    top.state.accept(Part(1, b"of the one before", 17))
    top.state.accept(Part(2, b"anew", 18))
    assert top.screen()[1] == "anew"
    assert selected(top.press("escape")) == "1"
    assert top.followed == ["1", "1", None]


def test_a_narrow_terminal_shows_what_matters(top: Daemon) -> None:
    top.tasks = lambda n: running(n, title="日本" * 30, progress={"percent": 40.4})
    top.again()
    head, first, *_ = top.screen(40, 12)[2:]
    assert head.split() == ["ID", "STATE", "TOOK", "TITLE"]
    assert first.startswith(">1  running … 10s  日本日本")
    assert first.endswith("…")
    assert "running 40%" in top.screen(60, 12)[3]
    assert top.screen(120, 12)[2].split() == ["ID", "STATE", "QUEUE", "SUBMITTED", "TOOK", "TITLE"]
    assert top.screen(40, 12)[-1].endswith("? help  q quit")


@given(
    st.integers(1, 130), st.integers(1, 40),
    st.lists(st.sampled_from([*"1234cyhwas?/=k\x1b", "enter", "escape", "end", "page-down", "tab", "up"]), max_size=8),
)  # fmt: skip
def test_every_state_fits_every_terminal(width: int, height: int, keys: list[str]) -> None:
    top = Daemon()
    top.press(*keys)
    top.screen(width, height)
    assert top.state is not None
    for news in (Told("日本" * 50), Sentences("a\x1b[2Jtitle", ["x" * 300, "日" * 300])):
        top.state.accept(news)
        assert all(line.isprintable() for line in top.screen(width, height))


def test_colours_are_beside_words_and_can_be_gone(top: Daemon) -> None:
    from polpoctl.top import grid

    top.tasks = lambda n: task(n, state="failed")
    top.again()
    assert top.state is not None
    coloured, plain = (
        grid.changes(None, Painter(colour=colour).picture(top.state, 80, 24, NOW)) for colour in (True, False)
    )
    assert "\x1b[31mfailed" in coloured
    assert "failed" in plain
    assert "\x1b[31m" not in plain
