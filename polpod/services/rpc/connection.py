"""One connection: its frames, and the answers to their calls (DESIGN §9).

Rules:

1. Calls of one connection are answered in their order, one at a time; those that wait on purpose go on beside them.
2. Nothing that a client sends stops the daemon: what goes wrong in a connection ends that connection.
3. What it costs is bounded: the members of a batch, the bytes of an answer and of all that are not read, the long
   polls, the time on the loop; and what all connections make us keep together (`kept.py`).
4. The details of a defect of ours are in the log, not in the answer.
"""

from __future__ import annotations

import itertools
import logging
import select
import socket
import time
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
import trio

from polpod.errors import Damaged, PermissionDenied, RequestError, Unavailable
from polpod.services.meter import DEFECT
from polpod.services.rpc.method import Call, Caller, Method, Right
from polpod.services.rpc.own import WRONG_TOKENS
from polpod.services.rpc.refusal import invalid, refusal, shortened
from polpod.services.rpc.table import METHODS
from polpod.services.submission import Submitted
from polpod.wire import jsonrpc
from polpod.wire.errors import (
    APPLICATION_ERROR,
    INTERNAL_ERROR,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    TOO_LARGE,
)
from polpod.wire.frames import LIMIT, Decoder, FrameTooLong, encode

READ_SIZE = 65536
PER_TURN = 16
"""Requests of one connection that are answered before the others get a turn."""

WAITING_CALLS = 64
"""Long polls of one connection at a time."""

MOST_UNSENT = 4 * LIMIT
"""Bytes of answers that may wait for a client to read; one that lets more of its long polls end is not waited for."""

SMALLEST = 512
"""Bytes of the answer to a batch that each member can count on: enough to be told that its result does not fit."""

BIG = 65536
"""Bytes of a frame from which on it is decoded in a thread, so that it holds up nobody for long."""

LAST_WORDS = 2.0
"""Seconds in which an answer that is being sent must be read when the connection is handed over."""

LONGEST_ID = 200
"""Characters of a task's id; of what is longer the audit has its hash alone."""

LOOK_EVERY = 0.5
"""Seconds between looks whether a client that ended its side, and is owed answers of long polls, is still there."""

if TYPE_CHECKING:
    from collections.abc import Callable

    from polpod.wire.jsonrpc import Message

log = logging.getLogger(__name__)


