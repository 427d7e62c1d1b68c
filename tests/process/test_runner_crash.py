"""A runner that dies at any of its crash points leaves a provable state: nothing ran, or a witness, or a live row."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from kit.waiting import until
from runner_kit import LEVELS, State, Zygote

from polpod.runner import contract, directory

BEFORE_RELEASE = ("runner.start", "runner.go", "runner.job_forked", "runner.claimed")
AFTER_RELEASE = ("runner.released", "runner.job_ended", "runner.proven")
RECORDED = ("runner.recorded", "runner.rung")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("point", BEFORE_RELEASE)
def test_before_the_release_nothing_was_executed(state: State, tmp_path: Path, level: str, point: str) -> None:
    with Zygote({"POLPOD_CRASH_AT": point}) as zygote:
        run = state.add("touch", str(tmp_path / "executed"), level=level).start(zygote)
        row = run.finish()
        assert row["status"] == ("running" if point == "runner.claimed" else "starting")
        # The blocked job sees end of file, and the lock is free at once: nobody who lives holds a copy of it.
        until(lambda: run.containment().empty(), "the blocked job is gone")
        until(lambda: not directory.held(run.directory.lock), "the lock is free")
    assert not (tmp_path / "executed").exists()
    ended = {"id": run.id, "error": "its runner died", "ended_at": contract.timestamp()}
    statement = contract.LOST if row["status"] == "running" else contract.NEVER_STARTED
    assert state.db.execute(statement, ended).rowcount == 1


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("point", AFTER_RELEASE)
def test_after_the_release_and_before_the_record_the_outcome_is_unknown(state: State, level: str, point: str) -> None:
    with Zygote({"POLPOD_CRASH_AT": point}) as zygote:
        run = state.shell("exit 0", level=level).start(zygote)
        assert run.finish()["status"] == "running"
    assert not os.path.exists(run.directory.exit)
    assert run.containment().wait_empty(60)


@pytest.mark.parametrize("point", RECORDED)
def test_once_recorded_the_outcome_stands(state: State, point: str) -> None:
    with Zygote({"POLPOD_CRASH_AT": point}) as zygote:
        row = state.shell("exit 3").start(zygote).finish()
    assert (row["status"], row["exit_code"]) == ("failed", 3)


def test_a_zygote_that_dies_with_a_request_answers_nobody_and_starts_nothing(state: State, tmp_path: Path) -> None:
    run = state.add("touch", str(tmp_path / "executed"))
    told, go = os.pipe()
    with Zygote({"POLPOD_CRASH_AT": "zygote.request"}) as zygote:
        zygote.ask(run.id, run.directory.path, told)
        os.close(told)
        try:
            gone = zygote.socket.recv(1) == b""
        except ConnectionResetError:
            gone = True
        assert gone
        assert zygote.process.wait(60) == -signal.SIGKILL
    os.close(go)
    assert run.row["status"] == "starting"
    assert not (tmp_path / "executed").exists()
    # Another zygote can be asked for the same run.
    assert run.start().finish()["status"] == "completed"
