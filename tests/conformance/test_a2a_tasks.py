"""An A2A task on each store: the list of what an Elkar store must do, by its numbers (Elkar 1 to 16)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from kit.agents import NOW, Agents, artifact, message, status, text, texts
from store_makers import MAKERS

from polpod.errors import Conflict, InvalidRequest, NotFound, PermissionDenied, TooLarge
from polpod.model.a2a import DataPart, FileContent, FilePart, PushNotification, Role, TaskState, TaskType, TextPart
from polpod.rules.a2a import LARGEST
from polpod.store.schema import TABLES

PUSH = PushNotification(url="https://example.org/told", token="secret", authentication={"schemes": ["Bearer"], "x": 1})


@pytest.fixture(params=MAKERS)
def agents(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Agents]:
    store = MAKERS[request.param](tmp_path, TABLES)
    yield Agents(store)
    store.close()


def test_the_first_message_begins_a_task(agents: Agents) -> None:
    """Elkar 1: submitted, its history the message, with everything that was said, incoming."""
    said = {"session_id": "s", "metadata": {"a": [1, None, {"b": 1.5}]}, "push_notification": PUSH}
    begun = agents.upsert("t", "hi", **said, is_streaming=True, caller_id="alice")
    assert agents.get() == begun
    assert (begun.id, begun.caller_id, begun.task_type, begun.is_streaming) == ("t", "alice", TaskType.INCOMING, True)
    assert (begun.task.id, begun.task.session_id, begun.task.status.state) == ("t", "s", TaskState.SUBMITTED)
    assert begun.task.history == (message("hi"),)
    assert begun.task.status.message is None
    assert begun.task.artifacts is None
    assert begun.task.metadata == said["metadata"]
    assert begun.push_notification == PUSH
    assert begun.created_at == begun.updated_at == begun.task.status.timestamp == NOW


def test_every_kind_of_part_comes_back(agents: Agents) -> None:
    """Elkar 1: nothing of a message is lost on the way."""
    parts = (
        TextPart(text="ä\n", metadata={"lang": "de"}),
        FilePart(file=FileContent(name="a", mime_type="text/plain", bytes="aGk=")),
        FilePart(file=FileContent(uri="file:///a")),
        DataPart(data={"deep": [{"er": True}]}, metadata={}),
    )
    agents.upsert("t", message=message("x"))
    agents.update("t", new_messages=(type(message("x"))(role=Role.AGENT, parts=parts, metadata={"k": "v"}),))
    found = agents.get()
    assert found is not None
    assert found.task.history is not None
    assert found.task.history[1].parts == parts
    assert found.task.history[1].metadata == {"k": "v"}


def test_another_message_goes_on_with_the_task(agents: Agents) -> None:
    """Elkar 2: appended, metadata merged, push kept or replaced; the state, its age and its session stay."""
    agents.upsert("t", "one", session_id="s", metadata={"a": 1, "b": 1}, push_notification=PUSH)
    agents.update("t", status=status(TaskState.INPUT_REQUIRED))
    again = agents.upsert("t", "two", session_id="other", metadata={"b": 2, "c": 2}, is_streaming=True)
    assert agents.get() == again
    assert texts(again) == ["one", "two"]
    assert again.task.metadata == {"a": 1, "b": 2, "c": 2}
    assert (again.task.session_id, again.task.status.state) == ("s", TaskState.INPUT_REQUIRED)
    assert (again.push_notification, again.is_streaming) == (PUSH, False)
    assert (again.created_at, again.updated_at) == (NOW, NOW + timedelta(seconds=2))
    other = PushNotification(url="https://example.org/other")
    third = agents.upsert("t", "three", push_notification=other)
    assert (third.push_notification, third.task.metadata) == (other, again.task.metadata)


@pytest.mark.parametrize(("owner", "other"), [("alice", "bob"), ("alice", None), (None, "alice"), ("", None)])
def test_another_caller_s_message_is_refused(agents: Agents, owner: str | None, other: str | None) -> None:
    """Elkar 3: nobody's is another caller, too."""
    begun = agents.upsert("t", caller_id=owner)
    with pytest.raises(PermissionDenied, match="another caller's"):
        agents.upsert("t", "mine", caller_id=other)
    assert agents.get() == begun


def test_a_task_is_found_by_whom_it_concerns(agents: Agents) -> None:
    """Elkar 4, 5, 6: a miss is None, and so is another caller's; without a caller any is found."""
    begun = agents.upsert("t", caller_id="alice")
    free = agents.upsert("free")
    assert agents.get("gone") is None
    assert agents.get("t", caller_id="bob") is None
    assert agents.get("t", caller_id="") is None
    assert agents.get("free", caller_id="alice") is None
    assert agents.get("t", caller_id="alice") == agents.get("t") == begun
    assert agents.get("free") == free


@pytest.mark.parametrize(("length", "seen"), [(None, "abc"), (0, ""), (1, "c"), (2, "bc"), (3, "abc"), (4, "abc")])
def test_a_history_is_shown_from_its_end(agents: Agents, length: int | None, seen: str) -> None:
    """Elkar 7: the last N, and the stored history stays as it is."""
    agents.upsert("t", "a")
    kept = agents.update("t", new_messages=(message("b"), message("c")))
    assert texts(agents.get("t", history_length=length)) == list(seen)
    assert agents.get() == kept


def test_a_length_below_zero_is_refused(agents: Agents) -> None:
    agents.upsert("t")
    with pytest.raises(InvalidRequest):
        agents.get("t", history_length=-1)


def test_an_update_of_nothing_is_refused(agents: Agents) -> None:
    """Elkar 8."""
    with pytest.raises(NotFound, match="no A2A task 'gone'"):
        agents.update("gone", status=status(TaskState.WORKING))
    assert agents.get("gone") is None


