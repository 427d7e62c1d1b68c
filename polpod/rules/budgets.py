"""Budgets: whether work spent more than it may, and what happens then: it stops, and a person is asked (F90).

Rule 1: a budget is spent by all runs of a task together; of an execution, by all its tasks.  Rule 2: what is spent is
judged when it is noted (money, tokens), and when somebody looks (time, disk); exactly the budget is not over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from msgspec import structs

from polpod.errors import Conflict
from polpod.model.budgets import MOST, Budget, Spent
from polpod.model.events import Event
from polpod.model.polpo.approvals import ApprovalKind, Asked
from polpod.model.runs import Run
from polpod.model.tasks import Task
from polpod.rules.tasks import event

BY = "budget"
"""Who has a run ended that spent too much (`kill_by`)."""

PLACES = 9
"""Decimal places that count: three times 0.1 is not more than 0.3, whatever the sum of the floats says."""

OVER = "over its budget"
"""How the reason begins for which an execution is paused then."""

TEXT: Mapping[str, Callable[[float], str]] = {
    "money": lambda n: f"{n:.2f} USD",
    "tokens": lambda n: f"{n:,.0f} tokens",
    "wall_time": lambda n: f"{n:.0f} s",
    "cpu_time": lambda n: f"{n:.0f} s of CPU time",
    "disk": lambda n: f"{n / 2**20:.1f} MiB on disk",
}
"""An amount of each field of a budget, for people."""


def first_over(budget: Budget | None, spent: Spent) -> str | None:
    """The first field of the budget of which more was spent."""
    if budget is None:
        return None
    for field in TEXT:
        most = getattr(budget, field)
        if most is not None and round(getattr(spent, field), PLACES) > most:
            return field
    return None


def over(task: Task) -> str | None:
    """The field of its budget that the task spent, if any."""
    return task.over_budget or first_over(task.budget, task.spent)


def left(budget: Budget, spent: Spent) -> dict[str, float | None]:
    """What may be spent yet of what is seen only by looking, as fields of rules.health.Vitals."""
    return {
        name: None if (most := getattr(budget, field)) is None else most - getattr(spent, field)
        for name, field in (("wall_left", "wall_time"), ("cpu_left", "cpu_time"), ("disk_left", "disk"))
    }


def after(spent: Spent, run: Run) -> Spent:
    """What was spent once this run is over."""
    return structs.replace(
        spent,
        wall_time=spent.wall_time + (run.duration or 0.0),
        cpu_time=spent.cpu_time + (run.cpu_seconds or 0.0),
    )


def sentence(budget: Budget | None, spent: Spent, field: str) -> str:
    """What was spent of what."""
    most = getattr(budget, field) if budget is not None else None
    text = TEXT[field]
    limit = "no limit" if most is None else text(most)
    return f"{text(getattr(spent, field))} spent of {limit}"


def exceeded(task: Task, field: str, now: datetime, **body: object) -> Event:
    """The event: once for each time that a budget is spent."""
    most = getattr(task.budget, field) if task.budget is not None else None
    return event(
        task, "budget:exceeded", now, budget="task", what=field, spent=getattr(task.spent, field), limit=most, **body
    )


def asked(task: Task, field: str) -> Asked:
    """What a person is asked then."""
    return Asked(kind=ApprovalKind.BUDGET, message=sentence(task.budget, task.spent, field), payload={"what": field})


def raised(budget: Budget | None, spent: Spent, field: str | None, given: Budget | None) -> Budget | None:
    """The budget with which it goes on: with the limits that were given; without any, what was spent of it is doubled.

    `field`: of which too much was spent; where twice that is more than a budget may be, it has no limit then.  Raises Conflict where what was given is spent already.
    """
    if budget is None:
        return given
    if given is not None:
        new = structs.replace(budget, **{n: v for n, v in structs.asdict(given).items() if v is not None})
        if (still := first_over(new, spent)) is not None:
            raise Conflict(f"{sentence(new, spent, still)}: to let it go on, allow more")
        return new
    while field is not None:
        more = 2 * max(getattr(budget, field) or 0, getattr(spent, field))
        budget = structs.replace(budget, **{field: more if more <= MOST[field] else None})
        field = first_over(budget, spent)
    return budget
