"""`polpoctl top` as somebody sees it who sits before it: a real daemon, a real terminal, keys and what is then to be seen."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from kit.host import Host
from kit.package import need
from kit.processes import alive
from kit.tmux import Tmux
from kit.waiting import until

PAGE = Path(__file__).parents[2] / "docs/top.md"
TOOK = re.compile(r" +\d+(\.\d)?s +")


def row(screen: list[str], task_id: str) -> str:
    """The line of the task; empty where there is none."""
    return next((line for line in screen if re.match(rf"[ >]{task_id} ", line)), "")


def settings(tmux: Tmux) -> str:
    """How the terminal reads and writes."""
    return subprocess.check_output(["stty", "-g", "-F", tmux.ask("pane_tty")], text=True)


def timeless(text: str) -> str:
    return TOOK.sub(" 2s ", text)


def test_the_work_is_seen_and_acted_on_and_the_terminal_is_given_back(host: Host) -> None:
    need("tmux")
    host.configure(maxConcurrency=2)
    host.start()
    notes = host.root / "notes"
    notes.write_text("begun\n")
    top = f"{sys.executable} -m polpoctl top --socket {host.socket}; echo exit $?"
    with Tmux(80, 16) as tmux:
        tmux.line("echo was here before")
        tmux.sees(lambda seen: "was here before" in seen, "the shell")
        before = settings(tmux)

        def given_back(code: int, says: str = "was here before") -> None:
            tmux.sees(
                lambda seen: f"exit {code}" in seen and any(says in line for line in seen), f"it ends with {code}"
            )
            assert (tmux.ask("alternate_on"), tmux.ask("cursor_flag"), settings(tmux)) == ("0", "1", before)

        # What is submitted appears, and runs.
        tmux.line(top)
        tmux.shows("[1 tasks]", "nothing here")
        host.submit("tail", "-n", "+1", "-f", str(notes), title="build of everything")
        host.submit("true", title="tests of it", labels={"os": "linux"}, queue="tests", hold=True)
        host.submit("true", title="installation of it", depends_on=["1"])
        states = {"1": "running", "2": "held", "3": "waiting"}
        expected = " 1/2 slots  2 pending  1 in_progress"
        shown = tmux.sees(
            lambda seen: expected in seen[0] and all(states[i] in row(seen, i) for i in states), "what was submitted"
        )
        assert timeless("\n".join(shown)) in timeless(PAGE.read_text()), f"docs/top.md shows another screen: {shown}"

        # Its log is followed.
        tmux.press("Enter")
        tmux.shows("log of task 1  build of everything", "begun", "run 1")
        with notes.open("a") as file:
            file.write("\x1b[32mgoes on\x1b[0m\x1b[2J\n")
        tmux.sees(lambda seen: seen[1:3] == ["begun", "goes on"], "what it wrote meanwhile")

        # It is cancelled after a yes, and run again.
        tmux.type("cn")
        tmux.shows("nothing was done")
        assert host.task("1")["status"] == "in_progress"
        tmux.type("c")
        tmux.shows("Cancel task 1 (build of everything)? y/n")
        tmux.type("y")
        tmux.shows("it has ended")
        tmux.press("Escape")
        tmux.sees(lambda seen: "cancelled" in row(seen, "1"), "it is cancelled")
        tmux.type("ry")
        tmux.sees(lambda seen: "running" in row(seen, "1"), "it runs again")

        # Of many, some are looked at; a daemon that will not is heard.
        tmux.line("/os=linux")
        tmux.sees(lambda seen: bool(row(seen, "2")) and not row(seen, "1"), "the one with that label")
        tmux.type("/")
        tmux.press("C-u")
        tmux.line("status=odd")
        tmux.shows("no status 'odd'")
        tmux.press("Escape")
        tmux.sees(lambda seen: bool(row(seen, "1") and row(seen, "2")), "both again")
        tmux.press("Down")
        tmux.type("h")
        tmux.shows("task 2: pending")
        host.finished("2")
        tmux.sees(lambda seen: "done" in row(seen, "2"), "the one that was released ran")
        tmux.type("h")
        tmux.sees(lambda seen: "task 2" in seen[-2], "why it cannot be held")

        # Whatever becomes of the daemon, it goes on.
        host.kill()
        tmux.shows("polpod is away")
        host.start()
        tmux.sees(lambda seen: "polpod running" in seen[0] and "running" in row(seen, "1"), "it is there again")
        host.submit("true", title="after the fall")
        tmux.sees(lambda seen: "done" in row(seen, "4"), "what was submitted later")

        # A narrow terminal has all of it, too; and another one gets a whole picture.
        tmux.resize(40, 10)
        narrow = tmux.sees(lambda seen: len(seen) == 10 and "? help  q quit" in seen[-1], "the keys")
        assert row(narrow, "1").startswith(" 1  running")
        assert "build of ev" in row(narrow, "1")
        tmux.resize(80, 16)
        tmux.sees(lambda seen: "build of everything" in row(seen, "1") and "w why" in seen[-1], "the wide one")
        tmux.resize(40, 10)
        tmux.resize(80, 16)  # before it could have looked
        tmux.sees(lambda seen: "build of everything" in row(seen, "1") and "w why" in seen[-1], "all of it")

        # It stops and goes on as any job of a shell, and gives the terminal back however it ends.
        tmux.press("C-z")
        tmux.sees(lambda seen: seen != [] and not any("[1 tasks]" in line for line in seen), "the shell")
        assert (tmux.ask("alternate_on"), settings(tmux)) == ("0", before)
        tmux.line("fg; echo exit $?")
        tmux.shows("[1 tasks]", "after the fall")
        tmux.type("q")
        given_back(0)
        tmux.line("clear; " + top)
        tmux.shows("[1 tasks]")
        tmux.press("C-c")
        given_back(130, "exit")
        tmux.line("clear; " + top)
        tmux.shows("[1 tasks]")
        os.killpg(tmux.foreground(), signal.SIGTERM)
        given_back(143, "exit")
        tmux.line("clear; " + top)
        tmux.shows("[1 tasks]")
        group = tmux.foreground()
        tmux.press("C-z")
        tmux.sees(lambda seen: seen != [] and not any("[1 tasks]" in line for line in seen), "the shell")
        os.killpg(group, signal.SIGTERM)
        os.killpg(group, signal.SIGCONT)  # it is in the background: the terminal is the shell's
        until(lambda: not alive(group), "it has ended")
        tmux.line("wait %1; echo exit $?")
        given_back(143, "exit")
