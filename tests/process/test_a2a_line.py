"""The way from an event loop to a polpod, on trio and on asyncio: lost answers, restarts, cancellation, other programs."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from kit.host import Host
from kit.scripted import HANG_UP, SILENCE, Refusal, Scripted

from polpod.contracts.elkar.line import Line
from polpod.contracts.elkar.refusals import Refused, UnknownTask, Unreachable

pytestmark = pytest.mark.parametrize("backend", ["trio", "asyncio"])


@pytest.fixture
def polpod() -> Iterator[Scripted]:
    with Scripted() as scripted:
        yield scripted


@asynccontextmanager
async def opened(path: str, **patience: float) -> Any:
    line = Line([path], **patience)
    try:
        yield line
    finally:
        await line.aclose()


def run(backend: str, path: str, body: Callable[[Line], Awaitable[Any]], **patience: float) -> Any:
    """What `body` returns, given a line to that socket."""

    async def main() -> Any:
        async with opened(path, **patience) as line:
            with anyio.fail_after(60):
                return await body(line)

    return anyio.run(main, backend=backend)


def message(said: str) -> dict[str, Any]:
    return {"role": "agent", "parts": [{"type": "text", "text": said}]}


def say(said: str) -> dict[str, Any]:
    return {"id": "t", "changes": {"new_messages": [message(said)]}}


BEGIN = {"params": {"id": "t", "message": message("hi")}}


def texts(answer: Any) -> list[str]:
    return [part["text"] for m in answer["stored"]["task"]["history"] for part in m["parts"]]


@pytest.mark.parametrize("restart", [False, True], ids=["connection", "daemon"])
def test_an_answer_that_is_lost_is_asked_for_again_and_nothing_is_done_twice(
    backend: str, restart: bool, host: Host, polpod: Scripted
) -> None:
    """The daemon has committed, and dies, or its connection does, before the client hears of it; so it is at each call."""

    def lost(method: str) -> Callable[[dict[str, Any]], Any]:
        def answer(params: dict[str, Any]) -> Any:
            host.call(method, **params)
            if restart:
                host.kill()
                host.start()
            return HANG_UP

        return answer

    def passed(method: str) -> Callable[[dict[str, Any]], Any]:
        return lambda params: host.call(method, **params)

    host.start()
    polpod.answers = {m: [lost(m), passed(m)] for m in ("a2a.upsert", "a2a.update")} | {"a2a.get": passed("a2a.get")}

    async def body(line: Line) -> None:
        assert await line.ask("a2a.get", {"id": "t"}) == {"stored": None}
        assert texts(await line.change("a2a.upsert", BEGIN)) == ["hi"]
        assert texts(await line.change("a2a.update", say("two"))) == ["hi", "two"]
        assert texts(await line.change("a2a.update", say("two"))) == ["hi", "two", "two"]

    run(backend, polpod.path, body)
    assert [name for name, _ in polpod.calls].count("a2a.update") == 3


def test_a_daemon_that_restarts_is_waited_for(backend: str, host: Host) -> None:
    host.start()

    async def body(line: Line) -> Any:
        await line.change("a2a.upsert", BEGIN)
        host.kill()
        async with anyio.create_task_group() as group:
            group.start_soon(line.change, "a2a.update", say("two"))
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(host.start)
        return await line.ask("a2a.get", {"id": "t"})

    assert texts(run(backend, host.socket, body)) == ["hi", "two"]


def test_calls_of_one_loop_are_made_in_turn(backend: str, host: Host) -> None:
    host.start()

    async def body(line: Line) -> Any:
        await line.change("a2a.upsert", BEGIN)
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(line.change, "a2a.update", say(str(number)))
        return await line.ask("a2a.get", {"id": "t"})

    found = texts(run(backend, host.socket, body))
    assert sorted(found[1:], key=int) == [str(number) for number in range(20)]


def test_a_cancelled_call_leaves_no_answer_for_the_next(backend: str, polpod: Scripted) -> None:
    polpod.answers = {"slow": SILENCE, "quick": "the answer to quick"}

    async def body(line: Line) -> Any:
        async with anyio.create_task_group() as group:
            group.start_soon(line.change, "slow", {})
            await anyio.to_thread.run_sync(polpod.called, "slow")
            group.cancel_scope.cancel()
        return await line.change("quick", {})

    assert run(backend, polpod.path, body) == "the answer to quick"
    assert [params["once"]["number"] for _, params in polpod.calls] == [1, 2]


def test_every_line_is_a_client_of_its_own(backend: str, polpod: Scripted) -> None:
    polpod.answers = {"x": 1}
    for _ in range(2):
        run(backend, polpod.path, lambda line: line.change("x", {}))
    (first, second) = (params["once"] for _, params in polpod.calls)
    assert first["client"] != second["client"]
    assert first["number"] == second["number"] == 1


@pytest.mark.parametrize(
    ("word", "error"),
    [("not_found", UnknownTask), ("permission_denied", Refused), ("too_large", Refused), (None, Refused)],
)
def test_what_polpod_refuses_is_an_error_of_elkar_s_kind(
    backend: str, word: str | None, error: type[Refused], polpod: Scripted
) -> None:
    polpod.answers = {"x": [Refusal(word, "because"), 1]}

    async def body(line: Line) -> Any:
        with pytest.raises(ValueError, match=r"^because$") as refused:
            await line.change("x", {})
        assert type(refused.value) is error
        assert isinstance(refused.value, KeyError) is (word == "not_found")
        assert refused.value.word == (word or "refused")
        return await line.change("x", {})

    assert run(backend, polpod.path, body) == 1


def test_a_polpod_about_to_stop_is_asked_again(backend: str, polpod: Scripted) -> None:
    polpod.answers = {"x": [Refusal("unavailable", "stopping"), Refusal("unavailable", "stopping"), 1]}
    assert run(backend, polpod.path, lambda line: line.change("x", {})) == 1
    assert len({(p["once"]["client"], p["once"]["number"]) for _, p in polpod.calls}) == 1


def test_a_polpod_that_never_was_there_is_an_error_at_once(backend: str, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=str(tmp_path)):
        run(backend, str(tmp_path / "sock"), lambda line: line.ask("x", {}))
    with pytest.raises(Unreachable, match="longer than the 107 bytes"):
        run(backend, str(tmp_path / ("x" * 108)), lambda line: line.ask("x", {}))


def test_one_that_does_not_come_back_is_given_up(backend: str, polpod: Scripted) -> None:
    polpod.answers = {"x": HANG_UP}
    with pytest.raises(Unreachable, match="did not come back"):
        run(backend, polpod.path, lambda line: line.change("x", {}), reconnect=0.2)
    assert len(polpod.calls) > 1


def test_what_is_no_polpod_is_an_error_at_once(backend: str, tmp_path: Path) -> None:
    path = str(tmp_path / "sock")

    async def main() -> None:
        async def serve(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                await stream.receive()
                await stream.send(b"220 mail.example.org ESMTP\n")

        async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            with pytest.raises(Unreachable, match="no polpod"):
                async with opened(path) as line:
                    await line.ask("x", {})
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    assert os.path.exists(path)


def test_what_no_message_can_hold_is_refused_before_it_is_sent(backend: str, polpod: Scripted) -> None:
    async def body(line: Line) -> None:
        with pytest.raises(Refused, match="longer than") as refused:
            await line.change("x", {"big": "x" * 2**22})
        assert refused.value.word == "too_large"

    run(backend, polpod.path, body)
    assert polpod.calls == []
