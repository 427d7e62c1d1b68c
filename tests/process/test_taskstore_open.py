"""The stores as a library: who may open a state directory when, and what stays of what was acknowledged."""

from __future__ import annotations

import inspect
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from kit.host import Host
from kit.starting import polpod
from kit.waiting import until

from polpod import taskstore
from polpod.config import JsonConfigStore
from polpod.errors import Damaged, InvalidTransition, StartError, StoreError, Unavailable
from polpod.lock import lock
from polpod.model.tasks import TaskStatus
from polpod.paths import StateDirectory
from polpod.store import copy
from polpod.store.tables import Setting, Settings
from polpod.taskstore import AsyncStores, Stores, open_async_stores, open_async_task_store, open_stores, open_task_store


def library(code: str, root: Path, *arguments: str) -> subprocess.Popen[str]:
    """Another program: `store` is its task store."""
    text = f"import sys\nfrom polpod.taskstore import open_task_store\nstore = open_task_store(sys.argv[1])\n{code}"
    command = [sys.executable, "-c", text, str(root), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


# Opening


def test_the_example_of_the_page_is_true(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "taskstore.md"
    code = page.read_text().partition("```python\n")[2].partition("```")[0].replace("/srv/builds", str(tmp_path))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("done 0 mission-1\n", "")


def test_the_state_directory_is_made_and_is_nobody_else_s(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with open_task_store(tmp_path) as store:
            task = store.add_task(title="t")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / ".polpo").iterdir()}
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / ".polpo").stat().st_mode) == 0o700
    assert set(modes.values()) == {0o600}, modes
    with open_task_store(str(tmp_path / ".polpo")) as again:
        assert again.get_all_tasks() == [task]
    assert not (tmp_path / ".polpo" / ".polpo").exists()


def test_the_backend_is_the_one_of_polpo_json(tmp_path: Path) -> None:
    paths = StateDirectory(str(tmp_path))
    os.mkdir(paths.path)
    Path(paths.config).write_text('{"settings": {"storage": "memory"}}')
    with open_task_store(tmp_path) as store:
        store.add_task(title="gone with the process")
    assert not Path(paths.tasks_db).exists()
    Path(paths.config).write_text('{"settings": {"storage": "papyrus"}}')
    with pytest.raises(StartError, match=r"settings\.storage"):
        open_task_store(tmp_path)


def test_files_belong_to_one_program_at_a_time(tmp_path: Path) -> None:
    JsonConfigStore(tmp_path).save({"settings": {"storage": "file"}})
    with open_task_store(tmp_path) as store:
        task = store.add_task(title="t")
        with pytest.raises(Unavailable, match="another process has this store open"):
            open_task_store(tmp_path)
    with open_task_store(tmp_path) as store:
        assert store.get_all_tasks() == [task]


def test_half_a_copy_is_no_store(tmp_path: Path) -> None:
    """Of `polpoctl store copy` that was cut off; neither face opens it, and both give the directory back."""
    with open_stores(tmp_path) as stores:
        stores.tasks.store.write(lambda tx: tx[Settings].save(Setting(copy._MARK, "elsewhere")))
    for opened in (lambda: open_task_store(tmp_path), lambda: anyio.run(open_async_task_store, tmp_path)):
        with pytest.raises(StartError, match="not yet a whole copy of elsewhere"):
            opened()
    lock(StateDirectory(str(tmp_path))).close()


def test_a_closed_store_says_so_and_gives_the_directory_back(tmp_path: Path) -> None:
    stores = open_stores(tmp_path)
    stores.close()
    stores.close()
    for use in (stores.tasks.get_all_tasks, lambda: stores.runs.delete_run("x"), lambda: stores.memory.append("x")):
        with pytest.raises(StoreError, match="closed"):
            use()
    with Host() as host:
        with open_task_store(host.root):
            pass
        host.start()


def test_a_half_that_is_lost_is_not_made_anew(tmp_path: Path) -> None:
    """F53: what a daemon refuses to forget, a library does not make it forget."""
    with Host() as host:
        host.start()
        ran = host.call("task.submit", command=["true"], cwd="/")["id"]
        assert host.call("task.wait", ids=[ran], timeout=30)
        assert host.stop() == 0
        Path(host.paths.tasks_db).unlink()
        with pytest.raises(Damaged, match=r"state\.db is empty or not there"):
            open_task_store(host.root)
        assert not Path(host.paths.tasks_db).exists()
    state = tmp_path / ".polpo"
    (state / "incoming-20300101T000000Z").mkdir(parents=True)
    with pytest.raises(StartError, match="a restore was cut off"):
        open_task_store(tmp_path)


# A daemon, or libraries


