"""When systemd is given more time, and how often it hears the status.  Time is virtual."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import trio
import trio.testing

from polpod.services.desk import Desk
from polpod.services.instance import Progress
from polpod.services.journal import Journal
from polpod.services.supervision import AT_MOST_EVERY, EXTEND_EVERY, EXTENSION, Supervision, disk_trouble


class Heard:
    """systemd, with the time of all it hears."""

    hears = True
    watchdog = None

    def __init__(self) -> None:
        self.said: list[tuple[float, str, Any]] = []

    def _note(self, what: str, value: Any = None) -> None:
        self.said.append((trio.current_time(), what, value))

    def ready(self) -> None:
        self._note("ready")

    def stopping(self) -> None:
        self._note("stopping")

    def status(self, text: str) -> None:
        self._note("status", text)

    def extend(self, seconds: float) -> None:
        self._note("extend", seconds)

    def pet(self) -> None:
        self._note("pet")

    def times(self, what: str) -> list[float]:
        return [at for at, said, _ in self.said if said == what]


def a_desk(*, shutdown_timeout: float = 20.0, on_shutdown: str = "stop") -> Desk:
    gate = SimpleNamespace(rounds=0, thread=None, waited_for=False, where="state.db", trouble=None)
    settings = SimpleNamespace(shutdown_timeout=shutdown_timeout * 1000, on_shutdown=on_shutdown, reserve=0)
    instance = SimpleNamespace(
        tasks=gate,
        runs=gate,
        journal=Journal({}),
        recovery=Progress(),
        recovered=trio.Event(),
        stopping=trio.Event(),
        launcher_paused=None,
        config=SimpleNamespace(settings=settings),
        paths=SimpleNamespace(path="/"),
    )
    return cast("Desk", SimpleNamespace(instance=instance, killer=SimpleNamespace(stuck=frozenset())))


async def well(instance: object) -> None:
    """The disk is."""


def simulate(play: Any) -> Heard:
    """`play(supervision, nursery)`, beside what it supervises."""
    heard = Heard()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            supervision = Supervision(heard, disk=well)
            nursery.start_soon(supervision.serve)
            await play(supervision)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return heard


def burn() -> None:
    until = time.process_time() + 0.11
    while time.process_time() < until:
        pass


def test_a_start_that_works_gets_more_time_and_one_that_waits_does_not() -> None:
    async def play(supervision: Supervision) -> None:
        await trio.sleep(EXTEND_EVERY / 2)
        for _ in range(3):
            burn()
            await trio.sleep(EXTEND_EVERY)
        await trio.sleep(20 * EXTEND_EVERY)

    heard = simulate(play)
    assert heard.times("extend")[:4] == [0, *(EXTEND_EVERY * n for n in (1, 2, 3))]
    assert {value for _, what, value in heard.said if what == "extend"} == {EXTENSION}
    # Each look costs something, which now and then is the last bit of a tenth of a second.
    assert len(heard.times("extend")) <= 6


def test_a_stop_gets_the_time_that_runs_have_to_end_and_no_more_without_work() -> None:
    async def play(supervision: Supervision) -> None:
        desk = a_desk(shutdown_timeout=21)
        supervision.ready(desk)
        desk.instance.recovered.set()
        await trio.sleep(100)
        desk.instance.stopping.set()
        await trio.sleep(100)

    heard = simulate(play)
    began = heard.times("stopping")[0]
    assert began == 100
    after = [at - began for at in heard.times("extend") if at >= began]
    assert after[:5] == [0, 5, 10, 15, 20]
    assert len(after) <= 7
    assert not [at for at in heard.times("extend") if 0 < at < began]


def test_runs_that_are_kept_get_no_time() -> None:
    async def play(supervision: Supervision) -> None:
        desk = a_desk(shutdown_timeout=1000, on_shutdown="keep")
        supervision.ready(desk)
        desk.instance.stopping.set()
        await trio.sleep(1000)

    assert len(simulate(play).times("extend")) < 30


def test_a_status_is_said_at_most_once_a_second_and_only_when_it_is_another() -> None:
    async def play(supervision: Supervision) -> None:
        desk = a_desk()
        supervision.ready(desk)
        progress = desk.instance.recovery
        progress.total = 1000
        for _ in range(30):
            progress.done += 1
            await trio.sleep(0.1)
        await trio.sleep(50)
        desk.instance.recovered.set()
        await trio.sleep(50)

    heard = simulate(play)
    times = heard.times("status")
    assert all(b - a >= AT_MOST_EVERY for a, b in pairwise(times[1:]))
    texts = [value for _, what, value in heard.said if what == "status"]
    assert texts[0] == "opening the stores"
    assert texts[-2:] == ["recovering: 30 of 1,000 runs looked at", "idle"]
    assert len(texts) == len(set(texts)) <= 6


def test_a_disk_that_does_not_answer_holds_up_nobody() -> None:
    answers = threading.Event()
    desk = a_desk()
    cast("Any", desk.instance).disk_is_full = lambda: not answers.wait(30)

    async def main() -> None:
        assert await disk_trouble(desk.instance) == "/ does not answer"
        assert await disk_trouble(desk.instance) == "/ does not answer"
        answers.set()
        while await disk_trouble(desk.instance) is not None:
            await trio.lowlevel.checkpoint()

    trio.run(main)