class Connection:
    """`decoding` limits how many big frames are decoded at the same time, `keeps` is told what it makes us keep."""

    def __init__(
        self,
        client: trio.socket.SocketType,
        call: Call,
        nursery: trio.Nursery,
        decoding: trio.CapacityLimiter,
        keeps: Callable[[int], None],
    ) -> None:
        self._client, self._call, self._nursery, self._decoding, self._keeps = client, call, nursery, decoding, keeps
        self._decoder = Decoder()
        self._sending = trio.Lock()
        self._waiting = trio.Semaphore(WAITING_CALLS)
        self._undone = self._unsent = 0
        self._unanswered: dict[int, bytes] = {}  # frames of long polls that only look, by a number
        self._changing = 0  # other long polls, which must not begin anew elsewhere
        self._numbers = itertools.count()
        self._handing_over = False
        self._reading, self._writing = trio.CancelScope(), trio.CancelScope()

    def hand_over(self) -> None:
        """Have `serve` return after the call that it is about, if any; long polls end unanswered (services/reload.py)."""
        self._handing_over = True
        self._reading.cancel()
        self._writing.shield, self._writing.deadline = True, trio.current_time() + LAST_WORDS

    @property
    def run_id(self) -> int | None:
        """The run whose rights it has."""
        return self._call.caller.run_id

    @property
    def unread(self) -> bytes:
        """What whoever goes on here has to read before anything else, once `serve` and all long polls have ended."""
        # The numbers of subscriptions first, since what was asked for meanwhile may end one, or is given another.
        frames = (*self._call.subscriptions.continued(), *self._unanswered.values())
        return b"".join(frame + b"\n" for frame in frames) + self._decoder.rest

    async def serve(self, first: bytes = b"") -> bool:
        """Answer until the client ends its side; after that, long polls go on for as long as it is there.

        `first` is taken for its first words.  Returns whether another may go on here.
        """
        answered = 0
        while data := first or await self._read():
            first = b""
            try:
                frames, lost = self._decoder.feed(data), None
            except FrameTooLong as exc:
                frames, lost = exc.complete, exc
            self._undone = sum(map(len, frames))
            self._account()
            for frame in frames:
                if self._handing_over:
                    self._unanswered[next(self._numbers)] = frame
                    continue
                await self._receive(frame)
                if self._call.wrong_tokens >= WRONG_TOKENS:
                    return False
                answered += 1
                if answered % PER_TURN == 0:
                    await trio.lowlevel.checkpoint()
            self._undone = 0
            self._account()
            if lost is not None:
                await self._send(_encoded(jsonrpc.error(None, PARSE_ERROR, str(lost), {"type": TOO_LARGE})))
                return False
        while (self._changing if self._handing_over else self._nursery.child_tasks) and not _gone(self._client):
            await trio.sleep(LOOK_EVERY)
        self._nursery.cancel_scope.cancel()
        return self._handing_over

    async def _read(self) -> bytes:
        """What comes next; nothing at the end, and where the connection is handed over."""
        data = b""
        with trio.CancelScope() as self._reading:
            if not self._handing_over:
                data = await self._client.recv(READ_SIZE)
        return data

    async def _receive(self, frame: bytes) -> None:
        if not frame.strip():
            return
        if len(frame) < BIG:
            received = jsonrpc.receive(frame, orjson.loads)
        else:
            received = await trio.to_thread.run_sync(jsonrpc.receive, frame, orjson.loads, limiter=self._decoding)
        methods = [METHODS.get(i.method) for i in received.items if isinstance(i, jsonrpc.Call)]
        if not any(method and method.waits for method in methods):
            await self._answer(received)
            return
        number = next(self._numbers)
        self._unanswered[number] = frame
        with trio.CancelScope() as self._reading:  # while nothing of it is begun, it can be handed over
            if self._handing_over:
                return
            await self._waiting.acquire()
        if self._reading.cancelled_caught:
            return
        if any(method and method.changes for method in methods):
            del self._unanswered[number]
            self._changing += 1
            self._nursery.start_soon(self._answer_later, received, None)
        else:
            self._nursery.start_soon(self._answer_later, received, number)

    async def _answer_later(self, received: jsonrpc.Received, number: int | None) -> None:
        """`number`: of its frame; None: it changes something, so that it must not be handed over."""
        try:
            await self._answer(received)
        finally:
            self._waiting.release()
            if number is None:
                self._changing -= 1
        if number is not None:
            del self._unanswered[number]
            self._account()

    async def _answer(self, received: jsonrpc.Received) -> None:
        items = received.items
        answers: list[bytes] = []
        room = LIMIT - 2 - SMALLEST * len(items)  # the brackets
        for number, item in enumerate(items, start=1):
            response = await self._respond(item) if isinstance(item, jsonrpc.Call) else item
            if response is not None:
                answers.append(_encoded(response, room + SMALLEST))
                room += SMALLEST - len(answers[-1]) - 1  # the comma
            if number % PER_TURN == 0:
                await trio.lowlevel.checkpoint()
        if answers:
            await self._send(b"[" + b",".join(answers) + b"]" if received.batch else answers[0])
        self._call.subscriptions.begin(self._send, self._nursery)

    async def _respond(self, request: jsonrpc.Call) -> Message | None:
        """The response to one call; None to a notification."""
        try:
            response = jsonrpc.result(request.id, await _carry_out(self._call, request))
        except RequestError as exc:
            response = jsonrpc.error(request.id, **refusal(exc))
        except _UnknownMethod as exc:
            response = jsonrpc.error(request.id, METHOD_NOT_FOUND, str(exc))
        except Damaged as exc:
            log.error("%s", exc)
            why = f"{exc}; `polpoctl store check` says what is damaged, and what helps"
            response = jsonrpc.error(request.id, INTERNAL_ERROR, why)
        except Exception:  # per call: a defect of ours costs its caller an answer, and nobody else anything
            log.exception("%s failed", request.method)
            response = jsonrpc.error(request.id, INTERNAL_ERROR, "a defect of polpod; its log says more")
        return None if request.notification else response

    async def _send(self, answer: bytes) -> None:
        self._unsent += len(answer)
        self._account()
        if self._unsent > MOST_UNSENT:
            raise BrokenPipeError(f"a client does not read the {self._unsent} bytes that it asked for")
        async with self._sending:
            rest = memoryview(encode(answer))
            with trio.CancelScope(shield=self._handing_over) as self._writing:
                if self._handing_over:
                    self._writing.deadline = trio.current_time() + LAST_WORDS
                while rest:
                    rest = rest[await self._client.send(rest) :]
            if rest:
                self._client.shutdown(socket.SHUT_WR)  # whoever would send next is not to wait as long once more
                raise BrokenPipeError("a client does not read, and polpod does not wait for it")
        self._unsent -= len(answer)
        self._account()

    def _account(self) -> None:
        unanswered = sum(map(len, self._unanswered.values()))
        self._keeps(self._decoder.begun + self._undone + unanswered + self._unsent)


