"""The methods of the socket: the union of what each noun declares."""

from __future__ import annotations

from functools import cache
from typing import Any

import orjson
import trio

from polpod.services.rpc.described import describe
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


async def discover(call: Call, params: Nothing) -> orjson.Fragment:
    """The OpenRPC document, made from this table: once, and beside the event loop, since it takes a moment."""
    return orjson.Fragment(await trio.to_thread.run_sync(_document))


_TOLD = {"openrpc": str, "info": dict[str, Any], "methods": list[dict[str, Any]], "components": dict[str, Any]}

DISCOVER = Method("rpc.discover", Nothing, _TOLD, discover, "This document.", Right.RUN)

_NOUNS = (
    *(task, follow, estimate, run, mission, approval, workflow, workflow_execution, schedule, agent),
    *(checkpoint, artifact, cost, message, stats, queue, project, preset, user, key, a2a),
    *(context, collaboration, notification, audit, store, daemon),
)

METHODS = {m.name: m for m in (*(m for noun in _NOUNS for m in noun.METHODS), DISCOVER)}


@cache
def openrpc() -> dict[str, Any]:
    """OpenRPC 1.3.2: what every method takes and gives, how it refuses, and an example of it."""
    return describe(METHODS)


@cache
def _document() -> bytes:
    return orjson.dumps(openrpc())
