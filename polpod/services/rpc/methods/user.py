"""user.*: people, as an organisation of agents knows them.  Who may use the socket is the kernel's word, not theirs."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from polpod.errors import Conflict, InvalidRequest
from polpod.model.organisation.people import HumanRole, User
from polpod.services.rpc.answers import ShownUser
from polpod.services.rpc.directory import Made, methods
from polpod.services.rpc.method import Call
from polpod.store.organisation import Users
from polpod.store.records import Tx

NO_PASSWORD = "!"
"""No hash of any password."""


class Add(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    username: Annotated[str, Meta(min_length=1, max_length=200)]
    role: HumanRole = HumanRole.OBSERVER


def _made(tx: Tx, params: Add, call: Call, at: datetime) -> Made:
    if params.role is HumanRole.SYSTEM:
        raise InvalidRequest("a user is a person", "$.role")
    if params.role is HumanRole.CEO and tx[Users].count(Users.role.eq(HumanRole.CEO)):
        raise Conflict("there is a ceo already, and there is only one: `polpoctl user list` shows it")
    return Made(
        User(
            id=f"user-{secrets.token_hex(4)}", username=params.username, password_hash=NO_PASSWORD, role=params.role,
            created_at=at, updated_at=at,
        )
    )  # fmt: skip


def _view(user: User) -> object:
    return {name: value for name, value in msgspec.structs.asdict(user).items() if name not in user.hidden}


METHODS = methods("user", Users, Add, _made, view=_view, shown=ShownUser, among=(Users.role.ne(HumanRole.SYSTEM),))
