"""The client that is awaited: AsyncClient, on trio and on asyncio, with as many calls under way as there are tasks.

Rules:

1. What is said is polpoctl.conversation's, what takes several calls is polpoctl.steps': only the carrying is written here.
2. Whoever waits for an answer reads for all; when that one is cancelled or has its answer, the next one reads on.
3. A message that was sent in part ends the connection: what follows would be read as its rest.
4. What changes something has a connection of its own.  Many calls that were given up end the other one, where all may be
   made again: polpod goes on with their long polls, and with no more than so many of one connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from socket import MSG_NOSIGNAL
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio.abc import ByteStream, SocketAttribute

from polpoctl.awaiting import ends, over
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
from polpoctl.follow import content, events, log, newest_event
from polpoctl.nouns import Noun, repeatable
from polpoctl.steps import Ask, Remark
from polpoctl.transport import URLS, ContactLost, TurnedAway, ended, hang_up, refuse_long, said, unreachable
from polpod.wire import frames
from polpod.wire.jsonrpc import RemoteError

if TYPE_CHECKING:  # where it is made, it is there for type checkers alone
    from polpoctl.steps import Steps
    from polpoctl.websocket import WebSocket

FULL = 0.005
"""Seconds between attempts, where the socket takes no more at the moment."""

MOST_GIVEN_UP = 12
"""Calls that polpod has not answered yet: it carries out 64 long polls of a connection at a time, and then reads on."""

R = TypeVar("R")
T = TypeVar("T")


class AsyncClient:
    """As polpoctl.client.Client, for `async with`; its calls may be made from many tasks at once."""

    def __init__(
        self, socket: str | None = None, root: str | None = None, *, url: str | None = None, key_file: str | None = None,
        patience: float = RECONNECT,
    ) -> None:  # fmt: skip
        """Which polpod is meant, and how long one that went away is waited for; `async with` connects.  Raises Failure."""
        self._place, self._tried, self._key_file = meant(socket, root, url, key_file)
        self._patience = patience
        self._connections: dict[bool, _Connection] = {}
        """For calls that may be made again, the long polls among them, and for those that may not."""
        self._connecting = anyio.Lock()
        self._closed = False

    async def __aenter__(self) -> AsyncClient:
        """Raises Failure."""
        self._closed = False
        await self._connected(True)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the connections, and the calls that are under way."""
        self._closed = True
        for connection in list(self._connections.values()):
            await connection.aclose()

    async def call(self, method: str, /, **params: Any) -> Any:
        """The result of a method; see polpoctl.client.Client.call."""
        if repeatable(method, params):
            return await self._call_lasting(method, params)
        try:
            connection = await self._connected(False)
        except Failure as exc:
            connection = await self._back(False, Absence(self._patience), exc)
        return await connection.call(method, params)

    def __getattr__(self, noun: str) -> Noun:
        """The methods of a noun: `await client.task.submit(…)`."""
        return Noun(noun, self.call)

    async def wait(self, *ids: str, any: bool = False, timeout: float | None = None) -> list[dict[str, Any]]:
        """Wait until all, or any, of the tasks ended.  Raises TimeoutError."""
        return over(await anext(self._taken(ends(list(ids), any_of_them=any, timeout=timeout))), ids, timeout)

    async def cursor(self) -> int:
        """The number of the newest event: what happens from now on comes after it."""
        return await anext(self._taken(newest_event()))

    def events(
        self, after: int = 0, *, kinds: Iterable[str] = (), subject: str | None = None, follow: bool = True
    ) -> AsyncIterator[dict[str, Any]]:
        """Events after that one, each once, in order.  Raises EventsGone; see polpoctl.client.Client.events."""
        return self._taken(events(after, kinds=kinds, subject=subject, follow=follow, complete=True))

    def logs(self, id: str, *, run: int | None = None, follow: bool = True) -> AsyncIterator[bytes]:
        """What a task wrote, in pieces; see polpoctl.client.Client.logs."""
        return _Taken(log(id, run, follow=follow), self._call_lasting, content)

    def _taken(self, steps: Steps[T]) -> AsyncIterator[T]:
        return _Taken(steps, self._call_lasting, lambda given: given)

    async def _call_lasting(self, method: str, params: dict[str, Any], until: float = FOR_EVER) -> Any:
        absence: Absence | None = None
        while True:
            connection = self._connections.get(True)
            try:
                if connection is None:
                    raise ContactLost("there is no connection")
                return await connection.call(method, params)
            except (ContactLost, RemoteError) as exc:
                if not passing(exc):
                    raise
                if absence is None:
                    absence = Absence(self._patience, until)
                await self._back(True, absence, exc)
                params = remade(params, until)

    async def _back(self, again: bool, absence: Absence, why: Exception) -> _Connection:
        """A connection, after a pause.  Raises ContactLost, TimeRanOut."""
        for pause in absence.pauses():
            await anyio.sleep(pause)
            if self._closed:
                raise ContactLost("it was closed here")
            try:
                return await self._connected(again)
            except TurnedAway:
                raise
            except Failure as exc:
                why = exc
        raise absence.over(why)

    async def _connected(self, again: bool) -> _Connection:
        """The connection as long as it lasts, for others may wait for answers on it; else a new one.  Raises Failure."""
        async with self._connecting:
            if self._closed:
                raise ContactLost("it was closed here")
            there = self._connections.get(again)
            if there is None or there.ended():
                if there is not None:
                    await there.aclose()
                there = await _Connection.to(self._place, self._tried, self._key_file, again)
                self._connections[again] = there
            return there


