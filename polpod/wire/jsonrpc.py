"""The JSON-RPC 2.0 envelope (https://www.jsonrpc.org/specification, DESIGN §9), for both sides.

Rules:

1. Values in, values out: the JSON codec is an argument, and nothing here knows what a method does.
2. A notification is never answered, not even when its params are wrong; a request always is, exactly once.
3. Params are given by name: an object, or nothing.  A list gets INVALID_PARAMS.
4. Before a call is anybody's, its values are within `unacceptable`'s limits.
"""

from __future__ import annotations

from polpod.wire.errors import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, TOO_LARGE

TYPE_CHECKING = False  # type checkers take it for typing's, whose import costs a client 9 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeAlias

    Id: TypeAlias = str | int | float | None
    Message: TypeAlias = dict[str, Any]

MAX_DEPTH = 64
"""Lists and objects within each other, the outermost counted."""

MAX_BATCH = 1000
"""Members of a batch; of a longer one nothing is looked at."""

MAX_NUMBER = 2**53
"""The largest magnitude that every JSON codec keeps exact."""


class Call:
    """One request or notification that was received.  `id` means nothing in a notification."""

    __slots__ = ("id", "method", "notification", "params")

    def __init__(self, method: str, params: Message, id: Id, notification: bool) -> None:
        self.method = method
        self.params = params
        self.id = id
        self.notification = notification


class Received:
    """One message that was received: its calls, and the error responses that it has earned already, in its order."""

    __slots__ = ("batch", "items")

    def __init__(self, items: list[Call | Message], batch: bool = False) -> None:
        self.items = items
        self.batch = batch

    def answer(self, responses: Iterable[Message]) -> Message | list[Message] | None:
        """What to send back, given a response for each item that has one; None: nothing at all."""
        listed = list(responses)
        if not listed:
            return None
        return listed if self.batch else listed[0]


class RemoteError(Exception):
    """The other side answered with an error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data

    @property
    def type(self) -> str | None:
        """`data.type`, one of errors.WORDS; None where there is none."""
        found = self.data.get("type") if isinstance(self.data, dict) else None
        return found if isinstance(found, str) else None


class NotAResponse(Exception):
    """The other side sent something that is no response."""


# Sending


def request(method: str, params: Message, id: Id) -> Message:
    return {"jsonrpc": "2.0", "method": method, "params": params, "id": id}


def notification(method: str, params: Message) -> Message:
    return {"jsonrpc": "2.0", "method": method, "params": params}


def result(id: Id, value: object) -> Message:
    return {"jsonrpc": "2.0", "result": value, "id": id}


def error(id: Id, code: int, message: str, data: object = None) -> Message:
    """An error response; `id` is None where the request's could not be made out."""
    body: Message = {"code": code, "message": message}
    if data is not None:
        body["data"] = data
    return {"jsonrpc": "2.0", "error": body, "id": id}


# Receiving


def receive(frame: bytes, loads: Callable[[bytes], object]) -> Received:
    """The message in a frame.  `loads` decodes JSON and raises ValueError (or RecursionError) for what is none."""
    try:
        value = loads(frame)
    except (ValueError, RecursionError) as exc:
        return Received([error(None, PARSE_ERROR, f"not JSON: {exc}")])
    return parse(value)


def parse(value: object) -> Received:
    """The calls of a decoded message, and an error response in the place of each that is none."""
    if not isinstance(value, list):
        item = _item(value, 1)
        return Received([] if item is None else [item])
    if not value:
        return Received([error(None, INVALID_REQUEST, "an empty batch")])
    if len(value) > MAX_BATCH:
        why = f"a batch of {len(value)} members, and at most {MAX_BATCH} are taken"
        return Received([error(None, INVALID_REQUEST, why, {"type": TOO_LARGE})])
    items = (_item(member, 2) for member in value)
    return Received([item for item in items if item is not None], batch=True)


def response(value: object) -> tuple[Id, Any]:
    """The id and the result of a decoded response; in the place of a result, a RemoteError (returned, not raised).

    Raises NotAResponse.
    """
    if not isinstance(value, dict) or not _is_id(value.get("id")):
        raise NotAResponse("not a JSON-RPC response")
    if "result" in value:
        return value.get("id"), value["result"]
    body = value.get("error")
    if not isinstance(body, dict) or type(body.get("code")) is not int or not isinstance(body.get("message"), str):
        raise NotAResponse("a JSON-RPC response without result and error")
    return value.get("id"), RemoteError(body["code"], body["message"], body.get("data"))


def unacceptable(value: object, depth: int = 1) -> tuple[str, str] | None:
    """Where and why a decoded value is beyond what polpod takes; None when it is not.

    Refused are nesting deeper than MAX_DEPTH, numbers beyond ±MAX_NUMBER, and NUL characters, which neither a command
    nor a file name nor PostgreSQL can hold.  The path is as in `$.params.tasks[3].title`; `depth` is that of `value`.
    """
    found = _beyond(value, depth)
    return found and ("$" + found[0], found[1])


def _item(value: object, depth: int) -> Call | Message | None:
    if not isinstance(value, dict):
        return error(None, INVALID_REQUEST, "a request is an object")
    id = value.get("id")
    silent = "id" not in value
    if not _is_id(id):
        return error(None, INVALID_REQUEST, "id: a string, a number or null")
    if value.get("jsonrpc") != "2.0":
        return error(id, INVALID_REQUEST, 'jsonrpc: must be "2.0"')
    method = value.get("method")
    if not isinstance(method, str):
        return error(id, INVALID_REQUEST, "method: a string is missing")
    params = value.get("params", {})
    if not isinstance(params, (dict, list)):
        return error(id, INVALID_REQUEST, "params: an object, or nothing")
    if (beyond := unacceptable(value, depth)) is not None:
        path, why = beyond
        within = path.startswith("$.params")
        code, where = (INVALID_PARAMS, "$" + path.removeprefix("$.params")) if within else (INVALID_REQUEST, path)
        return None if silent else error(id, code, f"{where}: {why}", {"type": "invalid", "path": where})
    if isinstance(params, list):
        return None if silent else error(id, INVALID_PARAMS, "params: give them by name, in an object, not in a list")
    return Call(method, params, id, silent)


def _is_id(id: object) -> bool:
    return id is None or type(id) in (str, int, float)


def _beyond(value: object, depth: int) -> tuple[str, str] | None:
    if isinstance(value, str):
        return ("", "contains a NUL character") if "\0" in value else None
    if isinstance(value, (int, float)):
        return None if -MAX_NUMBER <= value <= MAX_NUMBER else ("", "a number beyond ±2**53")  # NaN is beyond, too
    if not isinstance(value, (dict, list)):
        return None
    if depth > MAX_DEPTH:
        return "", f"nested more than {MAX_DEPTH} deep"
    if isinstance(value, list):
        for index, member in enumerate(value):
            if (found := _beyond(member, depth + 1)) is not None:
                return f"[{index}]{found[0]}", found[1]
        return None
    for key, member in value.items():
        if "\0" in key:
            return "", "a name contains a NUL character"
        if (found := _beyond(member, depth + 1)) is not None:
            return f".{key[:80]}{found[0]}", found[1]
    return None
