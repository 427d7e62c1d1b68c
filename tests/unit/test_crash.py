"""Crash points: where they kill, and that they do nothing otherwise.  Each case is a process of its own."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import polpod
from polpod import crash

SCRIPT = "from polpod import crash\nfor name in {names!r}: crash.point(name); print(name, flush=True)"


def passing(*names: str, **env: str) -> tuple[int, list[str]]:
    """The exit status of a process that passes these points, and those that it got behind."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(names=names)],
        cwd="/",  # the installed package, not the checkout
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return ran.returncode, ran.stdout.split()


def test_without_a_word_nothing_happens() -> None:
    assert passing(*crash.POINTS) == (0, list(crash.POINTS))


def test_the_process_dies_at_the_point_that_is_named() -> None:
    names = ["launch.inserted", "runner.claimed", "collect.seen"]
    assert passing(*names, POLPOD_CRASH_AT="runner.claimed") == (-signal.SIGKILL, ["launch.inserted"])


def test_or_when_it_passes_for_the_nth_time() -> None:
    names = ["collect.read", "collect.seen"] * 4
    assert passing(*names, POLPOD_CRASH_AT="collect.seen:3") == (-signal.SIGKILL, names[:5])
    assert passing(*names, POLPOD_CRASH_AT="collect.seen:5") == (0, names)


def test_only_the_first_of_all_processes_dies_where_that_is_asked_for(tmp_path: Path) -> None:
    env = {"POLPOD_CRASH_AT": "runner.claimed", "POLPOD_CRASH_ONCE": str(tmp_path / "once")}
    assert passing("runner.claimed", **env) == (-signal.SIGKILL, [])
    assert passing("runner.claimed", **env) == (0, ["runner.claimed"])


def test_a_point_that_does_not_exist_is_a_mistake() -> None:
    code, passed = passing(POLPOD_CRASH_AT="runner.claimd")
    assert (code, passed) == (1, [])


def test_every_point_is_passed_somewhere_and_no_other() -> None:
    passed = set()
    for module in Path(next(iter(polpod.__path__))).rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name("crash"), attr="point"), args=[ast.Constant(str(name))]
                ):
                    passed.add(name)
    assert passed == set(crash.POINTS)
