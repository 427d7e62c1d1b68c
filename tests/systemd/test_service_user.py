"""polpod as a service of a user's own manager, which lives as long as the user is logged in, or lingers."""

from __future__ import annotations

import json
from typing import Any

from kit.box import Box
from kit.fault import fault
from kit.waiting import until

USER = "bob"
NUMBER = 5


class Session:
    """What this user may do while logged in."""

    def __init__(self, box: Box) -> None:
        self.box = box
        box.do("systemctl", "start", "systemd-logind")
        box.do("useradd", "--create-home", USER)
        self.uid = box.do("id", "-u", USER).strip()

    def log_in(self) -> None:
        """Start the user's manager, as the first session does, and polpod in it."""
        self.box.do("systemctl", "start", f"user@{self.uid}")
        self.do("systemctl", "--user", "start", "polpod.socket", "polpod.service")

    def do(self, *argv: str, input: str = "") -> str:
        env = ("env", f"HOME=/home/{USER}", f"XDG_RUNTIME_DIR=/run/user/{self.uid}")
        return self.box.do(*env, *argv, user=USER, input=input)

    def log_out(self) -> None:
        """End all sessions; nothing of the user is left."""
        self.box.do("loginctl", "terminate-user", USER)
        until(lambda: self.box.run("ps", "-u", USER).stdout.count("\n") == 1, f"no process of {USER} is left")

    def running(self, attempt: int) -> dict[str, list[dict[str, Any]]]:
        """The runs of each task, once all are in this attempt."""

        def all_run() -> dict[str, list[dict[str, Any]]] | None:
            found: dict[str, list[dict[str, Any]]] = {}
            for run in reversed(json.loads(self.do("polpoctl", "runs", "--json"))):
                found.setdefault(run["task_id"], []).append(run)
            last = [runs[-1] for runs in found.values()]
            ready = [run for run in last if (run["attempt"], run["status"]) == (attempt, "running")]
            return found if len(ready) == NUMBER else None

        return until(all_run, f"attempt {attempt} runs")


@fault(
    46,
    "the user logs out, and systemd ends the user's manager with all that is in it",
    promise="The daemon ends its runs in order first. They are recorded as interrupted, and run again after the next login "
    "without a retry spent.",
    injected="`loginctl terminate-user` with five jobs of a user's own polpod",
    seen_failing="user units of zygotes that systemd ends with everything in them, beside the daemon",
)
def test_f46_a_logout_interrupts_jobs_and_the_next_login_runs_them_again(box: Box) -> None:
    session = Session(box)
    box.do("loginctl", "enable-linger", USER)  # so that logind knows the user, as it does one at a terminal
    session.log_in()
    line = json.dumps({"command": ["sleep", "1000"], "cwd": "/"}) + "\n"
    session.do("polpoctl", "config", "set", "settings.maxConcurrency", str(NUMBER))
    session.do("systemctl", "--user", "reload", "polpod.service")
    session.do("polpoctl", "submit", "--batch", "-", input=line * NUMBER)
    session.running(1)
    session.log_out()
    session.log_in()
    runs = session.running(2)
    assert {(r["status"], r["reason"]) for rows in runs.values() for r in rows[:-1]} == {("killed", "shutdown")}
    tasks = json.loads(session.do("polpoctl", "list", "--all", "--json"))
    assert {(task["retries"], task["recoveries"]) for task in tasks} == {(0, 0)}
