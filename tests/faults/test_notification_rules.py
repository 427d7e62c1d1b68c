"""Rules and channels of notifications with a real daemon: who is told what, by which way, and never a secret."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from kit.host import Host
from kit.mailserver import MailServer
from kit.waiting import until
from kit.webhook import CERTIFICATE, Webhook

SECRET = "swordfish-71d"
PASSWORD = "hunter2-a93"


class Particular(Webhook):
    """Takes what is about anything but the first task."""

    @property
    def answer(self) -> int:
        return 503 if self.told[-1]["subject"] == "task/1" else 200

    @answer.setter
    def answer(self, _: int | None) -> None:
        """It decides by itself."""


def polpoctl(host: Host, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polpoctl", "--socket", host.socket, *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def records(host: Host, **asked: Any) -> list[dict[str, Any]]:
    """The oldest first."""
    found: list[dict[str, Any]] = host.call("notification.list", **asked)["notifications"]
    return found[::-1]


def begin(host: Host, channels: dict[str, Any], *rules: dict[str, Any], **env: str) -> None:
    """Start a daemon that has these channels and rules, and wait until each channel has its place in the journal."""
    host.configure(notifications={"channels": channels, "rules": list(rules)})
    host.start(**env)
    for name in channels:
        assert host.call("notification.test", name=name)["channel"] == name
    until(lambda: {r["channel"] for r in records(host, rule="test")} == set(channels), "each was tried")


def carry_out(host: Host, document: dict[str, Any]) -> str:
    mission: str = host.call("mission.create", document=json.dumps(document))["id"]
    host.call("mission.execute", id=mission)
    return mission


def hook(webhook: Webhook, **more: Any) -> dict[str, Any]:
    return {"type": "webhook", "url": webhook.url} | more


def everything_said(host: Host) -> str:
    """All that polpod wrote: its output, its logs, its journal, its records."""
    logs = "".join(path.read_text(errors="replace") for path in Path(host.paths.logs).iterdir())
    return host.log() + logs + json.dumps(host.call("event.list", after=0, limit=1000)) + json.dumps(records(host))


def test_one_event_goes_to_a_webhook_by_mail_and_to_a_command_as_the_rules_say(host: Host) -> None:
    """§13.209: templates, operators; W43: events of Polpo's names reach who asked for them."""
    (host.root / "password").write_text(PASSWORD + "\n")
    with Webhook() as webhook, MailServer("starttls", login=("me", PASSWORD)) as server:
        mail = server.fields(type="email", password=None, passwordFile="password")
        told = host.root / "told"
        channels = {
            "chat": hook(webhook, secret=SECRET),
            "mail": mail,
            "script": {"type": "command", "command": ["/bin/sh", "-c", f"cat >> {told}"]},
        }
        failed = {
            "and": [{"field": "to", "op": "==", "value": "failed"}, {"field": "task.queue", "op": "!=", "value": "x"}]
        }
        rule = {
            "id": "broken", "name": "Broken builds", "events": ["task:transition"], "condition": failed,
            "channels": list(channels), "severity": "critical", "template": "{{task.title}} failed\nin {{task.queue}}",
        }  # fmt: skip
        begin(host, channels, rule, SSL_CERT_FILE=CERTIFICATE)
        ids = [host.submit("false", title="nightly"), host.submit("true"), host.submit("false", queue="x")]
        for task_id in ids:
            host.finished(task_id)
        until(lambda: len(records(host, rule="broken")) == 3, "each channel was told once")

        (event,) = [e for e in host.call("event.list", after=0, kinds=["task:transition"], subject=f"task/{ids[0]}")["events"] if e["body"]["to"] == "failed"]  # fmt: skip
        text = "nightly failed\nin default"
        said = event | {"rule": "broken", "severity": "critical", "title": "nightly failed", "text": text}
        headers, body = webhook.requests[-1]
        assert json.loads(body) == said
        assert headers["Polpo-Delivery"] == f"{event['seq']}.broken"
        signed = f"{headers['Polpo-Timestamp']}.".encode() + body
        assert headers["Polpo-Signature"] == "sha256=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        assert json.loads(told.read_text().splitlines()[-1]) == said
        assert [m["Subject"] for m in server.mails] == [
            f"a test of mail, asked for by uid {os.getuid()}",
            "nightly failed",
        ]
        assert server.mails[-1].get_content().startswith(text + "\n")
        one = records(host, rule="broken", channel="mail")[0]
        assert (one["status"], one["title"], one["body"], one["severity"]) == (
            "sent",
            "nightly failed",
            text,
            "critical",
        )
        assert (one["channel_type"], one["rule_name"], one["source_event"]) == (
            "email",
            "Broken builds",
            "task:transition",
        )

        assert SECRET not in everything_said(host)
        assert PASSWORD not in everything_said(host)
        shown = host.maintain("config", "show").stdout
        assert '"secret": "***"' in shown
        assert SECRET not in shown


