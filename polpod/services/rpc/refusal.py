"""How an error looks on the wire (DESIGN §9): the caller's with its stable word, ours without details."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from polpod.errors import InvalidRequest, RequestError
from polpod.wire.errors import APPLICATION_ERROR, INVALID_PARAMS

_PATH = re.compile(r" - at (?:`key` in )?`(\$[^`]*)`$")
_FIELD = re.compile(r"Object (?:contains unknown|missing required) field `(.*)`", re.DOTALL)

LONGEST = 1000
"""Characters of a message: it says what was wrong, and need not repeat megabytes of it."""

LONGEST_PATH = 200


def invalid(exc: msgspec.ValidationError) -> InvalidRequest:
    """A validation error as one of ours, with the path of the bad field taken out of its text."""
    text = str(exc)
    found = _PATH.search(text)
    path = found[1] if found else "$"
    text = _PATH.sub("", text)
    if field := _FIELD.fullmatch(text):  # msgspec's path ends at the object
        path = f"{path}.{field[1]}"
    return InvalidRequest(text, path)


@contextmanager
def entity() -> Iterator[None]:
    """What is no such entity is the caller's mistake: ValueError becomes InvalidRequest."""
    try:
        yield
    except msgspec.ValidationError as exc:
        raise invalid(exc) from exc
    except ValueError as exc:
        raise InvalidRequest(str(exc)) from exc


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
