"""What users, keys, projects, presets, workflows, contexts and collaborations share on the socket: they are listed, shown, added and removed.

Rules:

1. The owner writes, members read, unless it is the owner's alone.  What must not be shown is left out by `view`, everywhere.
2. Each change is an event, `<noun>:added` or `<noun>:removed`, which says the id and who did it, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from types import GenericAlias
from typing import Annotated, Any, NamedTuple

from msgspec import Meta, Struct

from polpod.errors import AlreadyExists, BrokenReference, Conflict, NotFound
from polpod.services import views
from polpod.services.instance import now
from polpod.services.rpc.method import Call, Method, Right
from polpod.services.rpc.refusal import entity
from polpod.store.changes import note
from polpod.store.records import Tx
from polpod.store.table import AnyTable, Where

MOST = 1000


class ById(Struct, frozen=True, forbid_unknown_fields=True):
    id: Annotated[str, Meta(min_length=1, max_length=200)]


class List(Struct, frozen=True, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=MOST)] = 100
    after: str | None = None
    """The last id of the page before."""


class Made(NamedTuple):
    """A new record, and what its maker alone is told, once."""

    record: Any
    told: dict[str, str] = {}


Make = Callable[[Tx, Any, Call, datetime], Made]
"""From a transaction, the parameters, the call and the time.  Raises ValueError for what is no such record."""

View = Callable[[Any], object]


def methods(
    noun: str,
    table: AnyTable,
    add: type[Struct],
    make: Make,
    *,
    view: View = lambda record: record,
    among: tuple[Where[Any], ...] = (),
    read: Right = Right.MEMBER,
    shown: type[Struct] | None = None,
    told: tuple[str, ...] = (),
) -> tuple[Method, ...]:
    """The four methods of a noun; `table` must have one text column for its key.

    `shown`: the type of what `view` makes; `told`: the names of what the maker alone is told.  `among`: what the others are is nobody's business here: they are neither listed nor shown nor removed.
    """
    (key,) = table.key
    kind = shown or table.entity

    def absent(id: str) -> NotFound:
        return NotFound(f"there is no {noun} {id}: `polpoctl {noun} list` shows what there is")

    async def listed(call: Call, params: List) -> dict[str, object]:
        where = among if params.after is None else (*among, key.gt(params.after))
        found = await call.desk.instance.tasks.read(
            lambda tx: tx[table].find(*where, order_by=(key.asc(),), limit=params.limit)
        )
        page = views.fitting(found)
        more = len(page) < len(found) or len(found) == params.limit
        return {f"{noun}s": [view(record) for record in page], "next": key.get(page[-1]) if more else None}

    async def got(call: Call, params: ById) -> dict[str, object]:
        found = await call.desk.instance.tasks.read(lambda tx: tx[table].find(*among, key.eq(params.id)))
        if not found:
            raise absent(params.id)
        return {noun: view(found[0])}

    async def added(call: Call, params: Struct) -> dict[str, object]:
        call.desk.instance.refuse_when_full()

        def body(tx: Tx) -> Made:
            at = now()
            with entity():
                made = make(tx, params, call, at)
            tx[table].add(made.record)
            note(tx, at, f"{noun}:added", f"{noun}/{key.get(made.record)}", by=call.caller.name)
            return made

        try:
            made = await call.desk.instance.tasks.write(body)
        except AlreadyExists as exc:
            raise Conflict(
                f"there is such a {noun} already, of that name or with what one alone may have: "
                f"`polpoctl {noun} list` shows them"
            ) from exc
        return {noun: view(made.record), **made.told}

    async def removed(call: Call, params: ById) -> dict[str, object]:
        def body(tx: Tx) -> None:
            if not tx[table].delete_where(*among, key.eq(params.id)):
                raise absent(params.id)
            note(tx, now(), f"{noun}:removed", f"{noun}/{params.id}", by=call.caller.name)

        try:
            await call.desk.instance.tasks.write(body)
        except BrokenReference as exc:
            raise Conflict(f"{noun} {params.id} is needed by others, which have to go first") from exc
        return {"id": params.id}

    return (
        Method(
            f"{noun}.list",
            List,
            {f"{noun}s": GenericAlias(list, (kind,)), "next": str | None},
            listed,
            f"The {noun}s by page, by id.",
            read,
        ),
        Method(f"{noun}.get", ById, {noun: kind}, got, f"One {noun}.", read),
        Method(
            f"{noun}.add",
            add,
            {noun: kind} | dict.fromkeys(told, str),
            added,
            f"Add a {noun}.",
            Right.OWNER,
            writes=True,
        ),
        Method(f"{noun}.remove", ById, {"id": str}, removed, f"Forget a {noun}.", Right.OWNER, writes=True),
    )
