"""Elkar's own managers and server, unmodified, on both stores: with and without callers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import httpx
import pytest
from elkar.a2a_types import (
    AgentCapabilities,
    AgentCard,
    Artifact,
    CancelTaskRequest,
    GetTaskPushNotificationRequest,
    GetTaskRequest,
    Message,
    PushNotificationConfig,
    SendTaskRequest,
    SendTaskStreamingRequest,
    SendTaskStreamingResponse,
    SetTaskPushNotificationRequest,
    Task,
    TaskArtifactUpdateEvent,
    TaskIdParams,
    TaskPushNotificationConfig,
    TaskQueryParams,
    TaskSendParams,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
    TextPart,
)
from elkar.server.server import A2AServer
from elkar.task_manager.task_manager_base import RequestContext
from elkar.task_manager.task_manager_with_store import TaskManagerWithStore, TaskSendOutput
from elkar.task_manager.task_manager_with_task_modifier import TaskManagerWithModifier
from kit.host import Host

from polpod.contrib.elkar import InMemoryTaskManagerStore, PolpodTaskManagerStore, Refused

Opened = Callable[[], AbstractAsyncContextManager[Any]]
Run = Callable[[Callable[[], Awaitable[Any]]], Any]
CARD = AgentCard(
    name="agent", url="http://agent", version="1", skills=[],
    capabilities=AgentCapabilities(streaming=True, pushNotifications=True),
)  # fmt: skip
NOT_FOUND, NOT_CANCELABLE, BAD_STATE = -32001, -32002, -32009


class Broken(Exception):
    """What a handler raises."""


def message(said: str, role: str = "agent") -> Message:
    return Message(role=role, parts=[TextPart(text=said)])


def artifact(said: str, **values: Any) -> Artifact:
    return Artifact(parts=[TextPart(text=said)], **values)


def status(state: TaskState, said: str | None = None) -> TaskStatus:
    return TaskStatus(state=state, message=None if said is None else message(said))


def texts(task: Task) -> list[str]:
    return [m.parts[0].text for m in task.history or ()]


async def works(task: Task, context: RequestContext | None, store: Any) -> TaskSendOutput:
    return TaskSendOutput(
        status=status(TaskState.COMPLETED, "done"),
        new_history_messages=[message("extra")],
        new_artifacts=[artifact("made")],
        metadata={"k": "v"},
    )


async def works_by_steps(task: Any, context: RequestContext | None) -> None:
    await task.set_status(status(TaskState.WORKING, "on it"))
    await task.add_messages_to_history([message("extra")])
    await task.upsert_artifacts([artifact("made")])
    assert texts(await task.get_task(from_store=True)) == ["hi", "on it", "extra"]
    await task.set_status(status(TaskState.COMPLETED, "done"), is_final=True)


async def breaks(*_: Any) -> TaskSendOutput:
    raise Broken("the handler's own")


async def waits(*_: Any) -> TaskSendOutput:
    return TaskSendOutput(status=status(TaskState.INPUT_REQUIRED))


async def waits_by_steps(task: Any, context: RequestContext | None) -> None:
    await task.set_status(status(TaskState.INPUT_REQUIRED))


MANAGERS: dict[str, tuple[type, dict[str, Callable[..., Any]]]] = {
    "store": (TaskManagerWithStore, {"works": works, "breaks": breaks, "waits": waits}),
    "modifier": (TaskManagerWithModifier, {"works": works_by_steps, "breaks": breaks, "waits": waits_by_steps}),
}
HISTORY = {"store": ["hi", "done", "extra"], "modifier": ["hi", "on it", "extra", "done"]}


@pytest.fixture(params=MANAGERS)
def manager(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[None, "alice"], ids=["no caller", "alice"])
def context(request: pytest.FixtureRequest) -> RequestContext | None:
    return None if request.param is None else RequestContext(caller_id=request.param, metadata={})


BOB = RequestContext(caller_id="bob", metadata={})


def managed(manager: str, store: Any, handler: str = "works") -> Any:
    kind, handlers = MANAGERS[manager]
    made = kind(CARD, store=store, send_task_handler=handlers[handler])
    assert made.store is store, "an empty store was replaced"  # Elkar 19
    return made


def send(said: str = "hi", task_id: str = "t") -> SendTaskRequest:
    return SendTaskRequest(params=TaskSendParams(id=task_id, sessionId="s", message=message(said, "user")))


def get(task_id: str = "t") -> GetTaskRequest:
    return GetTaskRequest(params=TaskQueryParams(id=task_id))


def cancel(task_id: str = "t") -> CancelTaskRequest:
    return CancelTaskRequest(params=TaskIdParams(id=task_id))


def test_send_and_get(opened: Opened, run: Run, manager: str, context: RequestContext | None) -> None:
    async def main() -> None:
        async with opened() as store:
            agent = managed(manager, store)
            answer = await agent.send_task(send(), context)
            assert answer.error is None
            task = answer.result
            assert (task.id, task.sessionId, task.status.state) == ("t", "s", TaskState.COMPLETED)
            assert texts(task) == HISTORY[manager]
            assert [a.parts[0].text for a in task.artifacts] == ["made"]
            assert task.metadata == ({"k": "v"} if manager == "store" else None)
            assert (await agent.get_task(get(), context)).result == task

    run(main)


def test_another_caller_finds_nothing_and_changes_nothing(opened: Opened, run: Run, manager: str) -> None:
    context = RequestContext(caller_id="alice", metadata={})

    async def main() -> None:
        async with opened() as store:
            agent = managed(manager, store, "waits")
            task = (await agent.send_task(send(), context)).result
            assert (await agent.get_task(get(), BOB)).error.message == "Task not found"
            assert (await agent.cancel_task(cancel(), BOB)).error.code == NOT_FOUND
            for stranger in (BOB, RequestContext(caller_id=None, metadata={})):
                if manager == "store":
                    with pytest.raises(Refused, match="another caller's"):
                        await agent.send_task(send("mine"), stranger)
                else:
                    assert (await agent.send_task(send("mine"), stranger)).error.code == NOT_FOUND
            assert (await agent.get_task(get(), context)).result == task

    run(main)


def test_the_same_id_again(opened: Opened, run: Run, manager: str, context: RequestContext | None) -> None:
    """One manager adds the message, and the parts; the other has a completed task end there."""

    async def main() -> None:
        async with opened() as store:
            agent = managed(manager, store)
            await agent.send_task(send(), context)
            again = await agent.send_task(send("again"), context)
            if manager == "modifier":
                assert again.error.code == BAD_STATE
                return
            assert texts(again.result) == ["hi", "done", "extra", "again", "done", "extra"]
            assert [[p.text for p in a.parts] for a in again.result.artifacts] == [["made", "made"]]

    run(main)


def test_cancel(opened: Opened, run: Run, manager: str, context: RequestContext | None) -> None:
    async def main() -> None:
        async with opened() as store:
            agent = managed(manager, store, "waits")
            await agent.send_task(send(), context)
            assert (await agent.cancel_task(cancel(), context)).error is None
            assert (await agent.get_task(get(), context)).result.status.state == TaskState.CANCELED
            again = await agent.cancel_task(cancel(), context)
            assert (again.error and again.error.code) == (NOT_CANCELABLE if manager == "modifier" else None)

    run(main)


def test_a_handler_that_raises(opened: Opened, run: Run, manager: str, context: RequestContext | None) -> None:
    """Its error is what is raised, and the task has failed, whoever called."""

    async def main() -> None:
        async with opened() as store:
            agent = managed(manager, store, "breaks")
            with pytest.raises(Broken, match="the handler's own"):
                await agent.send_task(send(), context)
            task = (await agent.get_task(get(), context)).result
            assert (task.status.state, texts(task)) == (TaskState.FAILED, ["hi", "Internal error"])

    run(main)


def test_a_task_that_is_not_there(opened: Opened, run: Run, manager: str, context: RequestContext | None) -> None:
    async def main() -> None:
        async with opened() as store:
            agent = managed(manager, store)
            assert (await agent.get_task(get("gone"), context)).error.code == NOT_FOUND
            assert (await agent.cancel_task(cancel("gone"), context)).error.code == NOT_FOUND

    run(main)


def test_push_notifications(opened: Opened, run: Run, manager: str, context: RequestContext | None) -> None:
    config = TaskPushNotificationConfig(
        id="t", pushNotificationConfig=PushNotificationConfig(url="https://example.org", token="secret")
    )

    async def main() -> None:
        async with opened() as store:
            agent = managed(manager, store)
            await agent.send_task(send(), context)
            asked = GetTaskPushNotificationRequest(params=TaskIdParams(id="t"))
            assert (await agent.get_task_push_notification(asked, context)).result is None
            answer = await agent.set_task_push_notification(SetTaskPushNotificationRequest(params=config), context)
            assert answer.result == config
            assert (await agent.get_task_push_notification(asked, context)).result == config
            await store.upsert_task(send("more").params, caller_id=context and context.caller_id)
            assert (await agent.get_task_push_notification(asked, context)).result == config

    run(main)


async def streams(task: Task, context: RequestContext | None, store: Any) -> AsyncIterator[SendTaskStreamingResponse]:
    def event(result: Any) -> SendTaskStreamingResponse:
        return SendTaskStreamingResponse(result=result)

    yield event(TaskStatusUpdateEvent(id=task.id, status=status(TaskState.WORKING, "on it")))
    yield event(TaskArtifactUpdateEvent(id=task.id, artifact=artifact("a")))
    yield event(TaskArtifactUpdateEvent(id=task.id, artifact=artifact("b", lastChunk=True)))
    yield event(TaskStatusUpdateEvent(id=task.id, status=status(TaskState.COMPLETED, "done"), final=True))


def streamed(agent: Any, context: RequestContext | None, said: str = "hi") -> Any:
    """The states and texts that a subscriber hears of."""
    params = TaskSendParams(id="t", message=message(said, "user"))

    async def heard() -> list[str]:
        events = await agent.send_task_streaming(SendTaskStreamingRequest(params=params), context)
        results = [event.result async for event in events]
        return [
            r.status.state.value if isinstance(r, TaskStatusUpdateEvent) else r.artifact.parts[0].text for r in results
        ]

    return heard()


def test_streaming_with_a_store(opened: Opened) -> None:
    """Without a caller, as Elkar's queue loses the subscribers of named ones; no message twice."""

    async def main() -> None:
        async with opened() as store:
            agent = TaskManagerWithStore(CARD, store=store, send_task_streaming_handler=streams)
            with anyio.fail_after(60):
                assert await streamed(agent, None) == ["working", "a", "b", "completed"]
            stored = await store.get_task("t")
            assert (stored.is_streaming, texts(stored.task)) == (True, ["hi", "on it", "done"])
            assert [[p.text for p in a.parts] for a in stored.task.artifacts] == [["a", "b"]]

    anyio.run(main)


