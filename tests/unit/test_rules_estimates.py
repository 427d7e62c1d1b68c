"""How long work will take: what was learned first, then what its job says."""

from __future__ import annotations

import pytest

from polpod.rules.estimates import Estimate, estimate, left


def test_the_median_says_what_is_usual() -> None:
    assert estimate([]) is None
    assert estimate([100.0, 1.0, 2.0]) == Estimate(2.0, 3)


@pytest.mark.parametrize(
    ("usual", "elapsed", "percent", "expected"),
    [
        (10.0, None, None, None),
        (10.0, 4.0, None, 6.0),
        (10.0, 4.0, 90.0, 6.0),
        (10.0, 12.0, 90.0, 0.0),
        (None, 4.0, None, None),
        (None, 4.0, 4.9, None),
        (None, 4.0, 20.0, 16.0),
        (None, 4.0, 100.0, 0.0),
    ],
)
def test_what_is_left(
    usual: float | None, elapsed: float | None, percent: float | None, expected: float | None
) -> None:
    assert left(None if usual is None else Estimate(usual, 3), elapsed, percent) == expected
