"""Durations of ISO 8601: `P1DT2H30M`, `PT0.5S`, `P2W`; a year has 365.25 days, a month 30.44 (polpo-behaviour §8.2)."""

from __future__ import annotations

import re

DAY = 86_400.0

_SECONDS = {"Y": 365.25 * DAY, "n": 30.44 * DAY, "W": 7 * DAY, "D": DAY, "H": 3600.0, "M": 60.0, "S": 1.0}
"""`n` is a month, since an `M` may be a minute, too."""

_N = r"(?:([0-9]+(?:[.,][0-9]+)?){})?"
_FORM = re.compile(
    "P(?=.)" + "".join(_N.format(unit) for unit in "YMWD") + "(?:T(?=.)" + "".join(_N.format(u) for u in "HMS") + ")?"
)
LONGEST = 1e9
"""Seconds: thirty years, so that an instant plus any duration is an instant."""


def seconds(text: str) -> float:
    """Raises ValueError for what is no such duration, or is longer than LONGEST."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"not a duration of ISO 8601, such as PT30M: {text!r}")
    parts = zip("YnWDHMS", match.groups(), strict=True)
    total = sum(float(number.replace(",", ".")) * _SECONDS[unit] for unit, number in parts if number is not None)
    if total > LONGEST:
        raise ValueError(f"longer than thirty years: {text!r}")
    return total
