"""The short profile of kit/machine.py: the same examples each time; `make soak` makes new ones for as long as it is told."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from kit.machine import Daemon

pytestmark = pytest.mark.timeout(900)

TestDaemon = Daemon.TestCase
TestDaemon.settings = settings(
    max_examples=8,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # processes do not repeat themselves closely enough for a failure to be made smaller
    suppress_health_check=list(HealthCheck),
)
