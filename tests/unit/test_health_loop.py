"""Health meets runs that end under its hands, and does not end with them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import trio
import trio.testing
from kit.samples import a_run

from polpod.model.runs import Run
from polpod.services.health import Health
from polpod.services.inbox import Inbox
from polpod.services.instance import Instance


def test_a_run_that_heartbeats_forgot_while_it_was_being_looked_at_is_no_defect() -> None:
    run = a_run(max_duration=0.01)
    looked = trio.Event()

    async def read(body: Callable[[Any], Any]) -> Run:
        health.forget(run.id)
        looked.set()
        return run

    async def kill(run_ids: list[int], reason: str, by: str) -> None:
        raise AssertionError("it ended")

    health = Health(cast("Instance", SimpleNamespace(runs=SimpleNamespace(read=read))), Inbox(), kill)

    async def serve() -> None:
        health.watch(run)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(health.serve)
            await looked.wait()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(serve)
