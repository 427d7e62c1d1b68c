"""Fixtures of the tests with real runners."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from runner_kit import State


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """A state directory with runs.db and, once asked, a zygote."""
    with State(tmp_path) as state:
        yield state
