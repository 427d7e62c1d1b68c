"""Memory: functions of a transaction.  Without an agent, it is the memory that all share."""

from __future__ import annotations

from typing import Literal

from polpod.contracts.taskstore import said
from polpod.model.polpo.memories import Memory
from polpod.model.submissions import Name
from polpod.store.polpo import Memories
from polpod.store.records import Tx

_SHARED = "shared"
_AGENT = "agent:"


def exists(tx: Tx, agent: str | None = None) -> bool:
    """Whether anything was ever saved there, be it an empty text."""
    return tx[Memories].get(_scope(agent)) is not None


def get(tx: Tx, agent: str | None = None) -> str:
    """What is remembered; empty where nothing is."""
    memory = tx[Memories].get(_scope(agent))
    return "" if memory is None else memory.content


def save(tx: Tx, content: str, agent: str | None = None) -> None:
    """Remember this, and forget what was there."""
    tx[Memories].save(said.entity(Memory, {"scope": _scope(agent), "content": content}))


def append(tx: Tx, line: str, agent: str | None = None) -> None:
    """Add a line, with the day (UTC) on which it was added."""
    before = get(tx, agent)
    ended = before if before == "" or before.endswith("\n") else f"{before}\n"
    save(tx, f"{ended}- {said.now():%Y-%m-%d}: {said.value('line', line, str)}\n", agent)


def update(tx: Tx, old: str, new: str, agent: str | None = None) -> Literal[True] | str:
    """Put one text in the place of another, which must be there once; True, or why nothing was changed."""
    content = get(tx, agent)
    times = content.count(old) if said.value("old", old, str) else 0
    if times == 0:
        return "the text to replace was not found"
    if times > 1:
        return f"the text to replace was found {times} times: name more of what is around it"
    save(tx, content.replace(old, said.value("new", new, str)), agent)
    return True


def list_scopes(tx: Tx) -> list[str]:
    """The agents that have a memory of their own, in the order of their names."""
    return [m.scope.removeprefix(_AGENT) for m in tx[Memories].find(Memories.scope.glob(f"{_AGENT}*"))]


def _scope(agent: str | None) -> str:
    return _SHARED if agent is None else _AGENT + str(said.value("agent", agent, Name))
