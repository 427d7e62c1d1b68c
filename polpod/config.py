"""polpo.json: settings as a person writes them, with Polpo's camelCase names and milliseconds.

`Settings` below is the one place for names, types and defaults; unknown keys are kept in the file and reported, so that a
file of another version does not stop the daemon.  Keys that Polpo has, and that have no effect here, are kept, too
(`WITHOUT_EFFECT`).
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, field

from polpod.durable import sync
from polpod.errors import InvalidConfig, StartError
from polpod.model.agents import Agent, Queue
from polpod.model.entity import storable
from polpod.model.gates import ApprovalGate
from polpod.model.notifying import SECRETS, Milliseconds, Notification, Notifications, strange, together
from polpod.model.policies import DefaultRetryPolicy, EscalationPolicy
from polpod.model.submissions import Name
from polpod.model.web import Web
from polpod.paths import STATE, StateDirectory

log = logging.getLogger(__name__)


class QueueSettings(Struct, frozen=True, rename="camel"):
    slots: Annotated[int, Meta(ge=0)] | None = None
    paused: bool = False
    after_crash: Literal["resume", "pause"] = "resume"
    """`pause`: a person looks first when the daemon did not stop in order (F78)."""


class Retention(Struct, frozen=True, rename="camel"):
    """What is kept of what is over: whatever is beyond one of these goes, the oldest first."""

    days: Annotated[int, Meta(ge=1, le=36_500)] = 30
    runs: Annotated[int, Meta(ge=1)] = 100_000
    events: Annotated[int, Meta(ge=1)] = 1_000_000


class Sla(Struct, frozen=True, rename="camel"):
    """What happens about deadlines."""

    warning_threshold: Annotated[float, Meta(gt=0, le=1)] = 0.8
    """The part of the time until a deadline after which it is close."""
    violation_action: Literal["notify", "fail"] = "notify"
    """`fail`: a task that is not done at its deadline is ended, and failed."""


class Artifacts(Struct, frozen=True, rename="camel"):
    """How much jobs may leave behind, in bytes."""

    max_bytes: Annotated[int, Meta(ge=1)] = 50 * 2**20
    """Of one artifact."""
    max_total_bytes: Annotated[int, Meta(ge=1)] = 2**30

    def __post_init__(self) -> None:
        if self.max_total_bytes < self.max_bytes:
            raise ValueError("artifacts: maxTotalBytes is less than maxBytes")


class Settings(Struct, frozen=True, rename="camel"):
    """`settings` in polpo.json.  None: off, or the default that its comment names."""

    storage: Literal["sqlite", "file", "postgres", "memory"] = "sqlite"
    """Where tasks and all else but runs are kept; `polpoctl store copy` moves them."""
    database_url: str | None = None
    """For `postgres`, as libpq takes it; None: $DATABASE_URL."""
    log_level: Literal["quiet", "normal", "verbose"] = "normal"
    """What polpod says of itself, unless `--log-level` does."""
    work_dir: str = "."
    """Where agents work that have no `cwd`, from the directory that contains `.polpo`."""
    max_concurrency: Annotated[int, Meta(ge=1)] = field(default_factory=lambda: max(2, os.cpu_count() or 2))
    queues: dict[Name, QueueSettings] = {}
    max_retries: Annotated[int, Meta(ge=0)] | None = None
    """For tasks that do not say; None: 3 for work given to an agent, none for commands."""
    task_timeout: Milliseconds | None = None
    """`max_duration` of tasks that do not say; None: 30 minutes for work given to an agent, none for commands."""
    stale_threshold: Milliseconds | None = None
    """As above; None: 5 minutes for work given to an agent, none for commands."""
    kill_grace: Milliseconds = 10_000
    shutdown_timeout: Milliseconds = 30_000
    on_shutdown: Literal["stop", "keep"] = "stop"
    log_limit: Annotated[int, Meta(ge=2**20)] = 64 * 2**20
    """Bytes of one run's log that are kept."""
    reserve: Annotated[int, Meta(ge=0)] = 64 * 2**20
    """Bytes of free space below which nothing starts and nothing is accepted."""
    leftovers: Literal["kill", "keep"] = "kill"
    enable_volatile_teams: bool = True
    """Whether the agents of a mission's document come with its executions; otherwise its tasks cannot name them."""
    volatile_cleanup: Literal["on_complete", "manual"] = "on_complete"
    """When they leave: as their execution ends, or when somebody removes them."""
    retention: Retention = field(default_factory=Retention)
    artifacts: Artifacts = field(default_factory=Artifacts)
    notifications: tuple[Notification, ...] | Notifications = ()
    """Who is told of events: a list, or channels and rules as Polpo has them; `told` is either."""
    approval_gates: tuple[ApprovalGate, ...] = ()
    max_question_rounds: Annotated[int, Meta(ge=0, le=1000)] = 2
    """Questions that runs of one task may ask."""
    enable_scheduler: bool = True
    """False: no mission is carried out by its schedule."""
    sla: Sla = field(default_factory=Sla)
    max_fix_attempts: Annotated[int, Meta(ge=0)] = 2
    """How often, between two retries, an agent is told what its checks found, to put that right."""
    max_assessment_retries: Annotated[int, Meta(ge=0)] = 1
    """How often checks are carried out again that could not be."""
    default_retry_policy: DefaultRetryPolicy | None = None
    """Of tasks that have none of their own."""
    escalation_policy: EscalationPolicy | None = None
    review_command: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None
    """Asked for scores by an `llm_review` that names no command."""
    containment: Literal["auto", "session"] = "auto"
    """`auto`: a cgroup for each run where that is possible."""
    web: Web | None = None
    """None: nobody listens but the socket."""

    @property
    def told(self) -> Notifications:
        """Who is told of events, whichever form it has in the file."""
        said = self.notifications
        return said if isinstance(said, Notifications) else together(said)


