"""Arbitrary bytes, in arbitrary pieces, against framing and envelope (DESIGN §9, F16): never an exception, never a surprise."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kit.wire import check_frames, check_message, check_response

CODECS = pytest.mark.parametrize("loads", [orjson.loads, json.loads], ids=["orjson", "json"])

LIMITS = st.integers(0, 12)
CUTS = st.lists(st.integers(0, 10_000), max_size=20)
STREAMS = st.binary(max_size=80) | st.lists(st.sampled_from([b"\n", b"x" * 5, b"x" * 12, b"x" * 13, b"\r"])).map(
    b"".join
)

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["2.0", "task.submit", "\0", 2**53, 2**53 + 1])
)
NAMES = st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "code", "message", "data"]) | st.text(
    max_size=4
)
VALUES = st.recursive(LEAVES, lambda v: st.lists(v, max_size=4) | st.dictionaries(NAMES, v, max_size=6), max_leaves=30)


def nearly(**parts: Any) -> st.SearchStrategy[dict[str, Any]]:
    """An object with these members, each of which may be left out, or be anything."""
    return st.fixed_dictionaries({}, optional={name: part | VALUES for name, part in parts.items()})


REQUESTS = nearly(
    jsonrpc=st.just("2.0"),
    id=st.integers(0, 9),
    method=st.just("task.get"),
    params=st.dictionaries(NAMES, VALUES, max_size=4),
)
MESSAGES = REQUESTS | st.lists(REQUESTS | VALUES, max_size=5) | VALUES
RESPONSES = nearly(
    id=st.integers(0, 9), result=VALUES, error=nearly(code=st.integers(), message=st.text(), data=VALUES)
)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A message as JSON, with a few of its bytes replaced, left out or added."""
    data = bytearray(json.dumps(draw(MESSAGES), ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass"))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


@given(STREAMS, CUTS, LIMITS)
def test_any_bytes_in_any_pieces_are_framed_as_a_plain_split_would(stream: bytes, cuts: list[int], limit: int) -> None:
    check_frames(stream, cuts, limit)


@CODECS
@given(frame=st.binary(max_size=100) | frames())
@example(frame=b"[" * 100_000)
@example(frame=b'{"jsonrpc":"2.0","id":1,"method":"m","params":' + b'{"a":' * 100 + b"1" + b"}" * 101)
@example(frame=b'{"jsonrpc":"2.0","id":' + b"1" * 5000 + b',"method":"m"}')
@example(frame=b"[" + b"1," * 1000 + b"1]")
def test_any_frame_is_calls_and_errors(loads: Callable[[bytes], object], frame: bytes) -> None:
    check_message(frame, loads)


@given(VALUES | RESPONSES)
def test_any_value_is_a_response_or_none(value: object) -> None:
    check_response(value)


@CODECS
@given(st.lists(frames() | st.binary(max_size=30), max_size=4), CUTS)
def test_any_stream_is_calls_and_errors(loads: Callable[[bytes], object], lines: list[bytes], cuts: list[int]) -> None:
    for frame in check_frames(b"\n".join(lines) + b"\n", cuts, limit=200):
        check_message(frame, loads)
