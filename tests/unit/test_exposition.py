"""What a scrape asks for: what cannot be asked now is left out, and waited for no more than once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio

from polpod.errors import Unavailable
from polpod.services.exposition import _read


def test_a_store_that_is_away_is_waited_for_once(tmp_path: Path) -> None:
    """Else the scrape comes too late, and the alert says that polpod does not answer."""
    asked = []

    async def away(body: object, *, abandon: bool = False) -> None:
        asked.append(body)
        raise Unavailable("away")

    async def nothing(body: object) -> list[object]:
        return []

    set_ = SimpleNamespace(is_set=lambda: True)
    instance: Any = SimpleNamespace(
        tasks=SimpleNamespace(read=away, trouble="away"), runs=SimpleNamespace(read=nothing), free_space=lambda: 2**30,
        paths=SimpleNamespace(tasks_db=str(tmp_path / "state.db"), runs_db=str(tmp_path / "runs.db")), recovered=set_,
        stopping=set_, config=SimpleNamespace(settings=SimpleNamespace(reserve=0)), launcher_paused=None, stuck=(),
    )  # fmt: skip
    reading = trio.run(_read, instance)
    assert (reading.queues, reading.checks["store"], len(asked)) == (None, False, 1)
