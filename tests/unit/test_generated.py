"""What is made from tables is what the tables say: the generated pages are fresh, and rpc.discover is good OpenRPC."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path
from types import ModuleType
from typing import Any

import orjson
import pytest
from jsonschema import Draft7Validator, Draft202012Validator  # type: ignore[import-untyped]
from kit.fault import ELSEWHERE, LAST
from referencing import Registry
from referencing.jsonschema import DRAFT7

import polpod
from polpod.model.submissions import Submission
from polpod.model.tasks import TaskStatus
from polpod.rules.tasks import EDGES
from polpod.services.rpc.described import refusals
from polpod.services.rpc.table import METHODS, openrpc
from polpod.wire.errors import WORDS

DOCS = Path(__file__).parents[2] / "docs"
OPENRPC = Path(__file__).parents[1] / "data" / "openrpc"
"""Of others: its README says whose."""
NAME = re.compile(r"[A-Za-z0-9._-]+")


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = generator()


@pytest.fixture(scope="module")
def document() -> Any:
    """As a client gets it."""
    return json.loads(orjson.dumps(openrpc()))


@pytest.mark.parametrize("name", sorted(GENERATE.PAGES))
def test_a_page_is_fresh(name: str) -> None:
    assert (DOCS / name).read_text() == GENERATE.PAGES[name](), "stale: run `python docs/generate.py`"


def test_the_diagram_has_the_edges_of_the_machine() -> None:
    drawn = re.findall(r"^    (\w+) --> (\w+)$", GENERATE.states(), re.MULTILINE)
    assert drawn == [(str(a), str(b)) for a, to in EDGES.items() for b in to]
    assert f"    {TaskStatus.DONE} --> [*]\n" in GENERATE.states()


def test_the_reference_has_every_method_and_every_parameter(document: Any) -> None:
    sections = dict(re.findall(r"^## (\S+\.\S+)\n(.*?)(?=^##? |\Z)", GENERATE.rpc(), re.MULTILINE | re.DOTALL))
    assert set(sections) == set(METHODS)
    for method in document["methods"]:
        section = sections[method["name"]]
        assert method["summary"] in section
        described = [p["name"] for p in method["params"]] + list(method["result"]["schema"].get("properties", ()))
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == described
        assert section.count("```json") == 1


def test_the_reference_links_to_types_that_it_has() -> None:
    page = GENERATE.rpc()
    links = set(re.findall(r"\(#([^)]+)\)", page))
    assert links
    headings = re.findall(r"^##+ (.+)$", page, re.MULTILINE)
    assert links <= {heading.lower().replace(".", "") for heading in headings}


def test_every_entry_of_the_fault_suite_has_its_test_or_its_reason() -> None:
    tested, elsewhere = GENERATE.faults().keys(), ELSEWHERE.keys()
    assert sorted([*tested, *elsewhere]) == list(range(1, LAST + 1))


def test_a_behaviour_that_nothing_holds_is_an_error_and_so_is_a_mark_of_nothing() -> None:
    polpo = run_path(str(DOCS / "polpo.py"))
    held, refuse = polpo["_held"], polpo["_refuse_unknown"]
    tests = {"W1": ["a"], "§13.9": list("abcdef")}
    assert held("W1", tests, {"W1": "because"}, {}) == "overruled: because; `a`"
    assert held("§13.9", tests, {}, {}) == "`a`, `b`, `c`, `d`, and 2 more"
    with pytest.raises(ValueError, match="neither a test nor a reason holds W2"):
        held("W2", tests, {}, {})
    with pytest.raises(ValueError, match="there is a test for W1, which there is not"):
        refuse({"§13.9"}, "a test", tests)
    assert list(polpo["_named"]("§13.3 to §13.5, W7: and W8.")) == ["§13.3", "§13.4", "§13.5", "W7", "W8"]


# rpc.discover: the essentials of OpenRPC 1.3's meta-schema, and that its schemas are schemas.


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object within."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(inner)


def taking(document: Any, method: Any) -> Any:
    """Validates the parameters of a method."""
    schema = {
        "type": "object",
        "properties": {p["name"]: p["schema"] for p in method["params"]},
        "required": [p["name"] for p in method["params"] if p["required"]],
        "additionalProperties": False,
    }
    return Draft202012Validator({"components": document["components"]} | schema)


def test_the_document_has_its_head(document: Any) -> None:
    assert set(document) <= {"openrpc", "info", "servers", "methods", "components", "externalDocs"}
    assert re.fullmatch(r"1\.\d+\.\d+", document["openrpc"])
    assert document["info"] == {"title": "polpod", "version": polpod.__version__, "license": {"name": "Apache-2.0"}}
    assert isinstance(document["methods"], list)


def test_every_method_is_described_once_and_by_name(document: Any) -> None:
    assert [m["name"] for m in document["methods"]] == sorted(METHODS)
    known = {
        "name",
        "summary",
        "description",
        "params",
        "result",
        "paramStructure",
        "errors",
        "examples",
        "deprecated",
        "tags",
    }
    for method in document["methods"]:
        assert set(method) <= known
        assert method["paramStructure"] == "by-name"
        assert isinstance(method["summary"], str)


def test_every_parameter_and_result_is_a_content_descriptor(document: Any) -> None:
    for method in document["methods"]:
        names = [p["name"] for p in method["params"]]
        assert len(names) == len(set(names))
        for descriptor in (*method["params"], method["result"]):
            assert {"name", "schema"} <= set(descriptor) <= {"name", "schema", "required", "summary", "description"}
            assert isinstance(descriptor["schema"], dict)
            assert isinstance(descriptor.get("required", False), bool)


def test_every_reference_leads_somewhere_in_the_document(document: Any) -> None:
    references = [node["$ref"] for node in nodes(document) if "$ref" in node]
    assert references
    for reference in references:
        _, components, kind, name = reference.split("/")
        assert components == "components"
        assert name in document["components"][kind]


def test_every_schema_is_one(document: Any) -> None:
    assert all(NAME.fullmatch(name) for name in document["components"]["schemas"])
    inline = [d["schema"] for m in document["methods"] for d in (*m["params"], m["result"])]
    for schema in (*document["components"]["schemas"].values(), *inline):
        Draft202012Validator.check_schema(schema)


def test_the_document_says_of_a_submission_what_the_daemon_says(document: Any) -> None:
    (submit,) = (m for m in document["methods"] if m["name"] == "task.submit")
    assert [p["name"] for p in submit["params"]] == list(Submission.__struct_fields__)
    validator = taking(document, submit)
    assert validator.is_valid({"command": ["true"], "labels": {"a": "b"}, "max_duration": 1.5})
    assert not validator.is_valid({"command": []})
    assert not validator.is_valid({"comand": ["true"]})
    assert not validator.is_valid({"priority": 2**31})


def test_the_document_is_what_the_meta_schema_of_openrpc_says(document: Any) -> None:
    openrpc, within = (json.loads((OPENRPC / f"{name}.json").read_text()) for name in ("meta-schema", "json-schema"))
    known = Registry().with_resource("https://meta.json-schema.tools", DRAFT7.create_resource(within))
    validator = Draft7Validator(openrpc, registry=known.with_resource(within["$id"], DRAFT7.create_resource(within)))
    assert [f"{error.json_path}: {error.message}"[:500] for error in validator.iter_errors(document)] == []
    assert not validator.is_valid(document | {"methods": [{"name": "x"}]})
    assert not validator.is_valid(document | {"components": {"schemas": {"X": {"type": "no such"}}}})


def test_every_method_says_what_it_answers_how_it_refuses_and_an_example(document: Any) -> None:
    words = document["components"]["errors"]
    assert words.keys() == {*WORDS, "internal_error"}
    for method in document["methods"]:
        schema, (example,) = method["result"]["schema"], method["examples"]
        assert schema not in ({}, {"type": "object"}), method["name"]
        assert {e["$ref"].removeprefix("#/components/errors/") for e in method["errors"]} <= set(words)
        taking(document, method).validate({p["name"]: p["value"] for p in example["params"]})
        Draft202012Validator({"components": document["components"]} | schema).validate(example["result"]["value"])


def test_a_row_of_the_table_says_how_it_refuses() -> None:
    assert {"unsupported", "conflict", "disk_full", "invalid"} <= set(refusals(METHODS["task.submit"]))
    assert set(refusals(METHODS["rpc.discover"])) == {"invalid", "internal_error", "too_large"}
    assert {"not_found", "invalid_transition", "permission_denied"} <= set(refusals(METHODS["task.retry"]))
    assert {"conflict", "disk_full", "permission_denied"} & set(refusals(METHODS["queue.list"])) == set()


def test_the_answers_that_have_a_type_are_described_by_it(document: Any) -> None:
    (submit,) = (m for m in document["methods"] if m["name"] == "task.submit")
    assert submit["result"]["schema"] == {"$ref": "#/components/schemas/Submitted"}
