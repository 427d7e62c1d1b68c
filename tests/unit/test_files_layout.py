"""Names of the files of records: readable, safe, and distinct for distinct keys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polpod.paths import StateDirectory
from polpod.store.files.layout import OWN_NAMES, Place, is_journal, is_record, place_named, place_of
from polpod.store.schema import TABLES
from polpod.store.table import AnyTable
from polpod.store.tables import Dependencies, Events, Quarantine, Settings, Tasks

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=90)
pairs = st.tuples(texts, texts)

NAMES = {
    "12": "12.json",
    "build-x86_64.v2~1@host": "build-x86_64.v2~1@host.json",
    "": "%.json",
    "%": "%25.json",
    ".hidden": "%2Ehidden.json",
    "..": "%2E..json",
    "a/b": "a%2Fb.json",
    "a,b": "a%2Cb.json",
    "é\0\n": "%C3%A9%00%0A.json",
}


@pytest.mark.parametrize("key", NAMES)
def test_a_record_is_named_by_its_key(key: str) -> None:
    assert Place(Tasks, (key,)).name == NAMES[key]


def test_parts_of_a_key_are_joined() -> None:
    assert Place(Dependencies, ("13", "12")).name == "13,12.json"
    assert Place(Dependencies, ("1,3", "")).name == "1%2C3,%.json"


@pytest.mark.parametrize(("seq", "name"), [(1, "000000"), (999, "000000"), (1000, "000001"), (12345678, "012345")])
def test_a_thousand_entries_of_a_journal_share_a_file(seq: int, name: str) -> None:
    place = place_of(Events, (seq,))
    assert place.name == f"{name}.jsonl"
    assert place_named(Events, place.name) == place
    assert place.within("/x") == f"/x/events/{name}.jsonl"


@given(st.lists(pairs, unique=True, min_size=2, max_size=5))
@example([("a" * 300, "b"), ("a" * 300, "c")])
@example([("a", ",b"), ("a,", "b")])
def test_distinct_keys_have_distinct_names_that_fit(keys: list[tuple[str, str]]) -> None:
    names = [Place(Dependencies, key).name for key in keys]
    assert len(set(names)) == len(keys)
    for name in names:
        assert len(os.fsencode(name)) <= 255
        assert name.isascii()
        assert name.isprintable()
        assert "/" not in name
        assert is_record(Dependencies, name)


@given(pairs)
def test_a_name_leads_back_to_its_key(key: tuple[str, str]) -> None:
    place = Place(Dependencies, key)
    assert place_named(Dependencies, place.name) in (place, None)
    if len(place.name) < 160:
        assert place_named(Dependencies, place.name) == place


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (Tasks, "12 copy.json"),
        (Tasks, "1,2.json"),
        (Tasks, "%zz.json"),
        (Tasks, "%ff.json"),
        (Tasks, ".json"),
        (Events, "12.jsonl"),
        (Events, "0000012.jsonl"),
        (Events, "00000x.jsonl"),
    ],
)
def test_another_name_leads_nowhere(table: AnyTable, name: str) -> None:
    assert place_named(table, name) is None


@pytest.mark.parametrize("name", [".new", ".12.json.swp", "12.json~", "README", "12.jsonl", ".json"])
def test_what_is_not_named_like_a_record_is_none(name: str) -> None:
    assert not is_record(Settings, name)


def test_journals_are_told_by_their_key() -> None:
    assert [table for table in TABLES if is_journal(table)][:2] == [Events, Quarantine]
    assert not is_journal(Tasks)


def test_no_table_has_the_name_of_another_file_of_the_state_directory() -> None:
    state = StateDirectory("/r")
    others = {
        Path(path).relative_to(state.path).parts[0]
        for path in vars(state).values()
        if path.startswith(state.path + "/")
    }
    others |= {f"{name}{end}" for name in ("state.db", "runs.db") for end in ("-wal", "-shm")} | {"polpod.sock"}
    assert {"polpo.json", "runs.db", "logs", "tmp", "polpod.lock", "ballast"} <= others
    assert {table.name for table in TABLES} & (others | OWN_NAMES) == set()
    assert OWN_NAMES & others == set()
    assert len({table.name for table in TABLES}) == len(TABLES)
