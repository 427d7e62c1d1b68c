"""What to do about a run, from its row and from facts about its processes (DESIGN §6, §7)."""

from __future__ import annotations

import itertools

import pytest
from kit.samples import a_run

from polpod.model.runs import LIVE, Reason, RunStatus
from polpod.rules.judge import Facts, Life, Verdict, judge

V = Verdict
EVERYTHING = [Facts(life, *flags) for life in Life for flags in itertools.product([False, True], repeat=2)]

RUNNING = {
    # life of the runner: without, and with a valid exit.json
    Life.ALIVE: (V.WATCH, V.WATCH),
    Life.UNKNOWN: (V.WATCH, V.RECORD),
    Life.DEAD: (V.END, V.RECORD),
    Life.GONE_WITH_BOOT: (V.END, V.RECORD),
}
STARTING = {
    # life of the runner: when it cannot claim the run any more, and while it can
    Life.ALIVE: (V.NEVER_STARTED, V.WATCH),
    Life.UNKNOWN: (V.NEVER_STARTED, V.WATCH),
    Life.DEAD: (V.NEVER_STARTED, V.NEVER_STARTED),
}


def test_the_tables_are_whole() -> None:
    assert set(RUNNING) == set(STARTING) | {Life.GONE_WITH_BOOT} == set(Life)


@pytest.mark.parametrize("facts", EVERYTHING, ids=str)
@pytest.mark.parametrize("status", [s for s in RunStatus if s not in LIVE])
def test_what_is_over_is_collected_whatever_the_processes_do(status: RunStatus, facts: Facts) -> None:
    assert judge(a_run(status, Reason.EXITED), facts) is V.COLLECT


@pytest.mark.parametrize("facts", EVERYTHING, ids=str)
def test_what_runs(facts: Facts) -> None:
    assert judge(a_run(RunStatus.RUNNING), facts) is RUNNING[facts.life][facts.recorded]


@pytest.mark.parametrize("facts", EVERYTHING, ids=str)
def test_what_was_not_claimed(facts: Facts) -> None:
    if facts.life is Life.GONE_WITH_BOOT:
        # The claim may have gone with the power, but not the job's effects: as if it had been made.
        assert judge(a_run(RunStatus.STARTING), facts) is RUNNING[facts.life][facts.recorded]
    else:
        assert judge(a_run(RunStatus.STARTING), facts) is STARTING[facts.life][facts.claimable]


@pytest.mark.parametrize("facts", EVERYTHING, ids=str)
@pytest.mark.parametrize("status", sorted(LIVE))
def test_a_runner_that_may_be_alive_is_never_called_dead(status: RunStatus, facts: Facts) -> None:
    if facts.life in (Life.ALIVE, Life.UNKNOWN):
        assert judge(a_run(status), facts) is not V.END
