"""Time zones by their names, as this host knows them."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

_LOCALTIME = "/etc/localtime"
_DIRECTORY = "/zoneinfo/"


def zone(name: str) -> tzinfo:
    """The time zone of that name, such as `Europe/Berlin`; UTC is known everywhere.  Raises ValueError."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as exc:
        raise ValueError(f"this host knows no time zone {name!r}, such as Europe/Berlin or UTC") from exc


def of_host() -> str:
    """The name of this host's own: $TZ, else what /etc/localtime is a link to; UTC where neither names one."""
    linked = os.path.realpath(_LOCALTIME).rpartition(_DIRECTORY)[2]
    for name in (os.environ.get("TZ", "").removeprefix(":"), linked):
        if name and not os.path.isabs(name):
            with suppress(ValueError):
                zone(name)
                return name
    return "UTC"
