"""Backends of an organisation's persistence, connected, on every store of the conformance suite."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from store_makers import CONFIGS, MAKERS

from polpod.persistence import PersistenceBackend, PersistenceConfig, create_backend


@pytest.fixture
def anyio_backend() -> str:
    """The event loop; tests of what depends on it are parametrized with both."""
    return "trio"


@pytest.fixture(params=MAKERS)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PersistenceConfig]:
    directory = tmp_path / "store"
    directory.mkdir()
    yield CONFIGS[request.param](directory)
    shutil.rmtree(directory)  # a database whose directory is gone serves the next test


@pytest.fixture
async def backend(config: PersistenceConfig, anyio_backend: str) -> AsyncIterator[PersistenceBackend]:
    backend = create_backend(config)
    await backend.connect()
    await backend.migrate()
    yield backend
    await backend.disconnect()
