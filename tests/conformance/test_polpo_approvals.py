"""Requests for approval come and go with what waits for them, whoever moves it and on every backend (W32, W36)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from msgspec import structs
from polpo_stores import Polpo, polpo

from polpod.errors import Conflict, InvalidRequest
from polpod.model.organisation.artifacts import Project
from polpod.model.polpo.approvals import ApprovalKind, ApprovalRequest, ApprovalStatus, Asked
from polpod.model.tasks import Task, TaskStatus
from polpod.services.approvals import pass_deadlines
from polpod.store import approvals, spending
from polpod.store.organisation import Projects
from polpod.store.polpo import Approvals
from polpod.store.records import Tx
from polpod.store.tables import Tasks

__all__ = ("polpo",)

S = TaskStatus
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def in_order(polpo: Polpo) -> None:
    """A task waits for approval if and only if one request about it is pending, and it says which."""

    def look(tx: Tx) -> tuple[list[Task], list[ApprovalRequest]]:
        return tx[Tasks].find(), tx[Approvals].find(Approvals.pending.is_set())

    tasks, pending = polpo.write(look)
    waiting = {task.id: task.approval_id for task in tasks if task.status is S.AWAITING_APPROVAL}
    assert waiting == {request.task_id: request.id for request in pending}
    assert [task.approval_id for task in tasks if task.id not in waiting] == [None] * (len(tasks) - len(waiting))


def test_whatever_moves_a_task_its_request_comes_and_goes_with_it(polpo: Polpo) -> None:
    """W36 [P29, P32]: every way in makes one, every way out ends it; by the machine, beside it, and as a whole."""
    task = polpo.tasks.add_task({"title": "t"})
    for start, to in product(S, S):
        polpo.tasks.unsafe_set_status(task.id, start, "where it begins")
        in_order(polpo)
        moved = polpo.tasks.unsafe_set_status(task.id, to, "on")
        in_order(polpo)
        assert polpo.tasks.get_task(task.id) == moved
    polpo.tasks.unsafe_set_status(task.id, S.AWAITING_APPROVAL, "stop")
    polpo.tasks.set_state(tasks=[structs.replace(polpo.tasks.get_all_tasks()[0], status=S.PENDING)])
    in_order(polpo)
    polpo.tasks.unsafe_set_status(task.id, S.AWAITING_APPROVAL, "stop")
    assert polpo.tasks.remove_task(task.id)
    assert polpo.approvals.list() == []
    kinds = polpo.kinds()
    assert kinds.count("approval:requested") == kinds.count("approval:resolved") > 10


def test_the_reason_says_what_is_asked(polpo: Polpo) -> None:
    task = polpo.tasks.add_task({"title": "t"})
    for reason, kind in (("escalation", ApprovalKind.ESCALATION), ("side effects", ApprovalKind.EFFECTS)):
        polpo.tasks.unsafe_set_status(task.id, S.AWAITING_APPROVAL, reason)
        assert polpo.approvals.list("pending")[0].kind is kind
        polpo.tasks.unsafe_set_status(task.id, S.DRAFT, "on")
    polpo.tasks.unsafe_set_status(task.id, S.AWAITING_APPROVAL, "the moon is full")
    (request,) = polpo.approvals.list("pending")
    assert (request.kind, request.message) == (ApprovalKind.DECISION, "the moon is full")


def test_polpod_s_own_requests_are_not_a_library_s_to_change(polpo: Polpo) -> None:
    """W36: a request that is decided without its task would leave that waiting for ever."""
    task = polpo.tasks.add_task({"title": "t"})
    polpo.tasks.unsafe_set_status(task.id, S.AWAITING_APPROVAL, "stop")
    (request,) = polpo.approvals.list()
    with pytest.raises(Conflict, match="polpod's own"):
        polpo.approvals.upsert(id=request.id, gate_id="g", status="approved")
    with pytest.raises(Conflict, match="polpod's own"):
        polpo.approvals.delete(request.id)
    with pytest.raises(InvalidRequest, match="kind"):
        polpo.approvals.upsert(id="mine", gate_id="g", kind="start")
    polpo.approvals.upsert(id=f"a{request.seq + 1}", gate_id="g", task_id=task.id)
    in_order(polpo)
    other = polpo.tasks.add_task({"title": "o"})
    polpo.tasks.unsafe_set_status(other.id, S.AWAITING_APPROVAL, "an id that somebody chose is passed over")
    in_order(polpo)


def test_deadlines_are_found_by_an_index_and_told_once(polpo: Polpo) -> None:
    """W32, W36: they are rows, so that a restart forgets none; one without a declared default stays pending."""
    tasks = {action: polpo.tasks.add_task({"title": "t"}).id for action in ("approve", "reject", "wait", "later")}

    def ask(tx: Tx) -> None:
        for action, task_id in tasks.items():
            task = tx[Tasks].get(task_id)
            assert task is not None
            asked = Asked(
                kind=ApprovalKind.DONE,
                timeout=timedelta(days=36500).total_seconds() if action == "later" else 0.0,
                on_timeout=action if action in ("approve", "reject") else None,  # type: ignore[arg-type]
            )
            request, _ = approvals.ask_about(tx, task, asked, datetime.now(UTC))
            tx[Tasks].save(structs.replace(task, status=S.AWAITING_APPROVAL, approval_id=request.id))

    polpo.write(ask)
    for _ in range(2):
        polpo.write(pass_deadlines)
        in_order(polpo)
    found = {action: polpo.tasks.get_task(task_id) for action, task_id in tasks.items()}
    assert {action: task and task.status for action, task in found.items()} == {
        "approve": S.DONE, "reject": S.FAILED, "wait": S.AWAITING_APPROVAL, "later": S.AWAITING_APPROVAL,
    }  # fmt: skip
    assert polpo.kinds().count("approval:timeout") == 3
    statuses = [request.status for request in polpo.approvals.list()]
    assert statuses == [ApprovalStatus.TIMEOUT] * 2 + [ApprovalStatus.PENDING] * 2


def test_projects_over_their_budget_are_found_whatever_they_are_called(polpo: Polpo) -> None:
    """W32: counters and marks are rows; another project of that name, or a higher budget, is not over it."""
    names = ("web", "a.b/c", "*", "~", "été", "\U0001f600", "project.spent.web")

    def spend(tx: Tx) -> frozenset[str]:
        for name in (*names, "no project"):
            spending.add(tx, name, 1.5)
            spending.add(tx, name, 1.5)
            spending.note_over(tx, name)
        for name in names:
            tx[Projects].add(Project(id=name, name=name, budget=2.0))
        return spending.over(tx)

    assert polpo.write(spend) == set(names)

    def allow(tx: Tx) -> frozenset[str]:
        tx[Projects].save(Project(id="~", name="~", budget=3.0))
        spending.note_raised(tx, "web")
        return spending.over(tx)

    assert polpo.write(allow) == set(names) - {"~", "web"}
