"""key.*: keys of users for programs.  A key is told once, when it is made; what is stored is its SHA-256."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from polpod.errors import NotFound
from polpod.model.organisation.people import ApiKey
from polpod.model.tasks import Instant
from polpod.services.rpc.answers import ShownApiKey
from polpod.services.rpc.directory import Made, methods
from polpod.services.rpc.method import Call
from polpod.store.organisation import ApiKeys, Users
from polpod.store.records import Tx


class Add(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    user: Annotated[str, Meta(min_length=1, max_length=200)]
    """The name or id of the user, whose role it has."""
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    expires_at: Instant | None = None


def _made(tx: Tx, params: Add, call: Call, at: datetime) -> Made:
    found = tx[Users].find(Users.username.eq(params.user), limit=1)
    user = found[0] if found else tx[Users].get(params.user)
    if user is None:
        raise NotFound(f"there is no user {params.user}: `polpoctl user add` makes one")
    key = f"polpo_{secrets.token_urlsafe(32)}"  # 256 bits of chance need no slow hash
    return Made(
        ApiKey(
            id=f"key-{secrets.token_hex(4)}", key_hash=hashlib.sha256(key.encode()).hexdigest(), name=params.name,
            role=user.role, user_id=user.id, created_at=at, expires_at=params.expires_at,
        ),
        {"secret": key},
    )  # fmt: skip


def _view(key: ApiKey) -> object:
    return {name: value for name, value in msgspec.structs.asdict(key).items() if name not in key.hidden}


METHODS = methods("key", ApiKeys, Add, _made, view=_view, shown=ShownApiKey, told=("secret",))
