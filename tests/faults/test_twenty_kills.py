"""What was acknowledged exists and happens once, whenever the daemon is killed (invariants 1, 3, 4, 5; F1 to F5, F79)."""

from __future__ import annotations

import random
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from kit.host import Host
from kit.invariants import Ledger
from kit.waiting import until

SEED = 20
KILLS = 20
TASKS = 200
CLIENTS = 5
LONGEST_LIFE = 0.25


class Clients:
    """Threads that submit; each asks again, under the same key, until it has an answer."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._permits = threading.Semaphore(0)
        self._threads = ThreadPoolExecutor(CLIENTS)
        self.answers: list[Future[dict[str, Any]]] = [
            self._threads.submit(self._submit, f"key-{n}") for n in range(TASKS)
        ]

    def allow(self, number: int) -> None:
        self._permits.release(number)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _submit(self, key: str) -> dict[str, Any]:
        self._permits.acquire()
        shell = f"printf '%s\\n' $POLPO_TASK_ID >> {self._host.root}/trace; exit $((POLPO_TASK_ID % 3))"

        def answered() -> Any:
            with suppress(OSError, EOFError):
                return self._host.call("task.submit", shell=shell, cwd=str(self._host.root), idempotency_key=key)
            return None

        return dict(until(answered, f"{key} is acknowledged", bound=240))


def test_twenty_kills_lose_nothing_and_do_nothing_twice(host: Host) -> None:
    """W13."""
    rng = random.Random(SEED)
    print(f"seed {SEED}")  # pytest shows it with a failure
    host.configure(maxConcurrency=8)
    ledger = Ledger(host.paths)
    host.start(POLPOD_CRASH_AT="submit.committed:5")
    clients = Clients(host)
    clients.allow(TASKS // (KILLS + 1))
    until(lambda: host.daemon is not None and host.daemon.poll() is not None, "a daemon died before it could answer")
    moment = threading.Event()
    for n in range(KILLS):
        host.start(wait=rng.random() < 0.8)  # else it may be killed while it starts
        clients.allow(TASKS // (KILLS + 1))
        moment.wait(rng.uniform(0, LONGEST_LIFE))  # never set: the kill comes at a random moment of the work
        host.kill()
        ledger.look()
        print(f"kill {n}: {sum(a.done() for a in clients.answers)} acknowledged")
    host.start()
    clients.allow(TASKS)
    answers = [a.result() for a in clients.answers]
    clients.close()

    ids = {answer["id"] for answer in answers}
    assert len(ids) == TASKS
    assert any(not answer["created"] for answer in answers)
    for task_id in ids:
        task = host.finished(task_id)
        *unborn, run = host.runs(task_id)
        assert {r["reason"] for r in unborn} <= {"never_started"}
        assert task["status"] == ("failed" if int(task_id) % 3 else "done")
        assert task["result"]["exit_code"] == run["exit_code"] == int(task_id) % 3
        assert task["retries"] == task["recoveries"] == 0
    until(lambda: host.call("daemon.status")["tasks"].keys() == {"done", "failed"}, "it has counted what its rows say")
    trace = Counter((host.root / "trace").read_text().split())
    assert trace == Counter(ids)
    assert host.stop() == 0
    ledger.settled()
