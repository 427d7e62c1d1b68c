"""What all repositories have in common: saving, finding, replacing, deleting, and failing (A.11, by repository)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from kit.organisation import (
    REPOSITORIES,
    T0,
    TICK,
    a_busy_agent,
    a_checkpoint,
    a_collaboration,
    a_cost,
    a_definition,
    a_heartbeat,
    a_key,
    a_message,
    a_metric,
    a_parked,
    a_project,
    a_task,
    a_user,
    an_artifact,
    an_audit,
    an_event,
    an_execution,
    fill,
)

from polpod import persistence as p
from polpod.store.schema import TABLES
from polpod.store.table import Row

pytestmark = pytest.mark.anyio

Call = Callable[[p.PersistenceBackend], Awaitable[Any]]

REPLACING: dict[str, tuple[Callable[..., Any], str, dict[str, Any]]] = {
    "tasks": (a_task, "id", {"title": "Dry up", "reviewers": ("bob",)}),
    "parked_contexts": (a_parked, "id", {"context_json": "[1]", "metadata": {"a": "b"}}),
    "users": (a_user, "id", {"username": "eva", "role": "ceo"}),
    "api_keys": (a_key, "id", {"revoked": True, "expires_at": T0}),
    "heartbeats": (a_heartbeat, "execution_id", {"last_heartbeat_at": T0 + TICK}),
    "agent_states": (a_busy_agent, "agent_id", {"status": "paused", "turn_count": 4}),
    "artifacts": (an_artifact, "id", {"size_bytes": 9, "created_at": T0 + TICK}),
    "projects": (a_project, "id", {"status": "active", "team": ("ann", "bob")}),
}
"""Repositories that save in place of what has the key: what they store, its key, and how it changes."""


@pytest.mark.parametrize("name", REPLACING)
async def test_save_get_replace_delete(name: str, backend: p.PersistenceBackend) -> None:
    """A.11 tasks, parked_contexts, users, api_keys, heartbeats, agent_states, artifacts, projects: save/get; miss; upsert;
    delete True, then False; the others stay (isolation)."""
    make, key, changes = REPLACING[name]
    repository: Any = getattr(backend, name)
    await backend.users.save(a_user())
    assert await repository.get("nobody") is None
    await repository.save(make())
    same = make()
    assert await repository.get(getattr(same, key)) == same
    other = make(
        **{key: "other"}
        | ({"username": "o"} if name == "users" else {})
        | ({"key_hash": "o"} if name == "api_keys" else {})
    )
    await repository.save(other)
    changed = make(**changes)
    await repository.save(changed)
    assert await repository.get(getattr(same, key)) == changed
    assert await repository.delete(getattr(same, key)) is True
    assert await repository.get(getattr(same, key)) is None
    assert await repository.delete(getattr(same, key)) is False
    assert await repository.get("other") == other


ADDING: dict[str, tuple[Callable[..., Any], dict[str, Any], Call]] = {
    "messages": (a_message, {"content": "Else"}, lambda b: b.messages.get_history("#home")),
    "lifecycle_events": (an_event, {"details": "else"}, lambda b: b.lifecycle_events.list_events()),
    "task_metrics": (a_metric, {"turns_used": 9}, lambda b: b.task_metrics.query()),
    "collaboration_metrics": (a_collaboration, {"loop_triggered": True}, lambda b: b.collaboration_metrics.query()),
    "audit_entries": (an_audit, {"reason": "else"}, lambda b: b.audit_entries.query()),
    "workflow_executions": (
        an_execution,
        {"project": "else"},
        lambda b: b.workflow_executions.list_by_definition("w1"),
    ),
}
"""Repositories that never replace: what they store, another of the same id, and how to see it."""


@pytest.mark.parametrize("name", ADDING)
async def test_an_id_is_given_once(name: str, backend: p.PersistenceBackend) -> None:
    """A.11 messages, audit_entries: duplicate id → DuplicateRecordError; here of each that never replaces (A.9 no. 8)."""
    make, changes, find = ADDING[name]
    await backend.tasks.save(a_task())
    await backend.workflow_definitions.save(a_definition())
    first = make()
    await getattr(backend, name).save(first)
    with pytest.raises(p.DuplicateRecordError):
        await getattr(backend, name).save(msgspec.structs.replace(first, **changes))
    assert await find(backend) == (first,)


async def test_a_checkpoint_is_replaced_by_its_id(backend: p.PersistenceBackend) -> None:
    """A.11 checkpoints: round trip; same id upserts."""
    await backend.checkpoints.save(a_checkpoint(turn_number=5))
    await backend.checkpoints.save(a_checkpoint(turn_number=2))
    assert await backend.checkpoints.get_latest(execution_id="x1") == a_checkpoint(turn_number=2)
    assert await backend.checkpoints.delete_by_execution("x1") == 1


READS: dict[str, tuple[str, Call]] = {
    "tasks.get": ("tasks", lambda b: b.tasks.get("t1")),
    "tasks.list_tasks": ("tasks", lambda b: b.tasks.list_tasks()),
    "cost_records.query": ("cost_records", lambda b: b.cost_records.query()),
    "messages.get_history": ("messages", lambda b: b.messages.get_history("#home")),
    "lifecycle_events.list_events": ("lifecycle_events", lambda b: b.lifecycle_events.list_events()),
    "task_metrics.query": ("task_metrics", lambda b: b.task_metrics.query()),
    "collaboration_metrics.query": ("collaboration_metrics", lambda b: b.collaboration_metrics.query()),
    "parked_contexts.get": ("parked_contexts", lambda b: b.parked_contexts.get("p1")),
    "parked_contexts.get_by_approval": ("parked_contexts", lambda b: b.parked_contexts.get_by_approval("a1")),
    "parked_contexts.get_by_agent": ("parked_contexts", lambda b: b.parked_contexts.get_by_agent("ann")),
    "audit_entries.query": ("audit_entries", lambda b: b.audit_entries.query()),
    "users.get": ("users", lambda b: b.users.get("u1")),
    "users.get_by_username": ("users", lambda b: b.users.get_by_username("eve")),
    "users.list_users": ("users", lambda b: b.users.list_users()),
    "api_keys.get": ("api_keys", lambda b: b.api_keys.get("k1")),
    "api_keys.get_by_hash": ("api_keys", lambda b: b.api_keys.get_by_hash("ab" * 32)),
    "api_keys.list_by_user": ("api_keys", lambda b: b.api_keys.list_by_user("u1")),
    "checkpoints.get_latest": ("checkpoints", lambda b: b.checkpoints.get_latest(task_id="t1")),
    "heartbeats.get": ("heartbeats", lambda b: b.heartbeats.get("x1")),
    "heartbeats.get_stale": ("heartbeats", lambda b: b.heartbeats.get_stale(T0 + TICK)),
    "agent_states.get": ("agent_states", lambda b: b.agent_states.get("ann")),
    "agent_states.get_active": ("agent_states", lambda b: b.agent_states.get_active()),
    "settings.get": ("namespaced_settings", lambda b: b.settings.get("n", "k")),
    "settings.get_namespace": ("namespaced_settings", lambda b: b.settings.get_namespace("n")),
    "settings.get_all": ("namespaced_settings", lambda b: b.settings.get_all()),
    "artifacts.get": ("artifacts", lambda b: b.artifacts.get("f1")),
    "artifacts.list_artifacts": ("artifacts", lambda b: b.artifacts.list_artifacts()),
    "projects.get": ("projects", lambda b: b.projects.get("home")),
    "projects.list_projects": ("projects", lambda b: b.projects.list_projects()),
    "custom_presets.get": ("custom_presets", lambda b: b.custom_presets.get("calm")),
    "custom_presets.list_all": ("custom_presets", lambda b: b.custom_presets.list_all()),
    "workflow_definitions.get": ("workflow_definitions", lambda b: b.workflow_definitions.get("w1")),
    "workflow_definitions.list_definitions": (
        "workflow_definitions", lambda b: b.workflow_definitions.list_definitions(),
    ),
    "workflow_executions.get": ("workflow_executions", lambda b: b.workflow_executions.get("y1")),
    "workflow_executions.list_by_definition": (
        "workflow_executions", lambda b: b.workflow_executions.list_by_definition("w1"),
    ),
    "workflow_executions.list_by_status": (
        "workflow_executions", lambda b: b.workflow_executions.list_by_status(p.WorkflowExecutionStatus.PENDING),
    ),
}  # fmt: skip
"""Every method that reads records: the table that it reads, and how it finds what `fill` saved."""

OTHERS: dict[str, Call] = {
    "tasks.save": lambda b: b.tasks.save(a_task()),
    "tasks.delete": lambda b: b.tasks.delete("t1"),
    "cost_records.aggregate": lambda b: b.cost_records.aggregate(),
    "messages.save": lambda b: b.messages.save(a_message()),
    "audit_entries.save": lambda b: b.audit_entries.save(an_audit()),
    "cost_records.save": lambda b: b.cost_records.save(a_cost()),
    "lifecycle_events.save": lambda b: b.lifecycle_events.save(an_event()),
    "task_metrics.save": lambda b: b.task_metrics.save(a_metric()),
    "collaboration_metrics.save": lambda b: b.collaboration_metrics.save(a_collaboration()),
    "parked_contexts.save": lambda b: b.parked_contexts.save(a_parked()),
    "parked_contexts.delete": lambda b: b.parked_contexts.delete("p1"),
    "api_keys.save": lambda b: b.api_keys.save(a_key()),
    "api_keys.delete": lambda b: b.api_keys.delete("k1"),
    "artifacts.save": lambda b: b.artifacts.save(an_artifact()),
    "artifacts.delete": lambda b: b.artifacts.delete("f1"),
    "projects.save": lambda b: b.projects.save(a_project()),
    "projects.delete": lambda b: b.projects.delete("home"),
    "workflow_definitions.delete": lambda b: b.workflow_definitions.delete("w1"),
    "workflow_executions.delete": lambda b: b.workflow_executions.delete("y1"),
    "users.save": lambda b: b.users.save(a_user()),
    "users.count": lambda b: b.users.count(),
    "users.count_by_role": lambda b: b.users.count_by_role(p.HumanRole.CEO),
    "users.delete": lambda b: b.users.delete("u1"),
    "checkpoints.save": lambda b: b.checkpoints.save(a_checkpoint()),
    "checkpoints.delete_by_execution": lambda b: b.checkpoints.delete_by_execution("x1"),
    "heartbeats.save": lambda b: b.heartbeats.save(a_heartbeat()),
    "heartbeats.delete": lambda b: b.heartbeats.delete("x1"),
    "agent_states.save": lambda b: b.agent_states.save(a_busy_agent()),
    "agent_states.delete": lambda b: b.agent_states.delete("ann"),
    "settings.set": lambda b: b.settings.set("n", "k", "v", "2"),
    "settings.delete": lambda b: b.settings.delete("n", "k"),
    "settings.delete_namespace": lambda b: b.settings.delete_namespace("n"),
    "custom_presets.save": lambda b: b.custom_presets.save("calm", "{}", "", "1", "1"),
    "custom_presets.delete": lambda b: b.custom_presets.delete("calm"),
    "custom_presets.count": lambda b: b.custom_presets.count(),
    "workflow_definitions.save": lambda b: b.workflow_definitions.save(a_definition()),
    "workflow_executions.save": lambda b: b.workflow_executions.save(an_execution()),
    "workflow_executions.find_by_task_id": lambda b: b.workflow_executions.find_by_task_id("t1"),
}


async def test_a_store_that_fails_is_a_query_error(backend: p.PersistenceBackend) -> None:
    """A.11 audit_entries, checkpoints, heartbeats, agent_states, custom_presets: driver errors, of every method."""
    await fill(backend)
    await backend.get_db().close()
    calls = {name: call for name, (_, call) in READS.items()} | OTHERS
    failed = []
    for name, call in calls.items():
        try:
            await call(backend)
        except p.QueryError:
            failed.append(name)
    assert failed == list(calls)


def test_every_method_of_every_repository_is_called_here() -> None:
    methods = {
        f"{name}.{method}" for name, protocol in REPOSITORIES.items() for method in vars(protocol) if method[0] != "_"
    }
    assert methods - READS.keys() - OTHERS.keys() == set()


async def test_what_was_saved_is_found_by_every_method_that_reads(backend: p.PersistenceBackend) -> None:
    await fill(backend)
    assert [name for name, (_, call) in READS.items() if not await call(backend)] == []


@pytest.mark.parametrize("name", READS)
async def test_a_row_that_does_not_decode_is_a_query_error(name: str, backend: p.PersistenceBackend) -> None:
    """A.11 tasks, messages, parked_contexts, audit_entries, checkpoints, heartbeats, agent_states: a corrupt row.

    It is named, and stays where it is."""
    await fill(backend)
    read, call = READS[name]
    (table,) = (t for t in TABLES if t.name == read)

    def plant(tx: Any) -> Row:
        (row,) = tx[table].stored()
        bad = msgspec.structs.replace(row, doc=b'{"owner": 7}')
        tx.rows.insert(table, bad, replace=True)
        return bad

    bad = await backend.get_db().write(plant)
    with pytest.raises(p.QueryError, match="decode"):
        await call(backend)
    assert list(await backend.get_db().read(lambda tx: tx[table].stored())) == [bad]


async def test_a_document_that_is_no_task_is_a_query_error(backend: p.PersistenceBackend) -> None:
    """A.11 tasks: a row of ours whose document means nothing."""
    await backend.tasks.save(a_task())

    def plant(tx: Any) -> None:
        (table,) = (t for t in TABLES if t.name == "tasks")
        (row,) = tx[table].find()
        tx[table].save(msgspec.structs.replace(row, document={"id": "t1"}))

    await backend.get_db().write(plant)
    for read in (backend.tasks.get("t1"), backend.tasks.list_tasks()):
        with pytest.raises(p.QueryError):
            await read


async def test_an_argument_that_no_column_holds_is_a_query_error(backend: p.PersistenceBackend) -> None:
    naive = T0.replace(tzinfo=None)
    for call in (
        backend.audit_entries.query(since=naive),
        backend.heartbeats.get_stale(naive),
        backend.settings.set("n", "k", "NUL \0", "1"),
        backend.settings.set(" ", "k", "v", "1"),
        backend.custom_presets.save("", "{}", "", "1", "1"),
        backend.custom_presets.save("calm", "", "", "1", "1"),
    ):
        with pytest.raises(p.QueryError):
            await call
