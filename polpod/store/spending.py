"""What the tasks of projects cost, in US dollars, as counters; and of which projects that is more than their budget.

The counter outlives the tasks, and the records of what their calls cost.
"""

from __future__ import annotations

from polpod.model.organisation.artifacts import Project
from polpod.store.organisation import Projects
from polpod.store.records import Tx
from polpod.store.tables import Setting, Settings

_SPENT = "project.spent."
_OVER = "project.over_budget."
_AFTER_OVER = "project.over_budget/"
"""The first text past all that begin with the one before: a range of the key is found by its index."""


def of_project(tx: Tx, name: str) -> float:
    """What was spent for the project; 0 where that cannot be read any more (F10)."""
    setting = tx[Settings].get(_SPENT + name)
    try:
        return 0.0 if setting is None else float(setting.value)
    except ValueError:
        return 0.0


def add(tx: Tx, name: str, money: float) -> float:
    """So much more was spent for the project; returns how much it is then."""
    spent = of_project(tx, name) + money
    tx[Settings].save(Setting(_SPENT + name, repr(spent)))
    return spent


def note_over(tx: Tx, name: str) -> None:
    """The project is over its budget; `over` says so until that is higher."""
    tx[Settings].save(Setting(_OVER + name, ""))


def noted_over(tx: Tx, name: str) -> bool:
    return tx[Settings].get(_OVER + name) is not None


def note_raised(tx: Tx, name: str) -> None:
    tx[Settings].delete(_OVER + name)


def over(tx: Tx) -> frozenset[str]:
    """The projects of which nothing starts: as a rule none."""
    rows = tx[Settings].find(Settings.setting.ge(_OVER), Settings.setting.lt(_AFTER_OVER))
    noted = (row.name.removeprefix(_OVER) for row in rows)
    return frozenset(name for name in noted if is_over(tx, name) is not None)


def is_over(tx: Tx, name: str) -> Project | None:
    """The project, if it is over its budget: somebody may have made another of that name since that was noted."""
    project = tx[Projects].get(name) if noted_over(tx, name) else None
    return project if project is not None and 0 < project.budget < round(of_project(tx, name), 9) else None
