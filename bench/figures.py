"""Figures: what a subject measured, as a table for people and as JSON for comparison.  Nothing here passes or fails."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Promise:
    """A bound that the project has set itself, and the word for whether the figure keeps it."""

    text: str
    kept: bool


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured value; with `n` > 1 it is the median, `low` and `high` being what `spread` says."""

    name: str
    value: float
    unit: str
    n: int = 1
    low: float | None = None
    high: float | None = None
    spread: str = "min-max"
    promise: Promise | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def most(figure: Figure, limit: float, text: str) -> Figure:
    """The figure with a promise: at most `limit`."""
    return _promised(figure, Promise(text=text, kept=figure.value <= limit))


def least(figure: Figure, limit: float, text: str) -> Figure:
    """The figure with a promise: at least `limit`."""
    return _promised(figure, Promise(text=text, kept=figure.value >= limit))


def _promised(figure: Figure, promise: Promise) -> Figure:
    return Figure(**{**figure.__dict__, "promise": promise})


def median(name: str, samples: Sequence[float], unit: str) -> Figure:
    """Median with minimum and maximum."""
    return Figure(
        name=name, value=statistics.median(samples), unit=unit, n=len(samples), low=min(samples), high=max(samples)
    )


def latency(name: str, seconds: Sequence[float]) -> Figure:
    """Median in milliseconds with minimum and 99th percentile."""
    ms = sorted(1000 * s for s in seconds)
    p99 = ms[min(len(ms) - 1, round(0.99 * (len(ms) - 1)))]
    return Figure(name=name, value=statistics.median(ms), unit="ms", n=len(ms), low=ms[0], high=p99, spread="min-p99")


def repeat(times: int, measure: Callable[[], float]) -> list[float]:
    return [measure() for _ in range(times)]


def table(subject: str, figures: Iterable[Figure]) -> str:
    """The figures of one subject, a line each."""
    lines = [f"\n{subject}"]
    for f in figures:
        spread = f"[{number(f.low)} … {number(f.high)} {f.spread}, n={f.n}]" if f.low is not None else ""
        kept = f"  {'kept' if f.promise.kept else 'NOT kept'}: {f.promise.text}" if f.promise else ""
        lines.append(f"  {f.name:<58} {number(f.value):>10} {f.unit:<8} {spread}{kept}".rstrip())
    return "\n".join(lines)


def number(value: float | None) -> str:
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
