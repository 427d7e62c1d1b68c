"""Events: the rows of the journal (DESIGN §11).  State is not rebuilt from them; they say what happened, in commit order."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from polpod.model.tasks import Instant


class Event(Struct, frozen=True, kw_only=True):
    """`seq` has no gaps; `subject` names what it is about: `task/12`, `run/17`, `queue/default`, `daemon`."""

    seq: int = 0
    at: Instant
    kind: str
    subject: str
    body: dict[str, Any] = {}
