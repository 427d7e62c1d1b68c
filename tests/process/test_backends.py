"""The daemon on each backend: submit, kill, recover, move."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kit.backends import LASTING, database, settings_of
from kit.client import Refused
from kit.host import Host
from kit.jobs import POLPOCTL, waits_for
from kit.postgres import server
from kit.waiting import until
from kit.webhook import Webhook


@pytest.fixture(params=LASTING)
def storage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def host(storage: str) -> Iterator[Host]:
    made = Host(**settings_of(storage))
    yield made
    made.close()


def _status(host: Host, task_id: str) -> str:
    return str(host.task(task_id)["status"])


def test_what_was_accepted_is_done_once_through_kills_of_the_daemon(host: Host, tmp_path: Path) -> None:
    host.start()
    first = host.submit(shell=f"echo first >> {tmp_path}/done")
    ids = [first, *(host.submit(shell=f"echo {n} >> {tmp_path}/done", depends_on=[first]) for n in range(8))]
    gate = tmp_path / "gate"
    live = host.submit(shell=f"echo live >> {tmp_path}/done; while ! test -e {gate}; do sleep 0.05; done")
    host.running(live)
    for _ in range(3):
        host.kill()
        host.start()
    assert _status(host, live) == "in_progress"
    host.kill()
    gate.touch()  # it ends while nobody looks
    host.start()
    assert {host.finished(i)["status"] for i in [*ids, live]} == {"done"}
    done = (tmp_path / "done").read_text().split()
    assert sorted(done) == sorted(["first", "live", *map(str, range(8))])
    assert host.task(live)["attempts"] == 1
    for (
        task_id
    ) in ids:  # a kill in a launch costs an attempt, of which it is proven that nothing was executed (DESIGN §6)
        *before, last = host.runs(task_id)
        assert {run["reason"] for run in before} <= {"never_started"}
        assert last["reason"] == "exited"
    assert host.stop() == 0
    host.start()
    until(lambda: host.call("daemon.status")["tasks"] == {"done": 10}, "it has counted what its rows say")
    assert host.submit("true") == str(max(map(int, [*ids, live])) + 1)


def test_checks_an_approval_and_who_is_told_of_them_go_on_through_kills_of_the_daemon(
    host: Host, storage: str, tmp_path: Path
) -> None:
    """A scheduled mission, too: each is carried out once, and each event told in its order, at least once."""
    kinds = ["task:created", "assessment:*", "approval:*", "schedule:triggered"]
    go, done = tmp_path / "go", tmp_path / "done"
    with Webhook() as hook:
        host.configure(**settings_of(storage), notifications=[{"name": "hook", "url": hook.url, "kinds": kinds}])
        host.start()
        until(lambda: host.submit("true", hold=True) and hook.told, "the channel has its place in the journal")
        check = {"type": "test", "command": f"echo checked >> {done}; {waits_for(go, 'true')}"}
        task_id = host.submit(shell=f"echo worked >> {done}", expectations=[check], approve_done=True)
        mission = json.dumps({"tasks": [{"title": "t", "command": ["sh", "-c", f"echo came >> {done}"]}]})
        host.call("mission.create", name="m", document=mission)
        until(lambda: done.exists() and "checked" in done.read_text(), "its checks are carried out")
        soon = datetime.now(UTC) + timedelta(seconds=3)
        host.call("schedule.set", id="m", expression=soon.isoformat())
        host.kill()
        until(lambda: datetime.now(UTC) > soon, "the time of the schedule has come")
        go.touch()
        host.start()
        until(lambda: _status(host, task_id) == "awaiting_approval", "it waits for a person")
        until(lambda: "came" in done.read_text(), "what was scheduled is done")
        host.call("approval.approve", id=task_id)
        host.kill()
        host.start()
        assert host.finished(task_id)["status"] == "done"
        said = host.call("event.list", kinds=kinds, limit=1000)["events"]
        until(lambda: hook.told and hook.told[-1] == said[-1], "all is told")
        first = hook.told[0]["seq"]
        assert list({event["seq"]: event for event in hook.told}.values()) == [e for e in said if e["seq"] >= first]
        assert host.call("daemon.status")["storage"] == storage
    assert sorted(done.read_text().split()) == ["came", "checked", "worked"]


def test_what_a_job_keeps_outlives_it_and_the_daemon(host: Host, tmp_path: Path) -> None:
    """A checkpoint, how far it is, an artifact, a cost, a message; then what is made of them: metrics, statistics, audit."""
    resumed, go = tmp_path / "resumed", tmp_path / "go"
    keeps = " && ".join(
        f"{POLPOCTL} {command}"
        for command in (
            "report progress 40 half",
            "artifact put f",
            "cost add --usd 0.25 --provider p --model m --in 10 --out 5",
            "message send builds 'I am'",
            "checkpoint save state.json",
        )
    )
    host.start()
    (host.root / "f").write_bytes(b"x" * 100_000)
    (host.root / "state.json").write_text('{"page": 2}')
    before = f"if {POLPOCTL} checkpoint get > {resumed}; then exit 0; fi"
    task_id = host.submit(shell=f"{before}; {keeps} && touch kept; {waits_for(go, 'kill -9 $$')}", max_retries=1)
    until((host.root / "kept").exists, "everything is kept")
    until(lambda: host.call("audit.list", method="task.submit")["entries"], "the audit is stored")
    host.kill()
    host.start()
    progress = host.task(task_id)["progress"]
    assert (progress["percent"], progress["text"]) == (40, "half")
    go.touch()
    assert host.finished(task_id)["status"] == "done"
    assert json.loads(resumed.read_text()) == {"page": 2}
    assert host.stop() == 0
    host.start()
    (kept,) = host.call("artifact.list", task_id=task_id)["artifacts"]
    assert (kept["path"], kept["size_bytes"]) == ("f", 100_000)
    content = host.call("artifact.get", id=kept["id"])
    assert base64.b64decode(content["data"]) == b"x" * 100_000
    (spent,) = host.call("cost.report", by="task")["costs"]
    assert (spent["group"], spent["usd"], spent["input_tokens"]) == (task_id, 0.25, 10)
    (message,) = host.call("message.history", channel="builds")["messages"]
    assert (message["content"], message["metadata"]["task_id"]) == ("I am", task_id)
    total = host.call("stats.runs")["total"]
    assert (total["count"], total["success_rate"], total["cost_usd"]) == (2, 0.5, 0.25)
    (asked,) = host.call("audit.list", method="task.submit")["entries"]
    assert asked["task_id"] == task_id


def test_nobody_else_gets_in_while_a_daemon_has_the_store(host: Host, storage: str) -> None:
    host.start()
    said = host.maintain("copy", "--to", "file" if storage != "file" else "sqlite")
    assert said.returncode == 75, said
    assert "another polpod (pid" in said.stderr


def test_a_backup_goes_back(host: Host, tmp_path: Path) -> None:
    host.start()
    first = host.submit("true")
    host.finished(first)
    host.call("store.backup", path=str(tmp_path / "live"))
    assert host.stop() == 0
    assert host.maintain("backup", str(tmp_path / "cold")).returncode == 0
    for backup in ("live", "cold"):
        checked = host.maintain("--json", "restore", str(tmp_path / backup))
        assert checked.returncode == 0, checked.stderr
        host.configure(storage="sqlite")
        host.start()
        assert _status(host, first) == "done"
        assert host.stop() == 0


def test_a_check_looks_at_every_record(host: Host) -> None:
    host.start()
    host.finished(host.submit("true"))
    assert host.stop() == 0
    checked = host.maintain("--json", "check")
    assert checked.returncode == 0, checked
    assert json.loads(checked.stdout)["rows"]["tasks"] == 1
    assert host.maintain("doctor").returncode in (0, 1)


def test_a_backup_without_settings_goes_back_to_where_it_is_looked_for(host: Host, tmp_path: Path) -> None:
    host.start()
    first = host.submit("true")
    host.finished(first)
    assert host.stop() == 0
    assert host.maintain("backup", str(tmp_path / "cold")).returncode == 0
    (tmp_path / "cold/polpo.json").unlink()
    host.start()
    second = host.submit("true")
    host.finished(second)
    assert host.stop() == 0
    assert host.maintain("restore", str(tmp_path / "cold")).returncode == 0
    assert json.loads(Path(host.paths.config).read_text())["settings"].get("storage", "sqlite") == "sqlite"
    host.start()
    until(lambda: host.call("daemon.status")["tasks"] == {"done": 1}, "it has counted what its rows say")


def test_a_check_tells_of_a_row_that_does_not_decode() -> None:
    with Host(**settings_of("postgres")) as host:
        host.start()
        first = host.submit("true")
        host.finished(first)
        assert host.stop() == 0
        name = (
            json.loads(Path(host.paths.config).read_text())["settings"]["databaseUrl"]
            .partition("?")[0]
            .rpartition("/")[2]
        )
        server().execute(name, "UPDATE tasks SET doc = '{'")
        for verb in ("check", "salvage"):
            said = host.maintain(verb)
            assert said.returncode == 1
            assert f"tasks {first} does not decode" in said.stdout


@pytest.mark.parametrize("to", LASTING)
def test_everything_moves_to_another_backend(host: Host, storage: str, to: str) -> None:
    url = database()
    host.configure(**json.loads(Path(host.paths.config).read_text())["settings"] | {"databaseUrl": url})
    host.start()
    done = host.submit("true")
    host.finished(done)
    held = host.submit("true", hold=True)
    assert host.stop() == 0
    copied = host.maintain("--json", "copy", "--to", to)
    if to == storage:
        assert copied.returncode == 1
        assert f"in {to} already" in copied.stderr
        return
    assert copied.returncode == 0, copied.stderr
    assert json.loads(copied.stdout)["rows"]["tasks"] == 2
    host.configure(storage=to, databaseUrl=url)
    host.start()
    assert (_status(host, done), _status(host, held)) == ("done", "pending")
    host.call("task.release", select={"ids": [held]})
    assert host.finished(held)["status"] == "done"
    assert host.runs(held)[0]["id"] > host.runs(done)[0]["id"]


def test_a_store_that_was_copied_elsewhere_says_so_until_it_is_what_counts(host: Host, storage: str) -> None:
    """Somebody who goes on with it goes on with the past, which may be meant."""
    host.start()
    held = host.submit("true", hold=True)
    assert host.stop() == 0
    other = "file" if storage != "file" else "sqlite"
    assert host.maintain("copy", "--to", other).returncode == 0
    before = json.loads(Path(host.paths.config).read_text())["settings"]
    host.configure(**before | {"storage": other})
    host.start()
    assert host.call("daemon.status")["store"]["copied_to"] is None
    assert host.stop() == 0
    host.configure(**before)
    assert "was copied to" in host.maintain("doctor").stdout
    host.start()
    assert "was copied to" in host.log()
    assert host.call("daemon.status")["store"]["copied_to"]
    shown = [sys.executable, "-m", "polpoctl", "--root", str(host.root), "status"]
    assert "was copied to" in subprocess.run(shown, capture_output=True, text=True, check=True).stdout
    (told,) = [one for one in json.loads(host.maintain("--json", "doctor").stdout) if "was copied to" in one["says"]]
    assert told["level"] == "warning"
    assert told["next"].endswith(f"store copy --to {storage}")
    assert _status(host, held) == "pending"
    assert host.stop() == 0
    said = host.maintain("copy", "--to", storage)
    assert (said.returncode, "counts again" in said.stdout) == (0, True), said.stderr
    assert host.maintain("copy", "--to", storage).returncode == 1
    host.start()
    assert host.call("daemon.status")["store"]["copied_to"] is None


def test_a_store_that_was_never_used_is_refused_while_runs_of_another_live(host: Host, storage: str) -> None:
    host.start()
    live = host.submit("sleep", "600")
    host.running(live)
    host.kill()
    other = "file" if storage != "file" else "postgres"
    before = Path(host.paths.config).read_text()
    host.configure(**settings_of(other))
    refused = host.command("--root", str(host.root))
    assert refused.returncode == 1
    assert "polpoctl store copy" in refused.stderr
    Path(host.paths.config).write_text(before)
    host.start()
    assert _status(host, live) == "in_progress"


def test_a_store_of_the_past_is_refused_while_runs_of_a_later_one_live(host: Host, storage: str) -> None:
    host.start()
    host.finished(host.submit("true"))
    assert host.stop() == 0
    other = "file" if storage != "file" else "sqlite"
    assert host.maintain("copy", "--to", other).returncode == 0
    before = json.loads(Path(host.paths.config).read_text())["settings"]
    host.configure(**before | {"storage": other})
    host.start()
    live = host.submit("sleep", "600")
    host.running(live)
    host.kill()
    host.configure(**before)
    refused = host.command("--root", str(host.root))
    assert refused.returncode == 1
    assert "polpoctl store copy" in refused.stderr
    host.configure(**before | {"storage": other})
    host.start()
    assert _status(host, live) == "in_progress"


def test_tasks_in_memory_are_forgotten_and_what_still_runs_is_ended(tmp_path: Path) -> None:
    host = Host(storage="memory")
    try:
        host.start()
        live = host.submit("sleep", "600")
        host.running(live)
        host.kill()
        host.start()
        until(lambda: not host.call("run.list", status=["starting", "running"])["runs"], "it was ended")
        assert host.call("task.list")["tasks"] == []
        assert int(host.submit("true")) > int(live)
    finally:
        host.close()


@contextmanager
def lost(how: str) -> Iterator[None]:
    if how == "hangs":
        with server().stopped():
            yield
        return
    server().stop()
    try:
        yield
    finally:
        server().start()


@pytest.mark.parametrize("how", ["hangs", "crashed"])
def test_a_server_that_is_lost_costs_no_work(how: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Host(**settings_of("postgres")) as host:
        host.start()
        live = host.submit(shell=f"echo once >> {tmp_path}/done; while ! test -e {gate}; do sleep 0.05; done")
        host.running(live)
        waiting = host.submit("true", depends_on=[live])
        with lost(how):
            with pytest.raises(Refused) as refused:
                host.submit("true")
            assert refused.value.word == "unavailable"
            assert not host.call("daemon.health")["checks"]["store"]
            status = host.call("daemon.status")
            assert status["store"]["trouble"]
            assert status["runs"] == {"running": 1}
            gate.touch()
            until(lambda: host.call("run.list", status=["completed"])["runs"], "its run ends without the server")
        until(lambda: host.call("daemon.health")["ok"], "it is reached again")
        assert host.finished(waiting)["status"] == "done"
        assert host.task(live)["status"] == "done"
        assert (tmp_path / "done").read_text() == "once\n"
        assert [run["status"] for run in host.runs(live)] == ["completed"]
        assert "Traceback" not in host.log(), host.log()


def test_a_server_that_is_not_there_at_the_start_is_told_of(tmp_path: Path) -> None:
    with Host(**settings_of("postgres")) as host:
        with lost("crashed"):
            refused = host.command("--root", str(host.root))
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
        assert "/postgres" in refused.stderr or "connection" in refused.stderr
        host.start()
        assert host.finished(host.submit("true"))["status"] == "done"
