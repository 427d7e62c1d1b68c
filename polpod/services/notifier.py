"""Tells webhooks and commands of events, as `settings.notifications` says (DESIGN §11, F88).

Rules:

1. Each notification reads the journal by itself, with a cursor of its own that is stored after each delivery: what was
   under way when the daemon died is delivered again, and nothing is lost.
2. In order, and never given up: the next event waits until this one was taken, with growing pauses between attempts.
3. One that hangs or fails costs nobody else anything: it has its own task, and a limit on each attempt.
4. Where retention was faster, it is told of the gap by an event `journal:gap`, whatever kinds it asked for.
"""

from __future__ import annotations

import os
import random
from contextlib import suppress

import trio

from polpod.config import Notification
from polpod.errors import PolpodError
from polpod.model.events import Event
from polpod.model.tasks import Backoff
from polpod.rules import retry
from polpod.runner import contract
from polpod.services.delivery import execute, post
from polpod.services.insist import insist
from polpod.services.instance import Instance, now
from polpod.services.journal import EVERYTHING
from polpod.store import queries
from polpod.store.records import Tx

BACKOFF = Backoff(delay=1.0, factor=2.0, limit=300.0, jitter=0.1)

GATHER = 0.1
"""Seconds after a commit in which others may follow, so that a busy journal is not read at each."""

PAGE = 100
UNSTORED = 1000
"""Events that were of no interest after which the cursor is stored all the same."""

LOG_SIZE = 2**20
"""Bytes after which a log is begun anew; the one before it is kept."""


async def serve(instance: Instance) -> None:
    """All notifications of polpo.json."""
    wanted = instance.config.settings.notifications
    await insist(instance.tasks, lambda tx: queries.drop_cursors(tx, [n.name for n in wanted]), durable=False)
    async with trio.open_nursery() as nursery:
        for notification in wanted:
            nursery.start_soon(_Follower(instance, notification).serve)


class _Follower:
    def __init__(self, instance: Instance, notification: Notification) -> None:
        self._instance, self._notification = instance, notification
        self._log = instance.paths.notification_log(notification.name)
        self._tries = 0

    async def serve(self) -> None:
        while True:
            try:
                await self._follow()
            except PolpodError as exc:
                await self._failed(f"the journal: {exc}")

    async def _follow(self) -> None:
        tasks, name = self._instance.tasks, self._notification.name
        cursor = stored = await insist(tasks, lambda tx: queries.cursor(tx, name))
        with self._instance.journal.listening([EVERYTHING]) as bell:
            while True:
                first, events, newest = await tasks.read(lambda tx: self._next(tx, cursor))
                if first > cursor + 1:
                    gap = {"first": cursor + 1, "last": first - 1}
                    events.insert(0, Event(seq=first - 1, at=now(), kind="journal:gap", subject="daemon", body=gap))
                for event in events:
                    await self._deliver(event)
                    cursor = stored = event.seq
                    await self._store(cursor)
                if not events:
                    cursor = max(cursor, newest)
                    if cursor - stored >= UNSTORED:
                        stored = cursor
                        await self._store(cursor)
                    await bell.wait()
                    await trio.sleep(GATHER)

    def _next(self, tx: Tx, cursor: int) -> tuple[int, list[Event], int]:
        """The first `seq` that is kept, events past the cursor, and the last `seq`."""
        events = queries.page_of_journal(tx, after=cursor, kinds=self._notification.kinds, limit=PAGE)
        return queries.first_seq(tx) or 0, events, queries.last_seq(tx)

    async def _store(self, cursor: int) -> None:
        name = self._notification.name
        await insist(self._instance.tasks, lambda tx: queries.set_cursor(tx, name, cursor), durable=False)

    async def _deliver(self, event: Event) -> None:
        what = f"event {event.seq} {event.kind}"
        while True:
            problem = await self._attempt(event)
            if problem is None:
                self._tries = 0
                await trio.to_thread.run_sync(_note, self._log, f"{what}: delivered")
                return
            await self._failed(f"{what}: {problem}")

    async def _attempt(self, event: Event) -> str | None:
        """Why the event was not delivered, or None."""
        seconds = self._notification.timeout / 1000
        try:
            with trio.fail_after(seconds):
                await self._send(event)
        except trio.TooSlowError:
            return f"took longer than {seconds:g} s"
        except Exception as exc:  # noqa: BLE001 -- the boundary: whatever is wrong out there is tried again, and no defect here
            return f"{type(exc).__name__}: {exc.__cause__ or exc}"  # what ended a TLS connection is a cause
        return None

    async def _send(self, event: Event) -> None:
        if self._notification.url is not None:
            await post(self._notification.url, event)
        if self._notification.command is not None:
            output = await trio.to_thread.run_sync(_open, self._log)
            try:
                await execute(
                    self._notification.command, event, self._instance.socket, self._instance.paths.root, output
                )
            finally:
                os.close(output)

    async def _failed(self, problem: str) -> None:
        pause = retry.delay(BACKOFF, self._tries, random.random())
        self._tries += 1
        await trio.to_thread.run_sync(_note, self._log, f"{problem}; attempt {self._tries}, again in {pause:.0f} s")
        await trio.sleep(pause)


def _note(path: str, text: str) -> None:
    with suppress(OSError):  # a full disk, no descriptor: what is told matters more than that it is noted
        fd = _open(path)
        try:
            os.write(fd, f"{contract.timestamp()} {text}\n".encode(errors="replace"))
        finally:
            os.close(fd)


def _open(path: str) -> int:
    """The log, to append to; nothing where there cannot be one.  Raises OSError where no descriptor is free."""
    with suppress(OSError):
        with suppress(FileNotFoundError):
            if os.stat(path).st_size > LOG_SIZE:
                os.replace(path, f"{path}.1")
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
