"""The store as files under kills and power cuts, at every system call: each transaction is whole or absent, and what was
acknowledged is there (files/redo.py, files/replay.py)."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.power import Power
from kit.samples import NOW, a_task
from kit.waiting import BOUND

from polpod.errors import Unavailable
from polpod.model.events import Event
from polpod.model.tasks import Dependency
from polpod.store.databases import TASKS
from polpod.store.files import opening
from polpod.store.group import GroupCommit, open_store
from polpod.store.location import Files, Memory
from polpod.store.records import Tx
from polpod.store.tables import TABLES, Dependencies, Events, Quarantine, Setting, Settings, Tasks

Store = GroupCommit[Tx]
State = dict[str, list[bytes]]


def say(tx: Tx, number: int) -> None:
    for _ in range(number):
        tx.append(Events, Event(at=NOW, kind="x", subject="y"))


def first(tx: Tx) -> None:
    for n in (1, 2, 3):
        tx[Tasks].add(a_task(id=str(n), seq=n))
    tx[Dependencies].add(Dependency(task_id="2", on_id="1"))
    tx[Settings].save(Setting("done", "1"))
    say(tx, 3)


def second(tx: Tx) -> None:
    tx[Tasks].save(a_task(id="1", seq=1, title="changed"))
    tx[Tasks].add(a_task(id="4", seq=4))
    tx[Settings].save(Setting("done", "2"))
    say(tx, 1)


def third(tx: Tx) -> None:
    tx[Tasks].delete("2")
    tx[Events].delete_where(Events.seq.le(2))
    tx[Settings].save(Setting("done", "3"))


def fourth(tx: Tx) -> None:
    tx[Tasks].add(a_task(id="2", seq=5))
    tx[Tasks].delete("4")
    tx[Settings].save(Setting("done", "4"))
    say(tx, 2)


BODIES = (first, second, third, fourth)


def work(store: Store, done: Callable[[int], None]) -> None:
    """All of BODIES; the files are brought to disk in between, at a moment when some are, and in the end."""
    for number, body in enumerate(BODIES, start=1):
        store.write(body)
        done(number)
        if number == 2:
            store.truncate()
    store.close()


def state_of(store: Store) -> State:
    return {
        table.name: [row.doc for row in store.write(lambda tx: tx[table].stored())]
        for table in TABLES
        if table is not Quarantine
    }


def states() -> list[State]:
    """After none of BODIES, after the first, and so on."""
    store = open_store(Memory(), TASKS)
    found = [state_of(store)]
    for body in BODIES:
        store.write(body)
        found.append(state_of(store))
    return found


def found_in(directory: Path) -> State:
    store = open_store(Files(str(directory)), TASKS)
    state = state_of(store)
    store.close()
    again = open_store(Files(str(directory)), TASKS)
    assert state_of(again) == state, "the next one finds the same"
    again.close()
    assert not (directory / "damaged").exists(), "nothing is damaged"
    return state


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[1:3]
import test_files_kill
from kit.power import CALLS
from polpod.store.databases import TASKS
from polpod.store.group import open_store
from polpod.store.location import Files

top, how = sys.argv[3:5]
write = os.write

def dying(name, real):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            if name == "write" and how == "within":
                real(args[0], args[1][: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call

def acknowledge(number):
    write(said, b"%d\\n" % number)

for number in range(1, 1000):
    if (child := os.fork()) == 0:
        said = os.open(f"{top}/{number}.said", os.O_WRONLY | os.O_CREAT)
        path = f"{top}/{number}"
        if not os.path.isdir(path):
            os.mkdir(path)
        left = number
        for name in CALLS:
            setattr(os, name, dying(name, getattr(os, name)))
        test_files_kill.work(open_store(Files(path), TASKS), acknowledge)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
print(number)
"""
"""Does the work again and again, and dies before, or within, its first system call, its second, and so on to its last."""


def killed(top: Path, how: str) -> int:
    here = Path(__file__).parent
    command = [sys.executable, "-c", KILLED, str(here), str(here.parent), str(top), how]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=4 * BOUND, check=True)
    return int(done.stdout)


@pytest.mark.parametrize("how", ["before", "within"])
def test_killed_at_any_system_call(tmp_path: Path, how: str) -> None:
    wanted = states()
    steps = killed(tmp_path, how)
    reached = set()
    for step in range(1, steps + 1):
        acknowledged = len((tmp_path / f"{step}.said").read_text().split())
        state = found_in(tmp_path / str(step))
        assert state in wanted[acknowledged : acknowledged + 2], (step, acknowledged)
        reached.add((acknowledged, wanted.index(state)))
    assert steps > 100
    assert reached >= {(n, n) for n in range(5)} | {(n, n + 1) for n in range(4)}, "on both sides of each commit"


VIEWS = (Power.lost, Power.emptied, Power.zeroed, Power.kept)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_power_lost_at_any_system_call(
    tmp_path: Path, view: Callable[[Power, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = states()
    root = tmp_path / "state"
    root.mkdir()
    acknowledged = 0
    left: list[tuple[int, Path]] = []

    def cut() -> None:
        to = tmp_path / str(len(left))
        view(power, to)
        left.append((acknowledged, to))

    def acknowledge(number: int) -> None:
        nonlocal acknowledged
        acknowledged = number

    with monkeypatch.context() as patch:
        power = Power(root, patch, cut)
        patch.setattr("polpod.store.files.tree._AT_ONCE", 1)
        work(open_store(Files(str(root)), TASKS), acknowledge)
    power.close()
    assert len(left) > 100
    reached = set()
    for had, directory in left:
        state = found_in(directory)
        assert state in wanted[had : had + 2], (directory, had)
        reached.add((had, wanted.index(state)))
    assert reached >= {(n, n) for n in range(5)} | {(n, n + 1) for n in range(4)}, "on both sides of each commit"


HOLD = """
import sys
from polpod.store.files.opening import open_sessions
from polpod.store.databases import TASKS
open_sessions(sys.argv[1], TASKS.schema)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_process_that_is_killed_holds_nobody_up(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(Unavailable, match=r"store\.lock"):
            opening.open_sessions(str(tmp_path), TASKS.schema, timeout=0.05)
        timer = threading.Timer(0.1, child.kill)
        timer.start()
        opening.open_sessions(str(tmp_path), TASKS.schema, timeout=BOUND).writer.close()
        timer.join()
    finally:
        child.kill()
        child.communicate(timeout=BOUND)
