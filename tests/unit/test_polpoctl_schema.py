"""`polpoctl schema`: each method's JSON Schema stands alone, and says of its example what the document says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from kit.scripted import Scripted

from polpoctl.commands.schema import schema
from polpod.services.rpc.table import openrpc


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(orjson.dumps(openrpc()))


def test_a_schema_stands_alone_and_takes_the_method_s_example(document: Any) -> None:
    for method in document["methods"]:
        alone = schema(method, document["components"]["schemas"])
        assert "#/components/" not in json.dumps(alone)
        (example,) = method["examples"]
        said = {
            "params": {param["name"]: param["value"] for param in example["params"]},
            "result": example["result"]["value"],
        }
        Draft202012Validator.check_schema(alone)
        validator = Draft202012Validator(alone)
        assert list(validator.iter_errors(said)) == []
        assert not validator.is_valid(said | {"params": {"no such": 1}})
        assert not validator.is_valid(said | {"result": None})


def ask(document: Any, *argv: str) -> subprocess.CompletedProcess[str]:
    with Scripted({"rpc.discover": document}) as polpod:
        command = [sys.executable, "-m", "polpoctl", "schema", "--socket", polpod.path, *argv]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_prints_it_and_lists_the_methods(document: Any) -> None:
    printed = json.loads(ask(document, "task.submit").stdout)
    assert (printed["title"], printed["properties"]["result"]) == ("task.submit", {"$ref": "#/$defs/Submitted"})
    assert printed["properties"]["params"]["properties"]["priority"]["default"] == 0
    listed = ask(document).stdout.splitlines()
    assert [line.split("\t")[0] for line in listed] == [method["name"] for method in document["methods"]]
    assert json.loads(ask(document, "--json").stdout)[0].keys() == {"name", "summary"}
    done = ask(document, "task.submitt")
    assert (done.returncode, done.stdout) == (3, "")
    assert "no method 'task.submitt': did you mean task.submit" in done.stderr
