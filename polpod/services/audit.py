"""Who asked for what, and whether it was allowed: an audit entry for every call that changes something.

Rules:

1. A call is noted when it is over, and costs no more than that: one service stores what was noted, in batches.  What was
   noted in the last moment before a SIGKILL is lost.
2. Arguments are never kept, only their hash: they hold secrets.  Of an error, its stable word.
3. More than MOST that cannot be stored yet are not kept: the oldest go, and the log says how many.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import orjson
import trio

from polpod.errors import DiskFull, PermissionDenied, RequestError, Unavailable
from polpod.model.organisation.security import ApprovalRiskLevel, AuditEntry, ToolCategory
from polpod.services.bell import Bell
from polpod.services.instance import now
from polpod.store.gate import Gate
from polpod.store.organisation import AuditEntries
from polpod.store.records import Tx

EVERY = 0.25
"""Seconds for which entries gather."""

BATCH = 100
MOST = 10_000

TRY_AGAIN = 1.0

log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """One call, as it is noted."""

    at: datetime
    method: str
    who: str
    task_id: str | None
    arguments_hash: str
    word: str | None
    """Of the error that it was answered with."""
    allowed: bool
    risky: bool
    """Whether only the owner may."""
    took: float


class Audit:
    def __init__(self, tasks: Gate[Tx]) -> None:
        self._tasks = tasks
        self._noted: deque[Asked] = deque()
        self._dropped = 0
        self._bell = Bell()

    def note(
        self,
        method: str,
        params: Any,
        *,
        who: str,
        task_id: str | None,
        error: RequestError | None,
        risky: bool,
        took: float,
    ) -> None:
        """A call is over; `took` is seconds."""
        digest = hashlib.sha256(orjson.dumps(params, option=orjson.OPT_SORT_KEYS)).hexdigest()
        allowed, word = not isinstance(error, PermissionDenied), None if error is None else error.kind
        self._noted.append(Asked(now(), method, who, task_id, digest, word, allowed, risky, took))
        if len(self._noted) > MOST:
            self._noted.popleft()
            self._dropped += 1
        self._bell.ring()

    async def serve(self) -> None:
        while True:
            await self._bell.wait()
            await trio.sleep(EVERY)
            try:
                await self.flush()
            except (DiskFull, Unavailable):
                self._bell.ring()
                await trio.sleep(TRY_AGAIN)

    async def flush(self) -> None:
        """Store what was noted.  Raises DiskFull, Unavailable; it is still noted then."""
        while self._noted:
            batch = [self._noted.popleft() for _ in range(min(BATCH, len(self._noted)))]
            try:
                await self._tasks.write(partial(_store, batch=batch), durable=False)
            except (DiskFull, Unavailable):
                self._noted.extendleft(reversed(batch))
                raise
        if self._dropped:
            log.warning("%d calls are missing in the audit: they could not be stored for too long", self._dropped)
            self._dropped = 0


def _store(tx: Tx, batch: Sequence[Asked]) -> None:
    for asked in batch:
        tx[AuditEntries].add(_entry(asked))


def _entry(asked: Asked) -> AuditEntry:
    noun, _, verb = asked.method.partition(".")
    return AuditEntry(
        id=f"{time.time_ns():016x}-{secrets.token_hex(4)}",  # one after another, so that the index of ids grows at its end
        timestamp=asked.at,
        agent_id=asked.who,
        task_id=asked.task_id,
        tool_name=asked.method,
        tool_category=ToolCategory.OTHER,
        action_type=f"{noun}:{verb}",
        arguments_hash=asked.arguments_hash,
        verdict="allow" if asked.allowed else "deny",
        risk_level=ApprovalRiskLevel.MEDIUM if asked.risky else ApprovalRiskLevel.LOW,
        reason=asked.who if asked.word is None else f"{asked.who}: {asked.word}",
        evaluation_duration_ms=asked.took * 1000,
    )
