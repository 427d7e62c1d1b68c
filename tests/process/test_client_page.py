"""polpoctl.client as programs use it: the examples of docs/client.md, and what dies beside it."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from kit.host import Host
from kit.waiting import BOUND, until

from polpoctl.client import AsyncClient, Client

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    with Host(maxConcurrency=8) as host:
        host.start()
        yield host


def test_every_example_of_the_page_has_its_output() -> None:
    assert len(EXAMPLES) == PAGE.read_text().count("```python") > 4


@pytest.mark.parametrize(("code", "printed"), EXAMPLES)
def test_an_example_prints_what_the_page_says(running: Host, code: str, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=running.root, capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert (done.stderr, done.stdout) == ("", printed)


def test_the_blocking_client_loads_the_standard_library_alone(running: Host) -> None:
    code = "import sys; from polpoctl.client import Client; Client().task.list(); print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=running.root, capture_output=True, text=True, timeout=60
    )
    theirs = set(done.stdout.split()) - sys.stdlib_module_names - {"__mp_main__", "sitecustomize"}
    assert {name for name in theirs if not name.startswith(("_", "distutils"))} == {"polpod", "polpoctl"}, done.stderr


def test_events_and_logs_go_on_through_kills(host: Host) -> None:
    """Each event once and in order, each byte once, for one that blocks and one that is awaited."""
    host.start()
    with Client(root=str(host.root)) as polpod:
        task = polpod.task.submit(shell="for i in 1 2; do echo $i; while [ ! -e go-$i ]; do sleep 0.02; done; done")
        seen: list[int] = []
        logged: list[bytes] = []
        awaited: list[int] = []

        def follow() -> None:
            with Client(root=str(host.root)) as following:
                for event in following.events():
                    seen.append(event["seq"])
                    if event["body"].get("to") == "done":
                        return

        def read() -> None:
            with Client(root=str(host.root)) as reading:
                logged.extend(reading.logs(task["id"]))

        async def follow_too() -> None:
            async with AsyncClient(root=str(host.root)) as following:
                async for event in following.events():
                    awaited.append(event["seq"])
                    if event["body"].get("to") == "done":
                        return

        threads = [threading.Thread(target=target) for target in (follow, read, lambda: anyio.run(follow_too))]
        for thread in threads:
            thread.start()
        for number in (1, 2):
            until(lambda number=number: b"%d\n" % number in b"".join(logged), f"{number} was read")  # type: ignore[misc]
            host.kill()
            host.start()
            (host.root / f"go-{number}").touch()
        for thread in threads:
            thread.join(BOUND)
        assert seen == awaited == list(range(1, len(seen) + 1))
        assert b"".join(logged) == b"1\n2\n"
        assert polpod.wait(task["id"])[0]["outcome"] == "done"  # this one was idle while they died
        assert polpod.task.submit(command=["true"])["created"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_long_polls_that_are_given_up_hold_up_no_call(running: Host, backend: str) -> None:
    """And who follows events beside them has each once."""

    async def main() -> list[int]:
        seen: list[int] = []
        async with AsyncClient(root=str(running.root)) as polpod, anyio.create_task_group() as following:
            before = await polpod.cursor()
            task = await polpod.task.submit(command=["true"], hold=True)

            async def follow() -> None:
                async for event in polpod.events(before):
                    seen.append(event["seq"])
                    if event["kind"] == "task:removed":
                        return

            following.start_soon(follow)
            for _ in range(100):
                async with anyio.create_task_group() as hasty:
                    hasty.start_soon(lambda: polpod.wait(task["id"]))
                    for _ in range(20):  # until it was sent
                        await anyio.lowlevel.checkpoint()
                    hasty.cancel_scope.cancel()
            with anyio.fail_after(25):  # those that were asked for before would take 30
                await polpod.task.get(id=task["id"])
                await polpod.task.remove(select={"ids": [task["id"]]})
        return [seq - before for seq in seen]

    numbers = anyio.run(main, backend=backend)
    assert numbers == list(range(1, len(numbers) + 1))
