"""Lists: which records they have, and in which order (A.11 messages, lifecycle_events, collaboration_metrics,
parked_contexts, audit_entries, checkpoints, heartbeats, agent_states, artifacts, projects).

Instants that are equal or in different zones, and bounds that are met exactly, are part of each (A.9 no. 2, A.11.2).
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from operator import attrgetter
from typing import Any
from uuid import UUID

import pytest
from kit.organisation import (
    T0,
    TICK,
    a_busy_agent,
    a_checkpoint,
    a_collaboration,
    a_heartbeat,
    a_message,
    a_parked,
    a_project,
    an_artifact,
    an_audit,
    an_event,
    an_idle_agent,
)

from polpod import persistence as p
from polpod.store.organisation import Projects

pytestmark = pytest.mark.anyio

EAST = timezone(timedelta(hours=9))
MIXED = [T0, (T0 + 500_000 * TICK).astimezone(EAST), T0 - TICK, (T0 + TICK).astimezone(timezone(-timedelta(hours=8)))]
"""Their order as instants is 2, 0, 3, 1; by local clocks, or as the texts of an earlier time, it is another."""
OLDEST_FIRST = [2, 0, 3, 1]


def ids(found: tuple[Any, ...]) -> list[str]:
    return [entity.id for entity in found]


# Messages.


async def test_history_is_of_a_channel_the_newest_first(backend: p.PersistenceBackend) -> None:
    """A.11 messages: save/history; newest first; channel filter; limit."""
    messages = [a_message(timestamp=at) for at in MIXED]
    for message in (*messages, a_message(channel="#work")):
        await backend.messages.save(message)
    newest_first = tuple(messages[n] for n in reversed(OLDEST_FIRST))
    assert await backend.messages.get_history("#home") == newest_first
    assert await backend.messages.get_history("#home", limit=2) == newest_first[:2]
    assert len(await backend.messages.get_history("#work")) == 1
    assert await backend.messages.get_history("#nobody") == ()


async def test_messages_of_one_instant_have_an_order(backend: p.PersistenceBackend) -> None:
    messages = [a_message(id=UUID(int=n)) for n in (3, 1, 2)]
    for message in messages:
        await backend.messages.save(message)
    assert [m.id.int for m in await backend.messages.get_history("#home")] == [1, 2, 3]


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_limit_below_one_is_refused(limit: int, backend: p.PersistenceBackend) -> None:
    """A.11 messages: limit 0 or negative; audit_entries: limit < 1; the same of lifecycle events."""
    for call in (
        backend.messages.get_history("#home", limit=limit),
        backend.audit_entries.query(limit=limit),
        backend.lifecycle_events.list_events(limit=limit),
    ):
        with pytest.raises(p.QueryError, match="limit"):
            await call


async def test_a_message_comes_back_whole(backend: p.PersistenceBackend) -> None:
    """A.11 messages: UUID; `from` alias; attachments and metadata."""
    text = b"""{"timestamp": "2026-03-01T13:00:00+01:00", "from": "ann", "to": "bob", "type": "question", "channel": "c",
        "content": "?", "attachments": [{"type": "link", "ref": "x"}], "metadata": {"tokens_used": 3, "extra": [["k", "v"]]}}"""
    message = p.Message.from_json(text)
    await backend.messages.save(message)
    (found,) = await backend.messages.get_history("c")
    assert found == message
    assert (found.sender, type(found.id), found.timestamp) == ("ann", UUID, T0)
    assert found.attachments == (p.Attachment(type=p.AttachmentType.LINK, ref="x"),)
    assert found.metadata == p.MessageMetadata(tokens_used=3, extra=(("k", "v"),))
    assert b'"from":"ann"' in found.to_json()


# Lifecycle events, collaboration.


async def test_lifecycle_events(backend: p.PersistenceBackend) -> None:
    """A.11 lifecycle_events: save/list; by agent; by type; combined; since includes its instant; metadata; empty; limit."""
    list_events = backend.lifecycle_events.list_events
    assert await list_events() == ()
    for n, at in enumerate(MIXED):
        kind = p.LifecycleEventType.HIRED if n < 2 else p.LifecycleEventType.FIRED
        await backend.lifecycle_events.save(
            an_event(id=str(n), timestamp=at, event_type=kind, agent_id=("ann", "bob")[n % 2], metadata={"n": str(n)})
        )
    assert ids(await list_events()) == ["1", "3", "0", "2"]
    assert ids(await list_events(agent_id="ann")) == ["0", "2"]
    assert ids(await list_events(event_type=p.LifecycleEventType.FIRED)) == ["3", "2"]
    assert ids(await list_events(agent_id="ann", event_type=p.LifecycleEventType.FIRED)) == ["2"]
    assert ids(await list_events(since=T0)) == ["1", "3", "0"]
    assert ids(await list_events(since=T0 + TICK)) == ["1", "3"]
    assert ids(await list_events(limit=1)) == ["1"]
    assert [event.metadata for event in await list_events(agent_id="ann")] == [{"n": "0"}, {"n": "2"}]


async def test_collaboration(backend: p.PersistenceBackend) -> None:
    """A.11 collaboration_metrics: save/query; by agent; empty; nullables stay None; True stays True; since.

    A.9 no. 1: interaction_summary is stored."""
    query = backend.collaboration_metrics.query
    assert await query() == ()
    whole = a_collaboration(
        id="1", delegation_success=True, delegation_response_seconds=0.5, conflict_constructiveness=1.0,
        meeting_contribution=0.0, loop_triggered=True, handoff_completeness=0.5, interaction_summary="went well",
    )  # fmt: skip
    bare = a_collaboration(id="2", agent_id="bob", recorded_at=T0 + TICK)
    await backend.collaboration_metrics.save(whole)
    await backend.collaboration_metrics.save(bare)
    assert await query() == (bare, whole)
    assert await query(agent_id="ann") == (whole,)
    assert await query(since=T0 + TICK) == (bare,)
    assert await query(agent_id="ann", since=T0 + TICK) == ()
    (found,) = await query(agent_id="ann")
    assert found.loop_triggered is True
    assert found.interaction_summary == "went well"
    (found,) = await query(agent_id="bob")
    assert found.delegation_success is found.meeting_contribution is found.interaction_summary is None


# Parked contexts.


async def test_parked_contexts(backend: p.PersistenceBackend) -> None:
    """A.11 parked_contexts: by approval hit and miss, by agent, empty, newest first, metadata.

    A.9 no. 6: of several for one approval it is the newest."""
    parked = backend.parked_contexts
    assert await parked.get_by_agent("ann") == ()
    assert await parked.get_by_approval("a1") is None
    for n, at in enumerate(MIXED):
        await parked.save(a_parked(id=str(n), parked_at=at, approval_id=f"a{n % 2}", metadata={"a": "b"}, task_id=None))
    await parked.save(a_parked(id="9", agent_id="bob"))
    assert ids(await parked.get_by_agent("ann")) == ["1", "3", "0", "2"]
    found = await parked.get_by_approval("a0")
    assert found is not None
    assert (found.id, found.metadata, found.task_id) == ("0", {"a": "b"}, None)


# Audit.


async def audited(backend: p.PersistenceBackend) -> None:
    kinds: list[dict[str, Any]] = [
        {"agent_id": "ann", "verdict": "allow", "risk_level": "low"},
        {"agent_id": "bob", "verdict": "deny", "risk_level": "high"},
        {"agent_id": "ann", "verdict": "deny", "risk_level": "high", "action_type": "git:push"},
        {"agent_id": None, "verdict": "allow", "risk_level": "critical"},
    ]
    for n, (at, kind) in enumerate(zip(MIXED, kinds, strict=True)):
        await backend.audit_entries.save(an_audit(id=str(n), timestamp=at, **kind))


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        pytest.param({}, "1302", id="all, newest first"),
        pytest.param({"agent_id": None}, "1302", id="agent_id=None is no filter"),
        pytest.param({"agent_id": "ann"}, "02", id="agent"),
        pytest.param({"action_type": "git:push"}, "2", id="action"),
        pytest.param({"verdict": "deny"}, "12", id="verdict"),
        pytest.param({"risk_level": p.ApprovalRiskLevel.HIGH}, "12", id="risk"),
        pytest.param({"risk_level": "high"}, "12", id="risk by its word"),
        pytest.param({"since": T0}, "130", id="since is inclusive"),
        pytest.param({"since": T0 + TICK}, "13", id="since excludes older"),
        pytest.param({"until": T0}, "02", id="until is inclusive"),
        pytest.param({"until": (T0 + TICK).astimezone(EAST)}, "302", id="bounds of any zone"),
        pytest.param({"since": T0, "until": T0}, "0", id="equal bounds"),
        pytest.param({"since": T0 - TICK, "until": T0 + TICK}, "302", id="since and until"),
        pytest.param({"agent_id": "ann", "verdict": "deny", "risk_level": "high"}, "2", id="combined"),
        pytest.param({"agent_id": "nobody"}, "", id="empty"),
        pytest.param({"limit": 2}, "13", id="limit keeps the newest"),
        pytest.param({"limit": 1, "verdict": "deny"}, "1", id="limit after filters"),
    ],
)
async def test_audit_entries_are_filtered(filters: dict[str, Any], found: str, backend: p.PersistenceBackend) -> None:
    """A.11 audit_entries, by id."""
    await audited(backend)
    assert "".join(ids(await backend.audit_entries.query(**filters))) == found


async def test_audit_bounds_that_cross_are_refused(backend: p.PersistenceBackend) -> None:
    """A.11 audit_entries: until < since."""
    with pytest.raises(p.QueryError, match="until"):
        await backend.audit_entries.query(since=T0, until=T0 - TICK)


async def test_audit_is_limited_to_a_hundred_unless_told(backend: p.PersistenceBackend) -> None:
    """A.5.1 audit_entries: limit, default 100."""
    for n in range(101):
        await backend.audit_entries.save(an_audit(id=f"{n:03}"))
    assert len(await backend.audit_entries.query()) == 100
    assert len(await backend.audit_entries.query(limit=101)) == 101


async def test_an_audit_entry_comes_back_whole(backend: p.PersistenceBackend) -> None:
    """A.11 audit_entries: all fields; null optionals; rules order; non-UTC stored as UTC; A.9 no. 1: confidence."""
    whole = an_audit(
        agent_id="ann", task_id="t1", approval_id="a1", matched_rules=("z", "a", "m"), confidence="low",
        timestamp=T0.astimezone(EAST),
    )  # fmt: skip
    bare = an_audit(id="d2", timestamp=T0 - TICK)
    await backend.audit_entries.save(whole)
    await backend.audit_entries.save(bare)
    assert await backend.audit_entries.query() == (whole, bare)
    found, other = await backend.audit_entries.query()
    assert found.matched_rules == ("z", "a", "m")
    assert found.confidence is p.EvaluationConfidence.LOW
    assert found.timestamp.isoformat() == "2026-03-01T12:00:00+00:00"
    assert other.agent_id is other.task_id is other.approval_id is None


# Checkpoints, heartbeats, agents.


async def test_the_latest_checkpoint(backend: p.PersistenceBackend) -> None:
    """A.11 checkpoints: highest turn; filter by task, by execution, both; None; ValueError without a filter.

    A.9 no. 6: of one turn it is the newest, then the first by id."""
    latest = backend.checkpoints.get_latest
    assert await latest(execution_id="x1") is None
    for values in (
        {"id": "a", "turn_number": 9},
        {"id": "b", "turn_number": 10},
        {"id": "c", "turn_number": 11, "execution_id": "x2"},
        {"id": "d", "turn_number": 12, "task_id": "t2"},
    ):
        await backend.checkpoints.save(a_checkpoint(**values))

    async def found(**filters: str) -> str | None:
        checkpoint = await latest(**filters)
        return checkpoint and checkpoint.id

    assert await found(execution_id="x1") == "d"
    assert await found(task_id="t1") == "c"
    assert await found(execution_id="x1", task_id="t1") == "b"
    assert await found(execution_id="x2", task_id="t2") is None
    for name, at in (("g", T0 + TICK), ("f", T0 + TICK), ("e", T0)):
        await backend.checkpoints.save(a_checkpoint(id=name, turn_number=12, created_at=at))
    assert await found(task_id="t1") == "f"
    with pytest.raises(ValueError, match="execution"):
        await latest()


async def test_checkpoints_are_deleted_by_execution(backend: p.PersistenceBackend) -> None:
    """A.11 checkpoints: delete_by_execution count, zero, isolation."""
    for n in range(3):
        await backend.checkpoints.save(a_checkpoint(id=str(n), execution_id=("x1", "x2")[n % 2]))
    assert await backend.checkpoints.delete_by_execution("x1") == 2
    assert await backend.checkpoints.delete_by_execution("x1") == 0
    assert await backend.checkpoints.get_latest(execution_id="x2") is not None


async def test_stale_heartbeats(backend: p.PersistenceBackend) -> None:
    """A.11 heartbeats: stale lists only older ones, oldest first; empty; A.5.2: one at the threshold is not stale."""
    get_stale = backend.heartbeats.get_stale
    assert await get_stale(T0) == ()
    for n, at in enumerate(MIXED):
        await backend.heartbeats.save(a_heartbeat(execution_id=str(n), last_heartbeat_at=at))
    assert [h.execution_id for h in await get_stale(T0 + 600_000 * TICK)] == ["2", "0", "3", "1"]
    assert [h.execution_id for h in await get_stale(T0)] == ["2"]
    assert [h.execution_id for h in await get_stale((T0 + TICK).astimezone(EAST))] == ["2", "0"]


async def test_active_agents(backend: p.PersistenceBackend) -> None:
    """A.11 agent_states: get_active hides idle ones, the most recent first; empty table, all idle; idle → busy → idle."""
    states = backend.agent_states
    assert await states.get_active() == ()
    await states.save(an_idle_agent(agent_id="idle"))
    assert await states.get_active() == ()
    for n, at in enumerate(MIXED):
        status = ("executing", "paused")[n % 2]
        await states.save(a_busy_agent(agent_id=str(n), status=status, last_activity_at=at))
    assert [s.agent_id for s in await states.get_active()] == ["1", "3", "0", "2"]
    await states.save(a_busy_agent(agent_id="idle", last_activity_at=T0 + 900_000 * TICK))
    assert [s.agent_id for s in await states.get_active()] == ["idle", "1", "3", "0", "2"]
    await states.save(an_idle_agent(agent_id="idle"))
    assert await states.get("idle") == an_idle_agent(agent_id="idle")
    assert len(await states.get_active()) == 4


# Artifacts and projects.


async def test_artifacts(backend: p.PersistenceBackend) -> None:
    """A.11 artifacts: list all; filter task, creator, type, combined; content_type and size; created_at equal and aware.

    A.9 no. 1: project_id is stored; created_at may be unset, and stays so."""
    artifacts = {
        "b": an_artifact(id="b", content_type="text/plain", size_bytes=7, description="d", project_id="home"),
        "a": an_artifact(id="a", type="tests", created_by="bob", created_at=None),
        "c": an_artifact(id="c", type="tests", task_id="t2"),
    }
    for artifact in artifacts.values():
        await backend.artifacts.save(artifact)
    find = backend.artifacts.list_artifacts
    assert await find() == tuple(artifacts[name] for name in "abc")
    assert ids(await find(task_id="t1")) == ["a", "b"]
    assert ids(await find(created_by="ann")) == ["b", "c"]
    assert ids(await find(artifact_type=p.ArtifactType.TESTS)) == ["a", "c"]
    assert ids(await find(artifact_type=p.ArtifactType.TESTS, created_by="ann", task_id="t2")) == ["c"]
    found = await backend.artifacts.get("b")
    assert found is not None
    assert found.created_at is not None
    assert (found.created_at, found.created_at.tzinfo is None, found.project_id) == (T0, False, "home")


async def test_projects(backend: p.PersistenceBackend) -> None:
    """A.11 projects: list; status; lead; combined; tuples; deadline and budget; None lead and deadline; empty tuples."""
    projects = {
        "b": a_project(
            id="b", lead="ann", team=("z", "a"), task_ids=("2", "1"), deadline="2026-03-01", budget=1.5, status="active"
        ),
        "a": a_project(id="a"),
        "c": a_project(id="c", lead="ann"),
    }
    for project in projects.values():
        await backend.projects.save(project)
    find = backend.projects.list_projects
    assert await find() == tuple(projects[name] for name in "abc")
    assert ids(await find(status=p.ProjectStatus.PLANNING)) == ["a", "c"]
    assert ids(await find(lead="ann")) == ["b", "c"]
    assert ids(await find(lead="ann", status=p.ProjectStatus.ACTIVE)) == ["b"]
    bare = await backend.projects.get("a")
    assert bare is not None
    assert (bare.lead, bare.deadline, bare.team, bare.task_ids) == (None, None, (), ())


async def test_no_list_is_cut_short() -> None:
    """A.9 no. 6: lists have no silent cap (the reference's is 10,000)."""
    backend = p.create_backend(p.PersistenceConfig(backend="memory"))
    await backend.connect()

    def body(tx: Any) -> None:
        for n in range(10_001):
            tx[Projects].add(a_project(id=f"{n:05}"))

    await backend.get_db().write(body)
    assert len(await backend.projects.list_projects()) == 10_001
    await backend.disconnect()


UNFIT = ["a\0b", "\ud800"]
"""Text that some database cannot hold: on every backend QueryError, and not a word of the driver's."""


@pytest.mark.parametrize("bad", UNFIT, ids=["nul", "surrogate"])
@pytest.mark.parametrize(
    "asked",
    [
        "tasks.get",
        "messages.get_history",
        "parked_contexts.get_by_approval",
        "parked_contexts.get_by_agent",
        "users.get_by_username",
        "users.count_by_role",
        "api_keys.get_by_hash",
        "api_keys.list_by_user",
        "checkpoints.delete_by_execution",
        "settings.get_namespace",
        "settings.delete_namespace",
        "artifacts.delete",
        "workflow_executions.list_by_definition",
        "workflow_executions.list_by_status",
    ],
)
async def test_what_no_column_holds_is_query_error(backend: p.PersistenceBackend, asked: str, bad: str) -> None:
    with pytest.raises(p.QueryError):
        await attrgetter(asked)(backend)(bad)


async def test_numbers_and_instants_beyond_every_column_are_query_errors(backend: p.PersistenceBackend) -> None:
    before_utc = datetime.min.replace(tzinfo=EAST)
    for ask in (
        backend.messages.get_history("#home", limit=2**63),
        backend.audit_entries.query(limit=2**70),
        backend.lifecycle_events.list_events(limit=2**63),
        backend.lifecycle_events.list_events(since=before_utc),
        backend.heartbeats.get_stale(before_utc),
        backend.heartbeats.get_stale(T0.replace(tzinfo=None)),
    ):
        with pytest.raises(p.QueryError):
            await ask


async def test_nobody_deletes_or_finds_by_none(backend: p.PersistenceBackend) -> None:
    """None is no filter where a filter may be left out, and fits nothing where it may not."""
    await backend.heartbeats.save(a_heartbeat())
    await backend.checkpoints.save(a_checkpoint())
    nothing: Any = None
    assert await backend.heartbeats.get_stale(nothing) == ()
    assert await backend.checkpoints.delete_by_execution(nothing) == 0
    assert await backend.users.get_by_username(nothing) is None
