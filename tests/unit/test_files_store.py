"""The store as files: what lies where, what a person may do to it, and what is set aside (files/layout.py, files/load.py)."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kit.samples import NOW, a_task

from polpod.errors import Damaged, SchemaTooNew, StoreError, Unavailable
from polpod.model.agents import Queue
from polpod.model.events import Event
from polpod.model.organisation.money import CostRecord
from polpod.model.tasks import Dependency, Task, TaskStatus
from polpod.store import quarantine, queries
from polpod.store.databases import TASKS
from polpod.store.files import opening, session
from polpod.store.files.load import LARGEST
from polpod.store.group import GROUP_MAX, GroupCommit, Ticket, open_store
from polpod.store.location import Files
from polpod.store.organisation import CostRecords, StoredCost
from polpod.store.records import Tx
from polpod.store.tables import Dependencies, Events, Quarantine, Queues, Setting, Settings, Tasks

Store = GroupCommit[Tx]


@contextmanager
def opened(path: Path) -> Iterator[Store]:
    store = open_store(Files(str(path)), TASKS)
    try:
        yield store
    finally:
        store.close()


def filled(path: Path) -> None:
    """Tasks 7, 8 and 9, of which 8 waits for 7 and 9 for 8, a queue and three events."""

    def body(tx: Tx) -> None:
        tx[Queues].add(Queue(name="q", slots=1))
        for n in (7, 8, 9):
            tx[Tasks].add(a_task(id=str(n), seq=n, unmet=int(n > 7)))
            tx.append(Events, Event(at=NOW, kind="task:created", subject=f"task/{n}"))
        for n in (8, 9):
            tx[Dependencies].add(Dependency(task_id=str(n), on_id=str(n - 1)))

    with opened(path) as store:
        store.write(body)


def say(tx: Tx) -> int:
    return tx.append(Events, Event(at=NOW, kind="x", subject="y")).seq


def files(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values, indent=4))


def kept(path: Path) -> dict[str, bytes]:
    """What lies in damaged/, by the names that it had."""
    return {name.split("/", 1)[1]: data for name, data in files(path / "damaged").items()}


def subjects(store: Store, kind: str = "*:quarantined") -> list[str]:
    return [event.subject for event in store.write(lambda tx: tx[Events].find(Events.kind.glob(kind)))]


# What lies where.


def test_every_record_is_a_file_that_people_can_read(tmp_path: Path) -> None:
    filled(tmp_path)
    assert sorted(files(tmp_path)) == [
        *("dependencies/8,7.json", "dependencies/9,8.json", "events/000000.jsonl", "queues/q.json", "redo.log"),
        *("store.json", "store.lock", "tasks/7.json", "tasks/8.json", "tasks/9.json"),
    ]
    text = (tmp_path / "tasks/7.json").read_text()
    assert text.startswith('{\n  "id": "7",\n  "seq": 7,\n')
    assert msgspec.json.decode(text, type=Task) == a_task()
    journal = (tmp_path / "events/000000.jsonl").read_text().splitlines()
    assert [json.loads(line)["subject"] for line in journal] == ["task/7", "task/8", "task/9"]
    assert json.loads((tmp_path / "store.json").read_text()) == {"format": 1, "schema": len(TASKS.schema.scripts)}
    assert (tmp_path / "redo.log").read_bytes() == b""


def test_they_are_their_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state"
    filled(path)
    for found in (path, *path.rglob("*")):
        assert found.stat().st_mode & 0o777 == (0o700 if found.is_dir() else 0o600), found


def test_what_is_acknowledged_is_in_the_files(tmp_path: Path) -> None:
    filled(tmp_path)
    with opened(tmp_path) as store:
        store.write(lambda tx: tx[Tasks].save(a_task(title="new")))
        assert json.loads((tmp_path / "tasks/7.json").read_text())["title"] == "new"
        store.write(lambda tx: tx[Tasks].delete("8"))
        assert not (tmp_path / "tasks/8.json").exists()
        assert not (tmp_path / "dependencies/8,7.json").exists(), "it goes with the task that waits"
        store.write(lambda tx: [say(tx) for _ in range(2)])
        assert len((tmp_path / "events/000000.jsonl").read_text().splitlines()) == 5
        assert not list(tmp_path.rglob(".*"))


def test_after_a_commit_others_can_read_it(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def look() -> None:
        title = json.loads((tmp_path / "tasks/7.json").read_text())["title"]
        seen.append((title, (tmp_path / "redo.log").read_bytes().count(b"\n")))

    filled(tmp_path)
    with opened(tmp_path) as store:
        store.after_commit = look
        for title in "ab":
            store.write(lambda tx: tx[Tasks].save(a_task(title=title)))
        store.write(lambda tx: tx[Tasks].count())
        store.write(lambda tx: tx[Tasks].delete("none"))
    assert seen == [("a", 1), ("b", 2), ("b", 2), ("b", 2)], "what changes nothing is not in the log"


def test_what_is_undone_leaves_no_trace(tmp_path: Path) -> None:
    def body(tx: Tx) -> None:
        tx[Tasks].add(a_task(id="10", seq=10))
        tx[Tasks].delete("7")
        raise ZeroDivisionError

    filled(tmp_path)
    before = files(tmp_path)
    with opened(tmp_path) as store, pytest.raises(ZeroDivisionError):
        store.write(body)
    assert files(tmp_path) == before


def test_a_journal_goes_on_in_the_next_file_and_loses_its_oldest(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for _ in range(5):
            store.write(lambda tx: [say(tx) for _ in range(500)])
        lengths = {name: data.count(b"\n") for name, data in files(tmp_path / "events").items()}
        assert lengths == {"000000.jsonl": 999, "000001.jsonl": 1000, "000002.jsonl": 501}
        store.write(lambda tx: tx[Events].delete_where(Events.seq.le(1500)))
        lengths = {name: data.count(b"\n") for name, data in files(tmp_path / "events").items()}
        assert lengths == {"000001.jsonl": 499, "000002.jsonl": 501}
    with opened(tmp_path) as store:
        assert store.write(say) == 2501
        assert [e.seq for e in store.write(lambda tx: tx[Events].find())] == list(range(1501, 2502))


def test_a_journals_file_that_somebody_took_away_is_written_again(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.write(say)
        (tmp_path / "events/000000.jsonl").unlink()
        store.write(say)
        assert (tmp_path / "events/000000.jsonl").read_bytes().count(b"\n") == 2


def test_a_group_waits_for_the_disk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = os.fdatasync
    with opened(tmp_path) as store:
        monkeypatch.setattr(os, "fdatasync", lambda fd: (calls.append(fd), real(fd)))
        for n in range(GROUP_MAX):
            store.submit(Ticket(lambda tx, n=n: tx[Settings].add(Setting(str(n), "v")), durable=n == 0))
        store.drain()
        assert len(calls) == 1
        assert len(list((tmp_path / "settings").iterdir())) == GROUP_MAX


def test_the_redo_log_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LOG_MAX", 10_000)
    sizes = []
    with opened(tmp_path) as store:
        for n in range(100):
            store.write(lambda tx: tx[Settings].save(Setting("a", str(n) * 500)))
            sizes.append((tmp_path / "redo.log").stat().st_size)
    assert 10_000 < max(sizes) < 20_000


def test_so_many_files_wait_for_the_disk_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FILES_MAX", 10)
    with opened(tmp_path) as store:
        for n in range(12):
            store.write(lambda tx: tx[Settings].save(Setting(str(n), "v")))
        assert (tmp_path / "redo.log").read_bytes().count(b"\n") == 1


# What a person does while no process has it open.


def test_an_edit_is_taken_as_it_is(tmp_path: Path) -> None:
    filled(tmp_path)
    edit(tmp_path / "tasks/7.json", status="done", title="mine", finished_at="2026-01-01T00:00:00+02:00")
    edit(tmp_path / "tasks/9.json", id="10", seq=10)
    (tmp_path / "tasks/9.json").rename(tmp_path / "tasks/10.json")
    (tmp_path / "dependencies/9,8.json").unlink()
    with opened(tmp_path) as store:
        assert store.write(queries.count_by_status) == {TaskStatus.DONE: 1, TaskStatus.PENDING: 2}
        seven, _, ten = store.write(lambda tx: tx[Tasks].find())
        assert (seven.title, ten.id) == ("mine", "10")
        assert subjects(store) == []


def test_notes_and_what_editors_leave_are_left_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    for name in ("README", ".7.json.swp", "7.json~", ".new"):
        (tmp_path / "tasks" / name).write_text("mine")
    before = files(tmp_path)
    with opened(tmp_path) as store:
        assert store.write(lambda tx: tx[Tasks].count()) == 3
    assert files(tmp_path) == before


def garbage(path: Path) -> None:
    path.write_bytes(b'{"id": "8", \xff\xfe')


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def wrong(path: Path) -> None:
    edit(path, status="sleeping", idempotency_key="k", created_by=5)


def anothers(path: Path) -> None:
    shutil.copy(path.parent / "7.json", path)


def twin(path: Path) -> None:
    """With the number of another."""
    edit(path, seq=7)


def boundless(path: Path) -> None:
    edit(path, seq=2**63)


def unnameable(path: Path) -> None:
    task = json.loads(path.read_bytes())
    path.write_text(json.dumps(task | {"title": 5, "idempotency_key": "a\0b", "priority": 2**70}))


def huge(path: Path) -> None:
    os.truncate(path, LARGEST + 1)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


DAMAGES = {
    garbage: "malformed",
    empty: "truncated",
    cut: "truncated",
    wrong: "Invalid enum value 'sleeping'",
    anothers: "it holds the record of 7.json",
    twin: "UNIQUE constraint failed: tasks.seq",
    boundless: "beyond 64 bits",
    unnameable: "Expected `str`, got `int`",
    huge: "it is larger than 32 MiB",
    directory: "it is no file",
    pipe: "it is no file",
    loop: "it cannot be read",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_task_is_set_aside_and_holds_up_what_waits_for_it(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """W18."""
    filled(tmp_path)
    damage(tmp_path / "tasks/8.json")
    was = (tmp_path / "tasks/8.json").read_bytes() if (tmp_path / "tasks/8.json").is_file() else None
    with opened(tmp_path) as store:
        assert [task.id for task in store.write(lambda tx: tx[Tasks].find())] == ["7", "9"]
        assert store.write(lambda tx: tx[Dependencies].find()) == [Dependency(task_id="9", on_id="8")]
        row = store.write(lambda tx: quarantine.of_task(tx, "8"))
        assert row is not None
        assert DAMAGES[damage] in row.problem
        assert subjects(store) == ["task/8"]
        gone = store.write(lambda tx: tx[Quarantine].find(Quarantine.subject.eq("dependency/8/7")))
        assert [one.problem for one in gone] == ["it went with task/8"]
        assert [task.id for task in store.write(lambda tx: queries.ready(tx, "default", 9))] == ["7"]
    assert not (tmp_path / "tasks/8.json").exists()
    assert not (tmp_path / "dependencies/8,7.json").exists()
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    assert "tasks/8.json" in caplog.text
    if was is not None:
        assert kept(tmp_path) == {"tasks/8.json": was}
    assert (len(list((tmp_path / "damaged").glob("*/tasks/8.json"))) == 1) or damage is loop
    with opened(tmp_path) as store:
        assert subjects(store) == ["task/8"], "once"
        assert store.write(lambda tx: quarantine.by_idempotency_key(tx, 5, "k") is None) is (damage is not wrong)
    assert len(list((tmp_path / "damaged").iterdir())) == 1


def test_a_name_that_no_record_has_is_set_aside(tmp_path: Path) -> None:
    filled(tmp_path)
    shutil.copy(tmp_path / "queues/q.json", tmp_path / "queues/q copy.json")
    shutil.copy(tmp_path / "dependencies/8,7.json", tmp_path / "dependencies/8.json")
    with opened(tmp_path) as store:
        assert [queue.name for queue in store.write(lambda tx: tx[Queues].find())] == ["q"]
        assert sorted(subjects(store)) == ["dependency/8/", "queue/q copy"]
    assert sorted(kept(tmp_path)) == ["dependencies/8.json", "queues/q copy.json"]
    assert not (tmp_path / "queues/q copy.json").exists()


def test_a_name_that_is_no_text_is_set_aside(tmp_path: Path) -> None:
    filled(tmp_path)
    for name in (b"tasks/\xff.json", b"tasks/%00.json", b"events/\xff.jsonl"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"x")
    with opened(tmp_path) as store:
        assert sorted(subjects(store)) == ["event/\\xff", "task/%00", "task/\\xff"]
        assert [task.id for task in store.write(lambda tx: tx[Tasks].find())] == ["7", "8", "9"]
    assert len(kept(tmp_path)) == 3


def test_a_queue_that_means_nothing_is_there_paused(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "queues/q.json").write_text("{")
    with opened(tmp_path) as store:
        assert store.write(lambda tx: tx[Queues].find()) == [Queue(name="q", paused=True)]
    assert kept(tmp_path) == {"queues/q.json": b"{"}
    assert json.loads((tmp_path / "queues/q.json").read_text())["paused"] is True


def test_a_dependency_that_means_nothing_is_made_anew(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "dependencies/8,7.json").write_text("{")
    with opened(tmp_path) as store:
        assert store.write(lambda tx: tx[Dependencies].count()) == 2
        assert subjects(store) == ["dependency/8/7"]


def test_a_record_that_refers_to_one_that_was_taken_away_is_set_aside(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "tasks/8.json").unlink()
    with opened(tmp_path) as store:
        assert subjects(store) == ["dependency/8/7"]
        assert store.write(lambda tx: tx[Dependencies].find()) == [Dependency(task_id="9", on_id="8")]
    assert sorted(kept(tmp_path)) == ["dependencies/8,7.json"]


def test_a_line_that_refers_to_a_record_that_was_taken_away_is_set_aside(tmp_path: Path) -> None:
    filled(tmp_path)
    cost = CostRecord(
        agent_id="a", task_id="9", provider="p", model="m", input_tokens=1, output_tokens=1, cost_usd=0.5, timestamp=NOW
    )
    with opened(tmp_path) as store:
        for task_id in ("9", "8", "9"):
            record = msgspec.structs.replace(cost, task_id=task_id)
            store.write(lambda tx: tx.append(CostRecords, StoredCost(0, record)))
    (tmp_path / "tasks/9.json").unlink()
    with opened(tmp_path) as store:
        assert sorted(subjects(store)) == ["cost_record/1", "cost_record/3", "dependency/9/8"]
        assert [one.seq for one in store.write(lambda tx: tx[CostRecords].find())] == [2]
    assert (tmp_path / "cost_records/000000.jsonl").read_bytes().count(b"\n") == 1
    assert kept(tmp_path)["cost_records/000000.jsonl"].count(b"\n") == 3


def test_an_event_that_means_nothing_keeps_its_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It alone is set aside: the others stay, and a person is told which lines it were."""
    filled(tmp_path)
    journal = tmp_path / "events/000000.jsonl"
    one, two, three = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"{\n" + two + b"[]\n")
    with opened(tmp_path) as store:
        found = store.write(lambda tx: tx[Events].find())
        assert [(e.seq, e.kind) for e in found] == [
            (1, "event:quarantined"),
            (2, "task:created"),
            (3, "event:quarantined"),
        ]
        assert store.write(say) == 4
        kept_rows = store.write(lambda tx: tx[Quarantine].find())
        assert [(row.subject, row.doc, row.problem[:8]) for row in kept_rows] == [
            ("event/1", "{", "line 1: "),
            ("event/3", "[]", "line 3: "),
        ]
    assert "events/000000.jsonl: line 1: " in caplog.text
    assert "events/000000.jsonl: line 3: " in caplog.text
    assert kept(tmp_path) == {"events/000000.jsonl": b"{\n" + two + b"[]\n"}
    assert journal.read_bytes().count(b"\n") == 4
    assert one != three


