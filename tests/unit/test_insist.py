"""What must be written or read is tried again while the disk is full or the database locked (F10, F49, F55)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from polpod.errors import DiskFull, StoreError, Unavailable
from polpod.services.insist import insist, insist_read


class Reluctant:
    """A gate that fails with these errors before it does what it is asked."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def read(self, body: Callable[[object], Any]) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        return body(self)

    async def write(self, body: Callable[[object], Any], *, durable: bool) -> Any:
        return await self.read(body)


@pytest.mark.parametrize("attempt", [insist, insist_read])
def test_it_is_tried_until_it_is_done(attempt: Callable[..., Any]) -> None:
    async def main() -> None:
        started = trio.current_time()
        gate = Reluctant(DiskFull("full"), Unavailable("locked"))
        assert await attempt(gate, lambda tx: tx) is gate
        assert trio.current_time() - started == 2

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("attempt", [insist, insist_read])
def test_another_error_is_not_tried_again(attempt: Callable[..., Any]) -> None:
    with pytest.raises(StoreError):
        trio.run(attempt, Reluctant(StoreError("defect")), lambda tx: tx)