class _Taken(AsyncIterator[R]):
    """As polpoctl.steps.take.  No generator: one that is not read to its end has to be closed, and this need not be."""

    def __init__(self, steps: Steps[T], call: Callable[..., Awaitable[Any]], made: Callable[[T], R]) -> None:
        """`made` makes what is given of what the steps give."""
        self._steps = steps
        self._call = call
        self._made = made
        self._asked: Ask | None = None
        """What was not answered yet: who was cancelled meanwhile, and comes again, asks for it again."""

    async def __anext__(self) -> R:
        answer = None
        while True:
            if self._asked is not None:
                answer = await self._call(self._asked.method, self._asked.params, self._asked.until)
                self._asked = None
            try:
                step = self._steps.send(answer)
            except StopIteration:
                raise StopAsyncIteration from None
            answer = None
            if isinstance(step, Ask):
                self._asked = step
            elif not isinstance(step, Remark):
                return self._made(step)


class _Connection:
    """One connection, and the calls that are under way on it."""

    def __init__(self, place: str, stream: ByteStream, framing: _Lines | WebSocket, again: bool) -> None:
        """`again`: its calls may be made again."""
        self._stream, self._framing = stream, framing
        self._again = again
        self._conversation = Conversation(place)
        self._sending = anyio.Lock()
        self._reading = False
        self._read = anyio.Event()
        self._lost: Failure | RemoteError | None = None
        self._given_up: set[int] = set()

    @classmethod
    async def to(cls, place: str, tried: list[str], key_file: str | None, again: bool) -> _Connection:
        """A connection to this socket, or with that key to this URL.  Raises Failure."""
        stream, framing = await (_afar(place, key_file) if place.startswith(URLS) else _here(place, tried))
        connection = cls(place, stream, framing, again)
        try:
            if (known := identity(place)) is not None:
                await connection.call("run.identify", known)
        except RemoteError as error:
            if (failure := not_identified(error)) is not None:
                await connection.aclose()
                raise failure from None
        return connection

    async def aclose(self) -> None:
        self._lost = self._lost or ContactLost("it was closed here")
        await self._stream.aclose()

    def ended(self) -> bool:
        """Whether polpod is known to have gone."""
        return self._lost is not None or ended(self._stream.extra(SocketAttribute.raw_socket).fileno())

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """The result of one call.  Raises RemoteError, Failure."""
        if self._lost is not None:
            raise self._lost
        asked, message = self._conversation.ask(method, params)
        try:
            frame = self._framing.encode(message)
        except frames.FrameTooLong as exc:
            raise cannot_be_sent(method, exc) from None
        answered = False
        try:
            async with self._sending:
                await self._send(asked, frame)
            answer = await self._answer(asked)
            answered = True
        finally:
            if not answered:
                self._give_up(asked)
        if isinstance(answer, RemoteError):
            raise answer
        return answer

    async def _send(self, asked: int, frame: bytes) -> None:
        if self._lost is not None:
            raise self._lost
        begun = False
        try:
            with anyio.fail_after(PATIENCE):
                if isinstance(self._framing, _Lines):
                    rest = frame
                    while rest := rest[self._sent(rest) :]:
                        begun = len(rest) < len(frame)
                        await anyio.sleep(FULL)
                else:  # which may have to be encrypted
                    begun = True
                    await self._stream.send(frame)
            begun = False
            self._conversation.waiting.add(asked)
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as exc:
            raise self._lose(exc) from None
        finally:
            if begun and self._lost is None:
                self._lost = ContactLost("a call was given up while it was sent")

    def _sent(self, data: bytes) -> int:
        """How many bytes of it could be sent without waiting."""
        try:
            return int(self._stream.extra(SocketAttribute.raw_socket).send(data, MSG_NOSIGNAL))
        except BlockingIOError:
            return 0

    def _give_up(self, asked: int) -> None:
        """Nobody waits for that answer any more, though polpod does for what a long poll asked about."""
        self._conversation.forget(asked)
        self._given_up.add(asked)
        self._given_up &= self._conversation.waiting
        if self._again and len(self._given_up) >= MOST_GIVEN_UP:
            self._lost = self._lost or ContactLost("too many calls were given up")
            hang_up(self._stream.extra(SocketAttribute.raw_socket))  # whoever reads finds out

    async def _answer(self, asked: int) -> Any:
        answers = self._conversation.answers
        while asked not in answers:
            if self._lost is not None:
                raise self._lost
            if self._reading:
                await self._read.wait()
                continue
            self._reading = True
            try:
                await self._receive()
            finally:
                self._reading = False
                self._read.set()
                self._read = anyio.Event()
        return answers.pop(asked)

    async def _receive(self) -> None:
        try:
            with anyio.fail_after(PATIENCE):
                data = await self._stream.receive()
                messages = self._framing.feed(data)
                if replies := self._framing.replies():
                    async with self._sending:
                        await self._stream.send(replies)
            for message in messages:
                self._conversation.hear(message)
            if self._framing.over:  # what it said before stands
                self._lose(EOFError())
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream) as exc:
            raise self._lose(exc) from None
        except frames.FrameTooLong as exc:
            self._lost = self._conversation.nonsense(exc)
            raise self._lost from None
        except (Failure, RemoteError) as exc:  # it spoke, but of nothing that was asked
            self._lost = exc
            raise

    def _lose(self, error: Exception) -> Failure | RemoteError:
        why = error if isinstance(error, OSError) else error.__cause__
        self._lost = self._lost or ContactLost(said(why if isinstance(why, OSError) else EOFError(), PATIENCE))
        return self._lost


