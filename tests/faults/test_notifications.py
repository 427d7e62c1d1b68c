"""Webhooks and commands are told of every event they asked for, and cost nobody anything when they hang or fail (F88)."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from kit.fault import fault
from kit.host import Host
from kit.processes import alive
from kit.waiting import until
from kit.webhook import CERTIFICATE, Webhook


def journal(host: Host, *kinds: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = host.call("event.list", after=0, kinds=kinds, limit=1000)["events"]
    return found


def own_log(host: Host, name: str) -> str:
    path = Path(host.paths.notification_log(name))
    return path.read_text() if path.exists() else ""


def cursors(host: Host) -> dict[str, int]:
    with closing(sqlite3.connect(host.paths.tasks_db)) as db:
        docs = db.execute("SELECT doc FROM settings WHERE name LIKE 'notifications.cursor.%'").fetchall()
    return {s["name"].rpartition(".")[2]: int(s["value"]) for s in (json.loads(doc) for (doc,) in docs)}


def begun(host: Host, *names: str) -> None:
    """They read the journal from here on."""
    until(lambda: cursors(host).keys() >= set(names), "each notification has its cursor")


def test_a_webhook_is_told_of_its_kinds_in_order_and_as_they_are_listed(host: Host) -> None:
    with Webhook() as hook:
        host.configure(notifications=[{"name": "hook", "url": hook.url, "kinds": ["task:*", "agent:finished"]}])
        host.start()
        begun(host, "hook")
        for task_id in [host.submit("true") for _ in range(3)]:
            host.finished(task_id)
        expected = journal(host, "task:*", "agent:finished")
        assert len(expected) > 12
        until(lambda: len(hook.told) >= len(expected), "all is told")
        assert hook.told == expected
        until(lambda: own_log(host, "hook").count(": delivered\n") == len(expected), "the last of it is noted, too")


def test_a_webhook_over_tls_is_told_if_it_is_who_it_says(host: Host) -> None:
    with Webhook(tls=True) as hook:
        host.configure(notifications=[{"name": "hook", "url": hook.url, "kinds": ["task:created"]}])
        host.start()
        begun(host, "hook")
        host.submit("true", hold=True)
        until(lambda: "CERTIFICATE_VERIFY_FAILED" in own_log(host, "hook"), "a stranger's certificate is refused")
        assert hook.told == []
        assert host.stop() == 0
        host.start(SSL_CERT_FILE=CERTIFICATE)
        until(lambda: hook.told, "it is told")


def test_a_restart_delivers_again_what_was_under_way_and_loses_nothing(host: Host) -> None:
    """W13: what is told comes from the rows that were stored with what it tells of."""
    with Webhook(answer=None) as hangs, Webhook() as hook:
        host.configure(notifications=[{"name": "hook", "url": hangs.url, "kinds": ["task:created"]}])
        host.start()
        begun(host, "hook")
        host.submit("true", hold=True)
        until(lambda: hangs.told, "the first delivery is under way")
        host.submit("true", hold=True)
        host.kill()

        host.configure(notifications=[{"name": "hook", "url": hook.url, "kinds": ["task:created"]}])
        host.start()
        host.submit("true", hold=True)
        until(lambda: len(hook.told) == 3, "all is told")
        assert hook.seqs() == [event["seq"] for event in journal(host, "task:created")]
        assert hook.told[0] == hangs.told[0]
        assert hook.requests[0][0]["Polpo-Delivery"] == hangs.requests[0][0]["Polpo-Delivery"]

        until(lambda: cursors(host)["hook"] == hook.seqs()[-1], "the last cursor is stored")
        assert host.stop() == 0
        host.start()
        host.submit("true", hold=True)
        until(lambda: len(hook.told) > 3, "the next event is told")
        assert len(set(hook.seqs())) == 4  # and what was delivered is not told again


@fault(
    88,
    "a callback hangs or fails",
    promise="Each notification has its own place in the journal, time limit, retries and log: nobody waits for one that "
    "hangs, and one that works again is told of all that it missed.",
    injected="webhooks that never answer, that answer 503 and that refuse the connection, beside one that works",
    seen_failing="the time limit of an attempt; the cursor that stays where a delivery failed",
)
def test_f88_one_that_fails_is_tried_again_and_one_that_hangs_delays_nobody(host: Host) -> None:
    with Webhook(answer=503) as fails, Webhook(answer=None) as hangs, Webhook() as hook:
        kinds = ["task:created"]
        host.configure(
            notifications=[
                {"name": "fails", "url": fails.url, "kinds": kinds},
                {"name": "hangs", "url": hangs.url, "kinds": kinds, "timeout": 200},
                {"name": "refused", "url": "http://127.0.0.1:1/", "kinds": kinds},
                {"name": "hook", "url": hook.url, "kinds": kinds},
            ]
        )
        host.start()
        begun(host, "fails", "hangs", "refused", "hook")
        ids = [host.submit("true") for _ in range(5)]
        for task_id in ids:
            assert host.finished(task_id)["status"] == "done"
        until(lambda: len(hook.told) == 5, "the one that works is told of all")
        until(lambda: len(fails.told) >= 2 and len(hangs.told) >= 2, "the others are tried again")
        assert len(set(fails.seqs())) == len(set(hangs.seqs())) == 1
        fails.answer = 204
        until(lambda: len(set(fails.seqs())) == 5, "what works again is told of what it missed")
        assert "503" in own_log(host, "fails")
        assert "took longer than 0.2 s" in own_log(host, "hangs")
        assert "attempt 1, again in 1 s" in own_log(host, "refused")
        assert host.stop() == 0


def test_a_command_gets_the_event_and_no_secret_of_the_daemon(host: Host) -> None:
    told = host.root / "told"
    script = f"cat >> {told}; env | sort > {told}.env; echo heard $POLPO_EVENT_SEQ; pwd"
    host.configure(notifications=[{"name": "script", "command": ["/bin/sh", "-c", script], "kinds": ["task:created"]}])
    host.start(CANARY="secret-9f2c", NOTIFY_SOCKET="/nowhere")
    begun(host, "script")
    host.submit("true", hold=True)
    until(lambda: cursors(host)["script"] == journal(host, "task:created")[0]["seq"], "it is delivered")
    (event,) = journal(host, "task:created")
    (line,) = map(json.loads, told.read_text().splitlines())
    assert line == event | {
        "rule": "script", "severity": "info", "text": line["title"],
        "title": f"task:created: {event['subject']} (true)",
    }  # fmt: skip
    env = dict(line.split("=", 1) for line in Path(f"{told}.env").read_text().splitlines())
    assert {name: value for name, value in env.items() if name.startswith("POLPO_")} == {
        "POLPO_SOCKET": host.socket,
        "POLPO_EVENT_SEQ": str(event["seq"]),
        "POLPO_EVENT_AT": event["at"],
        "POLPO_EVENT_KIND": "task:created",
        "POLPO_EVENT_SUBJECT": event["subject"],
    }
    assert env.keys() & {"CANARY", "NOTIFY_SOCKET"} == set()
    assert f"heard {event['seq']}\n{host.root}\n" in own_log(host, "script")


def test_a_command_that_hangs_is_killed_with_its_group(host: Host) -> None:
    pids = host.root / "pids"
    script = f"sleep 1000 & echo $$ $! >> {pids}; wait"
    host.configure(
        notifications=[
            {"name": "hangs", "command": ["/bin/sh", "-c", script], "timeout": 3000},
            {"name": "missing", "command": ["/no/such/program"]},
        ]
    )
    host.start()
    begun(host, "hangs", "missing")
    assert host.finished(host.submit("true"))["status"] == "done"
    until(lambda: pids.exists() and len(pids.read_text().splitlines()) >= 2, "it is tried again")
    first = [int(pid) for pid in pids.read_text().splitlines()[0].split()]
    until(lambda: not any(alive(pid) for pid in first), "nothing is left of the first attempt")
    until(lambda: "took longer than 3 s" in own_log(host, "hangs"), "its log says why")
    until(lambda: "/no/such/program" in own_log(host, "missing"), "and that of the other")
    assert host.stop() == 0
    until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()), "nothing is left of any attempt")


def test_whoever_was_slower_than_retention_is_told_of_the_gap(host: Host) -> None:
    with Webhook() as hook:
        notification = {"name": "hook", "url": hook.url, "kinds": ["task:created"]}
        host.configure(notifications=[notification | {"url": "http://127.0.0.1:1/"}], retention={"events": 3})
        host.start()
        begun(host, "hook")
        since = cursors(host)["hook"]
        for _ in range(6):
            host.submit("true", hold=True)
        host.call("store.prune")
        assert host.stop() == 0

        host.configure(notifications=[notification])
        host.start()
        until(lambda: len(hook.told) == 4, "all that is kept is told")
        gap, *kept = hook.told
        assert (gap["kind"], gap["body"]) == ("journal:gap", {"first": since + 1, "last": kept[0]["seq"] - 1})
        assert kept == journal(host, "task:created")


def test_a_new_one_begins_now_and_one_that_is_gone_is_forgotten(host: Host) -> None:
    with Webhook() as hook:
        host.start()
        host.submit("true", hold=True)
        assert host.stop() == 0
        host.configure(notifications=[{"name": "hook", "url": hook.url}])
        host.start()
        begun(host, "hook")
        new = host.submit("true", hold=True)
        until(lambda: f"task/{new}" in {event["subject"] for event in hook.told}, "it is told of what is new")
        assert {event["subject"] for event in hook.told} <= {"daemon", f"task/{new}"}
        assert host.stop() == 0
        host.configure()
        host.start()
        until(lambda: cursors(host) == {}, "its cursor is forgotten")


def test_what_it_is_not_interested_in_is_not_read_again_and_again(host: Host) -> None:
    with Webhook() as hook:
        host.configure(notifications=[{"name": "hook", "url": hook.url, "kinds": ["run:*"]}])
        host.start()
        begun(host, "hook")
        before = cursors(host)["hook"]
        tasks = [{"command": ["true"], "cwd": "/", "hold": True}] * 1000
        host.call("task.submit_many", tasks=tasks)
        until(lambda: cursors(host)["hook"] >= before + 1000, "its cursor went on")
        assert hook.told == []
