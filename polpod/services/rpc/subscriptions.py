"""What one connection is told without asking again: notifications, each from a feed that is read by a cursor (DESIGN §9, §11).

Rules:

1. A feed is read on only when its last notification was taken over by the connection's socket: a client that does not
   read holds up its own feeds, keeps one message of each, and costs nobody else anything.
2. What comes next is the feed's cursor and nothing else, so that a client, or the next generation of the daemon, goes on
   where the last notification ended: nothing is missed and nothing told twice.
3. The first notification follows the answer that says the subscription's number.  One with `end` or `error` is the last:
   who has it may use the number again, though we may not know yet that it was sent.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import orjson
import trio

from polpod.errors import Conflict, NotFound, RequestError, TooLarge
from polpod.services.rpc.refusal import refusal
from polpod.wire import jsonrpc

MOST = 32
"""Subscriptions of one connection."""

GREATEST = 2**31
"""Number of a subscription, for who chooses it."""

Send = Callable[[bytes], Awaitable[None]]


class Feed(Protocol):
    """What is told; `notification` is the method's name."""

    notification: str

    async def next(self) -> dict[str, Any]:
        """The parameters of the next notification, once there is one."""

    def told(self, params: dict[str, Any]) -> None:
        """That was sent: go on after it."""

    def call(self) -> tuple[str, dict[str, Any]]:
        """The method, and its parameters, that would begin where this feed is."""


class Subscriptions:
    def __init__(self) -> None:
        self._feeds: dict[int, Feed] = {}
        self._scopes: dict[int, trio.CancelScope] = {}
        self._ending: set[int] = set()

    def add(self, feed: Feed, number: int | None = None) -> int:
        """Begin to tell, once `begin` is called; under that number, or a new one.

        Raises TooLarge: there are enough; Conflict: the number is taken.
        """
        if len(self._feeds) - len(self._ending) >= MOST:
            raise TooLarge(f"a connection has at most {MOST} subscriptions")
        if number in self._feeds and number not in self._ending:
            raise Conflict(f"there is a subscription {number} already")
        number = number or next(n for n in itertools.count(1) if n not in self._feeds)
        self._forget(number)
        self._feeds[number] = feed
        return number

    def remove(self, number: int) -> None:
        """Raises NotFound."""
        if number not in self._feeds or number in self._ending:
            raise NotFound(f"there is no subscription {number}")
        self._forget(number)

    def begin(self, send: Send, nursery: trio.Nursery) -> None:
        """Tell what was added since this was last called."""
        for number in self._feeds.keys() - self._scopes.keys():
            scope = self._scopes[number] = trio.CancelScope()
            nursery.start_soon(self._tell, number, self._feeds[number], scope, send)

    def continued(self) -> list[bytes]:
        """Requests without an id that make another connection go on with them."""
        calls = [(feed.call(), number) for number, feed in self._feeds.items()]
        return [
            orjson.dumps(jsonrpc.notification(method, params | {"subscription": number}))
            for (method, params), number in calls
        ]

    async def _tell(self, number: int, feed: Feed, scope: trio.CancelScope, send: Send) -> None:
        while True:
            params = None
            with scope:  # which may be cancelled already; a message that is begun is sent to its end
                params = await _next(feed)
            if params is None:
                return
            last = "error" in params or params.get("end", False)
            if last:
                self._ending.add(number)
            await send(orjson.dumps(jsonrpc.notification(feed.notification, {"subscription": number} | params)))
            if self._feeds.get(number) is not feed:  # its client said so meanwhile
                return
            if last:
                self._forget(number)
                return
            feed.told(params)
            scope = self._scopes[number] = trio.CancelScope()

    def _forget(self, number: int) -> None:
        self._feeds.pop(number, None)
        self._ending.discard(number)
        if scope := self._scopes.pop(number, None):
            scope.cancel()


async def _next(feed: Feed) -> dict[str, Any]:
    try:
        return await feed.next()
    except RequestError as exc:
        return {"error": refusal(exc)}
