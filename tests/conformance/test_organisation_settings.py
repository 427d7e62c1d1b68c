"""Settings with compare and set, and presets (A.11 settings, custom_presets; A.6)."""

from __future__ import annotations

import pytest

from polpod import persistence as p

pytestmark = pytest.mark.anyio


async def test_settings(backend: p.PersistenceBackend) -> None:
    """A.11 settings: miss None; set/get; upsert; same key in two namespaces; namespace and all, sorted; empty."""
    settings = backend.settings
    assert await settings.get("a", "k") is None
    assert (await settings.get_namespace("a"), await settings.get_all()) == ((), ())
    for namespace, key, value in (("b", "k", "1"), ("a", "z", "2"), ("a", "k", "3"), ("a", "k", "")):
        assert await settings.set(namespace, key, value, f"at {value}") is True
    assert await settings.get("a", "k") == ("", "at ")
    assert await settings.get("b", "k") == ("1", "at 1")
    assert await settings.get_namespace("a") == (("k", "", "at "), ("z", "2", "at 2"))
    assert await settings.get_all() == (("a", "k", "", "at "), ("a", "z", "2", "at 2"), ("b", "k", "1", "at 1"))


async def test_settings_are_deleted(backend: p.PersistenceBackend) -> None:
    """A.11 settings: delete True and False; delete_namespace count and zero."""
    for namespace, key in (("a", "1"), ("a", "2"), ("b", "1")):
        await backend.settings.set(namespace, key, "v", "1")
    assert await backend.settings.delete("a", "2") is True
    assert await backend.settings.delete("a", "2") is False
    assert await backend.settings.delete_namespace("a") == 1
    assert await backend.settings.delete_namespace("a") == 0
    assert await backend.settings.get_all() == (("b", "1", "v", "1"),)


@pytest.mark.parametrize(
    ("stored", "expected", "won"),
    [
        (None, None, True),
        (None, "", True),
        (None, "1", False),
        ("1", None, True),
        ("1", "", False),
        ("1", "1", True),
        ("1", "2", False),
        ("1", "1 ", False),
        ("", "", True),
        ("", "1", False),
    ],
)
async def test_compare_and_set(
    stored: str | None, expected: str | None, won: bool, backend: p.PersistenceBackend
) -> None:
    """A.6 settings, A.11 settings (the later suite): "" inserts new, rejects existing; match updates; mismatch rejects."""
    if stored is not None:
        await backend.settings.set("n", "k", "old", stored)
    before = await backend.settings.get("n", "k")
    assert await backend.settings.set("n", "k", "new", "9", expected_updated_at=expected) is won
    assert await backend.settings.get("n", "k") == (("new", "9") if won else before)


async def test_presets(backend: p.PersistenceBackend) -> None:
    """A.11 custom_presets: save/get; miss; upsert; sorted; empty; delete True and False; count; created_at is kept."""
    presets = backend.custom_presets
    assert (await presets.get("calm"), await presets.list_all(), await presets.count()) == (None, (), 0)
    await presets.save("wild", "not read here", "d", "1", "1")
    await presets.save("calm", "{}", "", "2", "2")
    await presets.save("calm", '{"a": 1}', "more", "3", "3")
    found = await presets.get("calm")
    assert isinstance(found, p.PresetRow)
    assert found == ('{"a": 1}', "more", "2", "3")
    listed = await presets.list_all()
    assert [type(row) for row in listed] == [p.PresetListRow] * 2
    assert listed == (("calm", '{"a": 1}', "more", "2", "3"), ("wild", "not read here", "d", "1", "1"))
    assert await presets.count() == 2
    assert await presets.delete("calm") is True
    assert await presets.delete("calm") is False
    assert await presets.count() == 1
