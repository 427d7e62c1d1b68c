"""polpo.json: what it may say, what it means when it does not, and how it is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from polpod.config import DEFAULT_TEXT, Config, Retention, Settings, load, parse, shown, without_password
from polpod.errors import StartError
from polpod.model.agents import Agent, Queue
from polpod.model.notifying import Notifications


def parsed(document: object) -> tuple[Config, list[str]]:
    return parse(json.dumps(document).encode(), "polpo.json")


def refused(document: object) -> StartError:
    with pytest.raises(StartError) as found:
        parsed(document)
    return found.value


def test_a_missing_file_is_an_empty_one(tmp_path: Path) -> None:
    assert load(str(tmp_path / "polpo.json")) == (Config(), [])
    assert parsed({}) == (Config(), [])


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"agents": [{"name": "a\0b"}]}, "`$.agents[0].name`"),
        ({"agents": [{"name": "\ud800"}]}, "`$.agents[0].name`"),
        ({"settings": {"queues": {"a\0b": {}}}}, "`$.settings.queues.'a\\x00b'`"),
    ],
)
def test_text_that_no_store_holds_is_refused_with_its_place(document: object, place: str) -> None:
    assert place in str(refused(document))


def test_defaults() -> None:
    settings = Settings()
    assert settings.max_concurrency == max(2, os.cpu_count() or 2)
    assert (settings.max_retries, settings.task_timeout, settings.stale_threshold) == (None, None, None)
    assert (settings.kill_grace, settings.shutdown_timeout, settings.on_shutdown) == (10_000, 30_000, "stop")
    assert (settings.log_limit, settings.reserve) == (64 * 2**20, 64 * 2**20)
    assert (settings.retention, settings.notifications) == (Retention(30, 100_000, 1_000_000), ())
    assert (settings.storage, settings.leftovers, settings.containment) == ("sqlite", "kill", "auto")


def test_the_file_that_init_writes_says_the_defaults() -> None:
    assert parse(DEFAULT_TEXT.encode(), "polpo.json") == (Config(), [])


def test_names_are_polpo_s() -> None:
    config, unknown = parsed(
        {
            "project": "kernel",
            "settings": {"maxConcurrency": 3, "taskTimeout": 1000, "queues": {"builds": {"slots": 1, "paused": True}}},
            "agents": [{"name": "fixer", "command": ["fix", "{prompt}"], "maxConcurrency": 2, "env": {"A": "1"}}],
        }
    )
    assert unknown == []
    assert (config.project, config.settings.max_concurrency, config.settings.task_timeout) == ("kernel", 3, 1000)
    assert config.queues() == {"builds": Queue(name="builds", slots=1, paused=True)}
    assert config.agents == (Agent(name="fixer", command=("fix", "{prompt}"), max_concurrency=2, env={"A": "1"}),)


def test_every_key_is_camel_case_on_disk() -> None:
    _, unknown = parsed({"settings": {"max_concurrency": 3}})
    assert unknown == ["$.settings.max_concurrency"]


def test_unknown_keys_are_reported_with_their_paths_and_otherwise_ignored() -> None:
    """W42."""
    config, unknown = parsed(
        {
            "colour": 1,
            "settings": {"dashboard": {"listen": "x"}, "queues": {"builds": {"slots": 1, "slotz": 2}}},
            "agents": [{"name": "a"}, {"name": "b", "skills": {}}],
        }
    )
    assert unknown == ["$.colour", "$.settings.dashboard", "$.settings.queues.builds.slotz", "$.agents[1].skills"]
    assert config.queues()["builds"].slots == 1


MAIL: dict[str, Any] = {"type": "email", "host": "mail.example", "from": "polpod@h.example", "to": ["me@h.example"]}

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"settings": {"retention": {"days": 0}}}, "$.settings.retention.days"),
    ({"settings": {"notifications": [{"name": "a/b", "url": "http://h/"}]}}, "$.settings.notifications[0].name"),
    ({"settings": {"notifications": [{"name": "a"}]}}, "$.settings.notifications[0]"),
    (
        {"settings": {"notifications": [{"name": "both", "url": "http://h/", "command": ["c"]}]}},
        "$.settings.notifications[0]",
    ),
    ({"settings": {"notifications": [{"name": "a", "url": "http://h:99999/"}]}}, "$.settings.notifications[0]"),
    ({"settings": {"notifications": [{"name": "a", "url": "http://u@h/"}]}}, "$.settings.notifications[0].url"),
    ({"settings": {"notifications": [{"name": "a", "url": "http://h/"}] * 2}}, "$.settings.notifications"),
    *(
        (
            {"settings": {"notifications": {"channels": channels, "rules": rules}}},
            "key` in `$.settings.notifications.channels" if path == "KEY" else f"$.settings.notifications{path}",
        )
        for channels, rules, path in (
            ({"a": {"type": "slack"}}, [], ".channels[...].type"),
            ({"a": {"url": "http://h/"}}, [], ".channels[...]"),
            ({"a/b": {"type": "webhook", "url": "http://h/"}}, [], "KEY"),
            ({"a": {"type": "webhook", "url": "ftp://h/"}}, [], ".channels[...].url"),
            ({"a": {"type": "webhook", "url": "http://h/", "secret": "x", "secretFile": "y"}}, [], ".channels[...]"),
            ({"a": {"type": "webhook", "url": "http://h/", "secret": ""}}, [], ".channels[...].secret"),
            ({"a": {"type": "command", "command": []}}, [], ".channels[...].command"),
            ({"a": MAIL | {"to": []}}, [], ".channels[...].to"),
            ({"a": MAIL | {"to": ["me@h\n"]}}, [], ".channels[...].to[0]"),
            ({"a": MAIL | {"from": "me"}}, [], ".channels[...].from"),
            ({"a": MAIL | {"port": 0}}, [], ".channels[...].port"),
            ({"a": MAIL | {"user": "me"}}, [], ".channels[...]"),
            ({"a": MAIL | {"password": "x"}}, [], ".channels[...]"),
            ({"a": MAIL | {"user": "me", "password": "x", "tls": "none"}}, [], ".channels[...]"),
            ({"a": MAIL | {"timeout": 0}}, [], ".channels[...].timeout"),
            ({"a": MAIL | {"giveUpAfter": -1}}, [], ".channels[...].giveUpAfter"),
            ({"a": MAIL}, [{"id": "r", "channels": ["b"]}], ""),
            ({"a": MAIL}, [{"id": "r", "channels": ["a"]}] * 2, ""),
            ({"a": MAIL}, [{"id": "r", "channels": ["a"], "events": []}], ".rules[0].events"),
            ({"a": MAIL}, [{"id": "r", "channels": ["a"], "condition": {"and": [{}]}}], ".rules[0].condition.and[0]"),
        )
    ),
    ({"settings": {"notifications": [{"name": "a", "command": ["c"], "secret": "x"}]}}, "$.settings.notifications[0]"),
    ({"settings": {"notifications": [{"name": "a", "email": {}}]}}, "$.settings.notifications[0].email"),
    ({"settings": {"notifications": "*"}}, "$.settings.notifications"),
    ({"settings": {"maxConcurrency": 0}}, "$.settings.maxConcurrency"),
    ({"settings": {"maxConcurrency": "4"}}, "$.settings.maxConcurrency"),
    ({"settings": {"storage": "paper"}}, "$.settings.storage"),
    ({"settings": {"killGrace": -1}}, "$.settings.killGrace"),
    ({"settings": {"killGrace": 10**400}}, "$.settings.killGrace"),
    ({"settings": {"taskTimeout": 2**63}}, "$.settings.taskTimeout"),
    ({"settings": {"maxConcurrency": 10**30}}, "$.settings.maxConcurrency"),
    ({"settings": {"reserve": 10**30}}, "$.settings.reserve"),
    ({"settings": {"logLimit": 1000}}, "$.settings.logLimit"),
    ({"settings": {"onShutdown": "panic"}}, "$.settings.onShutdown"),
    ({"settings": {"queues": {"builds": {"slots": -1}}}}, "$.settings.queues[...].slots"),
    ({"agents": [{"name": "a"}, {"name": ""}]}, "$.agents[1].name"),
    ({"settings": {"queues": {"": {}}}}, "key` in `$.settings.queues"),
    ({"settings": {"workDir": "a\0b"}}, "$.settings.workDir"),
    ({"agents": [{"name": "a"}, {"name": " "}]}, "$.agents[1].name"),
    ({"agents": [{"name": "a", "command": ["a\0b"]}]}, "$.agents[0].command[0]"),
    ({"agents": [{}]}, "$.agents[0]"),
    ({"agents": [{"name": "twin"}, {"name": "twin"}]}, "$.agents"),
    ({"settings": []}, "$.settings"),
]


@pytest.mark.parametrize(("document", "path"), WRONG, ids=[path for _, path in WRONG])
def test_a_wrong_value_is_refused_with_its_file_and_its_path(document: dict[str, Any], path: str) -> None:
    """W42."""
    error = refused(document)
    assert error.exit_code == 2
    assert str(error).startswith("polpo.json: ")
    assert str(error).endswith(f" - at `{path}`")


def test_both_forms_of_notifications_are_one_inside() -> None:
    email = {name: value for name, value in MAIL.items() if name != "type"}
    often = {
        "severity": "critical",
        "template": "{{kind}}",
        "condition": {"field": "to", "op": "==", "value": "failed"},
    }
    listed, unknown = parsed(
        {
            "settings": {
                "notifications": [
                    {"name": "hook", "url": "http://h/", "kinds": ["task:*"], "secret": "s", "cooldown": 5, **often},
                    {"name": "mail", "email": email, "timeout": 3, "giveUpAfter": 4},
                    {"name": "run", "command": ["c"]},
                ]
            }
        }
    )
    apart, unknown_too = parsed(
        {
            "settings": {
                "notifications": {
                    "channels": {
                        "hook": {"type": "webhook", "url": "http://h/", "secret": "s"},
                        "mail": MAIL | {"timeout": 3, "giveUpAfter": 4},
                        "run": {"type": "command", "command": ["c"]},
                    },
                    "rules": [
                        {
                            "id": "hook", "name": "hook", "events": ["task:*"], "channels": ["hook"], "cooldownMs": 5,
                            **often,
                        },
                        {"id": "mail", "name": "mail", "channels": ["mail"]},
                        {"id": "run", "name": "run", "channels": ["run"]},
                    ],
                }
            }
        }
    )  # fmt: skip
    assert listed.settings.told == apart.settings.told
    assert unknown == unknown_too == []
    assert Settings().told == Notifications()


def test_a_pattern_that_means_no_kind_of_event_is_reported_with_its_path() -> None:
    """W43."""
    channels = {"a": MAIL | {"colour": 1}}
    rules = [{"id": "r", "channels": ["a"], "events": ["*", "tsak:*"], "actions": []}]
    assert parsed({"settings": {"notifications": {"channels": channels, "rules": rules}}})[1] == [
        "$.settings.notifications.channels.a.colour",
        "$.settings.notifications.rules[0].actions",
        "$.settings.notifications.rules[0].events[1] ('tsak:*')",
    ]
    listed = [{"name": "a", "email": MAIL | {"x": 1}, "kinds": ["no:such"]}]
    assert parsed({"settings": {"notifications": listed}})[1] == [
        "$.settings.notifications[0].email.x",
        "$.settings.notifications[0].kinds[0] ('no:such')",
    ]


def test_no_secret_is_shown() -> None:
    secret = {"user": "me", "password": "hidden"}
    both = [{"name": "a", "url": "http://h/", "secret": "hidden"}, {"name": "b", "email": MAIL | secret}]
    apart = {"channels": {"b": MAIL | secret | {"password": None, "passwordFile": "/a/file"}}}
    for said in (both, apart):
        document = json.dumps(shown(parsed({"settings": {"notifications": said}})[0]))
        assert "hidden" not in document
        assert '"***"' in document or "/a/file" in document


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[]", b"3", b'{"settings": null}'])
def test_what_is_no_configuration_is_refused(text: bytes) -> None:
    with pytest.raises(StartError, match=r"^polpo.json: ") as found:
        parse(text, "polpo.json")
    assert found.value.exit_code == 2


def test_a_file_that_cannot_be_read_is_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="Is a directory"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:s3:cret@h/db", "postgresql://me:***@h/db"),
        ("postgresql://h/db?password=x&sslmode=require", "postgresql://h/db?password=***&sslmode=require"),
        ("host=h password=abc user=me", "host=h password=*** user=me"),
        (r"host=h password='a \' b' user=me", "host=h password=*** user=me"),
        ("postgresql://me:s@cr/et@h/db", "postgresql://me:***@h/db"),
        ("postgresql://h/db?sslpassword=a b&user=me", "postgresql://h/db?sslpassword=***&user=me"),
        ("host = h password = 'a b' user=me", "host = h password = *** user=me"),
        (r"password=a&b\ c user=me", "password=*** user=me"),
        ("host=h password='a b", "host=h password=***"),
        ("postgresql:///db", "postgresql:///db"),
    ],
)
def test_the_address_of_a_database_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
