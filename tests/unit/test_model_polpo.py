"""What a library's users keep is sound from construction: what one backend, or JSON, could not keep is refused by all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from polpod.model.entity import Entity
from polpod.model.polpo.tasks import NewTask
from polpod.model.tasks import Count, Instant, Seconds, TaskStatus

EAST = timezone(timedelta(hours=2))


class Sample(Entity, frozen=True, kw_only=True):
    status: TaskStatus = TaskStatus.DRAFT
    at: Instant | None = None
    words: tuple[str, ...] = ()
    free: dict[str, object] | None = None
    count: Count = 0
    seconds: Seconds | None = None
    inner: Sample | None = None
    unset: int | UnsetType = UNSET


def nested(depth: int) -> dict[str, object]:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return {"deep": value}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"status": "done"}, TaskStatus.DONE),
        ({"at": datetime(2026, 1, 1, 2, tzinfo=EAST)}, datetime(2026, 1, 1, tzinfo=UTC)),
        ({"at": "2026-01-01T02:00:00+02:00"}, datetime(2026, 1, 1, tzinfo=UTC)),
        ({"words": ["a", "b"]}, ("a", "b")),
        ({"free": {"a": (1, [None, True])}}, {"a": [1, [None, True]]}),
        ({"seconds": 3}, 3.0),
        ({"count": 2**53}, 2**53),
        ({"inner": {"count": 1}}, Sample(count=1)),
        ({"unset": 5}, 5),
        ({}, TaskStatus.DRAFT),
    ],
)
def test_what_means_the_same_is_kept_in_one_form(given: dict[str, Any], kept: object) -> None:
    sample = Sample(**given)
    value = getattr(sample, next(iter(given), "status"))
    assert (value, type(value)) == (kept, type(kept))
    if isinstance(value, datetime):
        assert value.tzinfo is UTC
    assert msgspec.json.decode(msgspec.json.encode(sample), type=Sample) == sample


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"status": "asleep"}, "status: Invalid enum value"),
        ({"at": datetime(2026, 1, 1)}, "at: .*timezone"),  # noqa: DTZ001
        ({"at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))}, "at: "),
        ({"words": "ab"}, "words: "),
        ({"words": [1]}, "words: "),
        ({"words": ["a\0"]}, "words: a NUL"),
        ({"words": ["\ud800"]}, "words: .*surrogates"),
        ({"free": {"a\0": 1}}, "free: a NUL"),
        ({"free": {1: 2}}, "free: the keys"),
        ({"free": {"a": float("nan")}}, "free: nan"),
        ({"free": {"a": [float("-inf")]}}, "free: -inf"),
        ({"free": {"a": 2**53 + 1}}, "free: .*53 bits"),
        ({"free": {"a": datetime(2026, 1, 1, tzinfo=UTC)}}, "free: a value of type datetime"),
        ({"free": {"a": {1}}}, "free: a value of type set"),
        ({"free": nested(100)}, "free: nested too deeply"),
        ({"count": -1}, "count: "),
        ({"count": True}, "count: "),
        ({"count": None}, "count: "),
        ({"seconds": float("inf")}, "seconds: inf"),
        ({"inner": {"count": -1}}, "inner: "),
    ],
)
def test_what_could_not_be_kept_is_refused_with_the_name_of_its_field(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}"):
        Sample(**given)
    with pytest.raises(ValueError, match=f"^{why}"):
        msgspec.structs.replace(Sample(), **given)


def test_what_was_stored_by_another_is_checked_as_it_is_read() -> None:
    with pytest.raises(msgspec.ValidationError, match="NUL"):
        msgspec.json.decode(b'{"words": ["\\u0000"]}', type=Sample)


@pytest.mark.parametrize("status", TaskStatus)
def test_a_new_task_is_pending_or_draft(status: TaskStatus) -> None:
    if status in (TaskStatus.PENDING, TaskStatus.DRAFT):
        assert NewTask(title="t", status=status).status is status
    else:
        with pytest.raises(ValueError, match="pending or draft"):
            NewTask(title="t", status=status)
