"""The queues as they are now: what may run in each, what does, and what could."""

from __future__ import annotations

from typing import Any

from polpod.services.instance import Instance
from polpod.store import missions, queries, spending
from polpod.store.records import Tx


def overview(instance: Instance, tx: Tx) -> list[dict[str, Any]]:
    """The queues with what runs in them and what is ready to; reads what is ready from its index, and no other task."""
    queues = instance.queues(tx)
    busy, idle, over = queries.busy(tx, queues, ()), missions.idle(tx), spending.over(tx)
    return [
        {
            "name": q.name,
            "slots": q.slots,
            "paused": q.paused,
            "busy": busy.queues.get(q.name, 0),
            "ready": queries.count_ready(tx, q.name, idle, over),
        }
        for q in queues.values()
    ]
