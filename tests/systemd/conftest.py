"""Every test here needs a real systemd, so it needs root; each has a machine of its own, which boots in half a second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.box import Box
from kit.service import Service

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.root)


@pytest.fixture
def box() -> Iterator[Box]:
    """A machine; of a test that fails, pytest shows the journal."""
    with Box() as box:
        yield box
        print(box.journal())


@pytest.fixture
def service(box: Box, request: pytest.FixtureRequest) -> Service:
    """polpod, installed and not started."""
    if request.node.get_closest_marker("controllers") and "memory" not in box.controllers():
        pytest.skip("cgroup2 of this kernel has no memory controller: make test-systemd-vm VM=…")
    return Service(box, maxConcurrency=60)
