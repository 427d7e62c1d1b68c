"""Questions: what a run wants to know from a person before its work can go on."""

from __future__ import annotations

from msgspec import Struct


class Question(Struct, frozen=True, kw_only=True):
    approval_id: str
    run_id: int
    """Which asked."""
    text: str
    answer: str | None = None
    """What a person said while the run went on."""
    refused: bool = False
    """A person said, while the run went on, that there is no answer."""
    delivered: bool = False
    """The run that waited for the answer has it: so its end means what it says."""