class _UnknownMethod(Exception):
    pass


async def _carry_out(call: Call, request: jsonrpc.Call) -> Any:
    method, meter = METHODS.get(request.method), call.desk.instance.meter
    began, error, result = time.perf_counter(), None, None
    if method is None:
        meter.called("unknown", "unknown", 0.0, waits=False)
        raise _UnknownMethod(f"there is no method {shortened(request.method, 100)!r}; rpc.discover lists them")
    outcome = DEFECT
    try:
        result = await _allowed(call, method, request.params)
        answer = result if isinstance(result, orjson.Fragment) else msgspec.to_builtins(result)
        outcome = "ok"
        return answer
    except RequestError as exc:
        error, outcome = exc, exc.kind
        raise
    except trio.Cancelled:  # the client left, or goes on elsewhere
        outcome = "cancelled"
        raise
    finally:
        meter.called(method.name, outcome, time.perf_counter() - began, waits=method.waits)
        if method.audited or isinstance(error, PermissionDenied):
            call.desk.audit.note(
                method.name, request.params, who=call.caller.whole_name,
                task_id=_about(method, request.params, result), error=error, risky=method.right is Right.OWNER,
                took=time.perf_counter() - began,
            )  # fmt: skip


async def _allowed(call: Call, method: Method, given: Any) -> Any:
    _admit(method, call.caller)
    try:
        params = msgspec.convert(given, method.params)
    except msgspec.ValidationError as exc:
        raise invalid(exc) from exc
    if method.writes:
        if call.desk.instance.stopping.is_set() and call.caller.run_id is None:  # a run may say what it leaves
            raise Unavailable("polpod is stopping")
        await call.desk.instance.recovered.wait()
    return await method.answer(call, params)


def _about(method: Method, params: Any, result: Any) -> str | None:
    """The task that the call was about, where it was about one."""
    if isinstance(result, Submitted):
        return result.id
    named = params.get("id" if method.name.startswith("task.") else "task_id")
    return named if isinstance(named, str) and named.strip() and len(named) <= LONGEST_ID else None


def _admit(method: Method, who: Caller) -> None:
    if who.right < method.right or (who.reads_only and method.changes):
        inside = "from inside a run" if who.run_id is not None else f"to {who.name}"
        raise PermissionDenied(f"{method.name} is not allowed {inside}")


def _encoded(response: Message, room: int = LIMIT) -> bytes:
    """The response as JSON; where it is longer than `room` bytes, an error that says so, with its id if that fits."""
    try:
        data = orjson.dumps(response)
    except TypeError as exc:  # such as a number of more than 64 bits, which a store may hold
        log.error("an answer is not JSON: %s", exc)
        data = orjson.dumps(jsonrpc.error(response["id"], INTERNAL_ERROR, "a defect of polpod; its log says more"))
    for id in (response["id"], None):
        if len(data) <= room:
            break
        why = f"the answer does not fit into a message of {LIMIT} bytes"
        data = orjson.dumps(jsonrpc.error(id, APPLICATION_ERROR, why, {"type": TOO_LARGE}))
    return data


def _gone(client: trio.socket.SocketType) -> bool:
    """Whether the other end is closed altogether, not only for writing."""
    poll = select.poll()
    poll.register(client.fileno(), 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))
