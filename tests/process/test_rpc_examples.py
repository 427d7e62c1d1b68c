"""What a real polpod answers is what `rpc.discover` says that it does, method by method."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from kit.conversation import converse
from kit.host import Host


def test_every_method_answers_as_the_document_says() -> None:
    """Nothing is missing in an answer, and nothing in it is not told of."""
    with Host() as host:
        said = converse(host).said
        assert "Traceback" not in host.log(), host.log()
    (document,) = (result for method, _, result in said if method == "rpc.discover")
    methods = {method["name"]: method for method in document["methods"]}
    assert {method for method, _, _ in said} == set(methods)
    complaints = [
        f"{name} {error.json_path}: {error.message[:300]}"
        for name, _, result in said
        for error in schema_of(document, methods[name]).iter_errors(result)
    ]
    assert complaints == []


def schema_of(document: Any, method: Any) -> Any:
    """Validates the answers of a method, and takes no field that the document does not tell of."""
    return Draft202012Validator(closed({"components": document["components"]} | method["result"]["schema"]))


def closed(schema: Any) -> Any:
    """The schema with every object in it closed."""
    if isinstance(schema, list):
        return [closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(value) for name, value in schema.items()}
    return {"additionalProperties": False} | inner if "properties" in schema else inner
