"""Both stores by themselves, with Elkar's own types: the list of what an Elkar store must do, where the types matter."""

from __future__ import annotations

import copy
import inspect
import json
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from elkar.a2a_types import (
    Artifact,
    AuthenticationInfo,
    DataPart,
    FileContent,
    FilePart,
    Message,
    PushNotificationConfig,
    Task,
    TaskSendParams,
    TaskState,
    TaskStatus,
    TextPart,
)
from elkar.common import TaskType
from elkar.store.base import StoredTask, TaskManagerStore, UpdateTaskParams
from kit.host import Host
from kit.scripted import HANG_UP, Scripted

from polpod.contrib.elkar import InMemoryTaskManagerStore, PolpodTaskManagerStore, Refused, UnknownTask, Unreachable

Opened = Callable[[], AbstractAsyncContextManager[Any]]
Run = Callable[[Callable[[], Awaitable[Any]]], Any]


def message(said: str, role: str = "user") -> Message:
    return Message(role=role, parts=[TextPart(text=said)])


def sent(said: str = "hi", **values: Any) -> TaskSendParams:
    return TaskSendParams(**{"id": "t", "message": message(said)} | values)


def texts(stored: StoredTask) -> list[str]:
    return [m.parts[0].text for m in stored.task.history or ()]


@pytest.mark.parametrize("kind", [InMemoryTaskManagerStore, PolpodTaskManagerStore])
def test_a_store_has_the_methods_of_elkar_s_protocol_with_its_names_and_defaults(kind: type) -> None:
    for name in ("upsert_task", "get_task", "update_task"):
        ours, theirs = (inspect.signature(getattr(cls, name)).parameters.values() for cls in (kind, TaskManagerStore))
        assert [(p.name, p.default, p.kind) for p in ours] == [(p.name, p.default, p.kind) for p in theirs]
        assert inspect.iscoroutinefunction(getattr(kind, name))


