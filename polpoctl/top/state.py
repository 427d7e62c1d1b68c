"""What `top` shows and what keys do: changed by `press` and `accept` alone, without a terminal, a clock or a socket.

Rule: what cannot be taken back is asked about first, and only `y` is yes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from polpoctl.top.feed import NOT_DONE, Asked, Contact, News, Page, Part, Told, Wanted
from polpoctl.top.feed import Text as Sentences
from polpoctl.top.logview import LogView
from polpoctl.top.table import Table
from polpoctl.top.views import APPROVALS, MISSIONS, OF_MISSION, TASKS, VIEWS, Deed, Entry, called


class Source(Protocol):
    """Where what is shown comes from: `feed.Feed`."""

    def want(self, wanted: Wanted) -> None: ...
    def ask(self, asked: Asked) -> None: ...
    def follow(self, number: int, task_id: str) -> None: ...
    def leave_log(self) -> None: ...


class Question(NamedTuple):
    text: str
    asked: Asked


class State:
    """One of the tables, and over it the log, sentences, or the help."""

    def __init__(self, source: Source) -> None:
        self.tables = [Table(view) for view in VIEWS]
        self.table = self.tables[0]
        self.status: dict[str, Any] = {}
        self.trouble: str | None = None
        self.message = ""
        self.question: Question | None = None
        self.line: str | None = None
        """The filter, while it is written."""
        self.sentences: Sentences | None = None
        self.help = False
        self.line_read = 0
        """The first line of the sentences, or of the help, that is seen."""
        self.log: LogView | None = None
        self.over = False
        """Whether to end."""
        self.height = 24
        """Lines that a page key moves by, and some."""
        self._source = source
        self._logs = 0
        self._wanted: Wanted | None = None
        self._want()

    def accept(self, news: News) -> None:
        """Show what was heard of the daemon."""
        match news:
            case Page():
                self.status = news.status
                self.table.accept(news)
                self._want()
                self._follow_on()
            case Told():
                self.message = news.text
            case Contact():
                self.trouble = news.trouble
            case Sentences():
                self.sentences = news
            case Part():
                if self.log is not None and self.log.number == news.number:
                    self.log.accept(news)
                    if news.said:
                        self.message = ""  # which is older, and would hide it

    def press(self, key: str) -> None:
        """Do what the key means here and now."""
        self.message = ""
        if self.question is not None:
            self._answer(key)
        elif self.line is not None:
            self._write(key)
        elif self.reading:
            self._read(key)
        elif key in _ALWAYS:
            _ALWAYS[key](self)
        elif self.log is not None:
            self._in_log(key)
        else:
            self._in_table(key)
        self._want()

    @property
    def reading(self) -> bool:
        """Whether there are sentences over everything else."""
        return self.help or self.sentences is not None

    def keys(self) -> list[tuple[str, str]]:
        """Those that do something here, and what."""
        if self.log is not None:
            return [("Esc", "back"), *((d.key, d.word) for d in TASKS.deeds), ("?", "help"), ("q", "quit")]
        view = self.table.view
        found = [("Enter", view.enter)] if view.enter else []
        found += [(deed.key, deed.word) for deed in view.deeds]
        return [*found, ("/", "filter"), ("?", "help"), ("q", "quit")]

    def _want(self) -> None:
        """Have read what is looked at now."""
        if (wanted := self.table.wanted()) != self._wanted:
            self._wanted = wanted
            self._source.want(wanted)

    def _answer(self, key: str) -> None:
        question, self.question = self.question, None
        if key == "y" and question is not None:
            self._ask(question.asked)
        else:
            self.message = "nothing was done"

    def _read(self, key: str) -> None:
        if key in (steps := self._steps()):
            self.line_read = max(0, self.line_read + steps[key])
        else:
            self.help, self.sentences, self.line_read = False, None, 0

    def _write(self, key: str) -> None:
        line = self.line or ""
        if key == "enter":
            try:
                self.table.change(filter=line.strip())
                self.line = None
            except ValueError as error:
                self.message = str(error)
        elif key == "escape":
            self.line = None
        elif key == "backspace":
            self.line = line[:-1]
        elif key == "clear":
            self.line = ""
        elif len(key) == 1:
            self.line = line + key

    def _in_log(self, key: str) -> None:
        log = self.log
        assert log is not None
        task = self._task_of(log)
        if key in ("escape", "left", "backspace"):
            self.log = None
            self._source.leave_log()
        elif key == "enter":
            self._follow(log.task_id, log.title)
        elif task is None or not self._deed(TASKS.deeds, key, task):
            self._move(log, key)

    def _in_table(self, key: str) -> None:
        table = self.table
        if key == "enter":
            self._enter()
        elif key == "/":
            self.line = table.filter
        elif key == "s" and table.view.orders:
            table.sort()
            self.message = f"by {table.order}, within this page" if table.order else "by the order of submission"
        elif key == "escape":
            self._back()
        elif key == "a" and table.view is TASKS:
            table.change(all=not table.all)
        elif table.selected is None or not self._deed(table.view.deeds, key, table.selected):
            self._move(table, key)

    def _deed(self, deeds: tuple[Deed, ...], key: str, entry: Entry) -> bool:
        """Whether the key is that of a deed, which is asked for then."""
        for deed in deeds:
            if deed.key == key:
                if deed.question:
                    self.question = Question(deed.question.format(name=called(entry)), deed.asked(entry))
                else:
                    self._ask(deed.asked(entry))
                return True
        return False

    def _ask(self, asked: Asked) -> None:
        if self.trouble is not None:
            self.message = NOT_DONE
        else:
            self._source.ask(asked)

    def _enter(self) -> None:
        entry, view = self.table.selected, self.table.view
        if entry is None:
            return
        if view in (TASKS, OF_MISSION):
            self._follow(entry["id"], entry["title"])
        elif view is MISSIONS:
            self.table = Table(OF_MISSION, {"id": entry["id"]}, f"tasks of mission {called(entry)}")
        elif view is APPROVALS:
            self._deed(view.deeds, "w", entry)

    def _follow(self, task_id: str, title: str) -> None:
        self._logs += 1
        self.log = LogView(self._logs, task_id, title)
        self._source.follow(self._logs, task_id)

    def _follow_on(self) -> None:
        """Where the log that is looked at has ended, and its task runs again, that run's is."""
        log = self.log
        if log is not None and log.over and (task := self._task_of(log)) and task["run_id"] not in (None, log.run):
            self._follow(log.task_id, log.title)

    def _task_of(self, log: LogView) -> Entry | None:
        return next((entry for entry in self.table.entries if entry.get("id") == log.task_id), None)

    def _back(self) -> None:
        if self.table.filter:
            self.table.change(filter="")
        elif self.table not in self.tables:
            self.table = self.tables[VIEWS.index(MISSIONS)]

    def _move(self, what: Table | LogView, key: str) -> None:
        if key in (steps := self._steps()):
            what.move(steps[key])
        elif key in ("home", "g"):
            what.home()
        elif key in ("end", "G"):
            what.end()

    def _steps(self) -> dict[str, int]:
        page = max(1, self.height - 6)
        return {"up": -1, "k": -1, "down": 1, "j": 1, "page-up": -page, "page-down": page, " ": page, "b": -page}

    def _turn_to(self, number: int) -> None:
        if self.log is not None:
            self.log = None
            self._source.leave_log()
        self.table = self.tables[number % len(self.tables)]

    def _beside(self, by: int) -> None:
        here = self.tables.index(self.table) if self.table in self.tables else VIEWS.index(MISSIONS)
        self._turn_to(here + by)

    def _end(self) -> None:
        self.over = True

    def _explain(self) -> None:
        self.help = True


_ALWAYS: dict[str, Callable[[State], None]] = {
    "q": State._end,
    "?": State._explain,
    "tab": lambda state: state._beside(1),
    "backtab": lambda state: state._beside(-1),
    "1": lambda state: state._turn_to(0),
    "2": lambda state: state._turn_to(1),
    "3": lambda state: state._turn_to(2),
    "4": lambda state: state._turn_to(3),
}
