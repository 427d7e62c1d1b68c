"""polpo.json as a document, by the numbers of the list of behaviours (§13.8, §13.9)."""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from polpod.config import DEFAULT_TEXT, WITHOUT_EFFECT, Config, JsonConfigStore, PolpoConfigStore, parse, without_effect
from polpod.errors import InvalidConfig, StartError

FULL: dict[str, Any] = {
    "project": "kernel",
    "settings": {
        "storage": "sqlite", "databaseUrl": "postgresql://h/d", "maxRetries": 2, "taskTimeout": 1000, "staleThreshold": 0,
        "maxConcurrency": 3, "logLevel": "quiet", "workDir": "sub", "queues": {"builds": {"slots": 1}},
    },
    "agents": [{"name": "fixer", "command": ["fix"]}],
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> JsonConfigStore:
    return JsonConfigStore(tmp_path)


def test_nothing_is_there_before_it_is_saved(store: JsonConfigStore) -> None:
    """Polpo 76."""
    assert (store.exists(), store.get()) == (False, None)
    assert not Path(store.path).parent.exists()


@pytest.mark.parametrize("document", [{}, {"settings": {}}, FULL])
def test_what_is_saved_is_there_for_another(store: JsonConfigStore, document: dict[str, Any], tmp_path: Path) -> None:
    """Polpo 77, 78, 79: the directory is made; what was there is replaced; it survives whoever saved it."""
    store.save({"project": "before"})
    store.save(document)
    assert store.exists()
    again = PolpoConfigStore(str(tmp_path / ".polpo"))
    assert again.get() == document == json.loads(Path(store.path).read_text())
    assert stat.S_IMODE(os.stat(store.path).st_mode) == 0o600
    assert os.listdir(tmp_path / ".polpo") == ["polpo.json"]


@pytest.mark.parametrize(
    "text", ["", "{", '{"a": 1,}', "[]", "null", '{"settings": 3}', '{"settings": {"storage": "x"}}']
)
def test_a_file_that_is_no_configuration_is_refused_and_left_alone(store: JsonConfigStore, text: str) -> None:
    """Polpo 78, W18: Polpo took it for none, and wrote a new one over it."""
    Path(store.path).parent.mkdir()
    Path(store.path).write_text(text)
    with pytest.raises(InvalidConfig, match=r"polpo\.json: .*(line 1 column|at `\$|Expected)"):
        store.get()
    assert (store.exists(), Path(store.path).read_text()) == (True, text)


def test_a_file_that_cannot_be_read_is_an_error_of_its_own(store: JsonConfigStore) -> None:
    os.makedirs(store.path)
    with pytest.raises(StartError, match="Is a directory"):
        store.get()
    with pytest.raises(StartError, match="directory"):
        store.save({})


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"settings": {"maxConcurrency": 0}}, "$.settings.maxConcurrency"),
        ({"settings": {"maxRetries": -1}}, "$.settings.maxRetries"),
        ({"settings": {"taskTimeout": 1.5}}, "$.settings.taskTimeout"),
        ({"settings": {"staleThreshold": "5m"}}, "$.settings.staleThreshold"),
        ({"settings": {"logLevel": "loud"}}, "$.settings.logLevel"),
        ({"settings": {"workDir": 7}}, "$.settings.workDir"),
        ({"settings": {"databaseUrl": 7}}, "$.settings.databaseUrl"),
        ({"project": 7}, "$.project"),
        ({"project": float("nan")}, "not JSON compliant"),
        ({"project": {1, 2}}, "not JSON serializable"),
    ],
)
def test_what_is_wrong_is_not_saved(store: JsonConfigStore, wrong: dict[str, Any], where: str) -> None:
    """Polpo 79, 81: with the place of what is wrong; what was there stays."""
    store.save(FULL)
    with pytest.raises(InvalidConfig) as refused:
        store.save(wrong)
    assert where in str(refused.value)
    assert store.get() == FULL


def test_what_nobody_knows_is_kept_and_said(store: JsonConfigStore, caplog: pytest.LogCaptureFixture) -> None:
    document = {"colour": [1, {"a": None}], "settings": {"dashboard": {}}}
    for use in (lambda: store.save(document), store.get):
        caplog.clear()
        use()
        assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
            f"{store.path}: {key} means nothing to this version" for key in ("$.colour", "$.settings.dashboard")
        ]
    assert store.get() == document


def test_what_polpo_knows_and_has_no_effect_is_kept_in_silence(
    store: JsonConfigStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Polpo 82, 83: whatever it says."""
    document: dict[str, Any] = {"settings": {}}
    for path in WITHOUT_EFFECT:
        *outer, last = path.removeprefix("$.").split(".")
        place = document
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = {"any": [1]}
    store.save(document)
    assert store.get() == document
    assert sorted(without_effect(document)) == sorted(WITHOUT_EFFECT)
    assert without_effect(FULL) == []
    assert caplog.records == []


def test_log_level_and_work_dir_have_polpo_s_defaults() -> None:
    """Polpo 80."""
    settings = Config().settings
    assert (settings.log_level, settings.work_dir) == ("normal", ".")
    for level in ("quiet", "normal", "verbose"):
        text = json.dumps({"settings": {"logLevel": level}}).encode()
        assert parse(text, "polpo.json")[0].settings.log_level == level


def test_what_init_writes_is_good_and_comes_back(store: JsonConfigStore) -> None:
    """Polpo 84."""
    document = json.loads(DEFAULT_TEXT)
    store.save(document)
    assert Path(store.path).read_text() == DEFAULT_TEXT
    assert store.get() == document


def test_many_that_save_at_once_leave_one_whole_file(store: JsonConfigStore, tmp_path: Path) -> None:
    """W18: Polpo's writers shared one temporary name."""

    def save(n: int) -> None:
        for _ in range(20):
            store.save({"project": str(n) * 5000})
            assert store.get() is not None

    failures: list[BaseException] = []

    def guarded(n: int) -> None:
        try:
            save(n)
        except BaseException as exc:  # noqa: BLE001 - told by the test, in its own thread
            failures.append(exc)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(tmp_path / ".polpo") == ["polpo.json"]
