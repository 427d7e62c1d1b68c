"""Types that several threads convert to.

msgspec finds out what a type is made of when it is used first, and where two threads do that at the same time one of them
meets half of it and crashes (0.22).  So it is done beforehand, by one thread: where the type is made.
"""

from __future__ import annotations

from threading import Lock
from typing import TypeVar

import msgspec

T = TypeVar("T", bound=type)

_one_at_a_time = Lock()


def described(kind: T) -> T:
    """The type, of which msgspec knows everything when this returns; a decorator of classes, too."""
    with _one_at_a_time:
        msgspec.json.Decoder(kind)
    return kind
