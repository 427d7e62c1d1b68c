"""Reading logs: offsets that stay valid over holes, the last lines, files that grow or are not there."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polpod.services.logs import BLOCK, Slice, read_log

KEEP_SIZE, PUNCH_HOLE = 1, 2
PAGE = 4096
MUCH = 2**20


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "5.log"


def punch(path: Path, offset: int, length: int) -> None:
    """Give a part of the file back to the file system, as the cap on logs does."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDWR)
    try:
        done = libc.fallocate(fd, KEEP_SIZE | PUNCH_HOLE, ctypes.c_long(offset), ctypes.c_long(length))
        assert done == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(fd)


def read(path: Path, offset: int = 0, limit: int = MUCH, lines: int | None = None) -> Slice:
    """What is read, but for the size, which is always that of the file."""
    part = read_log(str(path), offset, limit, lines)
    assert part.size == (path.stat().st_size if path.exists() else 0)
    return part._replace(size=0)


def tail(path: Path, lines: int, limit: int = MUCH) -> Slice:
    return read(path, 0, limit, lines)


def everything(path: Path, limit: int) -> list[Slice]:
    """What a reader gets that follows `next_offset` until nothing comes."""
    found: list[Slice] = []
    offset = 0
    while True:
        part = read(path, offset, limit)
        assert part.next_offset >= offset
        if not part.data:
            return found
        found.append(part)
        offset = part.next_offset


def test_a_log_that_is_not_there_yet_is_empty_and_the_place_stays(log: Path) -> None:
    assert read(log, 17) == Slice(17, b"", 17)
    assert tail(log, 3) == Slice(0, b"", 0)


def test_an_empty_log(log: Path) -> None:
    log.touch()
    assert read(log) == tail(log, 3) == Slice(0, b"", 0)


def test_a_log_is_read_from_an_offset_up_to_a_limit(log: Path) -> None:
    log.write_bytes(b"0123456789")
    assert read(log) == Slice(0, b"0123456789", 10)
    assert read(log, 4) == Slice(4, b"456789", 10)
    assert read(log, 4, limit=3) == Slice(4, b"456", 7)
    assert read(log, 10) == Slice(10, b"", 10)


def test_an_offset_beyond_the_end_waits_there(log: Path) -> None:
    log.write_bytes(b"0123")
    assert read(log, 9) == Slice(9, b"", 9)


def test_bytes_are_handed_on_as_they_are(log: Path) -> None:
    data = bytes(range(256)) * 3
    log.write_bytes(data)
    assert read(log).data == data


def test_a_log_that_grows_is_read_on_where_the_last_part_ended(log: Path) -> None:
    log.write_bytes(b"one\ntw")
    first = read(log)
    with log.open("ab") as file:
        file.write(b"o\n")
    second = read(log, first.next_offset)
    assert first.data + second.data == b"one\ntwo\n"
    assert (second.offset, read(log, second.next_offset).data) == (6, b"")


@pytest.mark.parametrize("limit", [1000, PAGE, 3 * PAGE + 1, MUCH])
def test_a_hole_is_skipped_and_offsets_stay_those_of_the_file(log: Path, limit: int) -> None:
    head, lost, rest = b"h" * 2 * PAGE, b"x" * 3 * PAGE, b"r" * PAGE + b"end\n"
    log.write_bytes(head + lost + rest)
    punch(log, len(head), len(lost))
    parts = everything(log, limit)
    assert b"".join(p.data for p in parts) == head + rest
    assert all(log.read_bytes()[p.offset : p.next_offset] == p.data for p in parts)
    assert len(head) + len(lost) in {p.offset for p in parts}


def test_reading_from_within_a_hole_goes_on_behind_it(log: Path) -> None:
    log.write_bytes(b"x" * 4 * PAGE + b"end\n")
    punch(log, PAGE, 2 * PAGE)
    assert read(log, PAGE + 17, limit=4) == Slice(3 * PAGE, b"xxxx", 3 * PAGE + 4)


