"""The library's clients against a scripted polpod: the same for the one that blocks and for the one that is awaited."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from kit.backlog import full
from kit.scripted import HANG_UP, SILENCE, Refusal, Scripted, ending

from polpoctl.client import AsyncClient, Client, ContactLost, Failure, RemoteError, Unreachable
from polpoctl.conversation import Conversation
from polpoctl.follow import EventsGone

PATIENCE = 5.0


class Awaited:
    """An AsyncClient that a test calls as it does a Client."""

    def __init__(self, portal: BlockingPortal, client: AsyncClient) -> None:
        self._portal = portal
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name in ("events", "logs"):
            return lambda *a, **k: self._iterated(lambda: found(*a, **k))
        return lambda *a, **k: self._portal.call(lambda: found(*a, **k))

    def _iterated(self, make: Callable[[], AsyncIterator[Any]]) -> Iterator[Any]:
        async def listed() -> list[Any]:
            return [item async for item in make()]

        return iter(self._portal.call(listed))


@contextmanager
def blocking(path: str, patience: float) -> Iterator[Any]:
    with Client(path, patience=patience) as client:
        yield client


def awaited(backend: str) -> Callable[[str, float], Any]:
    @contextmanager
    def opened(path: str, patience: float) -> Iterator[Any]:
        async def make() -> AsyncClient:
            return AsyncClient(path, patience=patience)

        with start_blocking_portal(backend) as portal:
            with portal.wrap_async_context_manager(portal.call(make)) as client:
                yield Awaited(portal, client)

    return opened


@pytest.fixture
def polpod() -> Iterator[Scripted]:
    with Scripted() as scripted:
        yield scripted


Opening = Callable[..., Any]


@pytest.fixture(params=[blocking, awaited("asyncio"), awaited("trio")], ids=["blocking", "asyncio", "trio"])
def opening(request: pytest.FixtureRequest, polpod: Scripted) -> Iterator[Opening]:
    """Opens clients of that kind, which are closed in the end."""
    with ExitStack() as stack:
        yield lambda patience=PATIENCE: stack.enter_context(request.param(polpod.path, patience))


def test_a_call_has_its_result_or_raises_its_error(polpod: Scripted, opening: Opening) -> None:
    polpod.answers = {"task.get": lambda params: {"got": params}, "task.why": Refusal("not_found", "no task 9")}
    client = opening()
    assert client.call("task.get", id="ü", env=True) == {"got": {"id": "ü", "env": True}}
    with pytest.raises(RemoteError, match="no task 9") as error:
        client.call("task.why", id="9")
    assert (error.value.type, error.value.code, error.value.data) == ("not_found", -32000, {"type": "not_found"})
    with pytest.raises(Failure, match="cannot be sent"):
        client.call("task.get", id={1, 2})
    with pytest.raises(Failure, match="cannot be sent"):
        client.call("task.get", id="x" * 5_000_000)
    assert client.call("task.get")["got"] == {}


def test_what_changes_something_is_made_once_and_the_next_call_finds_polpod_again(
    polpod: Scripted, opening: Opening
) -> None:
    polpod.answers = {"task.submit": [HANG_UP, {"id": "5"}], "task.get": [HANG_UP, HANG_UP, {"id": "5"}]}
    client = opening()
    with pytest.raises(ContactLost):
        client.call("task.submit", command=["true"])
    assert [method for method, _ in polpod.calls] == ["task.submit"]
    assert client.call("task.submit", command=["true"]) == {"id": "5"}
    assert client.call("task.get", id="5") == {"id": "5"}
    assert [method for method, _ in polpod.calls] == ["task.submit"] * 2 + ["task.get"] * 3


def test_a_submit_with_a_key_is_made_again(polpod: Scripted, opening: Opening) -> None:
    polpod.answers = {"task.submit": [HANG_UP, Refusal("unavailable"), {"id": "5"}]}
    assert opening().call("task.submit", command=["true"], idempotency_key="k") == {"id": "5"}
    assert len({str(params) for _, params in polpod.calls}) == 1


def test_a_call_after_a_restart_needs_no_answer_to_find_out(polpod: Scripted, opening: Opening) -> None:
    """The connection has ended before the call: nothing was sent, so that even this call is made."""
    polpod.answers = {"task.submit": {"id": "5"}}
    client = opening()
    polpod.stop()
    polpod.start()
    assert client.call("task.submit", command=["true"]) == {"id": "5"}
    assert len(polpod.calls) == 1


def test_patience_ends(polpod: Scripted, opening: Opening) -> None:
    client = opening(0.2)
    polpod.stop()
    for method in ("task.get", "task.submit"):
        with pytest.raises(ContactLost, match="did not come back"):
            client.call(method)


def test_waiting_ends_with_the_tasks_or_with_its_time(polpod: Scripted, opening: Opening) -> None:
    client = opening(60.0)
    over = {"finished": True, "tasks": [ending("5")]}
    polpod.answers = {"task.wait": [{"finished": False, "tasks": []}, HANG_UP, over]}
    assert client.wait("5", timeout=30) == [ending("5")]
    assert polpod.calls[-1][1]["ids"] == ["5"]
    first, *again = (params["timeout"] for _, params in polpod.calls)
    assert first > again[0] > again[1]  # also where the same call was made again
    polpod.answers = {"task.wait": {"finished": False, "tasks": []}}
    with pytest.raises(TimeoutError, match="not over after 0 s: 5, 6"):
        client.wait("5", "6", timeout=0)
    polpod.answers = {"task.wait": HANG_UP}
    polpod.stop()
    with pytest.raises(TimeoutError):
        client.wait("5", timeout=0.2)


def event(seq: int) -> dict[str, Any]:
    return {"seq": seq, "kind": "task:created"}


def test_events_come_by_page_once_each(polpod: Scripted, opening: Opening) -> None:
    pages = [
        {"events": [event(4), event(5)], "first": 1, "next": 5},
        HANG_UP,
        {"events": [event(6)], "first": 1, "next": 9},
        {"events": [], "first": 1, "next": 9},
    ]
    polpod.answers = {"event.list": pages}
    client = opening()
    got = client.events(3, kinds=["task:created"], subject="task/5", follow=False)
    assert [found["seq"] for found in got] == [4, 5, 6]
    assert [params["after"] for _, params in polpod.calls] == [3, 5, 5, 9]
    assert all(params["kinds"] == ["task:created"] and params["subject"] == "task/5" for _, params in polpod.calls)
    assert client.cursor() == 9


def test_events_that_are_gone_are_an_error_but_to_who_wants_what_there_is(polpod: Scripted, opening: Opening) -> None:
    page = {"events": [event(8)], "first": 8, "next": 8}
    nothing = {"events": [], "first": 8, "next": 8}
    polpod.answers = {"event.list": [page, nothing]}
    client = opening()
    assert [found["seq"] for found in client.events(0, follow=False)] == [8]
    polpod.answers = {"event.list": [page, nothing]}
    with pytest.raises(EventsGone) as gone:
        list(client.events(3, follow=False))
    assert (gone.value.first, gone.value.last) == (4, 7)


def test_a_log_is_bytes_of_the_run_that_is_meant(polpod: Scripted, opening: Opening) -> None:
    def logs(params: dict[str, Any]) -> Any:
        if params.get("after"):
            return {"run_id": None, "offset": 0, "data": "", "next_offset": 0, "end": True}
        data = "/wA=" if params["offset"] == 0 else ""
        return {"run_id": 7, "offset": 0, "data": data, "next_offset": 2, "end": not data}

    polpod.answers = {"task.logs": logs, "task.wait": {"finished": True, "tasks": []}}
    client = opening()
    assert b"".join(client.logs("5", follow=False)) == b"\xff\x00"
    assert polpod.calls[0][1]["phase"] == "execution"
    assert b"".join(client.logs("5", run=7)) == b"\xff\x00"
    polpod.calls.clear()
    assert b"".join(client.logs("5")) == b"\xff\x00"
    assert polpod.calls[0][1]["after"] == 0  # the first of its runs, however many there are


def test_a_noun_has_its_verbs(polpod: Scripted) -> None:
    polpod.answers = {"task.get": lambda params: params, "approval.await": lambda params: params}
    with Client(polpod.path) as client:
        assert client.task.get(id="5") == {"id": "5"}
        assert client.approval.await_(id="6") == {"id": "6"}
        assert "submit" in dir(client.task)
        with pytest.raises(AttributeError, match=r"no method task\.got: there are .*submit"):
            client.task.got()
        with pytest.raises(AttributeError, match="no noun 'tusk'"):
            client.tusk.get()


def test_nobody_there(opening: Opening, polpod: Scripted) -> None:
    polpod.stop()
    with pytest.raises(Unreachable, match="no polpod answers"):
        opening()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_calls_of_many_tasks_are_under_way_together_and_one_that_is_cancelled_disturbs_none(
    polpod: Scripted, backend: str
) -> None:
    """The first call is never answered: it reads for the others, until it is given up."""
    polpod.answers = {"task.get": lambda params: params, "task.why": SILENCE}

    async def main() -> list[Any]:
        async with AsyncClient(polpod.path) as client:
            got: list[Any] = []

            async def get(number: int) -> None:
                got.append(await client.task.get(id=number))

            async with anyio.create_task_group() as silent:
                silent.start_soon(lambda: client.task.why(id="5"))
                await anyio.to_thread.run_sync(polpod.called, "task.why")
                async with anyio.create_task_group() as group:
                    for number in range(50):
                        group.start_soon(get, number)
                silent.cancel_scope.cancel()
            got.append(await client.task.get(id=50))
            return got

    got = anyio.run(main, backend=backend)
    assert sorted(found["id"] for found in got) == list(range(51))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_answer_that_nobody_waits_for_any_more_is_thrown_away(polpod: Scripted, backend: str) -> None:
    answered = threading.Event()
    polpod.answers = {"task.why": lambda params: answered.wait(30), "task.get": lambda params: params}

    async def main() -> Any:
        async with AsyncClient(polpod.path) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: client.task.why(id="5"))
                await anyio.to_thread.run_sync(polpod.called, "task.why")
                group.cancel_scope.cancel()
            answered.set()
            return await client.task.get(id="6")

    assert anyio.run(main, backend=backend) == {"id": "6"}
    assert [method for method, _ in polpod.calls] == ["task.why", "task.get"]


def test_an_answer_that_was_given_up_is_not_kept() -> None:
    conversation = Conversation("polpod")
    asked, _ = conversation.ask("task.get", {})
    conversation.waiting.add(asked)
    conversation.forget(asked)
    conversation.hear(b'{"jsonrpc": "2.0", "id": 1, "result": "late"}')
    assert (conversation.answers, conversation.waiting) == ({}, set())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_who_is_cancelled_between_two_events_goes_on_with_the_next(polpod: Scripted, backend: str) -> None:
    polpod.answers = {"event.list": [SILENCE, {"events": [event(4)], "first": 1, "next": 4}]}

    async def main() -> Any:
        async with AsyncClient(polpod.path) as client:
            events = client.events(3)
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: anext(events))
                await anyio.to_thread.run_sync(polpod.called, "event.list")
                group.cancel_scope.cancel()
            return await anext(events)

    assert anyio.run(main, backend=backend) == event(4)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_that_is_cancelled_as_it_begins_ends_no_other(polpod: Scripted, backend: str) -> None:
    answer = [threading.Event(), threading.Event()]
    polpod.answers = {"task.submit": lambda params: answer[params["n"]].wait(30), "task.cancel": {}}

    async def main() -> list[int]:
        submitted: list[int] = []
        async with AsyncClient(polpod.path) as client:

            async def submit(n: int) -> None:
                await client.task.submit(n=n)
                submitted.append(n)

            async with anyio.create_task_group() as group:
                for n in range(2):
                    group.start_soon(submit, n)
                    await anyio.wait_all_tasks_blocked()
                for steps in range(8):  # wherever it is by then
                    async with anyio.create_task_group() as hasty:
                        hasty.start_soon(lambda: client.task.cancel(select={"ids": ["5"]}))
                        for _ in range(steps):
                            await anyio.lowlevel.checkpoint()
                        hasty.cancel_scope.cancel()
                for n in range(2):  # one after the other, so that not one message has both
                    answer[n].set()
                    while n not in submitted:
                        await anyio.sleep(0.01)
        return submitted

    assert anyio.run(main, backend=backend) == [0, 1]


class NotReady(Scripted):
    """Refuses the first list, and answers a submit no sooner than the second one."""

    submit: Any = None

    def _answer(self, connection: Any, request: dict[str, Any]) -> bool:
        if request["method"] == "task.submit":
            self.calls.append((request["method"], request["params"]))
            self.submit = connection, request
            return True
        answered = super()._answer(connection, request)
        if len(self.calls) == 3:
            super()._answer(self.submit[0], self.submit[1] | {"method": "task.get"})
        return answered


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_refusal_that_passes_ends_no_other_call(backend: str) -> None:
    """To end the connection would leave the submit without an answer."""
    with NotReady({"task.list": [Refusal("unavailable"), {"tasks": []}], "task.get": {"id": "5"}}) as polpod:

        async def main() -> list[Any]:
            got: list[Any] = []
            async with AsyncClient(polpod.path, patience=PATIENCE) as client:

                async def submit() -> None:
                    got.append(await client.task.submit(command=["true"]))

                async with anyio.create_task_group() as group:
                    group.start_soon(submit)
                    await anyio.to_thread.run_sync(polpod.called, "task.submit")
                    assert await client.task.list() == {"tasks": []}
            return got

        assert anyio.run(main, backend=backend) == [{"id": "5"}]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_is_followed_ends_with_its_client(polpod: Scripted, backend: str) -> None:
    polpod.answers = {"event.list": SILENCE}

    async def main() -> None:
        async with AsyncClient(polpod.path) as client, anyio.create_task_group() as group:

            async def follow() -> None:
                with pytest.raises(ContactLost, match="closed here"):
                    await anext(client.events())

            group.start_soon(follow)
            await anyio.to_thread.run_sync(polpod.called, "event.list")
            await client.aclose()
            group.cancel_scope.deadline = anyio.current_time() + PATIENCE
        assert not group.cancel_scope.cancelled_caught

    anyio.run(main, backend=backend)


def test_one_that_accepts_nobody_is_not_reached(tmp_path: Path) -> None:
    """trio takes it for a connection at first, and asyncio tries for as long as it is let."""
    path = str(tmp_path / "s")

    async def main() -> None:
        async with AsyncClient(path):
            pass

    with full(path):
        with pytest.raises(Unreachable):
            anyio.run(main, backend="trio")
