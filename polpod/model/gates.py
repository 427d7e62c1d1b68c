"""Approval gates: where a person looks before work goes on, as polpo.json says it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from polpod.model.conditions import Condition
from polpod.model.polpo.approvals import OnTimeout

Hook = Literal["task:spawn", "task:complete"]


class ApprovalGate(Struct, frozen=True, kw_only=True, rename="camel"):
    id: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^\S(.*\S)?$")]
    name: Annotated[str, Meta(max_length=1000)] = ""
    handler: Literal["human"] = "human"
    """A gate that nobody opens would be a condition under which nothing may ever happen: there is no `auto` here."""
    hook: Hook
    """Before a task may start, or before what it did counts as done."""
    condition: Condition | None = None
    """Of `{"task": …}` as `polpoctl show --json` has it; None: always."""
    timeout_ms: Annotated[int, Meta(ge=0, le=10**12)] | None = None
    """0 and None: never."""
    timeout_action: OnTimeout | None = None
    """None: that it passed is told, and the request stays: timeout is not denial."""
    max_revisions: Annotated[int, Meta(ge=0, le=1000)] = 3
    include_outcomes: bool = False
    """The request says what the task left behind, too."""