def test_streaming_with_a_modifier(opened: Opened, context: RequestContext | None) -> None:
    async def main() -> None:
        async with opened() as store:
            agent = managed("modifier", store)
            with anyio.fail_after(60):
                assert await streamed(agent, context) == ["working", "made", "completed"]
            stored = await store.get_task("t", caller_id=context and context.caller_id)
            assert texts(stored.task) == HISTORY["modifier"]

    anyio.run(main)


def test_a_streamed_task_becomes_its_caller_s(opened: Opened) -> None:
    """Elkar begins it without the caller, whom only its updates name (Elkar 14)."""

    async def main() -> None:
        async with opened() as store:
            agent = TaskManagerWithStore(CARD, store=store, send_task_streaming_handler=streams)
            request = SendTaskStreamingRequest(params=TaskSendParams(id="t", message=message("hi", "user")))
            await agent.queue.add_subscriber("t", "somebody")  # under the key that it will ask for
            await agent._send_task_streaming(request, RequestContext(caller_id="alice", metadata={}))
            assert (await store.get_task("t")).caller_id == "alice"
            assert await store.get_task("t", caller_id="bob") is None

    anyio.run(main)


@pytest.mark.parametrize("caller", [None, "alice"])
def test_a_server_over_asgi(opened: Opened, manager: str, caller: str | None) -> None:
    async def main() -> None:
        async with opened() as store:
            named = RequestContext(caller_id=caller, metadata={})
            server = A2AServer(managed(manager, store, "waits"), context_extractor=lambda request: named)
            transport = httpx.ASGITransport(app=server.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:

                async def call(method: str, **params: Any) -> Any:
                    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"id": "t"} | params}
                    answer = await client.post("/", json=body)
                    assert answer.status_code == 200
                    return answer.json()

                assert (await client.get("/.well-known/agent.json")).json()["name"] == "agent"
                said = {"role": "user", "parts": [{"type": "text", "text": "hi"}]}
                sent = await call("tasks/send", sessionId="s", message=said)
                assert sent["result"]["status"]["state"] == "input-required"
                found = await call("tasks/get")
                assert found["result"] == sent["result"]
                assert "error" not in await call("tasks/cancel")
                assert (await call("tasks/get"))["result"]["status"]["state"] == "canceled"
                assert (await call("tasks/get", id="gone"))["error"]["code"] == NOT_FOUND

    anyio.run(main)


