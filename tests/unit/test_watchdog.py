"""The watchdog is petted while every writer is well, by what can be seen of it.  Time is virtual, threads are not."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from kit.waiting import until

from polpod.services.watchdog import STUCK_AFTER, WAITING_LONG, Writer, state_of_thread, watch
from polpod.store.databases import TASKS
from polpod.store.gate import open_gate
from polpod.store.location import Sqlite

EVERY = 1.0


@dataclass
class Seen:
    """What can be seen of a gate, and of its writer's thread."""

    rounds: int = 0
    thread: int | None = None
    waited_for: bool = False
    where: str = "state.db"
    state: str = "S"


def watched(*gates: Seen, then: Callable[[float], None]) -> list[float]:
    """The times of the pets, until STUCK_AFTER and some more; `then` is called between any two looks, with the time."""
    pets: list[float] = []

    async def main() -> None:
        began = trio.current_time()
        writers = [Writer(gate, partial(_state, gate)) for gate in gates]
        with trio.move_on_after(2 * STUCK_AFTER):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch, writers, lambda: pets.append(trio.current_time() - began), EVERY)
                await trio.sleep(EVERY / 2)
                while True:
                    then(trio.current_time() - began)
                    await trio.sleep(EVERY)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return pets


def _state(gate: Seen, thread: int) -> str:
    assert thread == gate.thread
    return gate.state


def busy(thread: int | None = 1, state: str = "S") -> Seen:
    return Seen(thread=thread, waited_for=True, state=state)


def test_idle_writers_are_well() -> None:
    assert watched(Seen(), Seen(), then=lambda at: None)[-1] >= 2 * STUCK_AFTER - EVERY


def test_a_busy_writer_that_comes_round_is_well() -> None:
    gate = busy()

    def work(at: float) -> None:
        gate.rounds += at % 100 < EVERY

    assert watched(gate, then=work)[-1] >= 2 * STUCK_AFTER - EVERY


@pytest.mark.parametrize("gate", [busy(), busy(state="R"), busy(thread=None)])
def test_one_that_does_not_come_round_is_not_and_all_must_be(gate: Seen, caplog: pytest.LogCaptureFixture) -> None:
    pets = watched(Seen(), gate, then=lambda at: None)
    assert pets[-1] == STUCK_AFTER - EVERY
    assert [r.message for r in caplog.records] == [
        f"state.db: a write takes {STUCK_AFTER:.0f} s: the watchdog is left to end this daemon, and the runs go on"
    ]


def test_a_thread_that_waits_for_the_disk_is_waited_for_and_has_its_time_again_when_the_disk_is_back() -> None:
    gate = busy(state="D")

    def wake(at: float) -> None:
        gate.state = "D" if at < STUCK_AFTER * 0.8 else "S"

    assert STUCK_AFTER * 1.8 - EVERY <= watched(gate, then=wake)[-1] < STUCK_AFTER * 1.8 + EVERY


def test_pets_come_again_with_the_writer() -> None:
    gate = busy()

    def wake(at: float) -> None:
        gate.rounds = int(at > STUCK_AFTER * 1.5)

    pets = watched(gate, then=wake)
    assert pets[int(STUCK_AFTER / EVERY)] > STUCK_AFTER * 1.5


def test_what_a_writer_waits_for_is_told_after_a_while() -> None:
    gate = busy(state="D")

    async def main() -> None:
        writer = Writer(gate, partial(_state, gate))
        await trio.sleep(WAITING_LONG - 1)
        assert (writer.look(), writer.trouble) == (True, None)
        await trio.sleep(2)
        assert (writer.look(), writer.trouble) == (True, "state.db: a write takes 6 s, waiting for the disk")
        gate.rounds = 1
        assert (writer.look(), writer.trouble) == (True, None)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_real_gate_shows_its_writer_at_work(tmp_path: Path) -> None:
    at_work, go, threads = threading.Event(), threading.Event(), []

    def body(tx: object) -> None:
        threads.append(threading.get_native_id())
        at_work.set()
        assert go.wait(60)

    async def main() -> None:
        gate = await open_gate(Sqlite(str(tmp_path / "state.db")), TASKS)
        assert (gate.waited_for, gate.thread, gate.rounds) == (False, None, 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gate.write, body)
            await trio.to_thread.run_sync(at_work.wait, 30)
            nursery.start_soon(gate.write, lambda tx: None)
            await trio.testing.wait_all_tasks_blocked()
            assert (gate.waited_for, gate.thread, gate.rounds) == (True, threads[0], 0)
            until(lambda: state_of_thread(threads[0]) == "S", "the writer sleeps")
            go.set()
        assert (gate.waited_for, gate.thread, gate.rounds) == (False, None, 2)
        await gate.close()

    trio.run(main)


def test_a_thread_that_has_ended_has_no_state() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    number = thread.native_id
    assert number is not None
    until(lambda: state_of_thread(number) == "", "the kernel has ended it, too")  # Python joins it a little earlier


def test_a_thread_in_uninterruptible_sleep_is_told_from_others(tmp_path: Path) -> None:
    """vfork(2) puts its caller there until the child executes; this child is to open a pipe first that nobody writes to."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    libc, child = ctypes.CDLL(None), ctypes.c_int()
    actions = ctypes.create_string_buffer(512)  # more than a posix_spawn_file_actions_t
    libc.posix_spawn_file_actions_init(actions)
    libc.posix_spawn_file_actions_addopen(actions, 0, os.fsencode(pipe), os.O_RDONLY, 0)
    argv = (ctypes.c_char_p * 2)(b"true", None)
    spawn = partial(libc.posix_spawn, ctypes.byref(child), b"/bin/true", actions, None, argv, None)
    thread = threading.Thread(target=spawn)
    thread.start()
    try:
        until(lambda: state_of_thread(thread.native_id or 0) == "D", "the thread waits for its child")
    finally:
        os.close(os.open(pipe, os.O_WRONLY))
        thread.join()
        assert os.waitpid(child.value, 0)[1] == 0
    assert state_of_thread(threading.get_native_id()) == "R"
