"""Framing (DESIGN §9): the same frames however the bytes are split; over the limit nothing but the loss."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polpod.wire.frames import LIMIT, Decoder, FrameTooLong, encode

FRAMES = st.lists(st.binary(max_size=20).filter(lambda frame: b"\n" not in frame), max_size=8)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[a:b] for a, b in itertools.pairwise(places)]


@given(FRAMES, st.binary(max_size=10).filter(lambda rest: b"\n" not in rest), st.lists(st.integers(0, 10_000)))
def test_any_split_gives_the_same_frames(frames: list[bytes], rest: bytes, cuts: list[int]) -> None:
    decoder = Decoder()
    found = [frame for piece in pieces(b"".join(map(encode, frames)) + rest, cuts) for frame in decoder.feed(piece)]
    assert found == frames
    assert decoder.feed(b"\n") == [rest]


@given(FRAMES, st.integers(1, 50), st.lists(st.integers(0, 10_000)))
def test_a_frame_over_the_limit_ends_it_and_those_before_it_count(
    frames: list[bytes], over: int, cuts: list[int]
) -> None:
    decoder, found = Decoder(limit=20), []

    def feed_all() -> None:
        for piece in pieces(b"".join(map(encode, frames)) + b"x" * (20 + over) + b"\n{}\n", cuts):
            found.extend(decoder.feed(piece))

    with pytest.raises(FrameTooLong) as lost:
        feed_all()
    assert found + lost.value.complete == frames
    with pytest.raises(FrameTooLong) as again:
        decoder.feed(b"{}\n")
    assert again.value.complete == []


def test_a_frame_of_exactly_the_limit_is_taken() -> None:
    assert Decoder(limit=3).feed(b"abc\nab\n") == [b"abc", b"ab"]
    assert encode(b"x" * LIMIT) == b"x" * LIMIT + b"\n"
    with pytest.raises(FrameTooLong):
        encode(b"x" * (LIMIT + 1))


def test_a_large_frame_in_small_pieces_takes_linear_work() -> None:
    """Copying or searching what is there already at each of these would take hours."""
    decoder, piece = Decoder(), b"x" * 8
    for _ in range(LIMIT // 8):
        assert decoder.feed(piece) == []
    assert [len(frame) for frame in decoder.feed(b"\n")] == [LIMIT]
