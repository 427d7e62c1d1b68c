"""Mission documents and names that are refused before anything is stored, with the place of what is wrong."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest

from polpod.config import Config
from polpod.errors import InvalidRequest
from polpod.services.instance import now
from polpod.services.missions.planning import checked, plan
from polpod.services.missions.saving import save
from polpod.services.rpc.refusal import entity
from polpod.store.databases import TASKS
from polpod.store.group import open_store
from polpod.store.location import Memory
from polpod.store.polpo import Missions


def document(**task: Any) -> str:
    return json.dumps({"tasks": [{"title": "a", "shell": "true"} | task]})


@pytest.mark.parametrize(
    ("text", "path", "why"),
    [
        (document(title="a\0"), "$.tasks[0].title", "contains a NUL character"),
        (document(description="\0"), "$.tasks[0].description", "contains a NUL character"),
        (document(labels={"x\0": "y"}), "$.tasks[0].labels", "a name contains a NUL character"),
        (document(expectedOutcomes=[{"n": 10**400}]), "$.tasks[0].expectedOutcomes[0].n", r"beyond ±2\*\*53"),
        (document(deadline="0001-01-01T00:00:00+23:00"), "$.tasks[0].deadline", "out of range"),
        (document(expectedOutcomes=[{"n": []}]).replace("[]", "[" * 900 + "]" * 900), None, "nested"),
        (document(cwd="a\0"), "$.tasks[0].cwd", "NUL"),
        ("[" * 100_000, "$", "."),
        ('{"tasks": [{"title": "\\ud800"}]}', "$", "the document: "),
        ('{"tasks": [{"title": "a", "priority": NaN}]}', "$", "malformed"),
        ("", "$", "truncated"),
    ],
)
def test_a_document_is_refused_whole(text: str, path: str | None, why: str) -> None:
    """As everything else that comes from a client is: nothing of it is found out only when it is carried out."""
    with pytest.raises(InvalidRequest, match=why) as refused:
        plan(checked(text), {}, Config(), "/")
    assert path in (None, refused.value.path)


@pytest.mark.parametrize("name", ["1", "2026", " ", "\t\n", "a\0", ""])
def test_a_name_is_a_name(name: str) -> None:
    """A number would mean the mission of that id, one day at the latest."""
    with closing(open_store(Memory(), TASKS)) as group:
        with pytest.raises(InvalidRequest) as refused, entity():
            group.write(lambda tx: save(tx, name, document(), now(), "a test"))
        assert refused.value.path == "$.name"
        assert group.write(lambda tx: tx[Missions].count()) == 0
