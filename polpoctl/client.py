"""Clients of a polpod: connections, calls that outlast a restart of it, and the library's face (docs/client.md).

Rules:

1. An answer lost is not an answer: contact that ends before it came is ContactLost, and only calls that change nothing
   are made again by themselves (`Lasting`).
2. Every wait is bounded: PATIENCE for an answer, and RECONNECT for a daemon.
3. Everyday commands load this module: what only the library needs is loaded when it is used.
"""

from __future__ import annotations

import time

from polpoctl.conversation import (
    FOR_EVER,
    PATIENCE,
    RECONNECT,
    Absence,
    Conversation,
    cannot_be_sent,
    identity,
    meant,
    not_identified,
    passing,
    remade,
)
from polpoctl.exits import Failure
from polpoctl.render import notice
from polpoctl.transport import URLS, ContactLost, TurnedAway, UnixTransport, Unreachable, said
from polpod.wire import frames
from polpod.wire.jsonrpc import RemoteError

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeVar

    from polpoctl.asynchronous import AsyncClient
    from polpoctl.nouns import Noun
    from polpoctl.steps import Steps
    from polpoctl.transport import Transport

    T = TypeVar("T")

__all__ = (
    "AsyncClient",
    "Client",
    "Connection",
    "ContactLost",
    "Failure",
    "Lasting",
    "RemoteError",
    "Unreachable",
    "connect",
)

AT_ONCE = 16
"""Calls of `call_many` that are under way together."""


def connect(args: Namespace, patience: float = PATIENCE) -> Connection:
    """A connection to the polpod that is meant; `patience`: seconds to wait for an answer.  Raises Failure."""
    place, tried, key_file = meant(args.socket, args.root, args.url, args.key_file)
    return Connection(place, tried, patience, key_file)


def opened(place: str, tried: list[str], patience: float, key_file: str | None) -> Transport:
    """The transport to the path of a socket or to a URL, connected.  Raises Failure."""
    if place.startswith(URLS):
        from polpoctl.websocket import WebSocketTransport  # only for this

        return WebSocketTransport(place, key_file, patience)
    return UnixTransport(place, tried, patience)


