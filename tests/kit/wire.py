"""What must hold of the wire layer for any bytes: shared by the tests of Hypothesis and by the fuzzer of `make fuzz`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable

from polpod.wire import jsonrpc
from polpod.wire.errors import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR
from polpod.wire.frames import Decoder, FrameTooLong


def pieces(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The stream, cut at these places of it."""
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[a:b] for a, b in itertools.pairwise(places)]


def check_frames(stream: bytes, cuts: Iterable[int], limit: int) -> list[bytes]:
    """The decoder finds what a plain split finds, up to the first frame that is too long, and nothing ever after."""
    *whole, rest = stream.split(b"\n")
    fitting = list(itertools.takewhile(lambda frame: len(frame) <= limit, whole))
    fits = len(fitting) == len(whole) and len(rest) <= limit
    decoder, found, lost = Decoder(limit), list[bytes](), False
    for piece in pieces(stream, cuts):
        try:
            found += decoder.feed(piece)
        except FrameTooLong as exc:
            found += exc.complete
            lost = True
    assert found == fitting
    assert lost is not fits
    return found


def check_message(frame: bytes, loads: Callable[[bytes], object]) -> None:
    """Whatever it is, it is calls and error responses that can be sent; a call is within every limit."""
    received = jsonrpc.receive(frame, loads)
    for item in received.items:
        if isinstance(item, jsonrpc.Call):
            assert isinstance(item.method, str)
            assert isinstance(item.params, dict)
            assert jsonrpc.unacceptable(item.params) is None
        else:
            assert item["error"]["code"] in (PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS)
            assert len(item["error"]["message"]) < len(frame) + 7000  # 63 names on the way to what is wrong
            asked, outcome = jsonrpc.response(json.loads(json.dumps(item)))
            assert (asked, type(outcome)) == (item["id"], jsonrpc.RemoteError)
    assert received.batch or len(received.items) <= 1
    answer = received.answer(jsonrpc.result(i.id, 1) for i in received.items if isinstance(i, jsonrpc.Call))
    assert isinstance(answer, (list if received.batch else dict, type(None)))


def check_response(value: object) -> None:
    """A client takes it for what it is, or says that it is no response."""
    try:
        _, outcome = jsonrpc.response(value)
    except jsonrpc.NotAResponse:
        return
    assert not isinstance(outcome, jsonrpc.RemoteError) or (outcome.type is None or isinstance(outcome.type, str))