def test_a_silent_rule_stays_silent_through_a_kill(host: Host) -> None:
    """§13.209: cooldown, which a restart does not repeat (W32)."""
    with Webhook() as webhook:
        rule = {"events": ["task:created"], "channels": ["chat"]}
        rules = [rule | {"id": "seldom", "cooldownMs": 3_600_000}, rule | {"id": "often"}]
        begin(host, {"chat": hook(webhook)}, *rules)
        for _ in range(2):
            host.submit("true", hold=True)
        until(lambda: webhook.said("rule").count("often") == 2, "both were told by the other rule")
        until(lambda: len(records(host, rule="often")) == 2, "that is stored")
        host.kill()
        host.start()
        host.submit("true", hold=True)
        until(lambda: webhook.said("rule").count("often") == 3, "so is a third")
        assert webhook.said("rule").count("seldom") == 1


def test_the_rules_of_a_mission_and_of_a_task_stand_in_for_those_further_out(host: Host) -> None:
    """§13.182 and W43: the scope of a mission applies; a checkpoint tells the channels that it names."""
    done = {"field": "to", "op": "==", "value": "done"}
    with Webhook() as common, Webhook() as ops:
        transition = {
            "events": ["task:transition"],
            "condition": done,
            "template": "{{task.title}} of {{mission.name}}",
        }
        channels = {"common": hook(common), "ops": hook(ops)}
        begin(host, channels, transition | {"id": "all", "channels": ["common"]}, {"id": "ends", "events": ["mission:completed"], "channels": ["common"]})  # fmt: skip
        own = {"rules": [transition | {"id": "own", "channels": ["ops"]}]}
        document = {
            "tasks": [
                {"title": "a", "command": ["true"]},
                {"title": "b", "command": ["true"], "notifications": own | {"inherit": True}},
                {"title": "c", "command": ["true"], "notifications": {"rules": []}, "dependsOn": ["a", "b"]},
            ],
            "notifications": {"rules": [transition | {"id": "mission", "channels": ["ops"]}]},
            "checkpoints": [{"name": "look", "afterTasks": ["a", "b"], "blocksTasks": ["c"], "notifyChannels": ["ops"], "message": "look at it"}],
        }  # fmt: skip
        mission = carry_out(host, document)
        until(lambda: "checkpoint:reached" in ops.said("kind"), "whom the checkpoint names is told")
        host.kill()
        host.start()
        host.call("mission.resume", id=mission)
        host.finished(host.submit("true", title="apart"))
        until(lambda: "checkpoint:resumed" in ops.said("kind"), "of its end, too")
        until(lambda: any(t.startswith("apart") for t in common.said("text")), "outside of it, the common rules apply")
        until(lambda: host.call("mission.get", id=mission)["mission"]["status"] == "completed", "it is over")
        marker = host.submit("true", title="marker")
        until(lambda: any(t.startswith("marker") for t in common.said("text")), f"all before {marker} was told")
        until(lambda: any(r["title"].startswith("marker") for r in records(host)), "that is stored")
        name = host.call("mission.get", id=mission)["mission"]["name"]
        told = {(r["rule_id"], r["title"]) for r in records(host) if r["rule_id"] not in ("test", "notify_channels")}
        assert told == {
            ("mission", f"a of {name}"), ("own", f"b of {name}"), ("mission", f"b of {name}"),
            ("all", "apart of"), ("all", "marker of"),
        }  # fmt: skip
        assert {r["channel"] for r in records(host, rule="notify_channels")} == {"ops"}