def test_a_line_that_has_no_place_in_the_journal_is_kept_elsewhere(tmp_path: Path) -> None:
    filled(tmp_path)
    journal = tmp_path / "events/000000.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    strange = lines[0].replace(b'"seq":1,', b'"seq":5000,')
    journal.write_bytes(b"mine\n" + lines[0] + b"yours\n" + lines[1] + lines[1] + strange + lines[2])
    shutil.copy(journal, tmp_path / "events/1.jsonl")
    with opened(tmp_path) as store:
        found = store.write(lambda tx: tx[Events].find())
        assert [(e.seq, e.kind) for e in found] == [
            *((n, "task:created") for n in (1, 2, 3)),
            *((n, "event:quarantined") for n in (4, 5, 6, 7, 8)),
        ]
        docs = [one.doc for one in store.write(lambda tx: tx[Quarantine].find())]
        assert docs[:3] == ["mine", "yours", lines[1].decode().rstrip()]
    assert sorted(kept(tmp_path)) == ["events/000000.jsonl", "events/1.jsonl"]
    with opened(tmp_path) as store:
        assert len(subjects(store)) == 5, "once"


def test_a_journals_file_that_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "events/000000.jsonl").unlink()
    (tmp_path / "events/000000.jsonl").mkdir()
    with opened(tmp_path) as store:
        assert subjects(store) == ["event/000000"]
        assert store.write(lambda tx: tx[Tasks].count()) == 3


