"""The service starts, for whom it is there, and what does not keep it from starting."""

from __future__ import annotations

import json

import pytest
from kit.box import PYTHON
from kit.service import MEMBER, SOCKET, STATE, STRANGER, UNIT, Service
from kit.waiting import until

SPOIL = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    db.execute("PRAGMA ignore_check_constraints = ON")
    assert db.execute(sys.argv[2], sys.argv[3:]).rowcount == 1
"""


def test_start_returns_when_the_socket_answers(service: Service) -> None:
    for _ in range(3):
        service.start()
        service.box.do("polpoctl", "status", user=MEMBER)
        service.systemctl("stop", UNIT)


def test_the_first_client_starts_the_daemon(service: Service) -> None:
    service.systemctl("start", SOCKET)
    assert service.show("ActiveState") == "inactive"
    assert service.box.do("polpoctl", "run", "--", "echo", "hello", user=MEMBER) == "hello\n"
    assert service.show("ActiveState") == "active"


def test_members_get_in_where_the_service_alone_was_started(service: Service) -> None:
    service.systemctl("start", UNIT)
    service.box.do("polpoctl", "status", user=MEMBER)
    service.systemctl("stop", SOCKET, UNIT)
    service.systemctl("start", UNIT)
    service.box.do("polpoctl", "status", user=MEMBER)


def test_a_client_meets_a_daemon_that_has_just_died(service: Service) -> None:
    """Its connection waits in the socket, which is systemd's."""
    service.start()
    for _ in range(3):
        service.kill("KILL")
        service.box.do("polpoctl", "status", user=MEMBER)


def test_a_member_may_submit_and_a_stranger_is_told_why_not(service: Service) -> None:
    service.start()
    assert service.box.do("polpoctl", "run", "--", "id", "-un", user=MEMBER) == "polpo\n"
    refused = service.box.run("polpoctl", "submit", "--", "true", user=STRANGER)
    assert refused.returncode == 6
    assert "group polpo" in refused.stderr


def test_settings_that_cannot_be_read_make_no_loop_of_starts(service: Service) -> None:
    """A client waits in the socket, for which systemd would start the daemon again and again."""
    service.configure(maxConcurrency="many")
    service.systemctl("start", SOCKET)
    refused = service.box.run("polpoctl", "status", user=MEMBER)
    assert "maxConcurrency" in refused.stderr
    until(lambda: service.show("ActiveState") == "failed", "the daemon has given up")
    assert service.box.journal().count("Starting polpod.service") == 1
    service.configure()
    service.box.do("polpoctl", "status", user=MEMBER)


def test_who_waits_for_a_damaged_state_is_told(service: Service) -> None:
    service.box.put(f"{STATE}/state.db", "this is no database\n" * 1000)
    service.box.do("chown", "polpo:polpo", f"{STATE}/state.db")
    service.systemctl("start", SOCKET)
    refused = service.box.run("polpoctl", "status", user=MEMBER)
    assert refused.returncode != 0
    assert f"{STATE}/state.db" in refused.stderr


def test_a_backup_is_where_it_was_asked_for(service: Service) -> None:
    """The daemon, which writes it, sees what is at the path as whoever asks does."""
    service.start()
    for place in ("/tmp/backup", "/var/tmp/backup", "/var/lib/polpo/backup"):
        service.box.do("polpoctl", "backup", place)
        assert service.box.path(f"{place}/state.db").exists()
    refused = service.box.run("polpoctl", "backup", "/srv/backup")
    assert refused.returncode == 1
    assert "ReadWritePaths=" in refused.stderr


def test_a_member_is_not_told_that_there_is_nothing(service: Service) -> None:
    """Whose doctor may not look at the state, which is there."""
    service.start()
    examined = service.box.run("polpoctl", "doctor", user=MEMBER)
    assert (examined.returncode, examined.stderr) == (1, "")
    assert examined.stdout.startswith(
        "problem  directory: you may not look into /var/lib/polpo → be its owner or root: "
    )


def test_a_polpod_of_ones_own_is_not_taken_for_the_service(service: Service) -> None:
    """Who then says `polpoctl stop` would end everybody's jobs."""
    service.start()
    began = service.box.run("polpoctl", "start")
    assert (
        "without --root /root/.local/state/polpo, polpoctl means another polpod: the one at /run/polpo/polpod.sock"
        in (began.stderr)
    )
    service.box.do("polpoctl", "--root", "/root/.local/state/polpo", "stop")
    assert service.show("ActiveState") == "active"
    assert "another polpod" not in service.box.run("polpoctl", "--root", "/root/own", "start").stderr
    service.box.do("polpoctl", "--root", "/root/own", "stop")


@pytest.mark.parametrize(
    ("database", "update"),
    [
        ("state.db", "UPDATE tasks SET doc = 'garbage' WHERE id = ?"),
        ("runs.db", "UPDATE runs SET status = 'garbage' WHERE task_id = ?"),
    ],
    ids=["task", "run"],
)
def test_a_bad_row_makes_no_crash_loop(service: Service, database: str, update: str) -> None:
    service.configure(maxConcurrency=5, onShutdown="keep")
    service.start()
    bad, *good = service.submit(5)
    until(lambda: len(service.trace()) == 5, "all five run")
    service.systemctl("stop", UNIT)
    service.box.do(PYTHON, "-c", SPOIL, f"{STATE}/{database}", update, bad, user="polpo")
    service.start()
    service.healthy()
    service.release()
    until(lambda: {service.tasks()[i]["status"] for i in good} <= {"done", "failed"}, "the good ones are over")
    assert (service.show("ActiveState"), service.show("NRestarts")) == ("active", "0")
    told = json.loads(service.box.do("polpoctl", "rpc", "event.list", json.dumps({"after": 0})))["events"]
    assert [e for e in told if "quarantine" in e["kind"]], told
