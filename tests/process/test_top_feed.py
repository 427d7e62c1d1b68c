"""What polpoctl top asks of a polpod, and when: seen from that polpod's side."""

from __future__ import annotations

import base64
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kit.scripted import HANG_UP, SILENCE, STATUS, TASK, Refusal, Scripted
from kit.waiting import until

from polpoctl.client import Connection
from polpoctl.exits import Failure
from polpoctl.top import feed
from polpoctl.top.feed import Contact, Feed, News, Page, Part, Told, Wanted
from polpoctl.top.link import Closed, Link

WANTED = Wanted("task.list", {"all": False}, "tasks")


@pytest.fixture
def polpod() -> Iterator[Scripted]:
    with Scripted() as scripted:
        yield scripted


def events(rings: list[int]) -> Callable[[dict[str, Any]], Any]:
    """An answer to event.list: the newest cursor at once; what follows it once there is more in `rings`, by tens."""

    def answer(params: dict[str, Any]) -> Any:
        if "after" in params:
            until(lambda: len(rings) * 10 > params["after"], "something happens")
        return {"events": [], "first": 1, "next": len(rings) * 10}

    return answer


def test_the_journal_rings_and_one_page_is_read_however_much_happened(
    polpod: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_REST", 0.0)
    monkeypatch.setattr(feed, "_TIMES", 0)
    rings: list[int] = []
    polpod.answers = {
        "event.list": events(rings),
        "daemon.status": STATUS,
        "task.list": {"tasks": [TASK], "next": 5},
        "task.cancel": HANG_UP,
    }
    heard: list[News] = []
    top = Feed(lambda: Connection(polpod.path), lambda: None)

    def hear(condition: Callable[[News], bool]) -> News:
        def heard_it() -> News | None:
            while not top.news.empty():
                heard.append(top.news.get())
            return next((news for news in heard if condition(news)), None)

        return until(heard_it, "the news")

    def pages() -> int:
        hear(lambda news: isinstance(news, Page))
        return sum(isinstance(news, Page) for news in heard)

    top.start()
    top.want(WANTED)
    assert hear(lambda news: isinstance(news, Page)) == Page(WANTED, [TASK], 5, STATUS)
    polpod.called("event.list", 2)
    before = pages()
    rings.append(1)
    until(lambda: pages() > before, "it is read again")
    assert polpod.called("event.list", 4) == {
        "after": 10,
        "limit": 1,
        "wait": 30,
    }  # not through what happened, but past it
    # What changes something is asked once, even if nobody knows what came of it.
    top.ask(lambda call: Told(call("task.cancel", {"select": {"ids": ["5"]}})))
    told = hear(lambda news: isinstance(news, Told))
    assert isinstance(told, Told)
    assert "contact lost" in told.text
    # It is said once that polpod is away, and once that it is back; then all is read again.
    polpod.answers["event.list"] = HANG_UP
    rings.append(1)
    polpod.stop()
    hear(lambda news: isinstance(news, Contact) and news.trouble is not None)
    polpod.answers["event.list"] = events(rings)
    polpod.start()
    hear(lambda news: isinstance(news, Contact) and news.trouble is None)
    before = pages()
    rings.append(1)
    until(lambda: pages() > before, "it is read again")
    assert [name for name, _ in polpod.calls].count("task.cancel") == 1
    # A log comes from its last lines on, and is left.
    polpod.answers["task.logs"] = [
        {"run_id": 17, "offset": 0, "data": base64.b64encode(b"out\n").decode(), "next_offset": 4, "end": False}, SILENCE,
    ]  # fmt: skip
    top.follow(3, "5")
    assert hear(lambda news: isinstance(news, Part)) == Part(3, b"out\n", 17)
    assert polpod.called("task.logs") == {"id": "5", "limit": 2**18, "wait": 0, "tail": feed.LAST_LINES}
    polpod.called("task.logs", 2)
    top.leave_log()
    assert [news for news in heard if isinstance(news, Part) and news.said] == []
    # In the end nobody asks any more.
    top.close()
    rings += [1] * 10
    until(lambda: all(thread.name != "top" for thread in threading.enumerate()), "its threads end")


def test_what_is_asked_for_while_polpod_goes_is_not_done_when_it_is_back(polpod: Scripted) -> None:
    goes = threading.Event()

    def status(params: dict[str, Any]) -> Any:
        goes.wait(30)
        return HANG_UP

    polpod.answers = {"daemon.status": status, "task.list": {"tasks": [], "next": None}, "task.cancel": {}}
    polpod.answers["event.list"] = SILENCE
    top = Feed(lambda: Connection(polpod.path), lambda: None)
    heard: list[News] = []

    def pages() -> int:
        while not top.news.empty():
            heard.append(top.news.get())
        return sum(isinstance(news, Page) for news in heard)

    top.want(WANTED)
    top.start()
    polpod.called("daemon.status")
    top.ask(lambda call: Told(str(call("task.cancel", {}))))
    os.rename(polpod.path, f"{polpod.path}.away")
    goes.set()
    until(lambda: pages() == 0 and Told("nothing was done: polpod does not answer") in heard, "it is said")
    polpod.answers["daemon.status"] = STATUS
    os.rename(f"{polpod.path}.away", polpod.path)
    until(lambda: pages() > 1, "it was read, and again for what was asked")
    assert "task.cancel" not in [method for method, _ in polpod.calls]
    top.close()
    until(lambda: all(thread.name != "top" for thread in threading.enumerate()), "its threads end")


def test_it_goes_on_with_the_journal_that_polpod_came_back_with(polpod: Scripted) -> None:
    """As after store restore: the cursor is refused."""
    first, other = ({"events": [], "first": 1, "next": number} for number in (10, 3))
    polpod.answers = {"event.list": [first, Refusal("conflict"), other, SILENCE], "daemon.status": STATUS}
    polpod.answers["task.list"] = {"tasks": [], "next": None}
    top = Feed(lambda: Connection(polpod.path), lambda: None)
    top.want(WANTED)
    top.start()
    assert polpod.called("event.list", 4)["after"] == 3
    top.close()
    until(lambda: all(thread.name != "top" for thread in threading.enumerate()), "its threads end")


def test_a_log_that_grows_faster_than_it_is_looked_at_is_read_no_faster(polpod: Scripted) -> None:
    part = {"run_id": 17, "offset": 0, "data": base64.b64encode(b"y\n").decode(), "next_offset": 2, "end": False}
    polpod.answers = {"task.logs": part}
    top = Feed(lambda: Connection(polpod.path), lambda: None)
    top.follow(1, "5")
    with pytest.raises(AssertionError, match="more is read"):
        until(lambda: len(polpod.calls) > 2 * feed.UNSEEN, "more is read", bound=0.5)
    top.close()
    while not top.news.empty():
        top.news.get()
    until(lambda: all(thread.name != "top" for thread in threading.enumerate()), "its threads end")


def test_a_refusal_is_shown_in_the_place_of_a_page(polpod: Scripted) -> None:
    polpod.answers = {"daemon.status": STATUS, "mission.list": Refusal("permission_denied", "not yours to see")}
    connection = Connection(polpod.path)
    page = feed.read(connection.call, Wanted("mission.list", {}, "missions"))
    connection.close()
    assert (page.entries, page.refused) == ([], "not yours to see")


def test_a_link_outlives_what_it_is_connected_to(polpod: Scripted) -> None:
    polpod.answers = {"daemon.status": [STATUS, HANG_UP, Refusal("unavailable", "not yet"), STATUS]}
    told: list[str | None] = []
    link = Link(lambda: Connection(polpod.path), told.append)
    assert link.call("daemon.status", {}) == STATUS
    assert link.call("daemon.status", {}) == STATUS
    assert told == ["not yet", None]  # that a connection ended is no matter where the next one is there
    polpod.answers = {"task.cancel": HANG_UP}
    with pytest.raises(Failure, match="contact lost"):
        link.once("task.cancel", {})
    link.close()
    with pytest.raises(Closed):
        link.call("daemon.status", {})


@pytest.mark.parametrize(
    ("argv", "env", "code", "said"),
    [
        ((), {}, 4, "no polpod answers at /nowhere/sock"),
        (("--json",), {}, 2, "top is for people"),
        ((), {"TERM": "dumb"}, 2, "top needs a terminal that can do more than TERM=dumb says"),
    ],
)
def test_it_begins_where_it_can_be_of_use(argv: tuple[str, ...], env: dict[str, str], code: int, said: str) -> None:
    assert on_terminal("", *argv, **env) == (code, said)


def test_it_needs_a_terminal_and_rich_and_says_so() -> None:
    assert on_terminal("sys.modules['rich'] = None") == (
        1, "top needs the package rich, which is not installed: pip install 'polpod[top]'",
    )  # fmt: skip
    command = [sys.executable, "-m", "polpoctl", "top"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "polpoctl: top needs a terminal; polpoctl list does without\n"


def test_nothing_is_sent_while_nothing_changes_and_what_cannot_go_on_ends(polpod: Scripted) -> None:
    rings: list[int] = []
    done = TASK | {"status": "done", "state": "done", "hold": False, "result": {"duration": 1.0}}
    polpod.answers = {
        "event.list": events(rings),
        "daemon.status": STATUS,
        "task.list": {"tasks": [done], "next": None},
    }
    ours, theirs = terminal()
    with subprocess.Popen(
        [sys.executable, "-m", "polpoctl", "top", "--socket", polpod.path],
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=ENVIRONMENT,
    ) as top:  # fmt: skip
        try:
            shown = b""
            while b"make check" not in shown or b"quit" not in shown:
                shown += os.read(ours, 65536)
            assert len(shown) < 1000
            os.set_blocking(ours, False)
            for _ in range(3):  # each reading of these is drawn before the next one
                before = [name for name, _ in polpod.calls].count("task.list")
                rings.append(1)
                polpod.called("task.list", before + 1)
            with pytest.raises(BlockingIOError):
                os.read(ours, 65536)
            polpod.answers["task.list"] = {}
            rings.append(1)
            assert top.stderr is not None
            assert b"KeyError: 'tasks'" in top.stderr.read()
            assert top.wait(60) == 1
            assert os.read(ours, 65536).endswith(b"\x1b[?1049l")
        finally:
            top.kill()  # of a test that failed
            rings += [1] * 10
    os.close(ours)
    os.close(theirs)


@contextmanager
def shown(polpod: Scripted) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """It, drawn on a terminal of which these are our side and its own."""
    polpod.answers = {"event.list": SILENCE, "daemon.status": STATUS, "task.list": {"tasks": [TASK], "next": None}}
    ours, theirs = terminal()
    with subprocess.Popen(
        [sys.executable, "-m", "polpoctl", "top", "--socket", polpod.path],
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=ENVIRONMENT,
    ) as top:  # fmt: skip
        try:
            text = b""
            while b"make check" not in text or b"quit" not in text:
                text += os.read(ours, 65536)
            yield top, ours, theirs
        finally:
            top.kill()  # of a test that failed
    os.close(theirs)


def test_a_terminal_that_takes_nothing_is_given_back_all_the_same(polpod: Scripted) -> None:
    """As after Ctrl-S."""
    with shown(polpod) as (top, ours, theirs):
        as_it_was = termios.tcgetattr(theirs)
        as_it_was[3] |= termios.ICANON | termios.ECHO
        termios.tcflow(theirs, termios.TCOOFF)
        top.terminate()
        assert top.wait(60) == 128 + 15
        assert termios.tcgetattr(theirs)[3] == as_it_was[3]
        os.close(ours)


def test_a_terminal_that_is_gone_ends_it_without_a_word(polpod: Scripted) -> None:
    with shown(polpod) as (top, ours, _):
        os.close(ours)
        assert top.stderr is not None
        assert top.stderr.read() == b""
        assert top.wait(60) == 0


def terminal() -> tuple[int, int]:
    """Our side of one, and theirs."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    return ours, theirs


ENVIRONMENT = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm"}


def on_terminal(first: str, *argv: str, **env: str) -> tuple[int, str]:
    """The exit code, and how the first line said begins, up to a colon or semicolon; the terminal was told nothing."""
    code = f"import sys; {first}\nfrom polpoctl.__main__ import main\nsys.argv[0] = 'polpoctl'\nmain()"
    ours, theirs = terminal()
    done = subprocess.run(
        [sys.executable, "-c", code, "top", "--socket", "/nowhere/sock", *argv],
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=60,
        env=ENVIRONMENT | env,
    )  # fmt: skip
    os.set_blocking(ours, False)
    with pytest.raises(BlockingIOError):
        os.read(ours, 1)
    os.close(ours)
    os.close(theirs)
    said = done.stderr.splitlines()[0].removeprefix("polpoctl: ")
    return done.returncode, said if "rich" in said else said.partition(":")[0].partition(";")[0]