@pytest.mark.parametrize("kind", [InMemoryTaskManagerStore, PolpodTaskManagerStore])
def test_an_empty_store_is_not_replaced(kind: Any, manager: str) -> None:
    """Elkar 19."""
    store = kind()
    assert bool(store) is True
    managed(manager, store)


def test_the_daemon_dies_while_a_handler_is_at_work(polpod: Host, run: Run, context: RequestContext | None) -> None:
    """Elkar 17: SIGKILL between the message and its answer; the manager goes on, and so does another, later."""

    async def handler(task: Task, named: RequestContext | None, store: Any) -> TaskSendOutput:
        await anyio.to_thread.run_sync(polpod.kill)
        await anyio.to_thread.run_sync(polpod.start)
        return await works(task, named, store)

    async def main() -> None:
        async with PolpodTaskManagerStore(root=str(polpod.root)) as store:
            agent = TaskManagerWithStore(CARD, store=store, send_task_handler=handler)
            task = (await agent.send_task(send(), context)).result
            assert texts(task) == HISTORY["store"]
        await anyio.to_thread.run_sync(polpod.kill)
        await anyio.to_thread.run_sync(polpod.start)
        async with PolpodTaskManagerStore(root=str(polpod.root)) as store:
            assert (await managed("store", store).get_task(get(), context)).result == task

    run(main)
