"""Fixtures that more than one directory of tests uses."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("kit")

from kit.host import Host  # noqa: E402 - only what is imported later says what its asserts compared

# How long an example takes is the machine's business; tests have their own time limit.
settings.register_profile("polpod", deadline=None)
settings.load_profile("polpod")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0 and "POLPOD_TEST_STRICT" not in os.environ:
        pytest.skip("needs root")


@pytest.fixture
def host() -> Iterator[Host]:
    """A state directory of its own, without a daemon yet; whatever the test does to them, its daemons have no defect."""
    with Host() as host:
        yield host
        assert "Traceback" not in host.log(), host.log()
