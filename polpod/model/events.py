"""Events: the rows of the journal (DESIGN §11).  State is not rebuilt from them; they say what happened, in commit order.

`KINDS` is the one list of what may happen, with what each says of it: docs/events.md is made from it, rules that name no
kind of it are found by it, and what is written into the journal is held against it.  Names are Polpo's where it has one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from msgspec import Struct

from polpod.model.tasks import Instant


class Event(Struct, frozen=True, kw_only=True):
    """`seq` has no gaps; `subject` names what it is about: `task/12`, `run/17`, `queue/default`, `daemon`."""

    seq: int = 0
    at: Instant
    kind: str
    subject: str
    body: dict[str, Any] = {}


class Kind(Struct, frozen=True):
    name: str
    """A part of it that is `*` stands for several words."""
    subject: str
    fields: frozenset[str] | None
    """What its body may have; None: names that depend on what happened."""
    meaning: str


COMMON = frozenset({"execution_id", "deadline", "notify_channels"})
"""What any body may have: the execution of a mission that it is part of, when that or its task should be done, and
channels that are told whatever rules say."""


def _of(subject: str, *rows: tuple[str, str | None, str]) -> tuple[Kind, ...]:
    return tuple(
        Kind(name, subject, None if fields is None else frozenset(fields.split()), meaning)
        for name, fields, meaning in rows
    )


_REQUEST = "request_id kind gate_id gate_name task_id mission_id project"

KINDS = (
    *_of(
        "task/ID",
        ("task:created", "title queue status", "It was handed in."),
        ("task:transition", "from to queue reason unsafe", "Its status changed along one edge."),
        (
            "task:updated",
            "fields by hold queue old_queue status",
            "Somebody changed these fields; the last three where it came to another queue.",
        ),
        ("task:removed", "status queue by", "It was forgotten."),
        ("task:retry", "retries delay agent", "It is tried again, perhaps by another agent."),
        ("task:retry:blocked", "reason", "It would be tried again, but has side effects: a person decides."),
        ("task:maxRetries", "retries", "It was tried as often as it may be."),
        ("task:fix", "attempt max_fix", "Its agent puts right what its checks found."),
        ("assessment:started", "run_id trigger queue", "Its checks are carried out."),
        (
            "assessment:complete",
            "run_id trigger status reason passed scores global_score message queue",
            "They are over; `passed` is null where they came to no verdict.",
        ),
        ("escalation:triggered", "level handler target", "Its retries are spent, and the next level follows."),
        ("escalation:resolved", "level action agent", "Another agent has it now."),
        ("escalation:human", "level message", "A person has to decide."),
        ("task:timeout", "run_id reason elapsed", "A run took too long, or showed no activity for too long."),
        ("task:recovered", "previous reason", "An attempt decided nothing, and it waits again."),
        ("task:progress", "run_id percent text", "Its job says how far it is."),
        (
            "agent:spawned",
            "run_id attempt agent queue waited",
            "A run of it was started, after so many seconds in which it was ready.",
        ),
        (
            "agent:finished",
            "run_id status reason exit_code signal duration error stdout stderr assessment assessment_history queue",
            "That run is over, and the task is told how.",
        ),
        ("agent:stale", "action idle run_id agent", "Its run shows no activity: a warning, or it is ended."),
        ("task:question", "request_id run_id question", "Its run asks a person."),
        ("task:answered", "request_id question answer by", "A person answered."),
        ("approval:rejected", "request_id task_id feedback rejection_count resolved_by", "It is done over."),
        ("artifact:added", "id path size by", "A file of it is kept."),
    ),
    *_of(
        "task/ID, mission/ID, project/ID",
        ("approval:requested", f"{_REQUEST} message deadline on_timeout", "A person is asked whether it may go on."),
        (
            "approval:resolved",
            f"{_REQUEST} status resolved_by note",
            "That was decided, or needs no decision any more.",
        ),
        ("approval:timeout", f"{_REQUEST} action deadline", "Nobody answered in time; `action`: what is done."),
        ("budget:exceeded", "budget what spent limit run_id group", "It spent more than it may."),
        ("budget:raised", "limit spent", "A person allowed more."),
    ),
    *_of(
        "mission/ID",
        ("mission:saved", "name status by", "It was stored."),
        ("mission:updated", "fields from to by workflow_id", "Somebody changed these fields."),
        ("mission:deleted", "name status deleted_tasks by", "It was forgotten."),
        (
            "mission:pruned",
            "execution_id number by",
            "An execution that was over for long was forgotten, with its tasks.",
        ),
        ("mission:executed", "group task_count by trigger", "It is carried out."),
        ("mission:paused", "group reason", "Nothing of the execution starts for now."),
        ("mission:resumed", "group reason", "It goes on."),
        ("mission:aborted", "group reason", "What of it is not over is cancelled."),
        ("mission:completed", "group status all_passed reason report", "The execution is over, however it ended."),
        ("orchestrator:deadlock", "group task_ids", "All that is left of it waits for what failed for good."),
        ("checkpoint:reached", "group name message blocks_tasks reached_at", "A person has to let its tasks through."),
        ("checkpoint:resumed", "group name message blocks_tasks by", "Somebody did."),
        (
            "delay:started",
            "group name message blocks_tasks reached_at duration expires_at",
            "Its tasks wait until then.",
        ),
        ("delay:expired", "group name message blocks_tasks by", "They wait no more."),
        ("quality:gate:passed", "group name message blocks_tasks by", "What is behind the gate may go on."),
        ("quality:gate:failed", "group name message blocks_tasks reached_at reason", "The gate does not open."),
    ),
    *_of(
        "mission/ID",
        ("schedule:created", "mission_id expression next_at by", "It is carried out by itself from now on."),
        ("schedule:updated", "mission_id expression next_at by", "It is at other times from now on."),
        ("schedule:enabled", "mission_id expression next_at by", "Its schedule goes on."),
        ("schedule:disabled", "mission_id expression reason by", "Nothing of its schedule happens for now."),
        ("schedule:deleted", "mission_id expression by", "It is carried out by itself no more."),
        ("schedule:triggered", "mission_id expression due_at next_at", "Its time has come, and it is carried out."),
        ("schedule:completed", "mission_id expression status next_at", "That is over, however it ended."),
        ("schedule:skipped", "mission_id expression due_at times reason", "Nothing comes of these times of it."),
        ("schedule:failed", "mission_id expression due_at reason next_at", "It could not be carried out."),
        ("schedule:expired", "mission_id expression end_date", "The end date of its schedule has come."),
    ),
    *_of(
        "task/ID or mission/ID",
        ("sla:warning", "group elapsed remaining percent_used", "Most of the time until its deadline is over."),
        ("sla:violated", "group overdue action", "Its deadline has passed, or it was done too late."),
        ("sla:met", "group margin", "It was done in time."),
    ),
    *_of(
        "run/ID",
        ("run:late", "task_id status reason", "It ended when its task had gone on without it."),
        ("run:stuck", "task_id", "Its processes cannot be killed."),
        ("run:quarantined", "problem", "Its row cannot be read, and was set aside."),
    ),
    *_of(
        "agent/NAME",
        ("agent:added", "by team", "It is there: somebody added it, or it came with an execution."),
        ("agent:updated", "fields by", "Somebody changed these fields."),
        ("agent:removed", "by team", "It left."),
    ),
    *_of("queue/NAME", ("queue:updated", "slots paused by", "Somebody set it.")),
    *_of("project", ("project:updated", "fields by", "Somebody changed these fields.")),
    *_of("channel/NAME", ("message:sent", "id sender", "Something was said there.")),
    *_of(
        "a2a/ID",
        ("a2a:created", "state by", "An agent was sent a task (A2A)."),
        ("a2a:updated", "state by task_id", "It changed."),
        ("a2a:removed", "by", "It was forgotten."),
        ("a2a:assigned", "task_id agent by", "An agent of polpod's works on it."),
    ),
    *_of(
        "NOUN/ID",
        *(
            (f"{noun}:{verb}", "by", "Somebody did.")
            for noun in ("project", "workflow", "preset", "user", "key", "context", "collaboration")
            for verb in ("added", "removed")
        ),
        ("key:revoked", "by", "It is worth nothing any more."),
        ("workflow:saved", "by version", "Somebody replaced it by a version of his."),
    ),
    *_of(
        "notification/CHANNEL",
        (
            "notification:failed",
            "rule channel event event_kind error",
            "It could not be told of the event for too long.",
        ),
        ("notification:test", "by", "Somebody tries the channel; never in the journal."),
    ),
    *_of(
        "daemon",
        ("daemon:started", "collected live foreign", "polpod is there, and has looked at what it left."),
        ("journal:gap", "first last", "Told instead of events that were forgotten before; never in the journal."),
        ("store:salvaged", None, "What could be saved of a damaged database, by table."),
        ("store:lost", "", "Stands for an event that was lost with it."),
    ),
    *_of("store/FILE", ("store:quarantined", None, "A damaged file was moved aside.")),
    *_of("NOUN/KEY", ("*:quarantined", "problem quarantine status queue", "A row cannot be read, and was set aside.")),
)


@lru_cache(4096)
def _pattern(glob: str) -> re.Pattern[str]:
    if glob == "*":
        return re.compile(".*", re.DOTALL)
    parts = [".*" if part == "**" else _segment(part) for part in glob.split(":")]
    return re.compile(f"(?:{':'.join(parts)})", re.DOTALL)


def _segment(glob: str) -> str:
    """Stars beside each other are one: no pattern, whoever wrote it, may take long to match."""
    return "[^:]*".join(re.escape(text) for text in re.split(r"\*+", glob))


def fits(glob: str, kind: str) -> bool:
    """Whether the kind is meant: `*` is one part of it, `**` any number of them, and `*` alone any kind."""
    return _pattern(glob).fullmatch(kind) is not None


def known(glob: str) -> bool:
    """Whether there is a kind of event that this may mean."""
    return any(fits(glob, kind.name) or fits(kind.name, glob) for kind in KINDS)