class Config(Struct, frozen=True):
    """polpo.json, whole."""

    project: str | None = None
    settings: Settings = field(default_factory=Settings)
    agents: tuple[Agent, ...] = ()

    def queues(self) -> dict[str, Queue]:
        return {n: Queue(name=n, slots=q.slots, paused=q.paused) for n, q in self.settings.queues.items()}


WITHOUT_EFFECT = frozenset(
    [f"$.{key}" for key in ("org", "team", "teams", "providers", "version", "author", "tags")]
    + [
        f"$.settings.{key}"
        for key in (
            "maxResolutionAttempts", "autoCorrectExpectations", "defaultQualityThreshold",
            "sla.checkIntervalMs", "sla.warningChannels", "sla.violationChannels", "orchestratorModel",
            "imageModel",
            "reasoning", "modelAllowlist", "orchestratorSkills", "emailAllowedDomains",
        )
    ]
)  # fmt: skip
"""What Polpo's own polpo.json may say and means nothing here: no mistake, so nothing that a daemon would warn of."""

NOTIFICATIONS = "$.settings.notifications"

DEFAULT_TEXT = '{\n  "settings": {\n    "storage": "sqlite"\n  }\n}\n'


def load(path: str) -> tuple[Config, list[str]]:
    """Read polpo.json: the configuration, and the paths of keys that nobody knows.

    A missing file is an empty one.  Raises StartError, naming the file; InvalidConfig, and the path of what is wrong.
    """
    text = _read(path)
    return (Config(), []) if text is None else parse(text, path)


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StartError(f"{path}: {exc.strerror}") from exc


def read(path: str) -> tuple[dict[str, Any] | None, list[str]]:
    """polpo.json as it stands there (None: there is none), and the paths of keys that nobody knows.  Raises as `load`."""
    text = _read(path)
    if text is None:
        return None, []
    _, unknown = parse(text, path)
    document: dict[str, Any] = json.loads(text)
    return document, unknown


def text_of(document: Mapping[str, Any], path: str) -> tuple[str, list[str]]:
    """What to write for the document, and the paths of keys that nobody knows.  Raises InvalidConfig."""
    try:
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    except (ValueError, TypeError, RecursionError) as exc:
        raise InvalidConfig(f"{path}: {exc}") from exc
    _, unknown = parse(text.encode(), path)
    return text, unknown


def write(path: str, text: str) -> None:
    """Put polpo.json in place in one step: a full disk or a power cut leaves what was there.  Raises OSError."""
    temporary = f"{path}.{os.getpid()}.{threading.get_native_id()}"
    try:
        with open(temporary, "w", encoding="utf-8", opener=_for_us_alone) as file:
            file.write(text)
        sync(temporary)
        os.rename(temporary, path)
        sync(os.path.dirname(path))
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)  # it may name a database with its password


def parse(text: bytes, path: str) -> tuple[Config, list[str]]:
    """As `load`, from the text of the file; `path` is for messages."""
    try:
        document = json.loads(text)
        _require_storable(document, "$")
        config = msgspec.convert(document, Config)
    except (ValueError, RecursionError) as exc:  # msgspec.ValidationError and json.JSONDecodeError are ValueErrors
        raise InvalidConfig(f"{path}: {exc}") from exc
    listed = config.settings.notifications
    for what, place, names in (
        ("agent", "$.agents", [agent.name for agent in config.agents]),
        ("notification", NOTIFICATIONS, [] if isinstance(listed, Notifications) else [n.name for n in listed]),
        ("gate", "$.settings.approvalGates", [g.id for g in config.settings.approval_gates]),
    ):
        if twice := {n for n in names if names.count(n) > 1}:
            raise InvalidConfig(f"{path}: {what} named twice: {', '.join(sorted(twice))} - at `{place}`")
    unknown = [key for key in _unknown(document, Config, "$") if key not in WITHOUT_EFFECT]
    return config, unknown + _strange(config.settings)


def _strange(settings: Settings) -> list[str]:
    """The patterns that mean no kind of event: as unknown as a key, so that a rule that never applies is seen (W43)."""
    place = f"{NOTIFICATIONS}.rules"
    if not isinstance(settings.notifications, Notifications):
        return [
            f"{NOTIFICATIONS}{path.replace('.events', '.kinds')} ({glob!r})"
            for path, glob in strange(settings.told.rules)
        ]
    return [f"{place}{path} ({glob!r})" for path, glob in strange(settings.told.rules)]


