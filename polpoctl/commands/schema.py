"""`schema`: what a method of the socket takes and answers, as JSON Schema."""

from __future__ import annotations

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.exits import Failure
from polpoctl.render import Screen

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_COMPONENTS = "#/components/schemas/"


def options(parser: ArgumentParser) -> None:
    parser.add_argument("method", metavar="METHOD", nargs="?", help="such as task.submit (default: list all of them)")
    parser.epilog = "The schema is of an object with the method's `params` and its `result`."


def run(args: Namespace) -> int:
    document = connect(args).call("rpc.discover")
    screen = Screen(args)
    methods = {method["name"]: method for method in document["methods"]}
    if args.method is None:
        if screen.json:
            screen.value([{"name": name, "summary": method["summary"]} for name, method in methods.items()])
        else:
            screen.table(("METHOD", "WHAT"), [(name, method["summary"]) for name, method in methods.items()])
        return exits.OK
    if args.method not in methods:
        raise _unknown(args.method, methods)
    screen.value(schema(methods[args.method], document["components"]["schemas"]))
    return exits.OK


def schema(method: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """The schema of a method of an OpenRPC document: whole, with the types that it refers to."""
    params = {
        "type": "object",
        "properties": {param["name"]: param["schema"] for param in method["params"]},
        "required": [param["name"] for param in method["params"] if param.get("required")],
        "additionalProperties": False,
    }
    definitions: dict[str, Any] = {}
    properties = {
        "params": _moved(params, components, definitions),
        "result": _moved(method["result"]["schema"], components, definitions),
    }
    head = {"$schema": DIALECT, "title": method["name"], "description": method["summary"]}
    return head | {"type": "object", "properties": properties, "$defs": definitions}


def _moved(value: Any, components: dict[str, Any], definitions: dict[str, Any]) -> Any:
    """The schema with its references led to `$defs`; what they lead to is added to the definitions."""
    if isinstance(value, list):
        return [_moved(inner, components, definitions) for inner in value]
    if isinstance(value, dict):
        return {name: _moved(inner, components, definitions) for name, inner in value.items()}
    if not isinstance(value, str) or not value.startswith(_COMPONENTS):
        return value
    name = value.removeprefix(_COMPONENTS)
    if name not in definitions:
        definitions[name] = {}  # a type may refer to itself
        definitions[name] = _moved(components[name], components, definitions)
    return f"#/$defs/{name}"


def _unknown(method: str, methods: dict[str, Any]) -> Failure:
    from difflib import get_close_matches  # only for this message

    near = get_close_matches(method, methods, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "polpoctl schema lists them"
    return Failure(f"no method {method!r}: {hint}", exits.NOT_FOUND)
