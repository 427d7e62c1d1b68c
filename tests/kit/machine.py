"""A daemon under everything that can happen to it, in an order that Hypothesis makes up (DESIGN §14).

Users submit, cancel, retry, edit, hold and pause; processes are killed and stopped; the disk fills up; the daemon is killed,
stopped, reloaded and started.  Whatever the order: after each step the invariants hold that hold at any moment, and in the
end, when everything was let go, all work is over, was done as often as its runs say, and nothing is left.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from kit.client import Refused
from kit.host import Host
from kit.invariants import Ledger, Rows, read_runs
from kit.processes import zygote
from kit.waiting import until
from polpod.runner import contract

WAIT = "while [ ! -e $DIR/go-$POLPO_TASK_ID ]; do sleep 0.02; done"
JOBS = {
    "succeeds": "exit 0",
    "fails": "exit 3",
    "fails at first": '[ $(grep -c "^$POLPO_TASK_ID " $DIR/trace) -gt 1 ]',
    "waits": WAIT,
    "ignores TERM": f"trap '' TERM; {WAIT}",
    "leaves a session behind": f"setsid sleep 1000 & setsid sh -c 'trap \"\" TERM; sleep 1000' & {WAIT}",
    "leaves orphans": "(sleep 1000 &) ; (setsid sleep 1000 &) ; exit 0",
}
DISK = "64m"
ROOT = os.geteuid() == 0

SUBMISSIONS = st.fixed_dictionaries(
    {
        "job": st.sampled_from(sorted(JOBS)),
        "queue": st.sampled_from(["default", "default", "narrow"]),
        "priority": st.integers(-1, 1),
        "max_retries": st.sampled_from([0, 0, 2]),
        "hold": st.sampled_from([False, False, False, True]),
    }
)


class Daemon(RuleBasedStateMachine):
    """One state directory, with a real daemon, real runners and real jobs."""

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.dir = Path(tempfile.mkdtemp(prefix="polpod-trace-"))  # on a disk that never fills up
        self.host = Host(maxConcurrency=4, queues={"narrow": {"slots": 1}})
        if ROOT:
            shutil.copy(self.host.paths.config, self.dir)
            _run("mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700", "polpod-test", self.host.paths.path)
            shutil.copy(self.dir / "polpo.json", self.host.paths.config)
        self.ledger = Ledger(self.host.paths)
        self.accepted: set[str] = set()
        self.removed: set[str] = set()
        self.stopped: set[int] = set()
        self.refused: Counter[str] = Counter()
        self.host.start()

    # Users

    @initialize(target=tasks, submissions=st.lists(SUBMISSIONS, min_size=4, max_size=8))
    def begin(self, submissions: list[dict[str, Any]]) -> Any:
        return self._submit(submissions, [])

    @rule(target=tasks, submissions=st.lists(SUBMISSIONS, min_size=1, max_size=3), after=st.lists(tasks, max_size=2))
    def submit(self, submissions: list[dict[str, Any]], after: list[str]) -> Any:
        return self._submit(submissions, after)

    @rule(task=tasks)
    def cancel(self, task: str) -> None:
        self._ask("task.cancel", select={"ids": [task]})

    @rule(task=tasks)
    def retry(self, task: str) -> None:
        self._ask("task.retry", select={"ids": [task]})

    @rule(task=tasks, priority=st.integers(-2, 2))
    def edit(self, task: str, priority: int) -> None:
        self._ask("task.update", id=task, priority=priority)

    @rule(task=tasks, after=st.lists(tasks, max_size=2))
    def depend(self, task: str, after: list[str]) -> None:
        self._ask("task.update", id=task, depends_on=sorted(set(after)))

    @rule(task=tasks, hold=st.booleans())
    def hold(self, task: str, hold: bool) -> None:
        self._ask("task.hold" if hold else "task.release", select={"ids": [task]})

    @rule(task=consumes(tasks))
    def remove(self, task: str) -> None:
        answer = self._ask("task.remove", select={"ids": [task]})
        if answer is not None and not any(entry.get("error") for entry in answer["results"]):
            self.removed.add(task)

    @rule(queue=st.sampled_from(["default", "narrow"]), pause=st.booleans())
    def pause(self, queue: str, pause: bool) -> None:
        self._ask("queue.set", name=queue, paused=pause)

    @rule(task=tasks)
    def let_go(self, task: str) -> None:
        (self.dir / f"go-{task}").touch()

    # Faults

    @rule(at_once=st.booleans())
    def kill_daemon(self, at_once: bool) -> None:
        self.host.kill()
        if at_once:
            self._start()

    @rule(number=st.sampled_from([signal.SIGTERM, signal.SIGINT, signal.SIGHUP]))
    def stop_daemon(self, number: int) -> None:
        if self._daemon_lives():
            self._resume_runners()  # one that is stopped is ended by force in the end, which takes its time
            assert self.host.stop(number) == 0

    @rule()
    def reload(self) -> None:
        if self._daemon_lives():
            self._ask("daemon.reload")

    @rule()
    def start_daemon(self) -> None:
        if not self._daemon_lives():
            self._start()

    @rule()
    def kill_zygote(self) -> None:
        assert self.host.daemon is not None
        if self._daemon_lives() and (pid := zygote(self.host.daemon.pid)):
            _kill(pid, signal.SIGKILL)

    @rule(what=st.sampled_from(["pid", "job_pid"]), which=st.integers(0, 3))
    def kill_of_a_run(self, what: str, which: int) -> None:
        """A runner, or the main process of a job."""
        if run := self._live(which):
            _kill(run[what], signal.SIGKILL)

    @rule(which=st.integers(0, 3))
    def stop_runner(self, which: int) -> None:
        if run := self._live(which):
            _kill(run["pid"], signal.SIGSTOP)
            self.stopped.add(run["pid"])

    @rule()
    def resume_runners(self) -> None:
        self._resume_runners()

    @precondition(lambda self: ROOT)
    @rule()
    def fill_disk(self) -> None:
        with suppress(OSError), open(self._filler, "wb") as file:
            while True:
                file.write(bytes(2**16))
        with suppress(OSError), open(self._filler, "ab", buffering=0) as file:
            while True:
                file.write(bytes(512))

    @precondition(lambda self: ROOT)
    @rule()
    def free_disk(self) -> None:
        self._filler.unlink(missing_ok=True)

    # What holds at any moment

    @invariant()
    def the_daemon_is_alive_or_was_killed_by_us(self) -> None:
        assert self.host.daemon is not None
        assert self.host.daemon.poll() in (None, 0, -signal.SIGKILL), self.host.log()
        assert "Traceback" not in self.host.log(), self.host.log()

    @invariant()
    def rows_say_the_truth(self) -> None:
        runs = self.ledger.look()
        live = Counter(row["task_id"] for row in runs.values() if row["status"] in contract.LIVE)
        assert [task_id for task_id, number in live.items() if number > 1] == []
        assert live.total() <= 4
        self._nothing_of_an_ended_run_lives(runs)

    @invariant()
    def every_line_of_the_trace_is_a_run(self) -> None:
        """A run executes its job at most once, and never without a row that says so."""
        lines = self._trace()
        assert [run_id for run_id, number in Counter(r for _, r in lines).items() if number > 1] == []
        runs = read_runs(self.host.paths)
        for task_id, run_id in lines:
            assert runs[run_id]["task_id"] == task_id
            assert runs[run_id]["reason"] != "never_started"

    @invariant()
    def what_was_accepted_exists(self) -> None:
        if self._daemon_lives():
            listed = self.host.call("task.list", all=True, limit=1000)["tasks"]
            assert {task["id"] for task in listed} >= self.accepted - self.removed

    def teardown(self) -> None:
        try:
            self._settle()
        finally:
            self._clean_up()

    def _settle(self) -> None:
        """Everything is let go, and comes to its end."""
        self._filler.unlink(missing_ok=True)
        self._resume_runners()
        self.start_daemon()
        for task_id in self.accepted:
            (self.dir / f"go-{task_id}").touch()
        for queue in ("default", "narrow"):
            self.host.surely("queue.set", name=queue, paused=False)
        try:
            until(self._over, "everything is over", 120)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self._what_waits()}\n{self.host.log()}") from None
        assert self.host.stop() == 0
        self.ledger.settled()
        runs = read_runs(self.host.paths)
        print(len(self.accepted), "tasks", dict(Counter(row["reason"] for row in runs.values())), dict(self.refused))
        done = {run_id for _, run_id in self._trace()}
        ended_by_themselves = {run_id for run_id, row in runs.items() if row["reason"] == "exited"}
        assert ended_by_themselves <= done, "a run ended with an exit code and never executed anything"

    def _over(self) -> bool:
        self.host.survive()
        tasks = self.host.surely("task.list", all=True, limit=1000)["tasks"]
        for task in tasks:
            if task["state"] in ("held", "awaiting_approval"):
                method = "task.release" if task["state"] == "held" else "task.retry"
                self.host.surely(method, select={"ids": [task["id"]]})
                return False
        # What waits waits for ever, once nothing else moves.
        return {task["state"] for task in tasks} <= {"done", "failed", "cancelled", "blocked", "waiting"}

    def _what_waits(self) -> str:
        tasks = self.host.call("task.list", limit=1000)["tasks"]
        waiting = [task for task in tasks if task["status"] not in ("done", "failed", "cancelled")]
        return "\n".join(
            str(self.host.call("task.why", id=t["id"]) | {"runs": self.host.runs(t["id"])}) for t in waiting
        )

    def _clean_up(self) -> None:
        self._resume_runners()
        if self._daemon_lives():
            self.host.kill()
        until(self.host.end_runners, "nothing of any run is left")  # as long as its directory is mounted
        if ROOT:
            _run("umount", "--lazy", self.host.paths.path)
        self.host.close()
        shutil.rmtree(self.dir)

    # What the rules are made of

    @property
    def _filler(self) -> Path:
        return Path(self.host.paths.path) / "filler"

    def _ask(self, method: str, **params: Any) -> Any:
        """The answer; None where there is no daemon, or it refused."""
        try:
            return self.host.call(method, **params)
        except Refused as refused:
            if refused.code == -32603:
                raise
            self.refused[f"{method}: {refused.word}"] += 1
            return None
        except (OSError, EOFError):
            assert not self._daemon_lives()
            return None

    def _submit(self, submissions: list[dict[str, Any]], after: list[str]) -> Any:
        ids = []
        for fields in submissions:
            job = JOBS[fields["job"]]
            answer = self._ask(
                "task.submit",
                shell=f"echo $POLPO_TASK_ID $POLPO_RUN_ID >> $DIR/trace; {job}",
                cwd="/",
                env={"DIR": str(self.dir), "PATH": os.environ["PATH"]},
                depends_on=sorted(set(after) - self.removed),
                retry_delay=0.05,
                kill_grace=0.2,
                **{name: value for name, value in fields.items() if name != "job"},
            )
            if answer is not None:
                ids.append(answer["id"])
        self.accepted.update(ids)
        return multiple(*ids)

    def _start(self) -> None:
        """A daemon that finds no space, and no ballast either, says so and ends; there is none to be had until some is freed."""
        try:
            self.host.start()
        except AssertionError:
            assert self.host.log().endswith("no space left\n"), self.host.log()
            self._filler.unlink()
            self.host.start()

    def _daemon_lives(self) -> bool:
        assert self.host.daemon is not None
        return self.host.daemon.poll() is None

    def _live(self, which: int) -> dict[str, Any] | None:
        running = [row for _, row in sorted(read_runs(self.host.paths).items()) if row["status"] == "running"]
        return running[which % len(running)] if running else None

    def _resume_runners(self) -> None:
        for pid in self.stopped:
            _kill(pid, signal.SIGCONT)
        self.stopped.clear()

    def _nothing_of_an_ended_run_lives(self, runs: Rows) -> None:
        """Invariant 7, and the reverse: what lives belongs to a row."""
        populated = {int(group.path.rpartition("-")[2]) for group in self.host.cgroups() if not group.empty()}
        assert populated <= read_runs(self.host.paths).keys()
        # These rows were read first: a run that was over by then had nothing left, unless nobody had claimed it.
        over = {i for i, row in runs.items() if row["status"] in contract.TERMINAL and row["reason"] != "never_started"}
        assert populated & over == set()

    def _trace(self) -> list[tuple[str, int]]:
        path = self.dir / "trace"
        lines: Iterator[list[str]] = (
            (line.split() for line in path.read_text().splitlines()) if path.exists() else iter(())
        )
        return [(task_id, int(run_id)) for task_id, run_id in lines]


def _kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
