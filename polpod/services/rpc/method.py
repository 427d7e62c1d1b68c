"""What a method of the socket is: one row of the table that drives dispatch, validation, rights and documentation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

from polpod.services.rpc.subscriptions import Subscriptions

if TYPE_CHECKING:  # the services are started with the table, so that only the type knows the way back
    from polpod.services.desk import Desk

P = TypeVar("P", bound=Struct)


class Right(IntEnum):
    """What a caller may do; each includes those before it."""

    RUN = 0
    """A process inside a run: it sees, and reports about its own run."""
    MEMBER = 1
    """Who may connect: submits, sees all tasks, manages its own."""
    OPERATOR = 2
    """Whose key says so: manages all tasks."""
    OWNER = 3
    """polpod's own user, and root: everything."""


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


@dataclass(frozen=True, slots=True)
class Caller:
    uid: int
    pid: int
    right: Right
    run_id: int | None = None
    """The run that the caller is inside of."""
    user: str | None = None
    """Whose key it showed, rather than being a process of this host; then `uid` is whose work its tasks are."""
    reads_only: bool = False

    @property
    def name(self) -> str:
        """Who it was, for events."""
        if self.run_id is not None:
            return f"run {self.run_id}"
        return f"uid {self.uid}" if self.user is None else f"user {self.user}"

    @property
    def whole_name(self) -> str:
        """All of it, for the audit."""
        who = f"uid {self.uid}" if self.user is None else f"user {self.user}"
        return who if self.run_id is None else f"{who}, run {self.run_id}"


@dataclass(slots=True)
class Call:
    """What the calls of one connection share: who calls, and whom the daemon asks to answer."""

    desk: Desk
    caller: Caller
    """As the kernel says; a run, once the connection said whose token it has (`run.identify`)."""
    wrong_tokens: int = 0
    subscriptions: Subscriptions = field(default_factory=Subscriptions)


@dataclass(frozen=True, slots=True)
class Method:
    name: str
    params: type[Struct]
    result: Any
    """The type of the answer, for documentation."""
    answer: Callable[[Call, Any], Awaitable[Any]]
    summary: str
    right: Right = Right.MEMBER
    writes: bool = False
    """Waits for recovery's first pass."""
    waits: bool = False
    """May take long on purpose, so that other calls of the connection go on beside it."""
    telling: bool = False
    """It only says or asks how things are, however often: no matter of the audit."""

    @property
    def changes(self) -> bool:
        """Whether it must not be carried out twice; what is its owner's alone is taken for such, too."""
        return self.writes or self.right is Right.OWNER

    @property
    def audited(self) -> bool:
        """Whether it is kept who asked for it."""
        return self.changes and not self.telling
