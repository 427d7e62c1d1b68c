"""The contracts that others' programs know polpod's stores by: every method of each, where it is, and a test that holds it.

Read from the code: a method is there because its class has it, and a test holds it because it calls it, or because the
docstring of a test that goes through many by name says so.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polpod import config, persistence, taskstore
from polpod.contracts.persistence import backend, content

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
PACKAGES = Path(config.__file__).parents[1]
"""Where polpod is imported from: this tree, or where it is installed."""

Tests = list[tuple[str, str]]
"""Of some files: the name of a test with its file, and its text, with that of the functions of its file that it calls."""


def contracts() -> list[str]:
    """The tables, as Markdown."""
    lines = []
    for title, rows in (
        ("`polpo-stores`: configuration (`from polpod.config import JsonConfigStore`)", _configuration()),
        ("`polpo-stores`: stores (`from polpod.taskstore import open_stores`)", _polpo()),
        ("`synthorg-persistence-api` (`from polpod.persistence import create_backend`)", _organisation()),
        ("`elkar-task-store` (`from polpod.contrib.elkar import PolpodTaskManagerStore`)", _elkar()),
    ):
        lines += [f"### {title}", "", "| method | where | held by |", "| --- | --- | --- |", *rows, ""]
    return lines


def _configuration() -> Iterator[str]:
    tests = _tests("unit/test_config*.py")
    for name in ("exists", "get", "save"):
        yield _row(f"JsonConfigStore.{name}", getattr(config.JsonConfigStore, name), _calling(tests, rf"\.{name}\("))


def _polpo() -> Iterator[str]:
    tests = _tests("conformance/test_polpo_*.py")
    stores = {
        "tasks": taskstore.TaskStore, "runs": taskstore.RunStore, "sessions": taskstore.SessionStore,
        "memory": taskstore.MemoryStore, "logs": taskstore.LogStore, "notifications": taskstore.NotificationStore,
        "approvals": taskstore.ApprovalStore, "checkpoints": taskstore.CheckpointStore, "delays": taskstore.DelayStore,
    }  # fmt: skip
    for attribute, store in stores.items():
        for name in _public(store):
            yield _row(f"{store.__name__}.{name}", store, _calling(tests, rf"\b{attribute}\.{name}\b"))


def _organisation() -> Iterator[str]:
    tests = _tests("conformance/test_organisation_*.py")
    protocol = persistence.PersistenceBackend
    repositories = {n: v for n, v in vars(backend.StoreBackend).items() if isinstance(v, backend.Part)}
    for name in _public(protocol):
        if name not in repositories:
            yield _row(f"PersistenceBackend.{name}", _of(backend.StoreBackend, name), _calling(tests, rf"\.{name}\b"))
    for name in repositories:
        repository = type(repositories[name].make(None))
        for method in _public(_protocol(name)):
            held = _calling(tests, rf"\b{name}\.{method}\b") or _telling(tests, name, method) or _only(tests, method)
            yield _row(f"{name}.{method}", getattr(repository, method), held)
    content_tests = _tests("conformance/test_organisation_content.py")
    for name in _public(persistence.ArtifactStorageBackend):
        made = _of(content.FileSystemArtifactStorage, name)
        yield _row(f"ArtifactStorageBackend.{name}", made, _calling(content_tests, rf"\.{name}\b"))


def _of(cls: type, name: str) -> Any:
    """The method or property; the class itself for what is but a value."""
    made = getattr(cls, name, None)
    return made if callable(made) or isinstance(made, property) else cls


def _protocol(name: str) -> type:
    """The protocol's name is that of the property's return type."""
    annotation = inspect.get_annotations(getattr(persistence.PersistenceBackend, name).fget)["return"]
    found: type = getattr(persistence, annotation.removeprefix("of."))
    return found


def _elkar() -> Iterator[str]:
    """Both stores have the methods; they are read as text, since few Pythons have elkar."""
    tests = _tests("elkar/test_*.py")
    for name in ("upsert_task", "get_task", "update_task"):
        for module in ("memory", "remote"):
            path = ROOT / "polpod/contracts/elkar" / f"{module}.py"
            (cls,) = (n for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef) and _has(n, name))
            yield _line(f"{cls.name}.{name}", path.relative_to(ROOT), _calling(tests, rf"\.{name}\("))


def _has(cls: ast.ClassDef, method: str) -> bool:
    return any(isinstance(n, ast.AsyncFunctionDef) and n.name == method for n in cls.body)


def _public(cls: type) -> list[str]:
    return [name for name in vars(cls) if not name.startswith("_")]


def _tests(pattern: str) -> Tests:
    found = []
    for path in sorted(TESTS.glob(pattern)):
        text = path.read_text()
        functions = {}
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                decorated = min((d.lineno for d in node.decorator_list), default=node.lineno)
                functions[node.name] = "\n".join(text.splitlines()[decorated - 1 : node.end_lineno])
        helping = {name: source for name, source in functions.items() if not name.startswith("test_")}
        for name, source in functions.items():
            if name not in helping:
                helped = "".join(more for helper, more in helping.items() if f"{helper}(" in source)
                found.append((f"{path.relative_to(TESTS)}::{name}", source + helped))
    return found


def _calling(tests: Tests, pattern: str) -> str | None:
    return next((name for name, text in tests if re.search(pattern, text)), None)


def _telling(tests: Tests, repository: str, method: str) -> str | None:
    """A test that goes through repositories by name says in its docstring which, and what it asks of them."""
    for name, text in tests:
        said = re.search(r'"""(.*?)"""', text, re.DOTALL)
        if said and re.search(rf"\b{repository}\b", said[1]) and re.search(rf"\b{method}\b", said[1]):
            return name
    return None


def _only(tests: Tests, method: str) -> str | None:
    """Where no other repository has a method of that name, whatever calls it."""
    return _calling(tests, rf"\.{method}\(") if "_" in method else None


def _row(method: str, made: Any, held: str | None) -> str:
    made = inspect.unwrap(made.fget if isinstance(made, property) else made)
    return _line(method, Path(inspect.getsourcefile(made) or "").relative_to(PACKAGES), held)


def _line(method: str, path: Path, held: str | None) -> str:
    if held is None:
        raise ValueError(f"no test holds {method}")
    return f"| `{method}` | `{path}` | `{held}` |"
