"""Which rules tell whom of an event, and in which words."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polpod.model.conditions import Condition
from polpod.model.documents import MissionDocument
from polpod.model.events import Event, fits, known
from polpod.model.notifying import Rule, Scope, ScopedRule
from polpod.rules import notifying
from polpod.rules.notifying import Wanted, in_force, meant, notice, render, silences, silent

AT = datetime(2026, 1, 2, tzinfo=UTC)


def event(kind: str = "task:created", subject: str = "task/1", **body: Any) -> Event:
    return Event(seq=5, at=AT, kind=kind, subject=subject, body=body)


@pytest.mark.parametrize(
    ("glob", "kind", "expected"),
    [
        ("*", "quality:gate:failed", True),
        ("**", "quality:gate:failed", True),
        ("task:*", "task:created", True),
        ("task:*", "task:retry:blocked", False),
        ("task:**", "task:retry:blocked", True),
        ("quality:*:failed", "quality:gate:failed", True),
        ("**:failed", "quality:gate:failed", True),
        ("task:cr*d", "task:created", True),
        ("task:c*d", "task:", False),
        ("task", "task:created", False),
        ("task.created", "task:created", False),
        ("task:[cr]*", "task:created", False),
    ],
)
def test_a_star_is_one_part_and_two_are_many(glob: str, kind: str, expected: bool) -> None:
    """§13.209."""
    assert fits(glob, kind) is expected


def test_a_pattern_that_means_nothing_is_known_as_such() -> None:
    """W43: what a rule may name, and what happens, is one list."""
    for glob in ("*", "task:*", "**:failed", "delay:*", "checkpoint:reached", "a2a:quarantined", "*:quarantined"):
        assert known(glob), glob
    for glob in ("tsak:*", "task", "task:*:*", "no:such", ""):
        assert not known(glob), glob


@given(glob=st.text("*:ae", max_size=200), kind=st.text("ae:", max_size=40))
def test_no_pattern_takes_long(glob: str, kind: str) -> None:
    fits(glob, kind)


def scope(*ids: str, inherit: bool = False) -> Scope:
    return Scope(tuple(ScopedRule(id=i, channels=("c",), name="scoped") for i in ids), inherit)


COMMON = (Rule(id="one", channels=("c",)), Rule(id="two", channels=("c",)))


@pytest.mark.parametrize(
    ("scopes", "keys"),
    [
        ([], ["one", "two"]),
        ([("m", scope("three"))], ["m:three"]),
        ([("m", scope())], []),
        ([("m", scope("three", inherit=True))], ["m:three", "one", "two"]),
        ([("m", scope("two", inherit=True))], ["m:two", "one"]),
        ([("t", scope("four")), ("m", scope("three", inherit=True))], ["t:four"]),
        ([("t", scope("four", inherit=True)), ("m", scope("three"))], ["t:four", "m:three"]),
        ([("t", scope("three", inherit=True)), ("m", scope("three", "five", inherit=True))], ["t:three", "m:five", "one", "two"]),
    ],
)  # fmt: skip
def test_the_nearest_scope_counts_unless_it_inherits(scopes: list[tuple[str, Scope]], keys: list[str]) -> None:
    """W43: the rules of missions and tasks apply (§10.5)."""
    assert [wanted.key for wanted in in_force(COMMON, scopes)] == keys


def test_an_event_goes_to_the_channels_of_its_rules_and_to_those_that_it_names() -> None:
    """§13.182."""
    rules = in_force((Rule(id="r", events=("task:*",), channels=("a", "b")),), [])
    assert [w.key for w in meant(event(), "a", rules)] == ["r"]
    assert meant(event("run:late"), "a", rules) == []
    assert meant(event(), "c", rules) == []
    reached = event("checkpoint:reached", notify_channels=["a", "c"])
    assert [w.key for w in meant(reached, "c", rules)] == ["notify_channels"]
    assert meant(reached, "b", rules) == []
    named = event(notify_channels=["a"])
    assert [w.key for w in meant(named, "a", rules)] == ["r"], "not twice"


def test_a_channel_is_not_told_that_it_could_not_be_told() -> None:
    rules = in_force((Rule(id="all", channels=("a", "b")),), [])
    failed = event("notification:failed", "notification/a", channel="a")
    assert meant(failed, "a", rules) == []
    assert [w.key for w in meant(failed, "b", rules)] == ["all"]


def test_a_condition_decides_and_a_template_says() -> None:
    """§13.209: templates."""
    rule = Rule(
        id="r", channels=("c",), condition=Condition("to", "==", "failed"), severity="critical",
        template="{{task.title}} {{ to }}{{missing.x}} {{task.labels}} {{n}}\nmore {{{to}}} {{",
    )  # fmt: skip
    values = {"to": "failed", "n": 1, "task": {"title": "{{to}} ü", "labels": {"a": "b"}}}
    told = notice(Wanted(rule, "r"), event(), values)
    assert told is not None
    assert told.text == '{{to}} ü failed {"a": "b"} 1\nmore {failed} {{'
    assert told.title == '{{to}} ü failed {"a": "b"} 1'
    assert told.id == "5.r"
    assert notice(Wanted(rule, "r"), event(), values | {"to": "done"}) is None


def test_without_a_template_it_says_what_happened_to_what() -> None:
    usual = notice(Wanted(COMMON[0], "one"), event(), {"task": {"title": "build"}})
    assert usual is not None
    assert (usual.title, usual.text) == ("task:created: task/1 (build)",) * 2


def test_what_is_told_has_an_end() -> None:
    assert len(render("{{x}}" * 10, {"x": "a" * 60_000})) == 65536
    told = notice(Wanted(Rule(id="r", channels=("c",), template="{{x}}"), "r"), event(), {"x": "a " * 5000})
    assert told is not None
    assert len(told.title) == 200
    empty = notice(Wanted(Rule(id="r", channels=("c",), template="{{x}}"), "r"), event(), {})
    assert empty is not None
    assert empty.title == "task:created"


def test_the_event_s_own_fields_go_before_those_of_its_body() -> None:
    spoofed = event(kind="run:stuck", by="me")
    values = notifying.values_of(spoofed, msgspec.to_builtins(spoofed), task={"id": "1"})
    assert (values["kind"], values["subject"], values["by"], values["body"]["by"]) == (
        "run:stuck",
        "task/1",
        "me",
        "me",
    )


def told(key: str, at: datetime, cooldown_ms: int) -> notifying.Notice:
    rule = Rule(id=key, channels=("c",), cooldown_ms=cooldown_ms)
    return notifying.Notice(msgspec.structs.replace(event(), at=at), rule, key, "t", "t")


def test_a_rule_is_silent_for_its_cooldown_by_the_time_of_events() -> None:
    """§13.209: cooldown."""
    kept = silences({}, told("r", AT, 1000), 10)
    assert kept == {"r": AT + timedelta(seconds=1)}
    assert silent(kept["r"], AT, 1000)
    assert silent(kept["r"], AT + timedelta(milliseconds=999), 1000)
    assert not silent(kept["r"], AT + timedelta(seconds=1), 1000)
    assert not silent(kept["r"], AT - timedelta(days=1), 1000), "the clock was set back"
    assert not silent(None, AT, 1000)


def test_of_silences_those_are_kept_that_last_and_no_more_than_so_many() -> None:
    kept: dict[str, datetime] = {}
    for n in range(5):
        kept = silences(kept, told(f"r{n}", AT, 1000), 3)
    assert list(kept) == ["r2", "r3", "r4"]
    assert silences(kept, told("x", AT + timedelta(seconds=1), 0), 3) == {}


@pytest.mark.parametrize(
    ("age", "failing", "limit", "expected"),
    [
        (10.0, 10.0, 86400.0, False),
        (86400.0, 86400.0, 86400.0, True),
        (90000.0, 0.0, 86400.0, False),  # the daemon was off for a day
        (90000.0, 299.0, 86400.0, False),
        (90000.0, 300.0, 86400.0, True),
        (-1e9, 86400.0, 86400.0, True),  # the clock was set back
        (1e9, 1.0, 86400.0, False),  # and forward
        (0.0, 0.0, 0.0, True),
        (5.0, 4.0, 5.0, False),
    ],
)
def test_what_cannot_be_told_is_given_up_when_it_is_old_and_the_channel_had_its_chance(
    age: float, failing: float, limit: float, expected: bool
) -> None:
    """F88."""
    assert notifying.hopeless(age, failing, limit) is expected


def document(**more: Any) -> MissionDocument:
    tasks = [{"title": "a", "command": ["true"]}, {"title": "b", "command": ["true"]}]
    return msgspec.json.decode(json.dumps({"tasks": tasks} | more), type=MissionDocument)


BARRIER = {"name": "x", "afterTasks": ["a"], "blocksTasks": ["b"]}


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"notifications": {"rules": [{"id": "r", "channels": ["ops", "opps"]}]}}, "$.notifications.rules[0].channels[1]"),
        ({"notifications": {"rules": [{"id": "r", "channels": ["ops"], "events": ["*", "tsak:*"]}]}}, "$.notifications.rules[0].events[1]"),
        ({"checkpoints": [BARRIER | {"notifyChannels": ["opps"]}]}, "$.checkpoints[0].notifyChannels[0]"),
        ({"qualityGates": [BARRIER | {"notifyChannels": ["ops", "opps"]}]}, "$.qualityGates[0].notifyChannels[1]"),
        ({"delays": [BARRIER | {"duration": "P1D", "notifyChannels": ["opps"]}]}, "$.delays[0].notifyChannels[0]"),
        ({"tasks": [{"title": "a", "notifications": {"rules": [{"id": "r", "channels": ["opps"]}]}}]}, "$.tasks[0].notifications.rules[0].channels[0]"),
    ],
)  # fmt: skip
def test_a_document_that_names_what_is_not_there_is_refused_with_its_path(more: dict[str, Any], path: str) -> None:
    """W43: no rule is there that never applies."""
    assert [p for p, _ in notifying.faults(document(**more), {"ops": None})] == [path]


def test_a_document_may_name_what_is_there() -> None:
    good = document(
        notifications={"rules": [{"id": "r", "channels": ["ops"], "events": ["task:**"]}]},
        checkpoints=[BARRIER | {"notifyChannels": ["ops"]}],
    )
    assert list(notifying.faults(good, {"ops": None})) == []


@pytest.mark.parametrize(
    ("scope_said", "message"),
    [
        ({"rules": [{"id": "r", "channels": ["c"], "colour": 1}]}, "`$.notifications.rules[0]`"),
        ({"rule": []}, "`$.notifications`"),
        ({"rules": [{"id": "r", "channels": []}]}, "`$.notifications.rules[0].channels`"),
        ({"rules": [{"id": "r r", "channels": ["c"]}]}, "`$.notifications.rules[0].id`"),
        ({"rules": [{"id": "r", "channels": ["c"]}] * 2}, "rule named twice: r - at `$.notifications`"),
        ({"rules": [{"id": "r", "channels": ["c"], "cooldownMs": -1}]}, "`$.notifications.rules[0].cooldownMs`"),
        ({"rules": [{"id": "r", "channels": ["c"], "cooldownMs": 10**30}]}, "`$.notifications.rules[0].cooldownMs`"),
        ({"rules": [{"id": "r", "channels": ["c"], "severity": "loud"}]}, "`$.notifications.rules[0].severity`"),
        ({"rules": [{"id": "r", "channels": ["c"], "template": " "}]}, "`$.notifications.rules[0].template`"),
        ({"rules": [{"id": "r", "channels": ["c"], "template": "a\0"}]}, "`$.notifications.rules[0]`"),
        ({"rules": [{"id": "r", "channels": ["c"], "condition": {}}]}, "`$.notifications.rules[0].condition`"),
    ],
)  # fmt: skip
def test_a_scope_says_nothing_that_is_ignored(scope_said: object, message: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        document(notifications=scope_said)
    assert message in str(caught.value)
