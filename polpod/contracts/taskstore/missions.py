"""Missions, as the page's TaskStore has them: functions of a transaction."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import structs

from polpod.contracts.taskstore import said
from polpod.contracts.taskstore.tasks import BY
from polpod.errors import NotFound
from polpod.model.entity import types_of
from polpod.model.polpo.missions import Mission
from polpod.store import changes, polpo
from polpod.store.polpo import Missions, named, next_number, require_free
from polpod.store.records import Tx

_MADE = ("id", "seq", "version", "created_at", "updated_at")
"""What the store makes."""

_KINDS = {name: kind for name, kind in types_of(Mission).items() if name not in _MADE}
_DEFAULTS = said.defaults_of(Mission)


def save_mission(tx: Tx, /, mission: Mapping[str, object] | None = None, **fields: object) -> Mission:
    """Store a new mission, given as a mapping or by keywords; without a name it gets the next one.

    Raises InvalidRequest, naming the field; Conflict: another mission has that name.
    """
    values = said.fields(mission, fields)
    said.known(values, _KINDS)
    if values.get("name") is None:
        values["name"] = polpo.next_mission_name(tx)
    seq, at = next_number(tx, Missions, Missions.seq), said.now()
    saved = said.entity(Mission, values | {"id": str(seq), "seq": seq, "created_at": at, "updated_at": at})
    require_free(tx, saved)
    tx[Missions].add(saved)
    _note(tx, saved, "mission:saved", name=saved.name, status=saved.status)
    return saved


def get_mission(tx: Tx, mission_id: str) -> Mission | None:
    """The mission; None: there is none of that id."""
    return tx[Missions].get(mission_id)


def get_mission_by_name(tx: Tx, name: str) -> Mission | None:
    """The mission; None: there is none of that name."""
    return named(tx, name)


def get_all_missions(tx: Tx) -> list[Mission]:
    """All missions, the newest first."""
    return tx[Missions].find()


def update_mission(
    tx: Tx, /, mission_id: str, updates: Mapping[str, object] | None = None, **fields: object
) -> Mission:
    """Change the named fields alone; None or UNSET clears one.

    Raises NotFound; InvalidRequest, naming the field; Conflict: another mission has that name.
    """
    mission = tx[Missions].get(mission_id)
    if mission is None:
        raise NotFound(f"Mission not found: {mission_id}")
    values = said.update(said.fields(updates, fields), _KINDS, _DEFAULTS)
    updated = structs.replace(mission, **values, version=mission.version + 1, updated_at=said.now())
    require_free(tx, updated)
    tx[Missions].save(updated)
    moved = {"from": mission.status, "to": updated.status} if updated.status is not mission.status else {}
    _note(tx, updated, "mission:updated", fields=sorted(values), **moved)
    return updated


def delete_mission(tx: Tx, mission_id: str) -> bool:
    """Whether there was a mission.  Its tasks stay."""
    mission = tx[Missions].get(mission_id)
    if mission is None:
        return False
    tx[Missions].delete(mission_id)
    _note(tx, mission, "mission:deleted", name=mission.name, status=mission.status)
    return True


def next_mission_name(tx: Tx) -> str:
    """`mission-N`, one past the highest of these names that a mission has."""
    return polpo.next_mission_name(tx)


def _note(tx: Tx, mission: Mission, kind: str, **body: object) -> None:
    changes.note(tx, mission.updated_at, kind, f"mission/{mission.id}", **body, by=BY)
