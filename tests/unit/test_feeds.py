"""What a connection is told: when a feed ends, under which number, and where another generation goes on."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import orjson
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from polpod.services.rpc.connection import LAST_WORDS, Connection
from polpod.services.rpc.methods.follow import EventFeed, EventList
from polpod.services.rpc.subscriptions import Subscriptions


class Slow:
    """A feed whose reading cannot be given up, as that of a database."""

    notification = "slow.next"

    def __init__(self) -> None:
        self.read = trio.Event()

    async def next(self) -> dict[str, Any]:
        with trio.CancelScope(shield=True):
            await self.read.wait()
        return {"next": 7}

    def told(self, params: dict[str, Any]) -> None:
        raise AssertionError

    def call(self) -> tuple[str, dict[str, Any]]:
        return "slow.subscribe", {"after": 0}


def test_what_was_read_as_its_subscription_ended_is_not_told() -> None:
    """It would be taken for a word of the next subscription of that number."""
    sent: list[bytes] = []

    async def send(data: bytes) -> None:
        sent.append(data)

    async def main() -> None:
        subscriptions, feed = Subscriptions(), Slow()
        async with trio.open_nursery() as nursery:
            number = subscriptions.add(feed)
            subscriptions.begin(send, nursery)
            await wait_all_tasks_blocked()
            subscriptions.remove(number)
            assert subscriptions.add(Slow()) != number
            feed.read.set()
        assert sent == []

    trio.run(main)


def test_another_generation_goes_on_with_what_was_answered() -> None:
    """What was not answered is asked there anew."""

    async def send(data: bytes) -> None:
        raise AssertionError

    async def main() -> None:
        subscriptions, feed = Subscriptions(), Slow()
        subscriptions.add(feed)
        assert subscriptions.continued() == []
        async with trio.open_nursery() as nursery:
            subscriptions.begin(send, nursery)
            (said,) = subscriptions.continued()
            subscriptions.remove(1)
            feed.read.set()
        assert orjson.loads(said) == {
            "jsonrpc": "2.0", "method": "slow.subscribe", "params": {"after": 0, "subscription": 1}
        }  # fmt: skip

    trio.run(main)


def test_a_client_that_does_not_read_is_waited_for_once() -> None:
    """As a connection is handed over, however much is to be sent on it."""

    async def main() -> None:
        ours, theirs = trio.socket.socketpair()
        nobody: Any = None
        with ours, theirs:
            try:
                async with trio.open_nursery() as nursery:
                    connection = Connection(ours, nobody, nursery, nobody, lambda size: None)
                    for _ in range(3):
                        nursery.start_soon(connection._send, bytes(2**20))
                    await wait_all_tasks_blocked()
                    began = trio.current_time()
                    connection.hand_over()
            except* BrokenPipeError:
                pass
            assert trio.current_time() == began + LAST_WORDS

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_who_searches_the_journal_leaves_readers_to_others() -> None:
    """Through half a million events for a hundred kinds, a few had all others wait for many seconds."""
    reading = 0

    async def read(body: object) -> None:
        nonlocal reading
        reading += 1
        await trio.sleep_forever()

    instance: Any = SimpleNamespace(
        journal=SimpleNamespace(listening=lambda subjects: nullcontext()), tasks=SimpleNamespace(read=read)
    )

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for kinds in (("a:*",), ("b:*",), ("c:*",), ()):
                nursery.start_soon(EventFeed(instance, EventList(0, kinds, None)).next)
            await wait_all_tasks_blocked()
            assert reading == 2
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_events_that_nobody_asked_for_are_looked_through_once() -> None:
    """Those that are forgotten afterwards were not missed."""

    class Bell:
        async def wait(self) -> None:
            await trio.sleep_forever()

    async def read(body: object) -> tuple[list[object], int, int]:
        return [], 1, 5

    instance: Any = SimpleNamespace(
        journal=SimpleNamespace(listening=lambda subjects: nullcontext(Bell())), tasks=SimpleNamespace(read=read)
    )
    feed = EventFeed(instance, EventList(2, ("nothing:*",), None))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed.next)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert feed.call() == ("event.subscribe", {"after": 5, "kinds": ("nothing:*",), "subject": None})
