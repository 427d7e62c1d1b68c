"""Which state an A2A task is in that one of polpod's own works on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from polpod.model.a2a import TaskState as A
from polpod.model.tasks import Task, TaskResult, TaskStatus
from polpod.rules.a2a import STATES, state_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
S = TaskStatus
LOST = TaskResult(run_id=1, status="lost", reason="lost")


def task(status: S, **fields: Any) -> Task:
    return Task(id="1", seq=1, status=status, created_at=NOW, updated_at=NOW, **fields)


def test_every_status_has_a_state() -> None:
    assert set(STATES) == set(S)


@pytest.mark.parametrize(
    ("given", "known", "wanted"),
    [
        (task(S.PENDING), A.COMPLETED, A.SUBMITTED),
        (task(S.IN_PROGRESS), A.SUBMITTED, A.WORKING),
        (task(S.REVIEW), A.WORKING, A.WORKING),
        (task(S.AWAITING_APPROVAL), A.WORKING, A.INPUT_REQUIRED),
        (task(S.AWAITING_APPROVAL, result=LOST), A.WORKING, A.UNKNOWN),
        (task(S.PENDING, result=LOST), A.WORKING, A.SUBMITTED),
        (task(S.FAILED, result=LOST), A.UNKNOWN, A.FAILED),
        (task(S.DONE), A.WORKING, A.COMPLETED),
        (task(S.CANCELLED), A.WORKING, A.CANCELED),
        (task(S.IN_PROGRESS, cancelled_by="uid 1"), A.WORKING, A.CANCELED),
        (task(S.DONE, cancelled_by="uid 1"), A.CANCELED, A.COMPLETED),
        (None, A.WORKING, A.CANCELED),
        (None, A.UNKNOWN, A.CANCELED),
        (None, A.FAILED, A.FAILED),
    ],
)
def test_the_state_follows_the_task(given: Task | None, known: A, wanted: A) -> None:
    assert state_of(given, known) is wanted
