"""audit.*: who asked for what (services/audit.py)."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from msgspec import Meta, Struct

from polpod.errors import DiskFull, Unavailable
from polpod.model.organisation.security import AuditEntry, AuditVerdictStr
from polpod.services import views
from polpod.services.rpc.method import Call, Method, Right
from polpod.store.organisation import AuditEntries
from polpod.store.table import Where


class List(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    verdict: AuditVerdictStr | None = None
    method: str | None = None
    who: str | None = None
    """As an entry has it: `uid 1000`."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    before: str | None = None
    """The id of an entry."""


async def list_(call: Call, params: List) -> dict[str, object]:
    of, where = AuditEntries, list[Where[AuditEntry]]()
    if params.verdict is not None:
        where.append(of.verdict.eq(params.verdict))
    if params.method is not None:
        where.append(of.action_type.eq(params.method.replace(".", ":", 1)))
    if params.who is not None:
        where.append(of.agent_id.eq(params.who))
    if params.before is not None:
        where.append(of.id.lt(params.before))
    # Ids grow with time, and unlike times they are unique.
    newest = (of.id.desc(),)
    with suppress(DiskFull, Unavailable):  # then without the last moment
        await call.desk.audit.flush()
    found = await call.desk.instance.tasks.read(lambda tx: tx[of].find(*where, order_by=newest, limit=params.limit))
    page = views.fitting(found)
    more = len(page) < len(found) or len(found) == params.limit
    return {"entries": page, "next": page[-1].id if more else None}


METHODS = (
    Method(
        "audit.list",
        List,
        {"entries": list[AuditEntry], "next": str | None},
        list_,
        "Who asked for what, the newest first.",
        Right.OWNER,
        telling=True,
    ),
)
