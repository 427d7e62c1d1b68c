"""What is asked of the daemon, each in a thread of its own, and posted to whoever draws.

Rules:

1. `Bell` follows the journal by its cursor and says only that something happened: what there is now is then read anew.
   So nothing is missed, and a thousand events a second cost no more than one reading after another.
2. `Reader` reads one page at a time, and rests for some times as long as that took: a daemon with much to do has not more
   to do because somebody looks at it.
3. What changes something is asked once (`Link.once`), in the order of the keys.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from polpoctl.client import Connection
from polpoctl.exits import Failure
from polpoctl.follow import LONG_POLL, Log, content
from polpoctl.steps import take
from polpoctl.top.link import Closed, Link
from polpod.wire.errors import CONFLICT
from polpod.wire.jsonrpc import RemoteError

PAGE = 200
"""Tasks, or whatever it is, that are read at once."""

SEARCHED = 5
"""Pages of MOST that are looked through for a word, before it is said how far."""

MOST = 1000
"""The most that polpod gives at once."""

_REST = 0.5
"""Seconds between two readings, at least."""
_TIMES = 5
"""As long as a reading took, so many times is the rest after it."""
LAST_LINES = 1000
"""Lines of a log that it begins with."""
UNSEEN = 8
"""News that wait to be looked at, at most: a log may grow faster than a line takes pictures of it."""
NOT_DONE = "nothing was done: polpod does not answer"
_READ = ("id", "title", "name", "state", "status", "message")


class Wanted(NamedTuple):
    """A page: of the answer to a call, from a cursor on, those of its entries that fit."""

    method: str
    params: dict[str, Any]
    field: str
    """Of the answer, in which the entries are."""
    after: Any = None
    paged: bool = True
    word: str = ""
    """That what is shown has in its name, its state or the like."""


class Page(NamedTuple):
    wanted: Wanted
    entries: list[dict[str, Any]]
    next: Any
    """Where the next page begins; None: there is none."""
    status: dict[str, Any]
    refused: str = ""


class Told(NamedTuple):
    """What became of what was asked for by a key."""

    text: str


class Contact(NamedTuple):
    """Why polpod does not answer; None: it does."""

    trouble: str | None


class Text(NamedTuple):
    """Sentences that were asked for, as `why`."""

    title: str
    lines: list[str]


class Part(NamedTuple):
    """Of the log that is followed."""

    number: int
    data: bytes
    run: int | None
    said: str = ""
    over: bool = False
    """Nothing follows, unless it is run again."""


News = Page | Told | Contact | Text | Part
Asked = Callable[[Callable[[str, dict[str, Any]], Any]], News]
"""What a key asks for: given how to call, what came of it."""


class Feed:
    """All threads; `news` is where they post, and wait while it is full; `rung` is called after each."""

    def __init__(self, opened: Callable[[], Connection], rung: Callable[[], None]) -> None:
        self.news: queue.Queue[News] = queue.Queue(UNSEEN)
        self._opened = opened
        self._rung = rung
        self._wanted: Wanted | None = None
        self._asked: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self._stir = threading.Event()
        self._now = threading.Event()
        self._links = [Link(opened, self._contact), Link(opened, self._reading)]
        self._log: Link | None = None

    def start(self) -> None:
        """Begin."""
        _thread(self._follow_journal, self._links[0])
        _thread(self._read, self._links[1])

    def close(self) -> None:
        """Ask nothing any more."""
        self.leave_log()
        for link in self._links:
            link.close()
        self._now.set()
        self._stir.set()

    def want(self, wanted: Wanted) -> None:
        """Read this page from now on, again whenever something happened."""
        self._wanted = wanted
        self._now.set()
        self._stir.set()

    def ask(self, asked: Asked) -> None:
        """Do this, and then read again."""
        self._asked.put(asked)
        self._now.set()
        self._stir.set()

    def follow(self, number: int, task_id: str) -> None:
        """Post the log of the task from its last lines on, as number `number`, in place of any other."""
        self.leave_log()
        self._log = Link(self._opened, lambda trouble: None)  # of that, others tell
        _thread(self._follow_log, self._log, number, task_id)

    def leave_log(self) -> None:
        """Follow no log any more."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _post(self, news: News) -> None:
        self.news.put(news)
        self._rung()

    def _contact(self, trouble: str | None) -> None:
        self._post(Contact(trouble))

    def _reading(self, trouble: str | None) -> None:
        self._contact(trouble)
        while trouble is not None and not self._asked.empty():  # who asked does not expect it once polpod is back
            self._asked.get()
            self._post(Told(NOT_DONE))

    def _follow_journal(self, link: Link) -> None:
        while True:
            # The newest cursor first, then the reading: what happens in between rings again.
            newest = link.call("event.list", {"limit": 1})["next"]
            self._stir.set()
            try:
                link.call("event.list", {"after": newest, "limit": 1, "wait": LONG_POLL})
            except RemoteError as error:
                if error.type != CONFLICT:  # else polpod is back with another journal
                    raise

    def _read(self, link: Link) -> None:
        while True:
            self._stir.wait()
            self._stir.clear()
            self._now.clear()
            while not self._asked.empty():
                self._post(_outcome(self._asked.get(), link))
            begun = time.monotonic()
            if self._wanted is not None:
                self._post(read(link.call, self._wanted))
            self._now.wait(max(_REST, _TIMES * (time.monotonic() - begun)))

    def _follow_log(self, link: Link, number: int, task_id: str) -> None:
        def said(text: str) -> None:
            self._post(Part(number, b"", None, text))

        try:
            for part in take(Log(task_id, tail=LAST_LINES).follow(), link.call, said):
                self._post(Part(number, content(part), part["run_id"]))
            self._post(Part(number, b"", None, "it has ended", over=True))
        except RemoteError as error:
            said(str(error))


def read(call: Callable[[str, dict[str, Any]], Any], wanted: Wanted) -> Page:
    """The page, with the daemon's status; where a word is looked for, of what fits, further pages too."""
    status = call("daemon.status", {})
    found: list[dict[str, Any]] = []
    after = wanted.after
    try:
        for _ in range(SEARCHED if wanted.word else 1):
            limits = {"limit": MOST if wanted.word else PAGE} if wanted.paged else {}
            cursor = {} if after is None else {"after": after}
            answer = call(wanted.method, wanted.params | limits | cursor)
            found += (entry for entry in answer[wanted.field] if fits(entry, wanted.word))
            after = answer.get("next")
            if len(found) >= PAGE or after is None:
                break
    except RemoteError as error:
        return Page(wanted, [], None, status, str(error))
    if wanted.paged and len(found) > PAGE:
        found = found[:PAGE]
        after = found[-1]["seq"]
    return Page(wanted, found, after, status)


def fits(entry: dict[str, Any], word: str) -> bool:
    """Whether the word is in what people read of the entry, large or small."""
    return any(word.casefold() in str(entry.get(name, "")).casefold() for name in _READ)


def _outcome(asked: Asked, link: Link) -> News:
    try:
        return asked(link.once)
    except (RemoteError, Failure) as error:
        return Told(str(error).splitlines()[0])


def _thread(target: Callable[..., None], link: Link, *args: object) -> None:
    """Until its link is closed."""

    def run() -> None:
        try:
            target(link, *args)
        except Closed:
            pass

    threading.Thread(target=run, name="top", daemon=True).start()
