"""Framing: one message a line, `\\n` at its end, at most `LIMIT` bytes before it (DESIGN §9).

Rules:

1. No I/O: bytes in, frames out; whoever owns the socket reads and writes.
2. What a frame contains is not looked at; only its end and its length are.
3. A frame over the limit cannot be skipped, since nobody knows where it would end: framing is lost for good, and the
   connection with it.  Frames that were complete before it still count.
"""

from __future__ import annotations

LIMIT = 4 * 2**20
"""Bytes of a frame, its newline not counted."""


class FrameTooLong(Exception):
    """A frame is longer than the limit; `complete` are the frames before it that nobody has seen yet."""

    def __init__(self, limit: int, complete: list[bytes] | None = None) -> None:
        super().__init__(f"a message is longer than {limit} bytes")
        self.limit = limit
        self.complete = complete or []


class Decoder:
    """Cuts a stream of bytes into frames.  Work and memory are linear in the bytes fed, however they are split."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._begun = bytearray()
        self._lost = False

    @property
    def begun(self) -> int:
        """Bytes of the frame that has not ended yet."""
        return len(self._begun)

    @property
    def rest(self) -> bytes:
        """The frame that has not ended yet, as far as it came."""
        return bytes(self._begun)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the bytes that follow, and return the frames that they complete, without their newlines.

        Raises FrameTooLong, then and ever after.
        """
        if self._lost:
            raise FrameTooLong(self._limit)
        # Only the new bytes are searched, and what a frame has so far grows in place.
        *ends, rest = data.split(b"\n")
        complete: list[bytes] = []
        for end in ends:
            self._extend(end, complete)
            complete.append(bytes(self._begun))
            self._begun.clear()
        self._extend(rest, complete)
        return complete

    def _extend(self, piece: bytes, complete: list[bytes]) -> None:
        if len(self._begun) + len(piece) > self._limit:
            self._lost = True
            self._begun.clear()
            raise FrameTooLong(self._limit, complete)
        self._begun += piece


def encode(message: bytes, limit: int = LIMIT) -> bytes:
    """The frame of a message, whose JSON has no raw newline.  Raises FrameTooLong."""
    if len(message) > limit:
        raise FrameTooLong(limit)
    return message + b"\n"