def test_what_is_never_taken_is_given_up_and_the_next_is_told(host: Host) -> None:
    """F88: a channel that always refuses blocks neither the others nor itself for ever."""
    with Particular() as chat, Webhook() as ops:
        channels = {"chat": hook(chat, giveUpAfter=500), "ops": hook(ops)}
        rules = (
            {"id": "new", "events": ["task:created"], "channels": ["chat"]},
            {"id": "watch", "events": ["notification:failed"], "channels": ["ops", "chat"]},
        )
        begin(host, channels, *rules)
        first, second = (host.submit("true", hold=True) for _ in range(2))
        until(lambda: "notification:failed" in ops.said("kind"), "the other channel is told of it")
        until(lambda: f"task/{second}" in chat.said("subject"), "the next one comes")
        (failed,) = host.call("event.list", after=0, kinds=["notification:failed"])["events"]
        assert (failed["subject"], failed["body"]["channel"], failed["body"]["rule"]) == (
            "notification/chat",
            "chat",
            "new",
        )
        assert failed["body"]["event_kind"] == "task:created"
        assert "503" in failed["body"]["error"]
        until(lambda: len(records(host, rule="new")) == 2, "both have their records")
        assert [(r["status"], r["title"]) for r in records(host, rule="new")] == [
            ("failed", f"task:created: task/{first} (true)"), ("sent", f"task:created: task/{second} (true)"),
        ]  # fmt: skip
        assert "notification:failed" not in chat.said("kind")
        listed = polpoctl(host, "notification", "--status", "failed", "--rule", "new").stdout
        assert listed.splitlines()[0].split("\t")[1:4] == ["chat", "new", "failed"]


def test_a_channel_is_tried_and_says_what_is_wrong(host: Host) -> None:
    with Webhook(answer=410) as gone, MailServer(login=("me", "right")) as server:
        wrong = server.fields(type="email", password="wrong-8c1")
        (host.root / "empty").write_text("\n")
        channels = {
            "gone": hook(gone), "mail": wrong, "none": {"type": "command", "command": ["/no/such"]},
            "unsigned": hook(gone, secretFile="missing"), "empty": hook(gone, secretFile="empty"),
        }  # fmt: skip
        host.configure(notifications={"channels": channels}, retention={"events": 4})
        host.start()
        for name, problem in (
            ("gone", "410"), ("mail", "535"), ("none", "No such file"), ("unsigned", "No such file"), ("empty", "empty is empty"),
        ):  # fmt: skip
            tried = polpoctl(host, "notification", "test", name)
            assert (tried.returncode, tried.stdout) == (1, ""), name
            assert problem in tried.stderr
            assert tried.stderr.startswith(f"polpoctl: {name}: ")
        assert "wrong-8c1" not in everything_said(host)
        gone.answer = 200
        good = polpoctl(host, "notification", "test", "gone")
        assert (good.returncode, good.stdout) == (0, "gone: delivered\n")
        assert json.loads(polpoctl(host, "notification", "--json").stdout)[-1]["status"] == "sent"
        host.call("store.prune")
        assert [r["channel"] for r in records(host)] == ["none", "unsigned", "empty", "gone"], "the oldest went"
        nobody = polpoctl(host, "notification", "test", "nobody")
        assert nobody.returncode == 3
        assert "there are: gone, mail, none, unsigned, empty" in nobody.stderr
        assert polpoctl(host, "notification", "test").returncode == 2


def test_a_mail_server_that_hangs_holds_up_nobody(host: Host) -> None:
    with MailServer(hangs=True) as server, Webhook() as webhook:
        rule = {"id": "new", "events": ["task:created"], "channels": ["mail", "chat"]}
        host.configure(
            notifications={
                "channels": {"mail": server.fields(type="email", timeout=300), "chat": hook(webhook)}, "rules": [rule],
            }
        )  # fmt: skip
        host.start()
        assert "took longer than 0.3 s" in polpoctl(host, "notification", "test", "mail").stderr
        host.call("notification.test", name="chat")
        for _ in range(3):
            assert host.finished(host.submit("true"))["status"] == "done"
        until(lambda: webhook.said("rule").count("new") == 3, "the other channel is told of all")
        log = Path(host.paths.notification_log("mail"))
        until(lambda: "took longer than 0.3 s; attempt 1" in log.read_text(), "it is tried")
        assert host.stop() == 0


def test_a_mission_that_would_tell_nobody_is_refused(host: Host) -> None:
    """W43."""
    host.configure(notifications=[{"name": "chat", "command": ["true"]}])
    host.start()
    rule = {"id": "r", "channels": ["chat"]}
    for wrong, path in (
        ({"channels": ["chat", "chut"]}, "[0].channels[1]"),
        ({"events": ["tsak:*"]}, "[0].events[0]"),
        ({"cooldown": 1}, "[0]"),
        ({"condition": {"field": "a\0", "op": "=="}}, "[0].condition"),
    ):
        document = {"tasks": [{"title": "a", "command": ["true"]}], "notifications": {"rules": [rule | wrong]}}
        refused = polpoctl(host, "rpc", "mission.create", json.dumps({"document": json.dumps(document)}))
        assert refused.returncode == 2, refused.stderr
        assert f"$.notifications.rules{path}" in refused.stderr
