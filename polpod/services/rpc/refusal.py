"""How an error looks on the wire (DESIGN §9): the caller's with its stable word, ours without details."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import msgspec

from polpod.errors import InvalidRequest, RequestError
from polpod.model.entity import Unfit
from polpod.wire.errors import APPLICATION_ERROR, INVALID_PARAMS

_PATH = re.compile(r" - at (?:`key` in )?`(\$[^`]*)`$")
_FIELD = re.compile(r"Object (?:contains unknown|missing required) field `(.*)`", re.DOTALL)

LONGEST = 1000
"""Characters of a message: it says what was wrong, and need not repeat megabytes of it."""

LONGEST_PATH = 200


def invalid(
    exc: ValueError | msgspec.ValidationError, at: str = "$", names: Mapping[str, str] = MappingProxyType({})
) -> InvalidRequest:
    """What is wrong with a value, as one of ours, with the path of the bad field taken out of its text.

    `at` is where the value is, `names` are fields of it that the caller knows by other names.  An error in an entity
    within another has those of the outer ones around it, each of which knows a part of the path.
    """
    error: BaseException = exc
    path, text = at, str(exc)
    while True:
        if isinstance(error, Unfit):
            path, text = f"{path}.{error.name}", error.problem
        elif found := _PATH.search(text := str(error)):
            path, text = path + found[1][1:], _PATH.sub("", text)
        if not isinstance(error.__cause__, ValueError):
            break
        error = error.__cause__
    if field := _FIELD.fullmatch(text):  # msgspec's path ends at the object
        path = f"{path}.{field[1]}"
    first, dot, rest = path.removeprefix(f"{at}.").partition(".")
    return InvalidRequest(text, f"{at}.{names[first]}{dot}{rest}" if first in names else path)


@contextmanager
def entity(at: str = "$", **names: str) -> Iterator[None]:
    """What is no such entity is the caller's mistake: ValueError becomes InvalidRequest.  The rest as in `invalid`."""
    try:
        yield
    except ValueError as exc:
        raise invalid(exc, at, names) from exc


def refusal(exc: RequestError) -> dict[str, Any]:
    """The `error` member of a response."""
    if isinstance(exc, InvalidRequest):
        path = shortened(exc.path, LONGEST_PATH)
        message = f"{path}: {exc}" if path not in ("", "$") else str(exc)
        return {"code": INVALID_PARAMS, "message": shortened(message), "data": {"type": exc.kind, "path": path}}
    return {"code": APPLICATION_ERROR, "message": shortened(str(exc)), "data": {"type": exc.kind}}


def shortened(text: str, most: int = LONGEST) -> str:
    """The beginning of a text that may be of any length."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