@pytest.fixture(params=["sqlite", "file"])
def either(request: pytest.FixtureRequest) -> Iterator[Host]:
    with Host(storage=request.param) as host:
        yield host


def test_a_daemon_keeps_libraries_out(either: Host) -> None:
    """W40."""
    daemon = either.start()
    for opened in (lambda: open_task_store(either.root), lambda: anyio.run(open_async_task_store, either.root)):
        with pytest.raises(StartError, match=rf"polpod \(pid {daemon.pid}\).*socket") as refused:
            opened()
        assert refused.value.exit_code == 75
    until(lambda: either.call("daemon.health")["ok"], "it is well")
    assert either.stop() == 0
    with open_task_store(either.root) as store:
        assert store.get_all_tasks() == []


def test_libraries_keep_a_daemon_out(either: Host) -> None:
    with open_task_store(either.root):
        status, output = polpod("--root", str(either.root))
    assert (status, "as a library has this state directory" in output) == (75, True), output
    either.start()


def test_several_programs_use_a_store_at_once(tmp_path: Path) -> None:
    """Every id is given once, every name taken once, every change is there."""
    code = (
        "for n in range(10):\n"
        "    task = store.add_task(title=sys.argv[2])\n"
        "    store.transition(task.id, 'assigned')\n"
        "    store.save_mission(data='{}')\n"
    )
    programs = [library(code, tmp_path, str(n)) for n in range(3)]
    with open_task_store(tmp_path) as store:
        mine = [store.add_task(title="mine").id for _ in range(10)]
        assert [program.wait(60) for program in programs] == [0, 0, 0]
        tasks, missions = store.get_all_tasks(), store.get_all_missions()
    for program in programs:
        program.communicate()
    assert len({task.id for task in tasks}) == len(tasks) == 40
    assert [task.id for task in tasks if task.title == "mine"] == mine
    assert sum(task.status is TaskStatus.ASSIGNED for task in tasks) == 30
    assert [mission.name for mission in missions] == [f"mission-{n}" for n in range(30, 0, -1)]


def test_many_threads_use_a_store_at_once(tmp_path: Path) -> None:
    with open_stores(tmp_path) as stores:
        session_id = stores.sessions.create()

        def work() -> None:
            for n in range(20):
                stores.tasks.add_task(title=str(n))
                stores.sessions.add_message(session_id, "user", str(n))
                stores.logs.append(event="e")

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        session = stores.sessions.get_session(session_id)
        assert session is not None
        assert (session.message_count, len(stores.sessions.get_messages(session_id))) == (160, 160)
        assert sorted(int(task.id) for task in stores.tasks.get_all_tasks()) == list(range(1, 161))
        assert [log.entries for log in stores.logs.list_sessions()] == [160]


def test_what_was_acknowledged_outlives_sigkill(tmp_path: Path) -> None:
    """Invariant 1, for a library's user."""
    code = "while True:\n    print(store.add_task(title='t').id, store.save_mission(data='{}').id, flush=True)\n"
    program = library(code, tmp_path)
    assert program.stdout is not None
    said = [program.stdout.readline().split() for _ in range(30)]
    program.send_signal(signal.SIGKILL)
    rest, _ = program.communicate()
    said += [line.split() for line in rest.splitlines() if len(line.split()) == 2]
    with open_task_store(tmp_path) as store:
        tasks, missions = store.get_all_tasks(), store.get_all_missions()
    assert {task_id for task_id, _ in said} <= {task.id for task in tasks}
    assert {mission_id for _, mission_id in said} <= {mission.id for mission in missions}
    with closing(sqlite3.connect(tmp_path / ".polpo" / "state.db")) as db:
        ((kinds,),) = db.execute("SELECT count(*) FROM events WHERE kind = 'task:created'")
    assert kinds == len(tasks)


def test_one_bad_row_costs_nobody_an_answer(tmp_path: Path) -> None:
    """F10, as behind the daemon: it is set aside, and said so in the journal."""
    with open_task_store(tmp_path) as store:
        good, bad = store.add_task(title="good"), store.add_task(title="bad")
        mission = store.save_mission(data="{}")
    with closing(sqlite3.connect(tmp_path / ".polpo" / "state.db")) as db, db:
        db.execute("UPDATE tasks SET doc = '{' WHERE id = ?", (bad.id,))
        db.execute("UPDATE missions SET doc = '[]' WHERE id = ?", (mission.id,))
    with open_task_store(tmp_path) as store:
        assert store.get_all_tasks() == [good]
        assert store.get_all_missions() == []
        assert store.add_task(title="next").id not in (good.id, bad.id)
    with closing(sqlite3.connect(tmp_path / ".polpo" / "state.db")) as db:
        aside = db.execute("SELECT subject FROM events WHERE kind LIKE '%:quarantined' ORDER BY seq").fetchall()
    assert aside == [(f"task/{bad.id}",), (f"mission/{mission.id}",)]


