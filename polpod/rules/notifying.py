"""Which rules tell whom of an event, and in which words (polpo-behaviour §10.5).

Rule 1: the rules of a task stand in for those of its mission, and these for the ones of polpo.json; with `inherit` they
are beside them, and replace only what has their id.  Rule 2: an event says itself which channels are told in any case
(`notify_channels`).  Rule 3: how long a rule is silent is counted by the times of events, so that whoever decides again
decides the same.  Rule 4: what a template inserts is never read as a template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from polpod.model.documents import MissionDocument
from polpod.model.events import Event, fits
from polpod.model.notifying import Rule, Scope, named, strange
from polpod.rules.conditions import holds, value_at

TESTED = "notification:test"
FAILED = "notification:failed"
GAP = "journal:gap"

PATIENCE = 300.0
"""Seconds that a channel must have failed before anything is given up."""

LONGEST_TEXT = 65536
LONGEST_TITLE = 200

_PLACE = re.compile(r"\{\{\s*([^{}\s]+)\s*\}\}")


class Wanted(Struct, frozen=True):
    """A rule that applies to an event, and what its silence is kept under."""

    rule: Rule
    key: str


class Notice(Struct, frozen=True):
    """What somebody is told of an event."""

    event: Event
    rule: Rule
    key: str
    title: str
    text: str

    @property
    def id(self) -> str:
        """The same each time that it is delivered."""
        return f"{self.event.seq}.{self.rule.id}"


def faults(document: MissionDocument, channels: Collection[str]) -> Iterator[tuple[str, str]]:
    """What a mission document says of notifications that cannot be meant: the path, and what is wrong there."""
    scopes = [("$.notifications.rules", document.notifications)]
    scopes += [(f"$.tasks[{n}].notifications.rules", task.notifications) for n, task in enumerate(document.tasks)]
    for place, scope in scopes:
        for path, glob in strange(scope.rules if scope is not None else ()):
            yield place + path, f"there is no kind of event {glob!r}: docs/events.md has them all"
        for n, rule in enumerate(scope.rules if scope is not None else ()):
            yield from _unknown(f"{place}[{n}].channels", rule.channels, channels)
    for place, barriers in (
        ("$.qualityGates", document.quality_gates), ("$.checkpoints", document.checkpoints), ("$.delays", document.delays)
    ):  # fmt: skip
        for n, barrier in enumerate(barriers):
            yield from _unknown(f"{place}[{n}].notifyChannels", barrier.notify_channels, channels)


def _unknown(place: str, names: Sequence[str], channels: Collection[str]) -> Iterator[tuple[str, str]]:
    for n, name in enumerate(names):
        if name not in channels:
            yield f"{place}[{n}]", f"there is no channel {name} in polpo.json (there are: {named(channels)})"


def in_force(common: Iterable[Rule], scopes: Sequence[tuple[str, Scope]]) -> list[Wanted]:
    """The rules that an event is held against; `scopes` have a prefix for their keys, the nearest scope first."""
    found: dict[str, Wanted] = {}
    for prefix, scope in scopes:
        for rule in scope.rules:
            found.setdefault(rule.id, Wanted(rule, f"{prefix}:{rule.id}"))
        if not scope.inherit:
            return list(found.values())
    for one in common:
        found.setdefault(one.id, Wanted(one, one.id))
    return list(found.values())


def asked_for(channel: str) -> Wanted:
    """The rule of an event that names its channels itself."""
    return Wanted(Rule(id="notify_channels", channels=(channel,)), "notify_channels")


def meant(event: Event, channel: str, rules: Iterable[Wanted]) -> list[Wanted]:
    """Those of the rules that may tell the channel of such an event, whatever their conditions."""
    if event.kind == FAILED and event.body.get("channel") == channel:
        return []  # it would not be told of that either
    found = [w for w in rules if channel in w.rule.channels and any(fits(glob, event.kind) for glob in w.rule.events)]
    return found or ([asked_for(channel)] if channel in event.body.get("notify_channels", ()) else [])


def notice(wanted: Wanted, event: Event, values: Mapping[str, Any]) -> Notice | None:
    """What the rule says of the event; None: its condition does not hold.  `values` are what `values_of` gives."""
    rule = wanted.rule
    if rule.condition is not None and not holds(rule.condition, values):
        return None
    text = _usual(event, values) if rule.template is None else render(rule.template, values)
    title = " ".join(text.strip().partition("\n")[0].split())[:LONGEST_TITLE]
    return Notice(event, rule, wanted.key, title or event.kind, text)


def values_of(event: Event, fields: Mapping[str, Any], **about: Any) -> dict[str, Any]:
    """What conditions and templates may ask for: what the body says, the event's own fields, and what it is `about`."""
    return {**event.body, **fields, **about}


def render(template: str, values: Mapping[str, Any]) -> str:
    """The text, at most LONGEST_TEXT characters, with a value at each `{{path}}`; nothing where there is none."""
    return _PLACE.sub(lambda place: _text(value_at(values, place[1])), template)[:LONGEST_TEXT]


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
    return json.dumps(value, ensure_ascii=False)


def _usual(event: Event, values: Mapping[str, Any]) -> str:
    about = value_at(values, "task.title") or value_at(values, "mission.name")
    return f"{event.kind}: {event.subject}" + (f" ({about})" if about else "")


def silent(until: datetime | None, at: datetime, cooldown_ms: int) -> bool:
    """Whether a rule says nothing of an event of that time; a clock that was set back silences nobody for longer."""
    return until is not None and until - timedelta(milliseconds=cooldown_ms) <= at < until


def hopeless(age: float, failing: float, limit: float) -> bool:
    """Whether an event of which a channel could not be told just now is given up; all in seconds.

    `age` is the event's by the wall clock, `failing` for how long the channel took nothing since the daemon started: after
    a night in which the daemon was off, or a clock that was set forward, a channel has its chance all the same.
    """
    return max(age, failing) >= limit and failing >= min(limit, PATIENCE)


def silences(kept: Mapping[str, datetime], told: Notice, most: int) -> dict[str, datetime]:
    """Until when rules are silent after this one told of an event: without what is over, and at most so many."""
    at = told.event.at
    lasting = {key: until for key, until in kept.items() if until > at and key != told.key}
    if told.rule.cooldown_ms:
        lasting[told.key] = at + timedelta(milliseconds=told.rule.cooldown_ms)
    return dict(list(lasting.items())[-most:])