def test_what_is_let_go_while_it_is_read_is_not_read_as_zeros(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_bytes(b"x" * 4 * PAGE + b"end\n")
    pread = os.pread

    def late(fd: int, length: int, offset: int) -> bytes:
        monkeypatch.undo()
        punch(log, PAGE, 2 * PAGE)
        return pread(fd, length, offset)

    monkeypatch.setattr(os, "pread", late)
    assert read(log) == Slice(0, b"x" * PAGE, PAGE)


def test_what_is_let_go_before_it_is_read_is_not_taken_for_the_end(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_bytes(b"x" * 4 * PAGE + b"end\n")
    lseek = os.lseek

    def late(fd: int, offset: int, whence: int) -> int:
        if whence == os.SEEK_HOLE:  # where the data begins is known by then
            monkeypatch.undo()
            punch(log, 0, 2 * PAGE)
        return lseek(fd, offset, whence)

    monkeypatch.setattr(os, "lseek", late)
    assert read(log, PAGE) == Slice(2 * PAGE, b"x" * 2 * PAGE + b"end\n", 4 * PAGE + 4)


@pytest.mark.parametrize("whence", [os.SEEK_DATA, os.SEEK_HOLE])
def test_what_is_written_while_its_end_is_looked_for_is_read(
    log: Path, monkeypatch: pytest.MonkeyPatch, whence: int
) -> None:
    log.write_bytes(b"one\n")
    lseek = os.lseek

    def late(fd: int, offset: int, asked: int) -> int:
        try:
            return lseek(fd, offset, asked)
        finally:
            if asked == whence:
                monkeypatch.undo()
                with log.open("ab") as file:
                    file.write(b"two\n")

    monkeypatch.setattr(os, "lseek", late)
    assert read(log, 4) == Slice(4, b"two\n", 8)


def test_a_log_that_ends_in_a_hole_is_over_at_its_end(log: Path) -> None:
    log.write_bytes(b"x" * 4 * PAGE)
    punch(log, 2 * PAGE, 2 * PAGE)
    assert read(log, PAGE) == Slice(PAGE, b"x" * PAGE, 2 * PAGE)
    assert read(log, 2 * PAGE) == Slice(4 * PAGE, b"", 4 * PAGE)
    with log.open("ab") as file:
        file.write(b"more")
    assert read(log, 4 * PAGE).data == b"more"


@pytest.mark.parametrize("end", [b"\n", b""])
@pytest.mark.parametrize("lines", [0, 1, 2, 3, 4])
def test_the_last_lines_whether_or_not_the_last_has_its_newline(log: Path, lines: int, end: bytes) -> None:
    log.write_bytes(b"one\ntwo\nthree" + end)
    expected = [b"", b"three", b"two\nthree", b"one\ntwo\nthree", b"one\ntwo\nthree"][lines]
    part = tail(log, lines)
    assert part.data == (expected + end if lines else b"")
    assert part.next_offset == len(b"one\ntwo\nthree" + end)


def test_empty_lines_are_lines(log: Path) -> None:
    log.write_bytes(b"one\n\n\n")
    assert [tail(log, n).data for n in (1, 2, 3)] == [b"\n", b"\n\n", b"one\n\n\n"]


def test_the_last_lines_begin_at_their_first_even_if_the_limit_cuts_them(log: Path) -> None:
    log.write_bytes(b"one\ntwo\nthree\n")
    assert tail(log, 2, limit=5) == Slice(4, b"two\nt", 9)


def test_lines_longer_than_a_block(log: Path) -> None:
    long = b"y" * (BLOCK + 10)
    log.write_bytes(b"first\n" + long + b"\nlast\n")
    assert tail(log, 1).data == b"last\n"
    assert tail(log, 2).data == long + b"\nlast\n"
    assert tail(log, 3).offset == 0


def test_the_last_lines_behind_a_hole(log: Path) -> None:
    log.write_bytes(b"head\n" + b"x" * (4 * PAGE - 5) + b"\nlast\n")
    punch(log, PAGE, 2 * PAGE)
    assert tail(log, 1) == Slice(4 * PAGE + 1, b"last\n", 4 * PAGE + 6)
    assert tail(log, 2).offset == 5


def test_the_last_lines_are_found_without_reading_a_hole(log: Path) -> None:
    """It may have terabytes."""
    log.write_bytes(b"one\n".rjust(PAGE, b"."))
    os.truncate(log, 2**42)
    with log.open("ab") as file:
        file.write(b"end\n")
    assert tail(log, 1) == Slice(2**42, b"end\n", 2**42 + 4)
    assert tail(log, 2).offset == 0


@given(text=st.text("ab\n", max_size=40).map(str.encode), lines=st.integers(0, 12), block=st.integers(0, BLOCK))
def test_the_last_lines_are_those_that_splitting_gives(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, lines: int, block: int
) -> None:
    data = b"z" * block + text
    path = tmp_path_factory.getbasetemp() / "split.log"
    path.write_bytes(data)
    wanted = data.splitlines(keepends=True)
    expected = b"".join(wanted[max(0, len(wanted) - lines) :]) if lines else b""
    assert tail(path, lines).data == expected
