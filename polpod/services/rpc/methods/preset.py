"""preset.*: settings of agents that somebody gave a name; what they say is theirs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from polpod.model.entity import Entity, json_text
from polpod.model.organisation.settings import CustomPreset
from polpod.services.rpc.directory import Made, methods
from polpod.services.rpc.method import Call
from polpod.store.organisation import CustomPresets
from polpod.store.records import Tx


class Add(Entity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    rules = (json_text("config_json", dict),)

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    config_json: Annotated[str, Meta(min_length=1, max_length=2**20)]
    description: Annotated[str, Meta(max_length=4096)] = ""


def _made(tx: Tx, params: Add, call: Call, at: datetime) -> Made:
    stamp = at.isoformat()
    return Made(
        CustomPreset(
            name=params.name, config_json=params.config_json, description=params.description, created_at=stamp,
            updated_at=stamp,
        )
    )  # fmt: skip


METHODS = methods("preset", CustomPresets, Add, _made)
