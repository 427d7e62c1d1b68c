"""Assessments: what the checks of a task's work found, as they are kept in its result (polpo-behaviour §1.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from polpod.model.described import described
from polpod.model.entity import storable

Trigger = Literal["initial", "fix", "retry", "reassess"]
"""What the checks were carried out for: the first attempt, a fix, a retry, or because somebody asked."""

HISTORY = 20
"""Earlier assessments that are kept with a task; the journal has them all."""


class CheckResult(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`passed` None: it could not be told."""

    type: str
    label: str = ""
    passed: bool | None
    message: str
    output: str = ""
    """The last of what it wrote."""
    duration: float = 0.0
    """Seconds."""
    confidence: str = "firm"
    scores: dict[str, float] | None = None
    global_score: float | None = None
    reviewers: tuple[dict[str, object], ...] = ()


class MetricResult(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    name: str
    value: float | None
    threshold: float
    passed: bool | None
    message: str
    output: str = ""
    duration: float = 0.0


@described
class Assessment(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """All that was found at one time; `run_id` is the run that carried out the checks."""

    run_id: int
    passed: bool | None
    checks: tuple[CheckResult, ...] = ()
    metrics: tuple[MetricResult, ...] = ()
    scores: dict[str, float] | None = None
    global_score: float | None = None
    message: str = ""
    timestamp: str
    trigger: Trigger = "initial"

    @property
    def bad(self) -> list[CheckResult | MetricResult]:
        """What did not pass."""
        found: list[CheckResult | MetricResult] = [*self.checks, *self.metrics]
        return [one for one in found if not one.passed]


def decode(data: bytes, run_id: int) -> Assessment:
    """What the checks of this run wrote down.  Raises ValueError for what is none of it, or what no backend keeps."""
    found = msgspec.json.decode(data, type=Assessment)
    storable(msgspec.to_builtins(found))
    if found.run_id != run_id:
        raise ValueError(f"it is of run {found.run_id}")
    return found


def kept(assessment: Assessment) -> dict[str, object]:
    """As a result has it."""
    document: dict[str, object] = msgspec.to_builtins(assessment)
    return document | {"trigger": assessment.trigger}


def in_short(assessment: Mapping[str, object]) -> dict[str, object]:
    """As it is kept once there is a later one: without what the checks wrote."""
    short = dict(assessment)
    for part in ("checks", "metrics"):
        found = assessment.get(part)
        if isinstance(found, list | tuple):
            short[part] = [
                {name: value for name, value in one.items() if name not in ("output", "reviewers")}
                for one in found
                if isinstance(one, dict)
            ]
    return short
