"""The fault suite's table: each entry a fault that happened to some system of this kind, and the test that injects it.

A test is an entry's by its name, `test_f01_…`, and by `@fault(…)`, which says what the table in docs/reliability.md says.
The table is made by `docs/generate.py`, which reads these calls as text; so they are written with literals only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., Any])

LAST = 90

ELSEWHERE = {}
"""Entries without a test, and why."""


def fault(number: int, what: str, *, promise: str, injected: str, seen_failing: str) -> Callable[[Test], Test]:
    """Marks the test of entry `number`.

    `what` happens; what polpod's users are promised; how the test makes it happen; and what was taken out of polpod to
    see this test fail.
    """
    return pytest.mark.fault(number, what, promise=promise, injected=injected, seen_failing=seen_failing)
