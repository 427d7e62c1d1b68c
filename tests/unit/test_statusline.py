"""The status line: what the daemon does, and what keeps it from doing more."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import cast

import pytest
import trio

from polpod.services.instance import Instance, Progress
from polpod.services.statusline import line


def instance(
    *,
    recovered: bool = True,
    stopping: bool = False,
    keep: bool = False,
    paused: str | None = None,
    trouble: str | None = None,
    **tasks: int,
) -> Instance:
    events = [trio.Event(), trio.Event()]
    for event, happened in zip(events, (recovered, stopping), strict=True):
        if happened:
            event.set()
    settings = SimpleNamespace(on_shutdown="keep" if keep else "stop")
    return cast(
        "Instance",
        SimpleNamespace(
            journal=SimpleNamespace(tasks=Counter(tasks)),
            tasks=SimpleNamespace(trouble=trouble),
            recovery=Progress(40, 1000),
            recovered=events[0],
            stopping=events[1],
            launcher_paused=paused,
            config=SimpleNamespace(settings=settings),
        ),
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (instance(), "idle"),
        (instance(done=7), "idle"),
        (instance(in_progress=12, pending=1340), "12 running, 1,340 queued"),
        (instance(pending=2, awaiting_approval=1), "2 queued, 1 awaiting approval"),
        (instance(recovered=False, in_progress=5), "recovering: 40 of 1,000 runs looked at"),
        (instance(stopping=True, in_progress=7), "stopping: waiting for 7 runs"),
        (instance(stopping=True, in_progress=1, paused="x"), "stopping: waiting for 1 run"),
        (instance(stopping=True, in_progress=2, keep=True), "stopping: leaving 2 runs"),
        (instance(stopping=True, recovered=False, pending=3), "stopping"),
        (instance(pending=1, paused="no zygote"), "1 queued; nothing starts: no zygote"),
        (instance(stopping=True, trouble="gone"), "stopping; the task store cannot be reached: gone"),
    ],
)
def test_it_says_what_goes_on(given: Instance, expected: str) -> None:
    assert line(given) == expected


def test_a_bad_disk_is_why_nothing_starts_and_everything_else_is_told_too() -> None:
    assert line(instance(paused="a full disk"), "full", ["a", "b"]) == "idle; full; a; b"