class _Lines:
    """How messages are carried on a Unix socket: a line each."""

    over = False

    def __init__(self) -> None:
        self.encode = frames.encode
        self.feed = frames.Decoder().feed

    def replies(self) -> bytes:
        return b""


async def _here(path: str, tried: list[str]) -> tuple[ByteStream, _Lines]:
    """Raises Failure."""
    refuse_long(path)
    stream: ByteStream | None = None
    try:
        with anyio.fail_after(PATIENCE):
            stream = await anyio.connect_unix(path)
        stream.extra(SocketAttribute.raw_socket).getpeername()  # none: too many wait to be accepted already
    except OSError as exc:
        if stream is not None:
            await stream.aclose()
        raise unreachable(path, exc, tried, PATIENCE) from None
    return stream, _Lines()


async def _afar(url: str, key_file: str | None) -> tuple[ByteStream, WebSocket]:
    """Raises Failure."""
    from polpoctl.websocket import WebSocket  # only for this

    afar = WebSocket(url, key_file)
    try:
        with anyio.fail_after(PATIENCE):
            stream: ByteStream = (
                await anyio.connect_tcp(afar.host, afar.port, tls=True, tls_standard_compatible=False)
                if afar.encrypted
                else await anyio.connect_tcp(afar.host, afar.port)
            )
            opened = False
            try:
                await stream.send(afar.greeting())
                while not afar.opened:
                    afar.feed(await stream.receive())
                opened = True
            finally:
                if not opened:
                    await anyio.aclose_forcefully(stream)
    except OSError as exc:
        raise afar.unreachable(exc) from None
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        raise afar.unreachable(EOFError()) from None
    return stream, afar