def test_what_is_sent_comes_back_in_elkar_s_types(opened: Opened, run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """Elkar 1, 13, 16, 19: all of it, as the package's own; every instant aware; nothing printed."""
    push = PushNotificationConfig(
        url="https://example.org",
        token="x",
        authentication=AuthenticationInfo(schemes=["Bearer"], credentials="c", own=[1]),
    )
    parts = [
        TextPart(text="ä", metadata={"a": None}),
        FilePart(file=FileContent(name="n", mimeType="text/plain", bytes="aGk=")),
        FilePart(file=FileContent(uri="file:///x")),
        DataPart(data={"a": [1, 2.5, {"b": "c"}]}),
    ]
    params = TaskSendParams(
        id="t", sessionId="s", message=Message(role="user", parts=parts, metadata={"m": 1}), pushNotification=push,
        metadata={"k": [True]}, acceptedOutputModes=["text"], historyLength=3,
    )  # fmt: skip

    async def main() -> None:
        async with opened() as store:
            assert bool(store) is True
            before = datetime.now(UTC)
            begun = await store.upsert_task(params, is_streaming=True, caller_id="alice")
            assert await store.get_task("t") == begun
            assert type(begun) is StoredTask
            assert type(begun.task) is Task
            assert (begun.id, begun.caller_id, begun.is_streaming, begun.agent_url) == ("t", "alice", True, None)
            assert begun.task_type is TaskType.INCOMING
            assert begun.push_notification == push
            assert before <= begun.created_at == begun.updated_at <= datetime.now(UTC)
            status = TaskStatus(state=TaskState.SUBMITTED, timestamp=begun.created_at)
            assert begun.task == Task(
                id="t", sessionId="s", status=status, history=[params.message], metadata={"k": [True]}
            )

    run(main)
    assert capfd.readouterr().out == ""


def test_what_a_store_gives_is_a_copy(opened: Opened, run: Run) -> None:
    """Elkar 15: of what was given, too."""

    async def main() -> None:
        async with opened() as store:
            params = sent(metadata={"a": [1]})
            begun = await store.upsert_task(params)
            kept = copy.deepcopy(begun)
            update = UpdateTaskParams(
                new_messages=[message("two")], artifacts_updates=[Artifact(parts=[TextPart(text="a")])]
            )
            for given in (params.message, begun.task.history[0], (await store.get_task("t")).task.history[0]):
                given.parts.append(TextPart(text="changed"))
            params.metadata["a"].append(2)
            begun.task.status.state = TaskState.FAILED
            assert await store.get_task("t") == kept
            updated = await store.update_task("t", update)
            kept = copy.deepcopy(updated)
            update.new_messages[0].parts[0].text = "changed"
            update.artifacts_updates[0].parts.clear()
            updated.task.artifacts[0].parts.clear()
            updated.task.history.clear()
            assert await store.get_task("t") == kept

    run(main)


def test_an_update_in_elkar_s_types(opened: Opened, run: Run) -> None:
    """Elkar 2, 9, 10, 11, 12, 16: a local instant without a zone is what it was."""
    at = datetime.now()  # noqa: DTZ005 - as Elkar's managers make them

    async def main() -> None:
        async with opened() as store:
            begun = await store.upsert_task(params=sent())
            update = UpdateTaskParams(
                status=TaskStatus(state=TaskState.INPUT_REQUIRED, message=message("s", "agent"), timestamp=at),
                artifacts_updates=[Artifact(name="a", parts=[TextPart(text="x")], index=2, append=False)],
                new_messages=[message("n", "agent"), message("s", "agent")],
                metadata={"m": {}},
            )
            found = await store.update_task(task_id="t", params=update)
            assert found.task.status == TaskStatus(
                state=TaskState.INPUT_REQUIRED, message=message("s", "agent"), timestamp=at.astimezone(UTC)
            )
            assert texts(found) == ["hi", "n", "s"]
            assert found.task.artifacts == update.artifacts_updates
            assert found.task.metadata == {"m": {}}
            assert found.created_at == begun.created_at < found.updated_at
            last = Artifact(parts=[TextPart(text="y")], index=2, lastChunk=True)
            found = await store.update_task("t", params=UpdateTaskParams(artifacts_updates=[last]))
            assert [[p.text for p in a.parts] for a in found.task.artifacts] == [["x", "y"]]
            with pytest.raises(ValueError, match="artifact 2 is complete"):
                await store.update_task("t", UpdateTaskParams(artifacts_updates=[last], new_messages=[message("no")]))
            assert await store.get_task("t") == found
            assert texts(await store.upsert_task(sent("again"))) == ["hi", "n", "s", "again"]

    run(main)


def test_whose_a_task_is(opened: Opened, run: Run) -> None:
    """Elkar 3, 4, 5, 6, 14."""

    async def main() -> None:
        async with opened() as store:
            await store.upsert_task(sent(), caller_id="alice")
            for caller in ("bob", None):
                with pytest.raises(Refused, match="another caller's"):
                    await store.upsert_task(sent("mine"), caller_id=caller)
            assert await store.get_task("gone") is None
            assert await store.get_task("") is None
            assert await store.get_task("t", caller_id="bob") is None
            assert texts(await store.get_task(task_id="t", caller_id="alice")) == ["hi"]
            await store.upsert_task(sent(id="free"))
            assert (await store.update_task("free", UpdateTaskParams(caller_id="bob"))).caller_id == "bob"
            with pytest.raises(Refused):
                await store.update_task("free", UpdateTaskParams(caller_id="alice"))
            assert (await store.update_task("free", UpdateTaskParams())).caller_id == "bob"

    run(main)


def test_a_history_from_its_end(opened: Opened, run: Run) -> None:
    """Elkar 7."""

    async def main() -> None:
        async with opened() as store:
            await store.upsert_task(sent("a"))
            await store.update_task("t", UpdateTaskParams(new_messages=[message("b"), message("c")]))
            shown = {n: "".join(texts(await store.get_task("t", history_length=n))) for n in (0, 1, 3, 9, None)}
            assert shown == {0: "", 1: "c", 3: "abc", 9: "abc", None: "abc"}
            with pytest.raises(ValueError):  # noqa: PT011 - each says it in its own words
                await store.get_task("t", history_length=-1)

    run(main)


def test_what_cannot_be_done_has_its_error(opened: Opened, run: Run) -> None:
    """Elkar 8: a KeyError and a ValueError at once, as Elkar's own store raises either."""

    async def main() -> None:
        async with opened() as store:
            for kind in (KeyError, ValueError, UnknownTask):
                with pytest.raises(kind, match=r"^there is no A2A task 'gone'$"):
                    await store.update_task("gone", UpdateTaskParams())
            for bad in (
                sent("a\0b"),
                sent("\ud800"),
                sent(id=""),
                sent(metadata={"n": float("nan")}),
                sent(metadata={"n": 2**60}),
                sent(metadata={"n": object()}),
                sent("x" * 2**18),
            ):
                with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
                    await store.upsert_task(bad)
            assert await store.get_task("t") is None
            begun = await store.upsert_task(
                sent(metadata={"when": datetime(2026, 1, 1, tzinfo=UTC), "a": {1: TaskState.WORKING}})
            )
            assert begun.task.metadata == {"when": "2026-01-01T00:00:00Z", "a": {"1": "working"}}
            for bad in ({"n": float("inf")}, {"a": {"b": object()}}):
                with pytest.raises(Refused):
                    await store.update_task("t", UpdateTaskParams(metadata=bad))
            assert await store.get_task("t") == begun

    run(main)


def test_many_at_once_in_one_loop_and_nothing_is_lost(opened: Opened, run: Run) -> None:
    async def main() -> None:
        async with opened() as store:
            await store.upsert_task(sent())
            async with anyio.create_task_group() as group:
                for number in range(30):
                    group.start_soon(store.update_task, "t", UpdateTaskParams(new_messages=[message(str(number))]))
            said = texts(await store.get_task("t"))
            assert sorted(said[1:], key=int) == [str(number) for number in range(30)]

    run(main)


def test_one_store_serves_loops_of_several_threads(opened: Opened) -> None:
    """Elkar 18, within one process."""

    async def append(store: Any, name: str) -> None:
        for number in range(20):
            await store.update_task("t", UpdateTaskParams(new_messages=[message(f"{name}{number}")]))
        if isinstance(store, PolpodTaskManagerStore):
            await store.aclose()

    async def main() -> None:
        async with opened() as store:
            await store.upsert_task(sent())

            def thread(name: str, backend: str) -> threading.Thread:
                return threading.Thread(target=lambda: anyio.run(append, store, name, backend=backend))

            threads = [thread("a", "trio"), thread("b", "asyncio")]
            for one in threads:
                one.start()
            for one in threads:
                await anyio.to_thread.run_sync(one.join)
            said = texts(await store.get_task("t"))
            for name in "ab":
                assert [s for s in said if s[0] == name] == [f"{name}{number}" for number in range(20)]

    anyio.run(main)


APPEND = """
import sys
import anyio
from elkar.a2a_types import Message, TextPart
from elkar.store.base import UpdateTaskParams
from polpod.contrib.elkar import PolpodTaskManagerStore

root, name, backend = sys.argv[1:]

async def main():
    async with PolpodTaskManagerStore(root=root) as store:
        for number in range(20):
            said = Message(role="agent", parts=[TextPart(text=f"{name}{number}")])
            await store.update_task("t", UpdateTaskParams(new_messages=[said]))

anyio.run(main, backend=backend)
"""


def test_two_processes_append_at_once(polpod: Host) -> None:
    """Elkar 17, 18: and what they wrote is there for a third, and after the daemon."""

    async def main() -> list[str]:
        async with PolpodTaskManagerStore(root=str(polpod.root)) as store:
            await store.upsert_task(sent())
            argv = [sys.executable, "-c", APPEND, str(polpod.root)]
            async with anyio.create_task_group() as group:
                for words in (("a", "trio"), ("b", "asyncio")):
                    group.start_soon(anyio.run_process, [*argv, *words])
            await anyio.to_thread.run_sync(polpod.kill)
            await anyio.to_thread.run_sync(polpod.start)
            return texts(await store.get_task("t"))

    said = anyio.run(main, backend="trio")
    for name in "ab":
        assert [s for s in said if s[0] == name] == [f"{name}{number}" for number in range(20)]


def test_the_daemon_dies_between_two_calls(polpod: Host, run: Run) -> None:
    """Elkar 17: the store waits for it, and goes on with the same task."""

    async def main() -> None:
        async with PolpodTaskManagerStore(socket=polpod.socket) as store:
            begun = await store.upsert_task(sent(), caller_id="alice")
            await anyio.to_thread.run_sync(polpod.kill)
            async with anyio.create_task_group() as group:
                group.start_soon(store.update_task, "t", UpdateTaskParams(new_messages=[message("two")]))
                await anyio.to_thread.run_sync(polpod.start)
            found = await store.get_task("t", caller_id="alice")
            assert (texts(found), found.created_at) == (["hi", "two"], begun.created_at)

    run(main)


def test_an_answer_that_is_lost_is_nothing_done_twice(polpod: Host, run: Run) -> None:
    """The daemon has committed, and the connection ends before the store hears of it."""

    def lost(method: str) -> Callable[[dict[str, Any]], object]:
        return lambda params: (polpod.call(method, **params), HANG_UP)[1]

    def passed(method: str) -> Callable[[dict[str, Any]], object]:
        return lambda params: polpod.call(method, **params)

    async def main(path: str) -> None:
        async with PolpodTaskManagerStore(socket=path) as store:
            assert texts(await store.upsert_task(sent())) == ["hi"]
            assert texts(await store.upsert_task(sent())) == ["hi", "hi"]
            update = UpdateTaskParams(new_messages=[message("two")])
            assert texts(await store.update_task("t", update)) == ["hi", "hi", "two"]

    with Scripted({method: [lost(method), passed(method)] for method in ("a2a.upsert", "a2a.update")}) as proxy:
        run(lambda: main(proxy.path))
    assert [method for method, _ in proxy.calls] == ["a2a.upsert"] * 3 + ["a2a.update"] * 2


def test_the_socket_is_looked_for_where_polpoctl_looks(
    polpod: Host, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("POLPO_SOCKET", polpod.socket)

    async def main() -> None:
        async with PolpodTaskManagerStore() as store:
            assert await store.get_task("t") is None
        nowhere = PolpodTaskManagerStore(socket=str(tmp_path / "sock"))
        with pytest.raises(Unreachable, match=str(tmp_path)):
            await nowhere.get_task("t")

    run(main)


def test_what_polpod_keeps_is_on_its_socket(polpod: Host) -> None:
    async def main() -> None:
        async with PolpodTaskManagerStore(root=str(polpod.root)) as store:
            await store.upsert_task(sent(), caller_id="alice")

    anyio.run(main)
    (task,) = polpod.call("a2a.list")["tasks"]
    assert (task["id"], task["caller_id"], task["state"]) == ("t", "alice", "submitted")
    assert "hi" not in json.dumps(polpod.call("event.list"))
