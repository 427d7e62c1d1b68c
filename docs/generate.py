"""Makes the pages that are not written by hand: `python docs/generate.py`.

Each page is a function of what polpod itself goes by, so that it cannot say anything else; a test finds it stale.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from runpy import run_path
from typing import Any

from polpod.model.events import COMMON, KINDS
from polpod.model.tasks import TaskStatus
from polpod.rules.tasks import EDGES, REQUEUED_FROM
from polpod.services.exposition import METRICS as METRICS_OF_DAEMON
from polpod.services.rpc.method import Method, Right
from polpod.services.rpc.table import METHODS, openrpc

HERE = Path(__file__).parent
TESTS = HERE.parent / "tests"
FAULTS = TESTS / "faults", TESTS / "systemd"
KIT = TESTS / "kit" / "fault.py"
CONTRACTS_BEGIN = "<!-- From here on made by docs/generate.py from the contracts and their tests. -->\n"
POLPO_BEGIN = "<!-- From here on made by docs/generate.py from docs/polpo_behaviours.py and the tests. -->\n"
METRICS_BEGIN = "<!-- From here on made by docs/generate.py from polpod/services/exposition.py. -->\n"
FAULTS_BEGIN = "<!-- From here on made by docs/generate.py from the tests. -->\n"
Schema = dict[str, Any]

WHO = {
    Right.RUN: "anyone, processes inside a run too",
    Right.MEMBER: "anyone who may connect",
    Right.OWNER: "the daemon's own user and root",
}


def states() -> str:
    """The states of a task: the table of polpod/rules/tasks.py, as a diagram and as a table."""
    edges = [f"    {start} --> {to}" for start, allowed in EDGES.items() for to in allowed]
    finals = [f"    {start} --> [*]" for start, allowed in EDGES.items() if not allowed]
    rows = [f"| `{start}` | {_listed(allowed) or 'nothing'} |" for start, allowed in EDGES.items()]
    return "\n".join(
        [
            "<!-- Made by docs/generate.py from polpod/rules/tasks.py. -->",
            "# The states of a task",
            "",
            "```mermaid",
            "stateDiagram-v2",
            f"    [*] --> {TaskStatus.PENDING}",
            f"    [*] --> {TaskStatus.DRAFT}",
            *edges,
            *finals,
            "```",
            "",
            "| from | to |",
            "| --- | --- |",
            *rows,
            "",
            "Each edge that is walked is an event `task:transition` in the journal, in the transaction that stores the task.",
            f"Only `{TaskStatus.FAILED}` → `{TaskStatus.PENDING}` counts as a retry.",
            "",
            "Beside the edges, a task whose attempt decided nothing (it was lost, never started, or ended as polpod stopped)",
            f"goes from {_listed(sorted(REQUEUED_FROM))} back to `{TaskStatus.PENDING}`, or to "
            f"`{TaskStatus.AWAITING_APPROVAL}`",
            "where a person has to decide; that spends no retry, and is an event `task:recovered`.",
            "",
        ]
    )


def rpc() -> str:
    """Every method of the socket with its parameters: the document that `rpc.discover` answers with, to read."""
    document = openrpc()
    lines = [
        "<!-- Made by docs/generate.py from polpod/services/rpc/table.py. -->",
        "# Methods of the socket",
        "",
        "What each means, and what it answers, is in [the protocol](protocol.md).",
        "",
    ]
    for described in document["methods"]:
        lines += _method(described, METHODS[described["name"]])
    lines += _errors(document)
    lines += ["## Types", ""]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += _type(name, schema)
    return "\n".join(lines)


def events() -> str:
    """Every kind of event with what it says: the table of polpod/model/events.py."""
    subjects = dict.fromkeys(kind.subject for kind in KINDS)
    lines = [
        "<!-- Made by docs/generate.py from polpod/model/events.py. -->",
        "# Events",
        "",
        "What the journal has, and what [notifications](notifications.md) can be asked for: `polpoctl events` shows them. Each is",
        "`{\"seq\", \"at\", \"kind\", \"subject\", \"body\"}`, written in the transaction that did what it tells of; `seq` has no gaps.",
        "Any body may have " + " and ".join(f"`{name}`" for name in sorted(COMMON)) + ": the execution of the mission that it is",
        "part of, and channels that are told of it whatever rules say.",
        "",
    ]  # fmt: skip
    for subject in subjects:
        rows = [
            f"| `{kind.name}` | {'…' if kind.fields is None else _listed(sorted(kind.fields))} | {kind.meaning} |"
            for kind in KINDS
            if kind.subject == subject
        ]
        lines += [f"## About `{subject}`", "", "| kind | body | |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(lines)


def reliability() -> str:
    """The page as it was written by hand, and below it the table of the fault suite."""
    written, _, _ = (HERE / "reliability.md").read_text().partition(FAULTS_BEGIN)
    rows = [
        f"| F{n} | {f['what']} | {f['promise']} | {f['injected']} | `{f['test']}` | {f['seen_failing']} |"
        for n, f in sorted(faults().items())
    ]
    return written + "\n".join(
        [
            FAULTS_BEGIN,
            "## Faults that are injected",
            "",
            "Each entry is a fault that really hit some system of this kind, and a test in `tests/faults` or `tests/systemd` that",
            "injects it into real processes; all of them pass in `make test`. The last column says what was taken out of polpod to",
            "see the test fail.",
            "",
            "| | fault | what polpod promises | how it is injected | test | seen to fail |",
            "| --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
            "Not in the table:",
            "",
            *(f"- F{n}: {why}." for n, why in sorted(_elsewhere().items())),
            "",
        ]
    )


def faults() -> dict[int, dict[str, str]]:
    """Each entry of the fault suite by its number: the arguments of `@fault(…)`, and `test`, the name of its test.

    Raises ValueError where two tests claim a number, or a name does not begin with its own.
    """
    found: dict[int, dict[str, str]] = {}
    for path in sorted(path for directory in FAULTS for path in directory.glob("test_*.py")):
        for test in ast.walk(ast.parse(path.read_text())):
            for call in getattr(test, "decorator_list", ()):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "fault":
                    number, what = (ast.literal_eval(argument) for argument in call.args)
                    entry = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
                    if number in found or not test.name.startswith(f"test_f{number:02}_"):
                        raise ValueError(f"{path.name}: {test.name} is not the one test of F{number}")
                    found[number] = {"what": what, "test": test.name} | entry
    return found


def _elsewhere() -> dict[int, str]:
    for statement in ast.parse(KIT.read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "ELSEWHERE":
            found: dict[int, str] = ast.literal_eval(statement.value)
            return found
    raise ValueError(f"{KIT}: no ELSEWHERE")


def stores() -> str:
    """The page as it was written by hand, and below it the methods of all contracts."""
    written, _, _ = (HERE / "stores.md").read_text().partition(CONTRACTS_BEGIN)
    contracts: Callable[[], list[str]] = run_path(str(HERE / "contracts.py"))["contracts"]
    head = "Every method of the pages whose contracts polpod keeps, where it is, and a test that holds it."
    return written + "\n".join([CONTRACTS_BEGIN, "## Methods", "", head, "", *contracts()])


def polpo() -> str:
    """The page as it was written by hand, and below it what of Polpo is held by which tests."""
    written, _, _ = (HERE / "polpo.md").read_text().partition(POLPO_BEGIN)
    tables: Callable[[], list[str]] = run_path(str(HERE / "polpo.py"))["tables"]
    return written + "\n".join([POLPO_BEGIN, *tables()])


def metrics() -> str:
    """The page as it was written by hand, and below it what there is: the table of polpod/services/exposition.py."""
    written, _, _ = (HERE / "metrics.md").read_text().partition(METRICS_BEGIN)
    rows = [
        f"| `{metric.name}` | {metric.kind} | {_listed(metric.labels)} | {metric.meaning} |"
        for metric in METRICS_OF_DAEMON
    ]
    head = ["## What there is", "", "| metric | kind | labels | |", "| --- | --- | --- | --- |"]
    return written + "\n".join([METRICS_BEGIN, *head, *rows, ""])


PAGES: dict[str, Callable[[], str]] = {
    "states.md": states,
    "events.md": events,
    "rpc.md": rpc,
    "reliability.md": reliability,
    "stores.md": stores,
    "polpo.md": polpo,
    "metrics.md": metrics,
}


def _method(described: Schema, method: Method) -> list[str]:
    notes = [f"For {WHO[method.right]}."]
    if method.writes:
        notes.append("Waits until the daemon has recovered.")
    if method.waits:
        notes.append("May take long on purpose.")
    result = described["result"]["schema"]
    refused = ", ".join(f"[`{word}`](#errors)" for word in (e["$ref"].rpartition("/")[2] for e in described["errors"]))
    return [
        f"## {method.name}",
        "",
        f"{method.summary} {' '.join(notes)}",
        "",
        *_table("parameter", ((p["name"], p["schema"], p["required"]) for p in described["params"])),
        *_result(result),
        f"Refused with: {refused}.",
        "",
        *(line for example in described["examples"] for line in _example(method.name, example)),
    ]


def _result(schema: Schema) -> list[str]:
    if "properties" not in schema:
        return [f"Result: {_kind(schema)}.", ""]
    members = [f"| `{name}` | {_kind(kind)} |" for name, kind in schema["properties"].items()]
    return ["| result | type |", "| --- | --- |", *members, ""] if members else ["Result: an empty object.", ""]


def _example(name: str, example: Schema) -> list[str]:
    """A call and its answer, a line each."""
    params = {param["name"]: param["value"] for param in example["params"]}
    said = {"method": name, "params": params}, {"result": example["result"]["value"]}
    return ["```json", *(json.dumps(message, ensure_ascii=False) for message in said), "```", ""]


def _errors(document: Schema) -> list[str]:
    rows = [f"| `{word}` | {e['code']} | {e['message']} |" for word, e in document["components"]["errors"].items()]
    return [
        "## Errors",
        "",
        "By `data.type`; `internal_error` has none.",
        "",
        "| | code | |",
        "| --- | --- | --- |",
        *rows,
        "",
    ]


def _type(name: str, schema: Schema) -> list[str]:
    head = [f"### {name}", ""]
    if "enum" in schema:
        return [*head, f"One of {_listed(schema['enum'])}.", ""]
    required = schema.get("required", [])
    return [*head, *_table("field", ((n, s, n in required) for n, s in schema["properties"].items()))]


def _table(title: str, fields: Iterator[tuple[str, Schema, bool]]) -> list[str]:
    rows = [f"| `{name}` | {_kind(schema)} | {_default(schema, required)} |" for name, schema, required in fields]
    return [f"| {title} | type | default |", "| --- | --- | --- |", *rows, ""] if rows else []


def _default(schema: Schema, required: bool) -> str:
    if required:
        return "required"
    default = schema.get("default")
    return (
        ""
        if default in (None, "", (), [], {})
        else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    )


def _kind(schema: Schema) -> str:
    """A JSON Schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower().replace('.', '')})"  # GitHub's anchors have no dots
    if "anyOf" in schema:
        return " or ".join(_kind(s) for s in schema["anyOf"])
    if "enum" in schema:
        return _listed(schema["enum"])
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            return f"list of {', '.join(map(_kind, schema['prefixItems']))}"
        case "array":
            return f"list{_size(schema, 'Items')} of {_kind(schema['items'])}"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return f"object of {_kind(schema['additionalProperties'])}"
        case "string" if schema.get("format") == "date-time":
            return "instant"
        case "string":
            return f"string{_size(schema, 'Length')}"
        case "integer" | "number" as kind:
            return f"{kind}{_range(schema)}"
        case None:
            return "anything"
        case kind:
            return str(kind)


def _range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum", schema.get("exclusiveMaximum"))
    if high is None:
        return "" if low is None else f" ≥ {low:g}"
    relation = "≤" if "maximum" in schema else "<"
    return f" {relation} {high:,.15g}" if low is None else f" from {low:,.15g}, {relation} {high:,.15g}"


def _size(schema: Schema, what: str) -> str:
    low, high = schema.get(f"min{what}"), schema.get(f"max{what}")
    if high is None:
        return f" (at least {low})" if low else ""
    return f" ({low or 0} to {high:,})"


def _listed(words: Any) -> str:
    return ", ".join(f"`{word}`" for word in words)


if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page())
