"""The OpenRPC document of the socket's methods, made from their table (https://spec.open-rpc.org).

Rules:

1. A field of an answer is always there, unless its struct leaves out what is not set; of parameters those are required
   that have no default.  That an answer has no other fields is not said: it may gain some.
2. How a method refuses follows from its row: who may call it, whether it writes, what its parameters name.
3. Examples are from a conversation with a real polpod (tests/examples.py), kept in examples.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import NODEFAULT, inspect

from polpod import __version__
from polpod.services.rpc.method import Method, Right
from polpod.wire import errors

Schema = dict[str, Any]

EXAMPLES = Path(__file__).with_name("examples.json")
"""By method: `params` and `result`."""

_TEMPLATE = "#/components/schemas/{name}"

_ERRORS = {
    "invalid": (errors.INVALID_PARAMS, "The parameters are not such; `path` says which one."),
    "internal_error": (errors.INTERNAL_ERROR, "A defect of polpod: the log has it."),
    "not_found": (errors.APPLICATION_ERROR, "There is no such thing."),
    "invalid_transition": (errors.APPLICATION_ERROR, "Its status does not let it."),
    "conflict": (errors.APPLICATION_ERROR, "Something else is in the way."),
    "permission_denied": (errors.APPLICATION_ERROR, "The caller may not."),
    "unavailable": (errors.APPLICATION_ERROR, "Not now: polpod stops, recovers, or does not reach its store."),
    "disk_full": (errors.APPLICATION_ERROR, "There is no room for it."),
    "too_large": (errors.APPLICATION_ERROR, "It is more than polpod takes."),
    "unsupported": (errors.APPLICATION_ERROR, "This host cannot do it."),
    "refused": (errors.APPLICATION_ERROR, "The rules of what it is about do not let it."),
}
"""By `data.type`: the code, and what it means."""

_WITHOUT_STORE = ("daemon.health", "daemon.status", "rpc.discover")
"""Answered whatever the store does."""
_LIMITED = ("task.submit", "task.submit_many", "task.update")
"""They may ask for limits that the host cannot set."""
_NAMING = ("id", "ids", "select", "task_id", "run_id", "name", "user", "agent", "depends_on")
"""Parameters that name what may not be there."""


def describe(table: Mapping[str, Method]) -> dict[str, Any]:
    """The document, of the methods by name."""
    methods = [table[name] for name in sorted(table)]
    answers = [kind for method in methods for kind in _kinds(method.result)]
    schemas, components = msgspec.json.schema_components(
        [m.params for m in methods] + answers, ref_template=_TEMPLATE, schema_hook=_anything
    )
    described, results = schemas[: len(methods)], iter(schemas[len(methods) :])
    _fill(components, answers, _reached(components, described))
    examples = json.loads(EXAMPLES.read_text())
    document: dict[str, Any] = {
        "openrpc": "1.3.2",
        "info": {"title": "polpod", "version": __version__, "license": {"name": "Apache-2.0"}},
        "methods": [
            {
                "name": method.name,
                "summary": method.summary,
                "paramStructure": "by-name",
                "params": _params(params, components),
                "result": {"name": "result", "schema": _result(method.result, results)},
                "errors": [{"$ref": f"#/components/errors/{word}"} for word in refusals(method)],
                "examples": [_example(method.name, examples[method.name])] if method.name in examples else [],
            }
            for method, params in zip(methods, described, strict=True)
        ],
        "components": {
            "schemas": components,
            "errors": {word: _error(word, code, why) for word, (code, why) in _ERRORS.items()},
        },
    }
    used = _reached(components, [document["methods"]])
    for name in components.keys() - used:  # parameters are told one by one
        del components[name]
    return document


def refusals(method: Method) -> Iterator[str]:
    """The words of errors that a call of it may be answered with."""
    noun, _, verb = method.name.partition(".")
    named = any(name in _NAMING for name in method.params.__struct_fields__)
    conditions = {
        "invalid": True,
        "internal_error": True,
        "not_found": named,
        "invalid_transition": method.writes and noun in ("task", "approval", "mission", "context", "run"),
        "conflict": method.changes and verb not in ("list", "status"),
        "permission_denied": method.right > Right.RUN or named,
        "unavailable": method.name not in _WITHOUT_STORE,
        "disk_full": method.changes,
        "too_large": True,
        "unsupported": method.name in _LIMITED,
        "refused": noun == "a2a" and method.changes,
    }
    return (word for word, may_be in conditions.items() if may_be)


def _anything(kind: type) -> Schema:
    """Raises NotImplementedError for what msgspec does not know, unless it is `object`."""
    if kind is not object:
        raise NotImplementedError
    return {"description": "Any JSON."}


def _kinds(result: Any) -> Iterable[Any]:
    return result.values() if isinstance(result, dict) else [result]


def _result(result: Any, schemas: Iterator[Schema]) -> Schema:
    if not isinstance(result, dict):
        return next(schemas)
    members = {name: next(schemas) for name in result}
    return {"type": "object", "properties": members, "required": list(members)}


def _params(schema: Schema, components: dict[str, Schema]) -> list[Schema]:
    name = schema["$ref"].rpartition("/")[2]
    required = components[name].get("required", [])
    return [
        {"name": field, "required": field in required, "schema": kind}
        for field, kind in components[name].get("properties", {}).items()
    ]


def _error(word: str, code: int, why: str) -> Schema:
    described: Schema = {"code": code, "message": why}
    return described if word == "internal_error" else described | {"data": {"type": word}}


def _example(name: str, said: dict[str, Any]) -> Schema:
    return {
        "name": name,
        "params": [{"name": param, "value": value} for param, value in said["params"].items()],
        "result": {"name": "result", "value": said["result"]},
    }


def _fill(components: dict[str, Schema], answers: list[Any], given: set[str]) -> None:
    """Say of the structs that only answers have which fields are always there."""
    for kind in _structs(inspect.multi_type_info(answers)):
        names = {kind.cls.__name__, re.sub(r"[^a-zA-Z0-9._-]", "_", f"{kind.cls.__module__}.{kind.cls.__qualname__}")}
        for name in names & components.keys() - given:
            schema = components[name]
            if not kind.cls.__struct_config__.omit_defaults:
                unset = {field.encode_name for field in kind.fields if _may_be_unset(field)}
                schema["required"] = [field for field in schema["properties"] if field not in unset]


def _may_be_unset(field: inspect.Field) -> bool:
    return not field.required and field.default is NODEFAULT and field.default_factory is NODEFAULT


def _structs(kind: Any, seen: set[Any] | None = None) -> Iterator[inspect.StructType]:
    """Every struct within what msgspec knows of types."""
    seen = set() if seen is None else seen
    if isinstance(kind, list | tuple):
        for inner in kind:
            yield from _structs(inner, seen)
    elif isinstance(kind, inspect.Type | inspect.Field):
        if isinstance(kind, inspect.StructType):
            if kind.cls in seen:
                return
            seen.add(kind.cls)
            yield kind
        for name in kind.__struct_fields__:
            yield from _structs(getattr(kind, name), seen)


def _reached(components: dict[str, Schema], schemas: Iterable[Any]) -> set[str]:
    """The names of the components that these schemas refer to, through others too."""
    found: set[str] = set()
    waiting = list(schemas)
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            name = str(value.get("$ref", "")).rpartition("/")[2]
            if name in components and name not in found:
                found.add(name)
                waiting.append(components[name])
    return found