# Who may open it.


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(Unavailable, match=r"store\.lock: another process"):
        opening.open_sessions(str(tmp_path), TASKS.schema, timeout=0.05)
    opening.open_sessions(str(tmp_path), TASKS.schema, timeout=0).writer.close()


@pytest.mark.parametrize("newer", [{"format": 2}, {"schema": 10**6}])
def test_a_later_polpods_store_is_refused_and_left_as_it_is(tmp_path: Path, newer: dict[str, int]) -> None:
    filled(tmp_path)
    edit(tmp_path / "store.json", **newer)
    (tmp_path / "tasks/8.json").write_text("what this one does not know")
    before = files(tmp_path)
    with pytest.raises(SchemaTooNew, match=r"store\.json"):
        open_store(Files(str(tmp_path)), TASKS)
    assert files(tmp_path) == before


def test_an_earlier_polpods_store_is_opened(tmp_path: Path) -> None:
    filled(tmp_path)
    edit(tmp_path / "store.json", schema=1)
    document = json.loads((tmp_path / "tasks/8.json").read_text())
    del document["hold"]
    (tmp_path / "tasks/8.json").write_text(json.dumps(document))
    with opened(tmp_path) as store:
        assert store.write(lambda tx: tx[Tasks].count()) == 3
    assert json.loads((tmp_path / "store.json").read_text())["schema"] == len(TASKS.schema.scripts)


def test_a_store_of_an_unknown_format_is_left_as_it_is(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "store.json").write_text("{}")
    before = files(tmp_path)
    with pytest.raises(Damaged, match=r'store\.json: .*"format": 1'):
        open_store(Files(str(tmp_path)), TASKS)
    assert files(tmp_path) == before


def test_a_place_where_no_store_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "tasks").write_text("not a directory")
    with pytest.raises(StoreError, match=r"/tasks: Not a directory"):
        open_store(Files(str(tmp_path)), TASKS)
    opening.open_sessions(str(tmp_path / "other"), TASKS.schema, timeout=0).writer.close()
