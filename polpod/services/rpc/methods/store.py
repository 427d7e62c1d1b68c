"""store.*: what is kept."""

from __future__ import annotations

from msgspec import Struct

from polpod.services import retention
from polpod.services.retention import Pruned
from polpod.services.rpc.method import Call, Method, Right

LONGEST = 30.0
"""Seconds of one call: a client asks again where there is more."""


class Prune(Struct, frozen=True, forbid_unknown_fields=True):
    dry_run: bool = False


async def prune(call: Call, params: Prune) -> Pruned:
    """What the hourly pass does, now."""
    return await retention.prune(call.desk.instance, dry_run=params.dry_run, seconds=LONGEST)


METHODS = (
    Method("store.prune", Prune, Pruned, prune, "Forget what retention lets go.", Right.OWNER, writes=True, waits=True),
)
