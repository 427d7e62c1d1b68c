"""The table of schedules; the column is there for the question which of them has something to do next."""

from __future__ import annotations

from polpod.model.schedules import Schedule
from polpod.store.polpo import Missions
from polpod.store.records import Tx
from polpod.store.table import Columns, Index, Ref, Table

_s = Columns[Schedule]()


class Schedules(Table[Schedule, str]):
    name = "schedules"
    noun = "schedule"
    entity = Schedule
    mission_id = _s.text("mission_id", lambda s: s.mission_id)
    wake_at = _s.instant("wake_at", lambda s: s.wake_at)
    key = (mission_id,)
    indexes = (Index((wake_at.asc(), mission_id.asc()), where_not_null=wake_at),)
    refs = (Ref(mission_id, Missions, on_delete="cascade"),)


TABLES = (Schedules,)


def first(tx: Tx) -> Schedule | None:
    """The one that has something to do next."""
    order = (Schedules.wake_at.asc(), Schedules.mission_id.asc())
    found = tx[Schedules].find(Schedules.wake_at.is_set(), order_by=order, limit=1)
    return found[0] if found else None