# What a daemon makes of a library's tasks


def test_nothing_is_executed_for_a_task_that_says_nothing_to_execute(host: Host) -> None:
    with open_task_store(host.root) as store:
        bare = store.add_task(title="bare")
        agent = store.add_task(title="agent's", assign_to="fixer", depends_on=[bare.id])
    host.start()
    after = host.call("task.submit", command=["true"], cwd="/")["id"]
    assert host.call("task.wait", ids=[after], timeout=30)
    for task, why in ((bare, "says nothing to execute: it waits for somebody"), (agent, f"waits for task {bare.id}")):
        assert host.call("task.get", id=task.id)["task"]["status"] == "pending"
        assert why in host.call("task.why", id=task.id)["sentences"][0]
    assert host.stop() == 0
    with open_task_store(host.root) as store:
        assert [(t.id, t.status, t.run_id) for t in store.get_all_tasks()][:2] == [
            (bare.id, "pending", None),
            (agent.id, "pending", None),
        ]
        assert store.transition(bare.id, "assigned").status is TaskStatus.ASSIGNED


def test_what_a_library_left_on_its_way_takes_no_slot_for_ever(host: Host) -> None:
    """Also a task that had a run of polpod's own before, whose outcome was applied long ago."""
    host.start()
    ran = host.call("task.submit", command=["false"], cwd="/")["id"]
    assert host.call("task.wait", ids=[ran], timeout=30)
    assert host.stop() == 0
    with open_task_store(host.root) as store:
        ids = [store.add_task(title=str(n)).id for n in range(2)]
        for task_id in (ran, *ids):
            if task_id == ran:
                store.transition(ran, "pending")
            store.transition(task_id, "assigned")
        for task_id in (ran, ids[0]):
            store.transition(task_id, "in_progress")
    host.start()
    again = host.call("task.wait", ids=[ran], timeout=30)
    assert again
    for task_id in ids:
        task = host.call("task.get", id=task_id)["task"]
        assert (task["status"], task["retries"], task["recoveries"], task["run_id"]) == ("pending", 0, 1, None)
    task = host.call("task.get", id=ran)["task"]
    assert (task["retries"], task["recoveries"], task["attempts"]) == (1, 0, 2)  # in this boot it cannot have started
    assert host.stop() == 0
    checked = host.maintain("--json", "check")
    assert json.loads(checked.stdout)["ok"], checked.stdout


# To be awaited

PAIRS = [(name, f"Async{name}") for name in taskstore.__all__ if f"Async{name}" in taskstore.__all__]


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS)
def test_both_faces_have_the_same_methods(blocking: str, awaited: str) -> None:
    def methods(name: str) -> dict[str, inspect.Signature]:
        found = inspect.getmembers(getattr(taskstore, name), inspect.isfunction)
        return {n: inspect.signature(f).replace(parameters=list(inspect.signature(f).parameters.values())[1:])
                for n, f in found if not n.startswith("_")}  # fmt: skip

    assert methods(blocking) == methods(awaited)
    assert all(inspect.getdoc(getattr(getattr(taskstore, blocking), name)) for name in methods(blocking))


def test_each_store_has_both_faces() -> None:
    assert len(PAIRS) == 10


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_it_is_awaited_on_either_loop(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with await open_async_stores(tmp_path) as stores:
            async with anyio.create_task_group() as group:
                for n in range(20):
                    group.start_soon(add, stores, n)
            tasks = await stores.tasks.get_all_tasks()
            assert sorted(task.title for task in tasks) == sorted(map(str, range(20)))
            with pytest.raises(InvalidTransition):
                await stores.tasks.transition(tasks[0].id, "done")
            assert await stores.tasks.remove_tasks(lambda task: int(task.title) >= 5) == 15
            assert (await stores.logs.list_sessions())[0].entries == 20
            assert (await stores.logs.list_sessions())[0].session_id == await stores.logs.get_session_id()
            assert await stores.memory.update("line 3\n", "line three\n") is True
        with pytest.raises(StoreError):
            await stores.tasks.get_all_tasks()

    async def add(stores: AsyncStores, n: int) -> None:
        await stores.tasks.add_task(title=str(n))
        await stores.logs.append(event="added", data=n)
        await stores.memory.append(f"line {n}")

    anyio.run(main, backend=loop)
    with open_stores(tmp_path) as stores:
        check(stores)


def check(stores: Stores) -> None:
    assert len(stores.tasks.get_all_tasks()) == 5
    (session,) = stores.logs.list_sessions()
    assert {entry.data for entry in stores.logs.get_session_entries(session.session_id)} == set(range(20))
    assert stores.memory.get().count("\n") == 20
