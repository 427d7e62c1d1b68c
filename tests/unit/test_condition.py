"""Health is told of even where what it asks does not answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import trio
import trio.testing

from polpod.services import condition
from polpod.services.instance import Instance


def test_a_store_that_does_not_answer_is_a_trouble_and_is_not_waited_for() -> None:
    async def read(body: object, *, abandon: bool) -> Any:
        assert abandon
        await trio.sleep_forever()

    instance = SimpleNamespace(
        tasks=SimpleNamespace(read=read, trouble=None),
        recovered=trio.Event(),
        stopping=trio.Event(),
        launcher_paused=None,
        stuck=set(),
        config=SimpleNamespace(settings=SimpleNamespace(reserve=0)),
    )
    instance.recovered.set()
    disk = condition.Disk(free=1, wals={"tasks": 0})

    async def main() -> None:
        found = await condition.checks(cast("Instance", instance), disk)
        assert [name for name, well in found.items() if not well] == ["store"]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
