"""The store as files under kills and power cuts, at every system call: each transaction is whole or absent, and what was
acknowledged is there (files/redo.py, files/replay.py)."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from kit.power import Power
from kit.samples import NOW, a_task
from kit.waiting import BOUND

from polpod.errors import Unavailable
from polpod.model.events import Event
from polpod.model.tasks import Dependency
from polpod.store.databases import TASKS
from polpod.store.files import opening, tree
from polpod.store.group import GroupCommit, open_store
from polpod.store.location import Files, Memory
from polpod.store.records import Tx
from polpod.store.tables import TABLES, Dependencies, Events, Quarantine, Setting, Settings, Tasks

Store = GroupCommit[Tx]
Work = Callable[[Path, Callable[[int], None]], None]
State = dict[str, list[bytes]]
Content = tuple[tuple[str, int, bytes], ...]
Found = TypeVar("Found")


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


def write(path: Path, done: Callable[[int], None]) -> None:
    """All of BODIES; the files are brought to disk after half of them, and in the end."""
    store = open_store(Files(str(path)), TASKS)
    for number, body in enumerate(BODIES, start=1):
        store.write(body)
        done(number)
        if number == 2:
            store.truncate()
    store.close()


def recover(path: Path, done: Callable[[int], None]) -> None:
    open_store(Files(str(path)), TASKS).close()


WORKS = {work.__name__: work for work in (write, recover)}


def interrupted(path: Path) -> Path:
    """What the work has left that was killed within its last commit, with a file that a person has damaged since."""
    store = open_store(Files(str(path)), TASKS)
    for number, body in enumerate(BODIES):
        store.write(body)
        if number == 1:
            store.truncate()
    store.session.close()
    journal = path / "events/000000.jsonl"
    journal.write_bytes(journal.read_bytes()[:-25])
    (path / "settings/done.json").write_bytes(b"")
    (path / "tasks/2.json").unlink()
    (path / "tasks/3.json").write_bytes(DAMAGE)
    return path


DAMAGE = b"{"


def recovered(path: Path) -> None:
    """What is to be found there, however often it was interrupted."""
    store = open_store(Files(str(path)), TASKS)
    tasks = store.write(lambda tx: tx[Tasks].find())
    assert [(task.id, task.seq) for task in tasks] == [("1", 1), ("2", 5)]
    assert store.write(lambda tx: tx[Settings].find()) == [Setting("done", "4")]
    events = store.write(lambda tx: tx[Events].find())
    assert [(event.seq, event.kind) for event in events[:4]] == [(n, "x") for n in (3, 4, 5, 6)]
    assert {(event.kind, event.subject) for event in events[4:]} == {("task:quarantined", "task/3")}
    kept = store.write(lambda tx: tx[Quarantine].find())
    assert {one.doc for one in kept} == {DAMAGE.decode()}
    assert len(kept) == len(events) - 4, "each is told"
    assert {file.read_bytes() for file in path.glob("damaged/*/tasks/3.json")} == {DAMAGE}
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


def content_of(directory: Path) -> Content:
    """All that an opening can see there."""
    found = sorted(directory.rglob("*"))
    return tuple(
        (str(path.relative_to(directory)), path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in found
    )


def once(look: Callable[[Path], Found]) -> Callable[[Path], Found]:
    """The same, which looks once at what is the same to the byte: not every system call changes what is left."""
    known: dict[Content, Found] = {}

    def looked(directory: Path) -> Found:
        content = content_of(directory)
        if content not in known:
            known[content] = look(directory)
        return known[content]

    return looked


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
import os, pathlib, shutil, signal, sys
sys.path[:0] = sys.argv[1:3]
import test_files_kill
from kit.power import CALLS

top, how, template, work = sys.argv[3:7]
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
        path = pathlib.Path(top, str(number))
        shutil.copytree(template, path)
        left = number
        for name in CALLS:
            setattr(os, name, dying(name, getattr(os, name)))
        test_files_kill.WORKS[work](path, acknowledge)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
print(number)
"""
"""Does the work again and again, and dies before, or within, its first system call, its second, and so on to its last."""


def killed(top: Path, how: str, template: Path, work: Work) -> int:
    """The number of its system calls.  `template`: what its directory holds when it begins."""
    here = Path(__file__).parent
    command = [sys.executable, "-c", KILLED, str(here), str(here.parent), str(top), how, str(template), work.__name__]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=4 * BOUND, check=True)
    return int(done.stdout)


@pytest.mark.parametrize("how", ["before", "within"])
def test_killed_at_any_system_call(tmp_path: Path, how: str) -> None:
    wanted = states()
    (tmp_path / "empty").mkdir()
    steps = killed(tmp_path, how, tmp_path / "empty", write)
    reached, find = set(), once(found_in)
    for step in range(1, steps + 1):
        acknowledged = len((tmp_path / f"{step}.said").read_text().split())
        state = find(tmp_path / str(step))
        assert state in wanted[acknowledged : acknowledged + 2], (step, acknowledged)
        reached.add((acknowledged, wanted.index(state)))
    assert steps > 100
    assert reached >= {(n, n) for n in range(5)} | {(n, n + 1) for n in range(4)}, "on both sides of each commit"


@pytest.mark.parametrize("how", ["before", "within"])
def test_killed_while_it_is_opened(tmp_path: Path, how: str) -> None:
    steps = killed(tmp_path, how, interrupted(tmp_path / "left"), recover)
    assert steps > 50
    look = once(recovered)
    for step in range(1, steps + 1):
        look(tmp_path / str(step))


Cuts = Callable[[Work], Iterator[tuple[int, Path]]]

VIEWS = (Power.lost, Power.emptied, Power.zeroed, Power.kept)


@pytest.fixture(params=VIEWS, ids=lambda view: view.__name__)
def cuts(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cuts:
    """What a power cut leaves at each system call of this work in the directory `state`, and what was acknowledged then."""

    def run(work: Work) -> Iterator[tuple[int, Path]]:
        left: list[tuple[int, Path]] = []
        acknowledged = 0

        def cut() -> None:
            to = tmp_path / str(len(left))
            request.param(power, to)
            left.append((acknowledged, to))

        def acknowledge(number: int) -> None:
            nonlocal acknowledged
            acknowledged = number

        with monkeypatch.context() as patch:
            patch.setattr(tree, "_AT_ONCE", 1)
            power = Power(tmp_path / "state", patch, cut)
            work(tmp_path / "state", acknowledge)
        power.close()
        yield from left

    return run


def test_power_lost_at_any_system_call(tmp_path: Path, cuts: Cuts) -> None:
    wanted = states()
    (tmp_path / "state").mkdir()
    reached, find = set(), once(found_in)
    for had, directory in cuts(write):
        state = find(directory)
        assert state in wanted[had : had + 2], (directory, had)
        reached.add((had, wanted.index(state)))
    assert reached >= {(n, n) for n in range(5)} | {(n, n + 1) for n in range(4)}, "on both sides of each commit"


def test_power_lost_while_it_is_opened(tmp_path: Path, cuts: Cuts) -> None:
    interrupted(tmp_path / "state")
    directories = [directory for _, directory in cuts(recover)]
    assert len(directories) > 50
    look = once(recovered)
    for directory in directories:
        look(directory)


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
