"""What several reviewers agree on, and what that is worth (polpo-behaviour §9.3).  Scores go from 1 to 5."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LOWEST, HIGHEST = 1.0, 5.0
OUTLIER = 1.5
"""Further than that from the median, a score is left out."""


def scores_of(answer: bytes, dimensions: Iterable[str]) -> dict[str, float]:
    """What a reviewer gives each of the dimensions, between 1 and 5.  Raises ValueError for an answer that is none."""
    try:
        said = json.loads(answer)
    except RecursionError:
        raise ValueError("its answer is nested too deeply") from None
    given = said.get("scores") if isinstance(said, dict) else None
    if not isinstance(given, dict):
        raise ValueError('its answer is no object with "scores"')
    return {name: _score(given, name) for name in dimensions}


def reasoning_of(answer: bytes) -> str:
    """Why, in a reviewer's words, of an answer that has scores."""
    return str(json.loads(answer).get("reasoning") or "")


def consensus(scores: Sequence[float]) -> float:
    """The median of those that are no outliers; of all where they are too far apart for any to be near."""
    middle = statistics.median(scores)
    near = [score for score in scores if abs(score - middle) <= OUTLIER]
    return statistics.median(near or scores)


def weighted(scores: Mapping[str, float], dimensions: Sequence[Mapping[str, Any]]) -> float:
    """The mean of the scores by the weights of their dimensions, of which one at least has some."""
    weight = sum(d["weight"] for d in dimensions)
    return float(sum(scores[d["name"]] * d["weight"] for d in dimensions) / weight)


def _score(given: Mapping[str, Any], name: str) -> float:
    value = given.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -math.inf < value < math.inf:
        raise ValueError(f"it gives no score for {name}")
    return float(min(HIGHEST, max(LOWEST, value)))  # an int may be one that no float is
