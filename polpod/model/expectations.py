"""What is expected of a task's work: the checks that are carried out after it, as a person writes them (polpo-behaviour §9.3).

camelCase and milliseconds, on the wire as in a document, as Polpo has them.  What cannot be read is refused with its path,
never dropped, and what is read is kept as it was said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from polpod.model.described import described

TIMEOUT = 300_000
"""Milliseconds that a check may take unless it says otherwise."""
MOST = 64
"""Expectations of one task, and metrics: what all of them say has to fit into the task."""
REVIEWERS = 3

Command = Annotated[str, Meta(min_length=1, max_length=2**17, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]
Text = Annotated[str, Meta(max_length=2**16, pattern=r"^[^\x00]*$")]
Word = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]
Path = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
Score = Annotated[float, Meta(ge=1, le=5)]


class Expected(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """What all checks have."""

    timeout_ms: Annotated[int, Meta(ge=1, le=86_400_000)] = TIMEOUT


class Expectation(Expected, frozen=True, kw_only=True, tag_field="type"):
    confidence: Literal["firm", "estimated"] | None = None
    """How sure whoever wrote it was; None: as usual for its kind."""

    @property
    def kind(self) -> str:
        return str(self.__struct_config__.tag)


@described
class Test(Expectation, frozen=True, kw_only=True, tag="test"):
    """A text for `/bin/sh -c`, which exits with 0."""

    command: Command


@described
class Script(Expectation, frozen=True, kw_only=True, tag="script"):
    """As a test; several lines are carried out by bash, and the first that fails ends them."""

    command: Command

    def __post_init__(self) -> None:
        first = self.command.split("\n", 1)[0]
        if first.startswith("#!") and not first.rstrip().endswith(("sh", "sh -e", "sh -eu", "sh -ex")):
            raise ValueError(f"a script is carried out by bash, not by {first[2:].strip()}: give a test that calls it")


@described
class FileExists(Expectation, frozen=True, kw_only=True, tag="file_exists"):
    """All of these are there, from the directory that the task works in."""

    paths: Annotated[tuple[Path, ...], Meta(min_length=1, max_length=1000)]


class Dimension(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    name: Word
    description: Text = ""
    weight: Annotated[float, Meta(ge=0, le=1)]
    rubric: dict[Annotated[str, Meta(pattern=r"^[1-5]$")], Text] = {}
    """What a score from 1 to 5 means."""


@described
class Review(Expectation, frozen=True, kw_only=True, tag="llm_review"):
    """Several reviewers give scores from 1 to 5; the weighted mean of what they agree on reaches the threshold."""

    criteria: Text | None = None
    dimensions: Annotated[tuple[Dimension, ...], Meta(min_length=1, max_length=20)] | None = None
    threshold: Score = 3.0
    reviewers: Annotated[int, Meta(ge=1, le=9)] = REVIEWERS
    command: Command | None = None
    """Asked for each reviewer's scores; None: `reviewCommand` of polpo.json."""

    def __post_init__(self) -> None:
        named = [d.name for d in self.dimensions or ()]
        if len(named) != len(set(named)):
            raise ValueError("dimensions: two have the same name")
        if self.dimensions is not None and not sum(d.weight for d in self.dimensions) > 0:
            raise ValueError("dimensions: none of them has any weight")


@described
class Metric(Expected, frozen=True, kw_only=True):
    """A command that prints a number, which reaches the threshold."""

    name: Word
    command: Command
    threshold: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold):
            raise ValueError("threshold: not a number that anything can reach")


Expectations = Annotated[tuple[Test | Script | FileExists | Review, ...], Meta(max_length=MOST)]
Metrics = Annotated[tuple[Metric, ...], Meta(max_length=MOST)]

DIMENSIONS = (
    Dimension(name="correctness", weight=0.35, description="Does it do what was asked for, and nothing wrong?"),
    Dimension(name="completeness", weight=0.30, description="Is all of it there that was asked for?"),
    Dimension(name="code_quality", weight=0.20, description="Would somebody else like to go on with it?"),
    Dimension(name="edge_cases", weight=0.15, description="Is the unusual dealt with, too?"),
)
"""What is scored where nobody said what; the weights are Polpo's."""


def as_said(checks: Iterable[Struct]) -> tuple[dict[str, object], ...]:
    """As a task keeps them."""
    kept: list[dict[str, object]] = msgspec.to_builtins(list(checks))
    return tuple(kept)


def expectations_of(kept: Any) -> tuple[Test | Script | FileExists | Review, ...]:
    """What a task keeps.  Raises ValueError for what a program wrote there that is none."""
    return msgspec.convert(kept, Expectations)


def metrics_of(kept: Any) -> tuple[Metric, ...]:
    """As `expectations_of`."""
    return msgspec.convert(kept, Metrics)
