"""Instants and durations, from and to text.  On the wire: RFC 3339 in UTC, and seconds (DESIGN §5)."""

from __future__ import annotations

import re
import time
from argparse import ArgumentTypeError

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = r"(?:(?P<d>\d+(?:\.\d+)?)d)?(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s?)?"
_LONGEST = 1e10


def duration(text: str) -> float:
    """Seconds of `90`, `90s`, `5m`, `1h30m`, `2d`.  Raises ArgumentTypeError, as a type of argparse does."""
    match = re.fullmatch(_DURATION, text)
    if match is None or not text:
        raise ArgumentTypeError(f"{text!r} is no duration, such as 90, 90s, 5m, 1h30m or 2d")
    seconds = sum(float(n) * _UNITS[unit] for unit, n in match.groupdict().items() if n)
    if seconds > _LONGEST:
        raise ArgumentTypeError(f"{text!r} is longer than three centuries")
    return int(seconds) if seconds == int(seconds) else seconds


def instant(text: str) -> str:
    """RFC 3339 in UTC of an RFC 3339 instant, or of a duration from now.  Raises ArgumentTypeError."""
    if re.fullmatch(_DURATION, text) and text:
        return _rfc3339(time.time() + duration(text))
    from datetime import datetime  # only here: it costs a start 2 ms

    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no time, such as 2030-01-31T18:00:00Z, and no duration") from None
    if at.tzinfo is None:
        raise ArgumentTypeError(f"{text!r} has no offset from UTC, such as Z or +02:00")
    return _rfc3339(at.timestamp())


def since(text: str) -> str:
    """As `instant`, but a duration is one ago: `7d` is a week ago.  Raises ArgumentTypeError."""
    if re.fullmatch(_DURATION, text) and text:
        return _rfc3339(max(0.0, time.time() - duration(text)))
    return instant(text)


def seconds_of(at: str) -> float:
    """Seconds since the epoch of an instant from the wire, by the day count of the proleptic Gregorian calendar.

    calendar.timegm and time.strptime do the same, and cost a start 3 ms.
    """
    year, month, day = int(at[:4]), int(at[5:7]), int(at[8:10])
    shifted, years = (month + 9) % 12, year - (month <= 2)  # years that begin in March have their leap day at the end
    days = years * 365 + years // 4 - years // 100 + years // 400 + (153 * shifted + 2) // 5 + day - 719469
    return days * 86400.0 + int(at[11:13]) * 3600 + int(at[14:16]) * 60 + float(at[17:].rstrip("Z"))


def ago(at: str | None, now: float) -> str:
    """`3 min ago`; empty for None."""
    if at is None:
        return ""
    passed = now - seconds_of(at)
    if passed < 0:
        return "in " + short(-passed)
    if passed < 1:
        return "now"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if passed >= size:
            return f"{int(passed // size)} {unit} ago"
    return f"{int(passed)} s ago"


def local(at: str) -> str:
    """In the time zone of whoever reads: `2030-01-31 18:00:00`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds_of(at)))


def short(seconds: float | None) -> str:
    """`0.3s`, `45s`, `1m02s`, `1h02m`, `3d04h`; empty for None."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for size, unit, below, lesser in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // below:02d}{lesser}"
    return f"{whole}s"


def _rfc3339(seconds: float) -> str:
    microseconds = round(seconds * 1_000_000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(microseconds // 1_000_000))
    return f"{whole}.{microseconds % 1_000_000:06d}Z"
