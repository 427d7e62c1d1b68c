"""The stores of polpod/taskstore.py on every backend that there is: fixtures for the modules that import them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from store_makers import LASTING, MAKERS, Maker, Store

from polpod.model.events import Event
from polpod.store.records import Tx
from polpod.store.schema import TABLES
from polpod.store.tables import Events
from polpod.taskstore import Stores

X = TypeVar("X")


class Through:
    """What a maker gives, as the faces want it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, body: Callable[[Tx], X]) -> X:
        return self._store.write(body)

    def write(self, body: Callable[[Tx], X]) -> X:
        return self._store.write(body)

    def close(self) -> None:
        self._store.close()


class Polpo(Stores):
    """All stores, and a look beneath them."""

    def __init__(self, store: Store) -> None:
        super().__init__(Through(store), lambda: None)
        self.write = store.write

    def events(self, after: int = 0) -> list[Event]:
        """The journal, past this event."""
        return self.write(lambda tx: tx[Events].find(Events.seq.gt(after)))

    def kinds(self, after: int = 0) -> list[str]:
        return [event.kind for event in self.events(after)]


@pytest.fixture(params=LASTING)
def lasting(request: pytest.FixtureRequest) -> Maker:
    """Of a store that outlives those who open it."""
    return LASTING[request.param]


@pytest.fixture(params=MAKERS)
def polpo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Polpo]:
    stores = Polpo(MAKERS[request.param](tmp_path, TABLES))
    yield stores
    stores.close()
