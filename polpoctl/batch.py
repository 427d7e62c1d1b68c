"""`submit --batch`: a stream of lines, in chunks that are under way together, ids in the order of the lines (DESIGN §9).

Rules:

1. Each line stands for itself: one that is no task, or that polpod refuses, is named on stderr and the others go on.
2. What cannot be sent is found out here, by the rules that polpod applies to a whole message: else one line would take
   its chunk with it.
3. A chunk is sent when it is full, or when the input has nothing more at the moment; before the input is waited for,
   all answers are in and printed, so that a slow writer sees its ids.
"""

from __future__ import annotations

import json
import os
import select
import sys

from polpoctl import exits
from polpoctl.client import ContactLost, connect
from polpoctl.exits import Failure
from polpoctl.render import Screen, notice
from polpod.wire import frames
from polpod.wire.jsonrpc import RemoteError, unacceptable

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from typing import Any

    Line = tuple[int, dict[str, Any]]

MAX_TASKS = 1000
MAX_BYTES = 2**20
UNDER_WAY = 4

_DEPTH = 4
"""How deep a task lies in its message: request, params, tasks, task."""

_ENVELOPE = 1000
"""Bytes of a frame that are neither defaults nor tasks, generously."""

_READ = 2**18


def submit(args: Namespace, defaults: dict[str, Any]) -> int:
    """Submit the lines of `args.batch`, and return the exit code.  Raises Failure when contact is lost."""
    batch = _Batch(args, defaults)
    fd = 0 if args.batch == "-" else _open(args.batch)
    chunk: list[Line] = []
    size = 0
    for number, line in _lines(fd, batch.max_line):
        if line is None:  # nothing to read at the moment
            batch.send(chunk)
            batch.catch_up()
            chunk, size = [], 0
            continue
        task = batch.task(number, line)
        if task is None:
            continue
        if chunk and (len(chunk) == MAX_TASKS or size + len(line) > MAX_BYTES):
            batch.send(chunk)
            chunk, size = [], 0
        chunk.append((number, task))
        size += len(line)
    batch.send(chunk)
    batch.catch_up()
    return batch.code


class _Batch:
    """The chunks under way, and what came of those before."""

    def __init__(self, args: Namespace, defaults: dict[str, Any]) -> None:
        self._connection = connect(args)
        self._screen = Screen(args)
        self._defaults = defaults
        self.max_line = frames.LIMIT - _ENVELOPE - len(json.dumps(defaults))
        """A line longer than a chunk is a chunk of its own, if it fits into a frame with the defaults."""
        self._under_way: list[tuple[int, list[Line]]] = []
        self.code = exits.OK

    def task(self, number: int, line: bytes) -> dict[str, Any] | None:
        """The task of a line; None, once that is said, for a line that is none."""
        try:
            if len(line) > self.max_line:
                raise ValueError(f"longer than {self.max_line} bytes")
            task = json.loads(line)
            if not isinstance(task, dict):
                raise ValueError("not a JSON object")
            if beyond := unacceptable(task, _DEPTH):
                raise ValueError(": ".join(beyond))
            json.dumps(task, ensure_ascii=False).encode()  # a lone surrogate is no Unicode, and an error here
        except (ValueError, RecursionError) as exc:
            self._refuse(number, exits.FAILED, str(exc))
            return None
        return task

    def send(self, chunk: list[Line]) -> None:
        """Send a chunk; an older one may have to be answered first."""
        if not chunk:
            return
        while len(self._under_way) >= UNDER_WAY:
            self._print_oldest()
        tasks = [task for _, task in chunk]
        try:
            asked = self._connection.ask("task.submit_many", {"defaults": self._defaults, "tasks": tasks})
        except ContactLost as lost:
            self.catch_up()  # with what was answered before
            raise _unknown(lost, chunk) from None
        self._under_way.append((asked, chunk))

    def catch_up(self) -> None:
        """Wait for the answers that are out, and print them."""
        while self._under_way:
            self._print_oldest()
        sys.stdout.flush()

    def _print_oldest(self) -> None:
        asked, chunk = self._under_way.pop(0)
        try:
            answer = self._connection.answer(asked)
        except ContactLost as lost:
            raise _unknown(lost, chunk) from None
        if isinstance(answer, RemoteError):  # of the whole chunk: nothing of it was stored
            for number, _ in chunk:
                self._refuse(number, exits.of_error(answer), str(answer))
            return
        for (number, _), result in zip(chunk, answer["results"], strict=True):
            if error := result.get("error"):
                self._refuse(number, exits.FAILED, error["message"])
            elif self._screen.json:
                self._screen.json_line(result | {"line": number})
            else:
                self._screen.line(result["id"])

    def _refuse(self, number: int, code: int, why: str) -> None:
        # What may be tried again is the more useful thing to know; otherwise 1, as DESIGN §10 has it.
        self.code = exits.TRY_AGAIN if exits.TRY_AGAIN in (code, self.code) else exits.FAILED
        notice(f"line {number}: {why}")


def _unknown(lost: ContactLost, chunk: list[Line]) -> Failure:
    return Failure(f"{lost}\nnobody knows whether line {chunk[0][0]} and later ones were taken", lost.code)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise exits.usage(f"{path}: {(exc.strerror or '').lower()}") from None


def _lines(fd: int, longest: int) -> Iterator[tuple[int, bytes | None]]:
    """The lines of a file that are not blank, with their numbers; (0, None) whenever reading on would wait.

    Of a line that is too long only so much is kept that it still is.
    """
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    number, begun = 0, bytearray()
    while True:
        if not poll.poll(0):
            yield 0, None
        data = os.read(fd, _READ)
        *ends, rest = data.split(b"\n")
        if not data and begun:  # the last line has no newline
            ends = [b""]
        for end in ends:
            number += 1
            begun += end
            if line := bytes(begun).strip():
                yield number, line
            begun.clear()
        begun += rest
        del begun[longest + 1 :]
        if not data:
            return
