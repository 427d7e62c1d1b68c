"""key.*: keys of users, for programs and browsers.  A key is told once, when it is made (services/keys.py)."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from polpod.errors import NotFound
from polpod.model.organisation.people import ApiKey
from polpod.model.tasks import Instant
from polpod.services.instance import now
from polpod.services.keys import ROLES, STORED, Role
from polpod.services.rpc.answers import ShownApiKey
from polpod.services.rpc.directory import Made, methods
from polpod.services.rpc.method import Call, Method, Right
from polpod.store.changes import note
from polpod.store.organisation import ApiKeys, Users
from polpod.store.records import Tx


class Add(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    user: Annotated[str, Meta(min_length=1, max_length=200)]
    """The name or id of the user, whose role it has."""
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    expires_at: Instant | None = None
    role: Role | None = None
    """null: what its user is."""


class Revoke(Struct, frozen=True, forbid_unknown_fields=True):
    id: Annotated[str, Meta(min_length=1, max_length=200)]


def _made(tx: Tx, params: Add, call: Call, at: datetime) -> Made:
    found = tx[Users].find(Users.username.eq(params.user), limit=1)
    user = found[0] if found else tx[Users].get(params.user)
    if user is None:
        raise NotFound(f"there is no user {params.user}: `polpoctl user add` makes one")
    key = f"polpo_{secrets.token_urlsafe(32)}"
    return Made(
        ApiKey(
            id=f"key-{secrets.token_hex(4)}", key_hash=call.desk.keys.hashed(key, make=True), name=params.name,
            role=user.role if params.role is None else STORED[params.role], user_id=user.id, created_at=at,
            expires_at=params.expires_at,
        ),
        {"secret": key},
    )  # fmt: skip


def _view(key: ApiKey) -> object:
    shown = {name: value for name, value in msgspec.structs.asdict(key).items() if name not in key.hidden}
    return shown | {"role": ROLES[key.role]}


async def revoke(call: Call, params: Revoke) -> dict[str, object]:
    def body(tx: Tx) -> ApiKey:
        key = tx[ApiKeys].get(params.id)
        if key is None:
            raise NotFound(f"there is no key {params.id}: `polpoctl key list` shows what there is")
        if not key.revoked:
            key = replace(key, revoked=True)
            tx[ApiKeys].save(key)
            note(tx, now(), "key:revoked", f"key/{key.id}", by=call.caller.name)
        return key

    return {"key": _view(await call.desk.instance.tasks.write(body))}


METHODS = (
    *methods("key", ApiKeys, Add, _made, view=_view, shown=ShownApiKey, told=("secret",)),
    Method(
        "key.revoke",
        Revoke,
        {"key": ShownApiKey},
        revoke,
        "Let a key be worth nothing from now on.",
        Right.OWNER,
        writes=True,
    ),
)
