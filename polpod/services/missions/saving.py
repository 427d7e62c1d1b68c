"""Stores a mission: what shall be carried out, once or often, under a name of its own."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from polpod.model.entity import Unfit
from polpod.model.polpo.missions import Mission
from polpod.store import changes
from polpod.store.polpo import Missions, next_mission_name, next_number, require_free
from polpod.store.records import Tx

_NUMBER = re.compile("[0-9]+")
"""Who says it means the mission of that id, now or when there is one."""


def save(tx: Tx, name: str | None, document: str, at: datetime, by: str, **fields: Any) -> Mission:
    """A new mission with this document, which was checked; without a name it gets the next one.

    Raises ValueError for what no mission may have; Conflict: another one has the name.
    """
    if name is not None and (not name.strip() or _NUMBER.fullmatch(name)):
        raise Unfit("name", f"{name!r} is no name: a number is the id of a mission" if name.strip() else "is blank")
    seq = next_number(tx, Missions, Missions.seq)
    mission = Mission(
        id=str(seq), seq=seq, name=name or next_mission_name(tx), data=document, created_at=at, updated_at=at, **fields
    )
    require_free(tx, mission)
    tx[Missions].add(mission)
    about = {"name": mission.name, "status": mission.status, "by": by}
    changes.note(tx, at, "mission:saved", f"mission/{mission.id}", **about)
    return mission
