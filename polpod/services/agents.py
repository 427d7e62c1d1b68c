"""The agents that there are: those of polpo.json, those that were added, and those that came with a mission.

Rules:

1. Names are unique over all of them.  Those of polpo.json change with that file alone, and go before an added one of
   the same name, which somebody wrote into the file later.
2. The agents of a mission's team come with an execution, as `NAME@EXECUTION`, in the transaction that makes it, and
   leave in the one that ends it: so they leave once, whoever dies in between.
3. Who comes and goes is told to the journal and to the books in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import structs

from polpod.config import Config
from polpod.errors import Conflict, InvalidRequest, NotFound
from polpod.model.agents import MARK, Agent, StoredAgent, volatile_name
from polpod.model.executions import Execution
from polpod.rules import superiors
from polpod.services import bookkeeping
from polpod.store import changes, queries
from polpod.store.agents import Agents
from polpod.store.records import Tx


def known(tx: Tx, config: Config) -> dict[str, Agent]:
    """All by name; those of polpo.json first, in their order."""
    configured = {agent.name: agent for agent in config.agents}
    return configured | {stored.name: stored.agent for stored in tx[Agents].find() if stored.name not in configured}


def lasting(tx: Tx, config: Config) -> dict[str, Agent]:
    """As `known`, without those that came with a mission: whom anybody may give work."""
    return {name: agent for name, agent in known(tx, config).items() if MARK not in name}


def find(tx: Tx, config: Config, name: str, execution_id: str | None = None) -> tuple[str, Agent] | None:
    """The agent that a task of this execution means by the name, with its whole name; None: there is none."""
    if execution_id is not None and (own := tx[Agents].get(volatile_name(name, execution_id))) is not None:
        return own.name, own.agent
    for agent in config.agents:
        if agent.name == name:
            return name, agent
    stored = tx[Agents].get(name)
    return None if stored is None else (name, stored.agent)


def require(tx: Tx, config: Config, name: str, execution_id: str | None = None) -> tuple[str, Agent]:
    """As `find`, of those whom a task of this execution may be given to.  Raises NotFound."""
    found = find(tx, config, name, execution_id)
    if found is None or (MARK in found[0] and not found[0].endswith(f"{MARK}{execution_id}")):
        raise NotFound(f"there is no agent {name} for it: `polpoctl agent list` shows them")
    return found


def limits(tx: Tx, config: Config, names: Iterable[str]) -> dict[str, int]:
    """How much each of them may do at once, where that is limited; one that is gone does nothing."""
    found = {name: find(tx, config, name) for name in names}
    most = {name: 0 if entry is None else entry[1].max_concurrency for name, entry in found.items()}
    return {name: number for name, number in most.items() if number is not None}


def add(tx: Tx, config: Config, agent: Agent, uid: int, by: str, at: datetime) -> StoredAgent:
    """Raises Conflict: there is one of that name."""
    if find(tx, config, agent.name) is not None:
        raise Conflict(f"there is an agent {agent.name} already: polpoctl agent show {agent.name}")
    return _enter(tx, agent.name, agent, None, uid, at, by=by)


def edit(tx: Tx, stored: StoredAgent, agent: Agent, fields: Sequence[str], by: str, at: datetime) -> None:
    """Let the stored one be this from now on; tasks that it has keep the command that they were given."""
    tx[Agents].save(structs.replace(stored, agent=agent, version=stored.version + 1, updated_at=at))
    changes.note(tx, at, "agent:updated", f"agent/{stored.name}", fields=fields, by=by)


def remove(tx: Tx, stored: StoredAgent, by: str, at: datetime) -> None:
    """Raises Conflict: it is at work.  Tasks that wait for it go on waiting, and say so."""
    if (task := queries.at_work(tx, stored.name)) is not None:
        raise Conflict(f"agent {stored.name} is at work on task {task.id}: cancel that first, or wait for it")
    _leave(tx, stored, at, by=by)


def refuse_superior(tx: Tx, config: Config, name: str, reports_to: str | None) -> None:
    """Raises InvalidRequest: there is nobody of that name to report to, or it would be a circle."""
    if reports_to is not None and (problem := superiors.fault(name, reports_to, known(tx, config))) is not None:
        raise InvalidRequest(problem, "$.reports_to")


def engage(tx: Tx, execution: Execution, team: Iterable[Agent], uid: int, at: datetime) -> None:
    """Let the team come that the execution has, but for those who stayed."""
    team = tuple(team)
    names = {agent.name: volatile_name(agent.name, execution.id) for agent in team}
    for agent in team:
        if tx[Agents].get(names[agent.name]) is None:
            reports_to = None if agent.reports_to is None else names.get(agent.reports_to, agent.reports_to)
            engaged = structs.replace(agent, reports_to=reports_to)
            _enter(tx, names[agent.name], engaged, execution, uid, at)


def dismiss(tx: Tx, execution: Execution, at: datetime) -> None:
    """Let those leave that came with the execution."""
    for stored in tx[Agents].find(Agents.execution_id.eq(execution.id)):
        _leave(tx, stored, at)


def require_stored(tx: Tx, config: Config, name: str) -> StoredAgent:
    """One that can be changed.  Raises NotFound; Conflict: it is polpo.json's."""
    if any(agent.name == name for agent in config.agents):
        raise Conflict(f"agent {name} is polpo.json's: change it there, and then polpoctl reload")
    stored = tx[Agents].get(name)
    if stored is None:
        raise NotFound(f"there is no agent {name}: `polpoctl agent list` shows them")
    return stored


def _enter(
    tx: Tx, name: str, agent: Agent, execution: Execution | None, uid: int, at: datetime, **about: object
) -> StoredAgent:
    entered = StoredAgent(
        name=name, agent=agent, execution_id=None if execution is None else execution.id, created_by=uid,
        created_at=at, updated_at=at,
    )  # fmt: skip
    tx[Agents].add(entered)
    bookkeeping.hired(tx, name, at)
    _note(tx, "agent:added", entered, at, about)
    return entered


def _leave(tx: Tx, stored: StoredAgent, at: datetime, **about: object) -> None:
    tx[Agents].delete(stored.name)
    bookkeeping.fired(tx, stored.name, at)
    _note(tx, "agent:removed", stored, at, about)


def _note(tx: Tx, kind: str, stored: StoredAgent, at: datetime, about: Mapping[str, object]) -> None:
    came = {} if stored.execution_id is None else {"execution_id": stored.execution_id}
    changes.note(tx, at, kind, f"agent/{stored.name}", team=stored.agent.team, **came, **about)