def test_a_status_is_set_and_what_it_says_is_history_once(agents: Agents) -> None:
    """Elkar 9: also where the same call names the same message; a later call may say the same again."""
    agents.upsert("t", "hi")
    agents.update("t", status=status(TaskState.WORKING, "on it"), new_messages=(message("on it", Role.AGENT),))
    said = agents.update("t", status=status(TaskState.WORKING, "still"))
    assert texts(said) == ["hi", "on it", "still"]
    assert said.task.status == status(TaskState.WORKING, "still")
    assert texts(agents.update("t", status=status(TaskState.COMPLETED, "still"))) == ["hi", "on it", "still", "still"]
    assert agents.update("t", metadata={}).task.status.state == TaskState.COMPLETED


@pytest.mark.parametrize("state", TaskState)
def test_any_state_may_follow(agents: Agents, state: TaskState) -> None:
    """Elkar 9: there are no transition rules."""
    agents.upsert("t")
    agents.update("t", status=status(TaskState.COMPLETED))
    assert agents.update("t", status=status(state)).task.status.state == state


def test_messages_are_appended_in_order(agents: Agents) -> None:
    """Elkar 10: what the status says comes first."""
    agents.upsert("t", "a")
    agents.update("t", new_messages=(message("b"), message("c")), status=status(TaskState.WORKING, "s"))
    assert texts(agents.update("t", new_messages=())) == ["a", "s", "b", "c"]


def test_metadata_is_replaced(agents: Agents) -> None:
    """Elkar 11: by an update, as a whole; what is not said stays."""
    agents.upsert("t", metadata={"a": 1})
    assert agents.update("t", status=status(TaskState.WORKING)).task.metadata == {"a": 1}
    assert agents.update("t", metadata={"b": 2}).task.metadata == {"b": 2}
    assert agents.update("t", metadata={}).task.metadata == {}


def test_artifacts_grow_by_their_index(agents: Agents) -> None:
    """Elkar 12: a new index is a new artifact; of a known one only parts are added, and the mark of the last."""
    agents.upsert("t")
    agents.update("t", artifacts_updates=(artifact("a", 0, name="first", metadata={"k": 1}), artifact("b", 3)))
    more = artifact("c", 0, name="renamed", metadata={}, append=True, last_chunk=True)
    grown = agents.update("t", artifacts_updates=(more, artifact("d", 3)))
    assert agents.get() == grown
    assert grown.task.artifacts is not None
    first, third = grown.task.artifacts
    assert (first.parts, first.name, first.metadata) == (text("a") + text("c"), "first", {"k": 1})
    assert (first.last_chunk, first.append) == (True, None)
    assert (third.parts, third.index, third.last_chunk) == (text("b") + text("d"), 3, None)


def test_after_the_last_chunk_nothing_is_added_and_nothing_else_happens(agents: Agents) -> None:
    """Elkar 12: a failing update changes nothing, whatever else it says."""
    agents.upsert("t")
    before = agents.update("t", artifacts_updates=(artifact("a", 0, last_chunk=True), artifact("b", 1)))
    with pytest.raises(Conflict, match="artifact 0 is complete"):
        agents.update(
            "t",
            status=status(TaskState.FAILED, "no"),
            new_messages=(message("no"),),
            metadata={"no": 1},
            push_notification=PUSH,
            caller_id="alice",
            artifacts_updates=(artifact("c", 1), artifact("d", 0)),
        )
    assert agents.get() == before


def test_push_is_set_and_kept(agents: Agents) -> None:
    """Elkar 13."""
    agents.upsert("t")
    assert agents.update("t", push_notification=PUSH).push_notification == PUSH
    assert agents.update("t", metadata={}).push_notification == PUSH


def test_a_caller_claims_a_task_that_is_nobody_s(agents: Agents) -> None:
    """Elkar 14: an update without a caller is anybody's; another caller's is refused."""
    agents.upsert("t")
    assert agents.update("t", caller_id="alice").caller_id == "alice"
    assert agents.update("t", metadata={"a": 1}).caller_id == "alice"
    kept = agents.update("t", metadata={"a": 2}, caller_id="alice")
    with pytest.raises(PermissionDenied):
        agents.update("t", metadata={"a": 3}, caller_id="bob")
    assert agents.get() == kept


def test_what_is_returned_is_nobody_s_way_in(agents: Agents) -> None:
    """Elkar 15: whoever changes what it was given, or gave, changes nothing that is stored."""
    given: dict[str, Any] = {"a": [1]}
    begun = agents.upsert("t", metadata=given)
    given["a"].append(2)
    assert begun.task.metadata is not None
    begun.task.metadata["b"] = 3
    found = agents.get()
    assert found is not None
    assert found.task.metadata == {"a": [1]}


def test_instants_are_in_utc(agents: Agents) -> None:
    """Elkar 16."""
    agents.upsert("t")
    found = agents.update("t", status=status(TaskState.WORKING))
    assert {at.tzinfo for at in (found.created_at, found.updated_at, found.task.status.timestamp)} == {UTC}


def test_a_task_has_an_end_to_its_size(agents: Agents) -> None:
    """A refusal leaves what there was, by message, update and artifact alike."""
    big = "x" * LARGEST
    with pytest.raises(TooLarge, match=f"at most {LARGEST}"):
        agents.upsert("t", big)
    assert agents.get() is None
    agents.upsert("t", big[: LARGEST // 2])
    kept = agents.get()
    for change in (
        {"new_messages": (message(big),)},
        {"artifacts_updates": (artifact(big),)},
        {"metadata": {"a": big}},
    ):
        with pytest.raises(TooLarge):
            agents.update("t", **change)
    with pytest.raises(TooLarge):
        agents.upsert("t", big)
    assert agents.get() == kept
