"""The list of method names agrees with those who answer and those who call."""

from __future__ import annotations

import ast
from pathlib import Path

import polpoctl
from polpod.services.rpc import table
from polpod.wire.methods import METHODS, REPEATABLE

NOUNS = {name.partition(".")[0] for name in METHODS}


def test_the_list_is_what_the_daemon_answers() -> None:
    assert list(METHODS) == sorted(table.METHODS)


def test_repeatable_is_what_changes_nothing() -> None:
    # Asked twice is asked once; the second waits, the third is the owner's alone, and that is all of it.
    harmless = {"approval.ask", "approval.await", "audit.list"}
    of_one_connection = {"event.subscribe", "event.unsubscribe"}
    looking = {m.name for m in table.METHODS.values() if not m.changes}
    assert set(REPEATABLE) == (looking | harmless) - of_one_connection


def test_polpoctl_calls_only_what_is_in_the_list() -> None:
    called = set()
    for path in Path(polpoctl.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                noun, dot, verb = node.value.partition(".")
                if dot and noun in NOUNS and verb.replace("_", "").isalpha():
                    called.add(node.value)
    assert len(called) > 10
    assert called - set(METHODS) == set()
