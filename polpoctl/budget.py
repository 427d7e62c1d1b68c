"""Budgets as people write them: `money=2.50,tokens=200k,wall=1h,cpu=10m,disk=500M`."""

from __future__ import annotations

from argparse import ArgumentTypeError

from polpoctl.parsers import amount
from polpoctl.sizes import size
from polpoctl.times import duration

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

HELP = "money=N (USD), tokens=N, wall=D, cpu=D, disk=SIZE, with commas between them"


def _tokens(text: str) -> int:
    number = text.lower()
    times = {"k": 1000, "m": 1_000_000}.get(number[-1:], 1)
    return max(1, round(amount(number[:-1] if times > 1 else number) * times))


_FIELDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "money": ("money", amount),
    "tokens": ("tokens", _tokens),
    "wall": ("wall_time", duration),
    "cpu": ("cpu_time", duration),
    "disk": ("disk", size),
}


def budget(text: str) -> dict[str, Any]:
    """The budget as the socket has it, as a type of argparse.  Raises ArgumentTypeError."""
    said: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if name not in _FIELDS or not equals:
            raise ArgumentTypeError(f"{part!r} is none of {', '.join(f'{n}=…' for n in _FIELDS)}")
        field, read = _FIELDS[name]
        if field in said:
            raise ArgumentTypeError(f"{name} is there twice")
        said[field] = read(value)
        if said[field] <= 0:
            raise ArgumentTypeError(f"{part!r}: more than nothing is needed")
    return said
