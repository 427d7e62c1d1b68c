"""Tells channels of events, as rules say (`settings.notifications`, mission documents; DESIGN §11, F88).

Rules:

1. Each channel reads the journal by itself, with a cursor of its own that is stored with the record of each delivery: what
   was under way when the daemon died is delivered again, under the same id, and nothing is lost.
2. In order: the next event waits until this one was taken, with growing pauses between attempts.  One that is older than
   the channel's `giveUpAfter` is given up, which is an event and a record, and the channel goes on.
3. One that hangs or fails costs nobody else anything: it has its own task, and a limit on each attempt.
4. Where retention was faster, it is told of the gap by an event `journal:gap`, whatever kinds it asked for.
5. Which rules are silent depends on the times of events and on what is stored: after a restart it is decided again in the
   same way.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime

import trio

from polpod.errors import PolpodError
from polpod.model.events import Event
from polpod.model.notifying import Channel, Rule
from polpod.model.polpo.notifications import NotificationRecord, NotificationStatus
from polpod.model.tasks import Backoff
from polpod.rules import notifying as rules
from polpod.rules import retry
from polpod.rules.notifying import Notice
from polpod.services.channels import Line
from polpod.services.insist import insist
from polpod.services.instance import Instance, now
from polpod.services.interests import Interests
from polpod.services.journal import EVERYTHING
from polpod.store import changes, queries
from polpod.store.polpo import SentNotifications, next_number
from polpod.store.records import Tx

BACKOFF = Backoff(delay=1.0, factor=2.0, limit=300.0, jitter=0.1)

GATHER = 0.1
"""Seconds after a commit in which others may follow, so that a busy journal is not read at each."""

PAGE = 100
UNSTORED = 1000
"""Events that were of no interest after which the cursor is stored all the same."""

MOST_SILENT = 1000
"""Rules whose silence is remembered; of more, the oldest is forgotten."""


async def serve(instance: Instance) -> None:
    """All channels of polpo.json."""
    told = instance.config.settings.told
    await insist(instance.tasks, lambda tx: queries.drop_cursors(tx, told.channels), durable=False)
    async with trio.open_nursery() as nursery:
        for name, channel in told.channels.items():
            nursery.start_soon(_Follower(instance, name, channel, told.rules).serve)


class _Follower:
    """What one channel is told."""

    def __init__(self, instance: Instance, name: str, channel: Channel, common: tuple[Rule, ...]) -> None:
        self._instance, self._name, self._channel = instance, name, channel
        self._line = Line(instance, name, channel)
        self._interests = Interests(name, common)
        self._silences: Mapping[str, datetime] = {}
        self._tries = 0
        self._failing_since: float | None = None

    async def serve(self) -> None:
        while True:
            try:
                await self._follow()
            except PolpodError as exc:
                await self._failed(f"the journal: {exc}")

    async def _follow(self) -> None:
        tasks, name = self._instance.tasks, self._name
        cursor = stored = self._instance.told[name] = await insist(tasks, lambda tx: queries.cursor(tx, name))
        self._silences = await tasks.read(lambda tx: queries.silences(tx, name))
        with self._instance.journal.listening([EVERYTHING]) as bell:
            while True:
                first, page = await tasks.read(lambda tx: self._next(tx, cursor))
                if first > cursor + 1:
                    await self._tell(self._gap(cursor + 1, first - 1), first - 1)
                    cursor = stored = self._instance.told[name] = first - 1
                for seq, notices in page:
                    for n, notice in enumerate(notices, 1):
                        if not self._is_silent(notice):
                            stored = seq if n == len(notices) else cursor
                            await self._tell(notice, stored)
                    cursor = self._instance.told[name] = seq
                if cursor - stored >= UNSTORED:
                    stored = cursor
                    await insist(tasks, lambda tx: queries.set_cursor(tx, name, cursor), durable=False)
                if not page:
                    await bell.wait()
                    await trio.sleep(GATHER)

    def _next(self, tx: Tx, cursor: int) -> tuple[int, list[tuple[int, list[Notice]]]]:
        """The first `seq` that is kept, and of the events past the cursor what there is to tell."""
        events = queries.page_of_journal(tx, after=cursor, limit=PAGE)
        return queries.first_seq(tx) or 0, [(event.seq, self._interests.notices(tx, event)) for event in events]

    def _gap(self, first: int, last: int) -> Notice:
        body = {"first": first, "last": last}
        event = Event(seq=last, at=now(), kind=rules.GAP, subject="daemon", body=body)
        text = f"events {first} to {last} were forgotten before you could be told of them"
        return Notice(event, Rule(id="journal", channels=(self._name,), severity="warning"), "journal", text, text)

    async def _tell(self, notice: Notice, cursor: int) -> None:
        """Tell of it, or give it up; then the cursor stands there."""
        event, rule = notice.event, notice.rule
        what = f"event {event.seq} {event.kind}" + (f" (rule {rule.id})" if rule.id != self._name else "")
        while (problem := await self._line.attempt(notice)) is not None:
            if self._given_up(event):
                await self._store(notice, cursor, problem)
                await self._line.note(f"{what}: {problem}; given up")
                await trio.sleep(BACKOFF.delay)
                return
            await self._failed(f"{what}: {problem}")
        self._tries, self._failing_since = 0, None
        self._silences = rules.silences(self._silences, notice, MOST_SILENT)
        await self._store(notice, cursor, None)
        await self._line.note(f"{what}: delivered")

    def _is_silent(self, notice: Notice) -> bool:
        return rules.silent(self._silences.get(notice.key), notice.event.at, notice.rule.cooldown_ms)

    def _given_up(self, event: Event) -> bool:
        """Whether no attempt is left: it is too old, and the channel had its chance since the daemon started."""
        if self._failing_since is None:
            self._failing_since = trio.current_time()
        failing = trio.current_time() - self._failing_since
        return rules.hopeless((now() - event.at).total_seconds(), failing, self._channel.give_up_after / 1000)

    async def _store(self, notice: Notice, cursor: int, problem: str | None) -> None:
        name, silences = self._name, self._silences

        def body(tx: Tx) -> None:
            queries.set_cursor(tx, name, cursor)
            if notice.rule.cooldown_ms:
                queries.set_silences(tx, name, silences)
            record(tx, name, self._line.kind, notice, problem)
            if problem is not None and notice.event.kind != rules.FAILED:
                event, subject = notice.event, f"notification/{name}"
                changes.note(
                    tx, now(), rules.FAILED, subject, rule=notice.rule.id, channel=name, event=event.seq,
                    event_kind=event.kind, error=problem,
                )  # fmt: skip

        await insist(self._instance.tasks, body, durable=False)

    async def _failed(self, problem: str) -> None:
        pause = retry.delay(BACKOFF, self._tries, random.random())
        self._tries += 1
        await self._line.note(f"{problem}; attempt {self._tries}, again in {pause:.0f} s")
        await trio.sleep(pause)


def record(tx: Tx, channel: str, kind: str, notice: Notice, problem: str | None) -> None:
    """Keep that it was told, or why it was not."""
    seq = next_number(tx, SentNotifications, SentNotifications.seq)
    tx[SentNotifications].add(
        NotificationRecord(
            id=f"n{seq}",
            seq=seq,
            timestamp=now(),
            rule_id=notice.rule.id,
            rule_name=notice.rule.name,
            channel=channel,
            channel_type=kind,
            status=NotificationStatus.SENT if problem is None else NotificationStatus.FAILED,
            error=problem,
            title=notice.title,
            body=notice.text,
            severity=notice.rule.severity,
            source_event=notice.event.kind,
        )
    )
