"""Times at which something happens again and again: five fields, as crontab(5) has them.

Rules:

1. Minute, hour, day of the month, month, day of the week: `*`, numbers, names, ranges, lists, and steps of `*` or of a
   range.  What is none of these, or never comes, is refused with its field, and so is a step that leaves one value.
2. Where neither day field begins with `*`, one of them is enough; else both must fit.
3. A time of day that the clock leaves out comes when the clock goes on, and one that it repeats comes the first time;
   what comes every minute or every hour comes by the time that passes.
4. An answer is an instant in UTC, later than what was asked from: in a time zone, two instants may look the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo

from cronsim import CronSim, CronSimError

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
_TERM = re.compile(r"(?:\*|(?P<first>[A-Z0-9]+)(?:-(?P<last>[A-Z0-9]+))?)(?:/(?P<step>[0-9]+))?", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,4}")


def check(expression: str) -> None:
    """Raises ValueError, saying which field is wrong, and why."""
    fields = expression.upper().split()
    if len(fields) != len(_FIELDS):
        wanted = ", ".join(name for name, *_ in _FIELDS)
        raise ValueError(f"{len(fields)} fields, and five are needed: {wanted}")
    for text, (name, least, most, words) in zip(fields, _FIELDS, strict=True):
        for term in text.split(","):
            if problem := _problem(term, least, most, words):
                raise ValueError(f"{name} {text!r}: {problem}")
    try:
        CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError:
        raise ValueError(f"{expression!r} never comes") from None


def _problem(term: str, least: int, most: int, words: tuple[str, ...]) -> str | None:
    match = _TERM.fullmatch(term)
    if match is None:
        return f"{term!r} is no number, range, * or step"
    ends = [_value(end, least, words) for end in (match["first"], match["last"]) if end is not None]
    if not all(end is not None and least <= end <= most for end in ends):
        return f"{term!r} is not within {least}-{most}"
    if len(ends) == 2 and (ends[0] or 0) > (ends[1] or 0):
        return f"{term!r} ends before it begins"
    if match["step"] is None:
        return None
    if len(ends) == 1:
        return f"{term!r} is a step of one value: give a range"
    step = _value(match["step"], 0, ())
    if not step or step > most:
        return f"a step is within 1-{most}"
    return None


def _value(text: str, least: int, words: tuple[str, ...]) -> int | None:
    if text in words:
        return least + words.index(text)
    return int(text) if _NUMBER.fullmatch(text) else None


def following(expression: str, zone: tzinfo, after: datetime) -> datetime | None:
    """The first time later than `after`; None: it does not come within fifty years."""
    return next(times(expression, zone, after), None)


def times(expression: str, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    """All times later than `after`, in their order, for a checked expression."""
    last = after.astimezone(UTC)
    try:
        for found in CronSim(expression, after.astimezone(zone)):
            if (at := found.astimezone(UTC)) > last:  # of a repeated hour it tells the first pass while in the second
                last = at
                yield at
    except OverflowError:  # the end of the calendar
        return
