"""The stores for Elkar under Elkar itself: `make test-elkar`, since the package needs Python 3.12 and brings seventy others.

Without it, nothing here is collected.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import find_spec
from typing import Any

import anyio
import pytest
from kit.host import Host

collect_ignore_glob = [] if sys.version_info >= (3, 12) and find_spec("elkar") else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # What other packages should not do any more is not ours to mend.
        item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))


@pytest.fixture
def polpod() -> Iterator[Host]:
    """A host whose daemon is at work."""
    with Host() as host:
        host.start()
        yield host
        assert "Traceback" not in host.log(), host.log()


@pytest.fixture(params=["memory", "polpod"])
def opened(request: pytest.FixtureRequest) -> Callable[[], AbstractAsyncContextManager[Any]]:
    """Opens an empty store: first the one, then the other."""
    from polpod.contrib.elkar import InMemoryTaskManagerStore, PolpodTaskManagerStore

    host: Host | None = request.getfixturevalue("polpod") if request.param == "polpod" else None

    @asynccontextmanager
    async def store() -> AsyncIterator[Any]:
        if host is None:
            yield InMemoryTaskManagerStore()
        else:
            async with PolpodTaskManagerStore(root=str(host.root)) as found:
                yield found

    return store


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Runs to the end, in an event loop of this kind."""

    def run(main: Callable[[], Awaitable[Any]]) -> Any:
        async def bounded() -> Any:
            with anyio.fail_after(60):
                return await main()

        return anyio.run(bounded, backend=request.param)

    return run
