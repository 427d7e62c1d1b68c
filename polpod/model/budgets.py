"""Budgets: what work may spend before a person is asked, and what it spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

MOST: Mapping[str, float] = {"money": 1e9, "tokens": 2**53, "wall_time": 1e9, "cpu_time": 1e9, "disk": 2**53}
"""What each field of a budget may be."""

Money = Annotated[float, Meta(gt=0, le=MOST["money"])]
"""US dollars, as calls of models are noted (cost.add)."""
Tokens = Annotated[int, Meta(ge=1, le=MOST["tokens"])]
Time = Annotated[float, Meta(gt=0, le=MOST["wall_time"])]
"""Seconds."""
Bytes = Annotated[int, Meta(ge=1, le=MOST["disk"])]


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """At most so much; None: no limit."""

    money: Money | None = None
    tokens: Tokens | None = None
    """Those that went in and those that came out."""
    wall_time: Time | None = None
    """Of all runs together."""
    cpu_time: Time | None = None
    disk: Bytes | None = None
    """Logs and artifacts."""


class Spent(Struct, frozen=True, kw_only=True):
    """The same of what was spent, by all runs together."""

    money: float = 0.0
    tokens: int = 0
    wall_time: float = 0.0
    cpu_time: float = 0.0
    disk: int = 0
