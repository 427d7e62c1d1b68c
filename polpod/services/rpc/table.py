"""The methods of the socket: the union of what each noun declares."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from polpod import __version__
from polpod.services.rpc.method import Call, Method, Nothing, Right
from polpod.services.rpc.methods import (
    a2a,
    agent,
    approval,
    artifact,
    audit,
    checkpoint,
    collaboration,
    context,
    cost,
    daemon,
    estimate,
    follow,
    key,
    message,
    mission,
    notification,
    preset,
    project,
    queue,
    run,
    schedule,
    stats,
    store,
    task,
    user,
    workflow,
    workflow_execution,
)


async def discover(call: Call, params: Nothing) -> dict[str, Any]:
    """The OpenRPC document, made from this table."""
    return openrpc()


DISCOVER = Method("rpc.discover", Nothing, dict, discover, "This document.", Right.RUN)

_NOUNS = (
    *(task, follow, estimate, run, mission, approval, workflow, workflow_execution, schedule, agent),
    *(checkpoint, artifact, cost, message, stats, queue, project, preset, user, key, a2a),
    *(context, collaboration, notification, audit, store, daemon),
)

METHODS = {m.name: m for m in (*(m for noun in _NOUNS for m in noun.METHODS), DISCOVER)}


@cache
def openrpc() -> dict[str, Any]:
    """OpenRPC 1.3.2: every method with the JSON Schema of its parameters."""
    methods = sorted(METHODS.values(), key=lambda m: m.name)
    schemas, components = msgspec.json.schema_components(
        [t for m in methods for t in (m.params, m.result)], ref_template="#/components/schemas/{name}"
    )
    return {
        "openrpc": "1.3.2",
        "info": {"title": "polpod", "version": __version__},
        "methods": [
            {
                "name": method.name,
                "summary": method.summary,
                "paramStructure": "by-name",
                "params": _params(params, components),
                "result": {"name": "result", "schema": result},
            }
            for method, params, result in zip(methods, schemas[::2], schemas[1::2], strict=True)
        ],
        "components": {"schemas": components},
    }


def _params(schema: dict[str, Any], components: dict[str, Any]) -> list[dict[str, Any]]:
    name = schema["$ref"].rpartition("/")[2]
    required = components[name].get("required", [])
    return [
        {"name": field, "required": field in required, "schema": kind}
        for field, kind in components[name].get("properties", {}).items()
    ]
