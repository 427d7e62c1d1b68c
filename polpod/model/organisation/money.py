"""Money: what each call of a language model cost."""

from __future__ import annotations

from enum import StrEnum

from polpod.model.entity import Amount, Count, Entity, NotBlank
from polpod.model.tasks import Instant


class CallCategory(StrEnum):
    PRODUCTIVE = "productive"
    COORDINATION = "coordination"
    SYSTEM = "system"


def _cost_has_tokens(record: CostRecord) -> str | None:
    if record.cost_usd > 0 and record.input_tokens == record.output_tokens == 0:
        return "cost_usd: costs something without any tokens"
    return None


class CostRecord(Entity, frozen=True, kw_only=True):
    rules = (_cost_has_tokens,)

    agent_id: NotBlank
    task_id: NotBlank
    provider: NotBlank
    model: NotBlank
    input_tokens: Count
    output_tokens: Count
    cost_usd: Amount
    timestamp: Instant
    call_category: CallCategory | None = None
