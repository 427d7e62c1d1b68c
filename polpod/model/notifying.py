"""Who outside is told of which events: channels and rules, as polpo.json and mission documents say them.

A channel is a way to tell somebody, a rule says which events go where.  polpo.json has them apart (as Polpo has), or as a
list in which each entry is a channel with the one rule for it; both are `Notifications` inside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct, field, structs

from polpod.model.conditions import Condition
from polpod.model.described import described
from polpod.model.entity import storable
from polpod.model.events import known

LONGEST = 36_500 * 86_400_000
"""Milliseconds: a hundred years."""

Milliseconds = Annotated[int, Meta(ge=0, le=LONGEST)]
Limit = Annotated[int, Meta(ge=1, le=LONGEST)]

ChannelName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
"""Its cursor and its log go by this name, and a delivery by it and its rule's."""
Glob = Annotated[str, Meta(min_length=1, max_length=200)]
"""Of kinds of events: `*` is one part between colons, `**` any number of them; alone, `*` is all."""
Secret = Annotated[str, Meta(min_length=1, max_length=4096)]
File = Annotated[str, Meta(min_length=1, max_length=4096)]
Template = Annotated[str, Meta(min_length=1, max_length=65536, pattern=r"\S")]
"""Text with `{{path}}` where a value of the event goes; its first line is the title."""
Severity = Literal["info", "warning", "critical"]
Mailbox = Annotated[str, Meta(pattern=r"^[!-;=?A-~]{1,64}@[A-Za-z0-9._:\[\]-]{1,255}\Z")]
"""An address alone, without a name."""
Address = Annotated[str, Meta(pattern=r"^https?://[^\s/?#@]+([/?][!-~]*)?\Z")]
Argv = Annotated[tuple[str, ...], Meta(min_length=1)]

ALL = ("*",)

SECRETS = frozenset({"secret", "password"})
"""Keys of polpo.json whose values are never shown."""


class _Channel(Struct, frozen=True, kw_only=True, rename="camel", tag_field="type"):
    timeout: Limit = 10_000
    """Milliseconds that one attempt may take."""
    give_up_after: Milliseconds = 86_400_000
    """How old an event may become of which it cannot be told."""


class Webhook(_Channel, frozen=True, kw_only=True, rename="camel", tag="webhook"):
    url: Address
    secret: Secret | None = None
    """Requests are signed with it."""
    secret_file: File | None = None
    """What contains it, instead."""

    def __post_init__(self) -> None:
        where = urlsplit(self.url)
        _ = where.port  # raises ValueError for what is none
        if not where.hostname:
            raise ValueError("url: it names no host")
        _one_at_most(secret=self.secret, secretFile=self.secret_file)


class Command(_Channel, frozen=True, kw_only=True, rename="camel", tag="command"):
    command: Argv


class Email(_Channel, frozen=True, kw_only=True, rename="camel", tag="email"):
    """Mail by SMTP."""

    host: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,255}\Z")]
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """None: what is usual for `tls`."""
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: Secret | None = None
    password: Secret | None = None
    password_file: File | None = None
    sender: Mailbox = field(name="from")
    to: Annotated[tuple[Mailbox, ...], Meta(min_length=1, max_length=100)]

    def __post_init__(self) -> None:
        _one_at_most(password=self.password, passwordFile=self.password_file)
        has_password = self.password is not None or self.password_file is not None
        if has_password is (self.user is None):
            raise ValueError("`user` goes with `password` or `passwordFile`")
        if has_password and self.tls == "none" and self.host not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("a password is not sent in clear text to another host: `tls` must not be `none`")


Channel = Webhook | Command | Email


class Rule(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    id: ChannelName
    name: Annotated[str, Meta(max_length=200)] = ""
    events: Annotated[tuple[Glob, ...], Meta(min_length=1)] = ALL
    channels: Annotated[tuple[ChannelName, ...], Meta(min_length=1)]
    condition: Condition | None = None
    severity: Severity = "info"
    template: Template | None = None
    cooldown_ms: Milliseconds = 0
    """For so long after an event that it told of, it tells the same channel of no other."""

    def __post_init__(self) -> None:
        for text in (self.name, self.template, *self.events):
            storable(text)


class Notifications(Struct, frozen=True, rename="camel"):
    """All channels and the rules of polpo.json."""

    channels: dict[ChannelName, Channel] = {}
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        _distinct(self.rules)
        for n, rule in enumerate(self.rules):
            for channel in rule.channels:
                if channel not in self.channels:
                    raise ValueError(f"rules[{n}]: there is no channel {channel} (there are: {named(self.channels)})")


class Notification(Struct, frozen=True, rename="camel"):
    """A channel with the one rule for it, both of this name."""

    name: ChannelName
    kinds: tuple[Glob, ...] = ALL
    url: Address | None = None
    secret: Secret | None = None
    secret_file: File | None = None
    command: Argv | None = None
    email: Email | None = None
    timeout: Limit = 10_000
    give_up_after: Milliseconds = 86_400_000
    condition: Condition | None = None
    severity: Severity = "info"
    template: Template | None = None
    cooldown: Milliseconds = 0

    def __post_init__(self) -> None:
        if sum(way is not None for way in (self.url, self.command, self.email)) != 1:
            raise ValueError("give either url or command or email")
        if self.url is None and (self.secret is not None or self.secret_file is not None):
            raise ValueError("only requests to a url are signed with a secret")
        _ = self.channel  # raises ValueError

    @property
    def channel(self) -> Channel:
        often: dict[str, Any] = {"timeout": self.timeout, "give_up_after": self.give_up_after}
        if self.url is not None:
            return Webhook(url=self.url, secret=self.secret, secret_file=self.secret_file, **often)
        if self.command is not None:
            return Command(command=self.command, **often)
        assert self.email is not None
        return structs.replace(self.email, **often)

    @property
    def rule(self) -> Rule:
        return Rule(
            id=self.name, name=self.name, events=self.kinds or ALL, channels=(self.name,), condition=self.condition,
            severity=self.severity, template=self.template, cooldown_ms=self.cooldown,
        )  # fmt: skip


class ScopedRule(Rule, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Of a mission document, which says nothing that is ignored."""


@described
class Scope(Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """What a mission or one of its tasks says: its rules are in the place of those further out."""

    rules: tuple[ScopedRule, ...] = ()
    inherit: bool = False
    """They are beside them; one stands in for a rule of the same id."""

    def __post_init__(self) -> None:
        _distinct(self.rules)


def together(listed: tuple[Notification, ...]) -> Notifications:
    """The list of polpo.json as channels and rules."""
    return Notifications({n.name: n.channel for n in listed}, tuple(n.rule for n in listed))


def named(channels: Iterable[ChannelName]) -> str:
    """The names, for a message."""
    names = list(channels)
    return (", ".join(names[:20]) or "none") + (", …" if names[20:] else "")


def strange(rules: Sequence[Rule]) -> Iterator[tuple[str, str]]:
    """The globs that mean no kind of event, each with its place among the rules."""
    for n, rule in enumerate(rules):
        yield from ((f"[{n}].events[{m}]", glob) for m, glob in enumerate(rule.events) if not known(glob))


def _distinct(rules: tuple[Rule, ...]) -> None:
    numbers = Counter(rule.id for rule in rules)
    if twice := [i for i, number in numbers.items() if number > 1]:
        raise ValueError(f"rule named twice: {', '.join(twice[:5])}")


def _one_at_most(**given: str | None) -> None:
    if sum(value is not None for value in given.values()) > 1:
        raise ValueError(f"give either {' or '.join(given)}")
