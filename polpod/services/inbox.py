"""The runs that somebody has to look at.  Whoever learns anything about a run only says so here; the collector judges."""

from __future__ import annotations

from typing import Any

from polpod.services.bell import Bell


class Inbox:
    def __init__(self) -> None:
        self._dead: dict[int, bool] = {}
        self._reports: dict[int, dict[str, Any]] = {}
        self._bell = Bell()

    def look(self, run_id: int, *, dead: bool = False) -> None:
        """Judge this run soon; `dead`: its runner was seen to end."""
        self._dead[run_id] = dead or self._dead.get(run_id, False)
        self._bell.ring()

    def report(self, payload: dict[str, Any]) -> None:
        """The doorbell's payload: the third witness, good only with the run's nonce and while the row is live."""
        self._reports[payload["id"]] = payload
        self.look(payload["id"])

    @property
    def empty(self) -> bool:
        return not self._dead

    async def wait(self) -> None:
        """Until there is something to take."""
        while not self._dead:
            await self._bell.wait()

    def take(self, most: int) -> tuple[dict[int, bool], list[dict[str, Any]]]:
        """Runs to judge, each with whether its runner was seen to end, and what was reported about them."""
        batch = {run_id: self._dead.pop(run_id) for run_id in list(self._dead)[:most]}
        return batch, [self._reports.pop(run_id) for run_id in batch if run_id in self._reports]
