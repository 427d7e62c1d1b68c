"""Notifications that were sent, or could not be: functions of a transaction."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import structs

from polpod.contracts.taskstore import said
from polpod.errors import Conflict
from polpod.model.polpo.notifications import NotificationRecord, NotificationStatus
from polpod.store.polpo import SentNotifications, next_number
from polpod.store.records import Tx
from polpod.store.table import Where

MOST = 100
"""Records that are listed unless somebody asks for more."""


def append(
    tx: Tx, /, record: NotificationRecord | Mapping[str, object] | None = None, **fields: object
) -> NotificationRecord:
    """Record a notification; `id` and `timestamp` are made where they are not given.

    Raises InvalidRequest, naming the field; Conflict: that id is taken.
    """
    values = said.fields(record, fields)
    seq = next_number(tx, SentNotifications, SentNotifications.seq)
    made = said.entity(NotificationRecord, {"id": f"n{seq}", "timestamp": said.now()} | values)
    if tx[SentNotifications].get(made.id) is not None:
        raise Conflict(f"there is a notification {made.id} already")
    made = structs.replace(made, seq=seq)
    tx[SentNotifications].add(made)
    return made


def list_(tx: Tx, limit: int | None = MOST) -> list[NotificationRecord]:
    """The newest first; None: all."""
    return tx[SentNotifications].find(limit=_most(limit))


def list_by_channel(tx: Tx, channel: str, limit: int | None = MOST) -> list[NotificationRecord]:
    """Those of a channel, the newest first."""
    return tx[SentNotifications].find(SentNotifications.channel.eq(channel), limit=_most(limit))


def list_by_rule(tx: Tx, rule_id: str, limit: int | None = MOST) -> list[NotificationRecord]:
    """Those of a rule, the newest first."""
    return tx[SentNotifications].find(SentNotifications.rule_id.eq(rule_id), limit=_most(limit))


def list_by_status(tx: Tx, status: str, limit: int | None = MOST) -> list[NotificationRecord]:
    """Those that were sent, or failed, the newest first.  Raises InvalidRequest for another status."""
    return tx[SentNotifications].find(_of(status), limit=_most(limit))


def count(tx: Tx, status: str | None = None) -> int:
    """How many there are, of a status or of all."""
    return tx[SentNotifications].count(*(() if status is None else (_of(status),)))


def prune(tx: Tx, keep: int) -> int:
    """Keep the newest, this many of them; how many went."""
    going = tx[SentNotifications].find(offset=said.number(keep))
    return sum(tx[SentNotifications].delete(record.id) for record in going)


def _most(limit: int | None) -> int | None:
    return None if limit is None else said.number(limit)


def _of(status: str) -> Where[NotificationRecord]:
    return SentNotifications.status.eq(said.value("status", status, NotificationStatus))
