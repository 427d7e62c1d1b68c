"""What follows a failure: how often it is tried again, by whom, and who is asked in the end (polpo-behaviour §9.1, §9.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from polpod.model.described import described
from polpod.model.submissions import Name


class RetryPolicy(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """From the retry `escalate_after` on, counted from 1, another agent does it."""

    escalate_after: Annotated[int, Meta(ge=1)] | None = None
    fallback_agent: Name | None = None
    """None: whom the agent reports to."""


@described
class DefaultRetryPolicy(RetryPolicy, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """As polpo.json has it, where what is not known is reported and kept."""


class EscalationLevel(Struct, frozen=True, kw_only=True, rename="camel"):
    level: int
    handler: Literal["agent", "human", "orchestrator"]
    """An orchestrator is a person here."""
    target: Name | None = None
    """The agent; None: whom the one before reports to."""
    notify_channels: tuple[str, ...] = ()


class EscalationPolicy(Struct, frozen=True, kw_only=True, rename="camel"):
    """Who takes over, one after the other, once all retries are spent."""

    name: str = ""
    levels: tuple[EscalationLevel, ...] = ()


class Terms(Struct, frozen=True, kw_only=True):
    """What polpo.json says of attempts that fail, and who there is to make another."""

    max_fix_attempts: int = 2
    max_assessment_retries: int = 1
    retry_policy: RetryPolicy | None = None
    escalation: EscalationPolicy | None = None
    superiors: Mapping[str, str | None] = {}
    """Whom each agent reports to, of those that a decision may be about."""
