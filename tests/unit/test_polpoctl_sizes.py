"""Amounts of memory, as people write and read them."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from polpoctl.sizes import short, size

WRITTEN = {
    "4096": 4096,
    "0": 0,
    "1K": 1024,
    "512M": 2**29,
    "1.5G": 3 * 2**29,
    "2GiB": 2**31,
    "3gb": 3 * 2**30,
    "1T": 2**40,
}
READ = {
    0: "0 B",
    1023: "1023 B",
    1024: "1 KiB",
    2**29: "512 MiB",
    3 * 2**29: "1.5 GiB",
    2**50: "1 PiB",
    10**9: "953.7 MiB",
}


@pytest.mark.parametrize(("text", "expected"), WRITTEN.items())
def test_a_size_as_it_is_written(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5", "1 G", "1X", "1e9", "٣"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        size(text)


@pytest.mark.parametrize(("bytes_", "text"), READ.items())
def test_a_size_as_it_is_read(bytes_: int, text: str) -> None:
    assert short(bytes_) == text
