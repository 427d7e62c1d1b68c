"""Keys of users: what they are stored as, whose one is, and for how long that holds.

Rules:

1. Of a key only a hash is stored, keyed with a secret that is in no database and no backup: who has those can neither
   use a key nor see whether one that was found elsewhere is among them.  A key is 256 bits of chance, so that the hash
   need not be slow.
2. What a key is worth is looked up at its use, and again whenever something happens to it: a key that was revoked or
   removed ends the connections that it opened.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from datetime import datetime, timedelta
from enum import StrEnum

import trio
from msgspec import Struct
from msgspec.structs import replace

from polpod.durable import sync
from polpod.errors import DiskFull, Unavailable
from polpod.model.organisation.people import ApiKey, HumanRole
from polpod.services.instance import Instance, now
from polpod.store.organisation import ApiKeys, Users
from polpod.store.records import Tx

SECRET_SIZE = 32

log = logging.getLogger(__name__)

USED_EVERY = timedelta(minutes=1)
"""How exactly it is kept when a key was last used."""

LOOK_EVERY = 60.0
"""Seconds after which a key is looked at again though nothing happened: the clock may have been set."""

AGAIN_AFTER = 5.0
"""The same, where the store could not be asked."""


class Role(StrEnum):
    ADMIN = "admin"
    """Everything."""
    OPERATOR = "operator"
    """Submits, and manages all tasks, missions and approvals."""
    OBSERVER = "observer"
    """Looks."""


ROLES = {
    HumanRole.CEO: Role.ADMIN,
    HumanRole.MANAGER: Role.OPERATOR,
    HumanRole.PAIR_PROGRAMMER: Role.OPERATOR,
    HumanRole.BOARD_MEMBER: Role.OBSERVER,
    HumanRole.OBSERVER: Role.OBSERVER,
    HumanRole.SYSTEM: Role.OBSERVER,
}
"""What people of an organisation may do from afar."""

STORED = {Role.ADMIN: HumanRole.CEO, Role.OPERATOR: HumanRole.MANAGER, Role.OBSERVER: HumanRole.OBSERVER}
"""What is stored for a role that a key is given."""


class Access(Struct, frozen=True):
    """What a key is worth."""

    key_id: str
    user_id: str
    user: str
    role: Role


class Keys:
    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._secret: bytes | None = None

    def hashed(self, key: str, *, make: bool = False) -> str:
        """What is stored of a key; `make`: and the secret, if there is none.

        Raises Unavailable: the secret cannot be read, or not be made, or is none.
        """
        if self._secret is None:
            path = self._instance.paths.key_secret
            try:
                if make and not os.path.exists(path):
                    _make_secret(path)
                with open(path, "rb") as file:
                    secret = file.read()
            except FileNotFoundError as exc:
                why = "no key can be looked up: key.secret is missing: put it back, or make keys anew"
                raise Unavailable(f"{why} (`polpoctl key create`)") from exc
            except OSError as exc:
                raise Unavailable(f"no key can be looked up: key.secret: {exc.strerror}") from exc
            if len(secret) != SECRET_SIZE:  # what is keyed with nothing, anybody can make
                raise Unavailable(f"no key can be looked up: key.secret is damaged: it has {len(secret)} bytes")
            self._secret = secret
        return hmac.digest(self._secret, key.encode(), hashlib.sha256).hex()

    async def find(self, key: str) -> Access | None:
        """Whose key it is; None: nobody's, or not any more.  Takes as long for one as for the other.

        Raises Unavailable.
        """
        wanted = self.hashed(key)

        def body(tx: Tx) -> tuple[ApiKey, str] | None:
            found = tx[ApiKeys].find(ApiKeys.key_hash.eq(wanted), limit=1)
            user = tx[Users].get(found[0].user_id) if found else None
            return (found[0], user.username) if user is not None else None

        found = await self._instance.tasks.read(body)
        if found is None or not _holds(found[0], now()):
            return None
        key_found, user = found
        if key_found.last_used_at is None or now() - key_found.last_used_at > USED_EVERY:
            await self._note_use(key_found.id)
        return Access(key_found.id, key_found.user_id, user, ROLES[key_found.role])

    async def until_over(self, access: Access) -> None:
        """Returns when the key is worth nothing any more; it goes with its user."""
        with self._instance.journal.listening([f"key/{access.key_id}", f"user/{access.user_id}"]) as bell:
            while True:
                left = LOOK_EVERY
                try:
                    key = await self._instance.tasks.read(lambda tx: tx[ApiKeys].get(access.key_id))
                except Unavailable:  # it is worth what it was until somebody can say otherwise
                    left = AGAIN_AFTER
                else:
                    if key is None or not _holds(key, now()):
                        return
                    if key.expires_at is not None:
                        left = min(LOOK_EVERY, (key.expires_at - now()).total_seconds())
                await bell.wait(trio.current_time() + left)

    async def _note_use(self, key_id: str) -> None:
        def body(tx: Tx) -> None:
            if (key := tx[ApiKeys].get(key_id)) is not None:
                tx[ApiKeys].save(replace(key, last_used_at=now()))

        try:
            await self._instance.tasks.write(body)
        except (DiskFull, Unavailable):  # who looks at a host in trouble is not sent away for that
            pass


def _holds(key: ApiKey, at: datetime) -> bool:
    return not key.revoked and (key.expires_at is None or at < key.expires_at)


def _make_secret(path: str) -> None:
    """The secret of this state directory.  Raises OSError."""
    temporary = f"{path}.{os.getpid()}"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(secrets.token_bytes(SECRET_SIZE))
    sync(temporary)
    os.rename(temporary, path)
    sync(os.path.dirname(path))
    log.info("key.secret was made: a key from before that is worth nothing now")
