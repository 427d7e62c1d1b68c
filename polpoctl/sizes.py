"""Amounts of memory, from and to text.  On the wire: bytes."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError

_UNITS = "KMGTP"


def size(text: str) -> int:
    """Bytes of `4096`, `512M`, `1.5G`, `2GiB`; a unit is 1024 times the one before.  Raises ArgumentTypeError."""
    match = re.fullmatch(rf"(\d+(?:\.\d+)?)(?:([{_UNITS}])(?:i?B)?)?", text, re.IGNORECASE | re.ASCII)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is no size, such as 512M or 1.5G")
    number, unit = match.groups()
    if unit is None and "." in number:
        raise ArgumentTypeError(f"{text!r}: a part of a byte")
    return round(float(number) * 1024 ** (_UNITS.index(unit.upper()) + 1)) if unit else int(number)


def short(size: int) -> str:
    """`512 B`, `1.5 GiB`: in the largest unit of which it is one at least."""
    amount, unit = float(size), -1
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{size} B" if unit < 0 else f"{amount:.4g} {_UNITS[unit]}iB"