class Connection:
    """A connection to a polpod: calls, one after another or many under way."""

    def __init__(
        self, path: str, tried: list[str] | None = None, patience: float = PATIENCE, key_file: str | None = None
    ) -> None:
        """Connect to a socket, or with the key in `key_file` to a URL.

        Raises Failure (Unreachable; not allowed; a path that is too long).
        """
        self.path = path
        self.tried = tried or [path]
        self._patience, self._key_file = patience, key_file
        self._transport = opened(path, self.tried, patience, key_file)
        self._conversation = Conversation(path)
        self._identify()

    def close(self) -> None:
        self._transport.close()

    def again(self) -> Connection:
        """Another connection to the same polpod.  Raises Failure."""
        return Connection(self.path, key_file=self._key_file)

    def ended(self) -> bool:
        """Whether polpod is known to have gone: whatever is sent would not reach it."""
        return self._transport.ended()

    def hang_up(self) -> None:
        """From another thread: whoever waits for an answer gets ContactLost."""
        self._transport.hang_up()

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """The result of one call.  Raises RemoteError, ContactLost."""
        answer = self.answer(self.ask(method, params or {}))
        if isinstance(answer, RemoteError):
            raise answer
        return answer

    def call_many(self, calls: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[Any]:
        """The result of each call, or its RemoteError, in order; some are under way while others are made."""
        under_way: list[int] = []
        for method, params in calls:
            if len(under_way) == AT_ONCE:
                yield self.answer(under_way.pop(0))
            under_way.append(self.ask(method, params))
        for asked in under_way:
            yield self.answer(asked)

    def ask(self, method: str, params: dict[str, Any]) -> int:
        """Send a call without waiting; `answer` takes the number that this returns.  Raises Failure."""
        asked, message = self._conversation.ask(method, params)
        waiting = self._conversation.waiting
        try:
            self._transport.send(message, crossing=bool(waiting))
        except frames.FrameTooLong as exc:
            raise cannot_be_sent(method, exc) from None
        except (OSError, EOFError) as exc:
            self._transport.hang_up()  # a part of it may have been sent: what follows would be read as its rest
            raise ContactLost(said(exc, self._patience)) from None
        waiting.add(asked)
        return asked

    def answer(self, asked: int) -> Any:
        """The result of that call, or its RemoteError (returned, not raised).  Raises ContactLost."""
        answers = self._conversation.answers
        while asked not in answers:
            try:
                message = self._transport.receive()
            except (OSError, EOFError) as exc:
                raise ContactLost(said(exc, self._patience)) from None
            except frames.FrameTooLong as exc:
                raise self._conversation.nonsense(exc) from None
            self._conversation.hear(message)
        return answers.pop(asked)

    def _identify(self) -> None:
        """Speak for the run that this process is of, where the socket is that run's.  Raises Failure."""
        if (known := identity(self.path)) is None:
            return
        try:
            self.call("run.identify", known)
        except RemoteError as error:
            if (failure := not_identified(error)) is not None:
                raise failure from None


class Lasting:
    """Calls that change nothing, made again when contact was lost, for `patience` seconds from the loss on."""

    def __init__(
        self, connection: Connection, patience: float = RECONNECT, *, say: Callable[[str], None] = notice
    ) -> None:
        """`say` is told of contact lost and found."""
        self._connection = connection
        self._patience = patience
        self.say = say
        """Tells the user that polpod is away."""

    def close(self) -> None:
        self._connection.close()

    def call(self, method: str, params: dict[str, Any], until: float = FOR_EVER) -> Any:
        """The result of the call, which is not made again after `until` on the monotonic clock.

        Raises RemoteError; ContactLost when polpod does not come back; TimeRanOut when it is not back by `until`.
        """
        absence: Absence | None = None
        while True:
            try:
                result = self._connection.call(method, params)
            except (ContactLost, RemoteError) as exc:
                if not passing(exc):
                    raise
                if absence is None:
                    absence = self._absent(until)
                self._reconnect(absence, exc)
                params = remade(params, until)
            else:
                if absence is not None:
                    self.say("contact again")
                return result

    def call_once(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a call that changes something: made to a polpod that is there, and never again.

        Raises RemoteError; ContactLost, after which nobody knows whether the call was carried out.
        """
        if self._connection.ended():
            self._reconnect(self._absent(FOR_EVER), ContactLost("polpod closed the connection"))
        return self._connection.call(method, params)

    def _absent(self, until: float) -> Absence:
        self.say(f"contact lost, waiting for polpod at {self._connection.path} …")
        return Absence(self._patience, until)

    def _reconnect(self, absence: Absence, lost: Exception) -> None:
        self._connection.close()
        for pause in absence.pauses():
            time.sleep(pause)
            try:
                self._connection = self._connection.again()
                return
            except TurnedAway:
                raise
            except Failure as exc:
                lost = exc
        raise absence.over(lost)


class Client:
    """A polpod, as a program talks to it; each call blocks.  For one thread at a time.

    `socket`, `root`, `url`, `key_file`: which polpod is meant, as with polpoctl's options; without them, the one that polpoctl
    finds.
    `patience`: for how many seconds a polpod that went away is waited for.  Contact that was lost is found again by the
    next call; calls that change nothing are made again by themselves, and a `task.submit` with an idempotency key too.
    """

    def __init__(
        self, socket: str | None = None, root: str | None = None, *, url: str | None = None, key_file: str | None = None,
        patience: float = RECONNECT,
    ) -> None:  # fmt: skip
        """Connect.  Raises Failure."""
        place, tried, key_file = meant(socket, root, url, key_file)
        self._polpod = Lasting(Connection(place, tried, key_file=key_file), patience, say=lambda text: None)

    def call(self, method: str, /, **params: Any) -> Any:
        """The result of a method (docs/rpc.md), with its parameters by name.

        Raises RemoteError for what polpod refused; Failure for what never reached it; ContactLost (a Failure) where
        nobody knows whether it was carried out.
        """
        from polpoctl.nouns import repeatable

        make = self._polpod.call if repeatable(method, params) else self._polpod.call_once
        return make(method, params)

    def __getattr__(self, noun: str) -> Noun:
        """The methods of a noun: `client.task.submit(…)` is `client.call("task.submit", …)`."""
        from polpoctl.nouns import Noun

        return Noun(noun, self.call)

    def wait(self, *ids: str, any: bool = False, timeout: float | None = None) -> list[dict[str, Any]]:
        """Wait until all, or any, of the tasks ended: an entry for each, as task.wait has it.

        Raises TimeoutError after `timeout` seconds.
        """
        from polpoctl.awaiting import ends, over

        return over(next(self._taken(ends(list(ids), any_of_them=any, timeout=timeout))), ids, timeout)

    def cursor(self) -> int:
        """The number of the newest event: what happens from now on comes after it."""
        from polpoctl.follow import newest_event

        return next(self._taken(newest_event()))

    def events(
        self, after: int = 0, *, kinds: Iterable[str] = (), subject: str | None = None, follow: bool = True
    ) -> Iterator[dict[str, Any]]:
        """Events after that one, each once, in order; with `follow` also those that are yet to happen.

        Raises EventsGone where some of those after `after` are not kept any more; not where that is 0, which means all that
        are kept.
        """
        from polpoctl.follow import events

        return self._taken(events(after, kinds=kinds, subject=subject, follow=follow, complete=True))

    def logs(self, id: str, *, run: int | None = None, follow: bool = True) -> Iterator[bytes]:
        """What a task wrote, in pieces: with `follow` in all of its runs, until it ends; else in its newest run so far."""
        from polpoctl.follow import content, log

        return map(content, self._taken(log(id, run, follow=follow)))

    def close(self) -> None:
        """End the connection."""
        self._polpod.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _taken(self, steps: Steps[T]) -> Iterator[T]:
        from polpoctl.steps import take, unsaid

        return take(steps, self._polpod.call, unsaid)


def __getattr__(name: str) -> type[AsyncClient]:
    """AsyncClient, which needs anyio, once somebody asks for it."""
    if name != "AsyncClient":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from polpoctl.asynchronous import AsyncClient

    return AsyncClient