def _require_storable(value: Any, path: str) -> None:
    """Raises ValueError for what no store keeps, and no system call takes, with its path."""
    match value:
        case list():
            for n, part in enumerate(value):
                _require_storable(part, f"{path}[{n}]")
        case dict():
            for name, part in value.items():
                _require_storable(name, f"{path}.{name!a}")
                _require_storable(part, f"{path}.{name}")
        case _:
            try:
                storable(value)
            except ValueError as exc:
                raise ValueError(f"{exc} - at `{path}`") from exc


def without_effect(document: Mapping[str, Any]) -> list[str]:
    """The paths of what Polpo knows, and what has no effect here."""
    return [key for key in _unknown(document, Config, "$") if key in WITHOUT_EFFECT]


_IN_URL = re.compile(r"(://[^:/?#@]*:).*(?=@)|(password=)[^&]*")
_IN_WORDS = re.compile(r"()(password\s*=\s*)(?:'(?:[^'\\]|\\.)*'?|(?:[^\s\\]|\\.)*)")


def without_password(url: str) -> str:
    """The address of a database, in either form of libpq's, as it may be shown."""
    password = _IN_URL if "://" in url else _IN_WORDS
    return password.sub(lambda found: f"{found[1] or found[2]}***", url)


def shown(config: Config) -> dict[str, Any]:
    """The configuration as a document that may be shown: with all defaults, and without passwords and secrets."""
    document: dict[str, Any] = _without_secrets(msgspec.to_builtins(config))
    if (url := config.settings.database_url) is not None:
        document["settings"]["databaseUrl"] = without_password(url)
    return document


def _without_secrets(value: Any) -> Any:
    match value:
        case list() | tuple():
            return [_without_secrets(part) for part in value]
        case dict():
            return {
                name: "***" if name in SECRETS and isinstance(part, str) else _without_secrets(part)
                for name, part in value.items()
            }
    return value


def _unknown(value: Any, kind: Any, path: str) -> list[str]:
    kind = _chosen(value, kind)
    inner = get_args(kind)
    if isinstance(value, list) and get_origin(kind) is tuple:
        return [key for n, kept in enumerate(value) for key in _unknown(kept, inner[0], f"{path}[{n}]")]
    if isinstance(value, dict) and get_origin(kind) is dict:
        return [key for name, kept in value.items() for key in _unknown(kept, inner[1], f"{path}.{name}")]
    if not isinstance(value, dict) or not (isinstance(kind, type) and issubclass(kind, Struct)):
        return []
    known = _keys(kind)
    found = [f"{path}.{key}" for key in value if key not in known and key != kind.__struct_config__.tag_field]
    for key, kept in value.items():
        found += _unknown(kept, known.get(key), f"{path}.{key}")
    return found


@cache
def _keys(kind: type[Struct]) -> Mapping[str, Any]:
    """The keys that it may have, with their types."""
    return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}


def _chosen(value: Any, kind: Any) -> Any:
    """Of several types that a key may have, the one that the value was read as."""
    if get_origin(kind) not in (Union, UnionType):
        return kind
    for one in get_args(kind):
        if isinstance(one, type) and issubclass(one, Struct):
            how = one.__struct_config__
            if isinstance(value, dict) and (how.tag is None or value.get(how.tag_field, how.tag) == how.tag):
                return one
        elif isinstance(value, list) and get_origin(one) is tuple:
            return one
    return NoneType


class JsonConfigStore:
    """polpo.json of a directory, as a document: nothing that it says is lost by reading and saving it.

    `place` is the directory that has a `.polpo`, or shall have one, or that `.polpo` itself.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        path = os.path.abspath(place)
        paths = StateDirectory(os.path.dirname(path) if os.path.basename(path) == STATE else path)
        self.path = paths.config

    def exists(self) -> bool:
        """Whether there is such a file, be it good or not."""
        return os.path.lexists(self.path)

    def get(self) -> dict[str, Any] | None:
        """What the file says, as it stands there; None: there is none.

        Raises InvalidConfig, naming the file and the place of what is wrong; StartError: it cannot be read.
        """
        document, unknown = read(self.path)
        self._warn(unknown)
        return document

    def save(self, config: Mapping[str, Any]) -> None:
        """Put this in place of what is there, in one step; `.polpo` is made where there is none.

        Raises InvalidConfig, naming the place of what is wrong; StartError: it cannot be written.  Then nothing changed.
        """
        text, unknown = text_of(config, self.path)
        self._warn(unknown)
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            write(self.path, text)
        except OSError as exc:
            raise StartError(f"{self.path}: {exc.strerror}") from exc

    def _warn(self, unknown: list[str]) -> None:
        for key in unknown:
            log.warning("%s: %s means nothing to this version", self.path, key)


PolpoConfigStore = JsonConfigStore
"""Its other name."""
