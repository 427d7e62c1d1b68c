"""What the product is for: the daemon dies, the work does not; and nothing of a dead run's job is left."""

from __future__ import annotations

import os
import signal

import pytest
from kit.fault import fault
from kit.host import Host
from kit.jobs import waits_for
from kit.processes import alive
from kit.waiting import until


@fault(
    22,
    "jobs end while no daemon runs",
    promise="Each runner records how its job ended and ends by itself; the next daemon knows every exit code and signal.",
    injected="SIGKILL to the daemon with twenty jobs, which end before the next start",
    seen_failing="runners that keep their result until a daemon takes it",
)
def test_f22_jobs_that_end_while_nobody_watches_keep_their_exit_codes(host: Host) -> None:
    """§13.136, W2."""
    host.configure(maxConcurrency=20)
    host.start()
    go = host.root / "go"
    trace = host.root / "trace"
    then = "[ $POLPO_TASK_ID != 7 ] || kill -9 $$; exit $((POLPO_TASK_ID % 3))"
    shell = f"echo started-$POLPO_TASK_ID >> {trace}; {waits_for(go, then)}"
    ids = [host.submit(shell=shell) for _ in range(20)]
    before = {i: host.running(i) for i in ids}

    host.kill()
    go.touch()
    until(lambda: not any(alive(r["pid"]) for r in before.values()), "the runners have ended")
    host.start()

    for i in ids:
        task = host.finished(i)
        (run,) = host.runs(i)
        assert run["pid"] == before[i]["pid"]
        assert (run["exit_code"], run["signal"]) == ((None, signal.SIGKILL) if i == "7" else (int(i) % 3, None))
        assert task["status"] == ("done" if run["exit_code"] == 0 else "failed")
        assert task["retries"] == task["recoveries"] == 0
    assert sorted(trace.read_text().split()) == sorted(f"started-{i}" for i in ids)


@fault(
    19,
    "a runner is killed and its job lives",
    promise="A job without its runner is not taken over: it is ended with all that descends from it, and its run is "
    "lost, never a success. The task is tried again three times, then it is for a person.",
    injected="SIGKILL to the runners of a job with a child in another session, four times",
    seen_failing="a dead runner's run called lost without ending its job",
)
def test_f19_a_killed_runner_takes_its_job_along_and_the_fourth_loss_is_for_a_person(host: Host) -> None:
    """W4, W7."""
    host.start()
    pids = host.root / "pids"
    task_id = host.submit(shell=f"setsid sh -c 'echo $$ >> {pids}; exec sleep 1000' & sleep 1000")
    for lost in range(4):
        run = host.running(task_id)
        until(lambda: pids.exists() and len(pids.read_text().split()) == lost + 1, "the job has a child")
        known = pids.read_text().split()  # before the next run adds its own
        os.kill(run["pid"], signal.SIGKILL)
        until(lambda: host.runs(task_id)[lost]["status"] == "lost", "the run is lost")
        assert not any(alive(int(p)) for p in known)
    task = host.finished(task_id)
    assert (task["status"], task["retries"], task["recoveries"]) == ("awaiting_approval", 0, 4)
    assert [r["reason"] for r in host.runs(task_id)] == ["lost"] * 4


@fault(
    35,
    "a grandchild in a session of its own is not reached by a signal to the job's group, and lives on",
    promise="The whole tree is ended, wherever a process of it went; killed is recorded when nothing of it is left.",
    injected="cancelling a job with grandchildren of other sessions and parents, without its environment and its log, that "
    "ignore SIGTERM",
    seen_failing="a ladder that knows the job's group alone",
)
@pytest.mark.parametrize("containment", [pytest.param("auto", marks=pytest.mark.root), "session"])
def test_f35_cancel_ends_the_whole_tree_before_it_is_called_killed(host: Host, containment: str) -> None:
    """§13.131, W23, W24."""
    host.configure(killGrace=500, containment=containment)
    host.start()
    pids = host.root / "pids"
    script = host.root / "stubborn.sh"
    script.write_text(
        "trap '' TERM\n"
        f"(env -i setsid sh -c 'trap \"\" TERM; (sleep 1000 & echo $! >> {pids}; wait) & echo $! >> {pids}; wait' "
        "> /dev/null 2>&1 &)\n"
        f"echo $$ >> {pids}\n"
        "while :; do sleep 1; done\n"
    )
    task_id = host.submit("sh", str(script))
    host.running(task_id)
    until(lambda: pids.exists() and len(pids.read_text().split()) == 3, "the tree stands")
    host.call("task.cancel", select={"ids": [task_id]})
    until(lambda: host.runs(task_id)[0]["status"] != "running", "the run is over")
    assert not any(alive(int(p)) for p in pids.read_text().split())
    assert host.finished(task_id)["status"] == "cancelled"
    (run,) = host.runs(task_id)
    assert (run["status"], run["reason"]) == ("killed", "cancelled")
