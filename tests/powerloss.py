"""A machine whose plug is pulled while polpod is at work: `make test-powerloss VM=…`.

`VM` names a program that boots a virtual machine with a disk of its own and runs a command in it as root:

    VM run --disk FILE --ro SRC:DST … --cut-on LINE -- COMMAND…

With `--cut-on` it kills the machine, without a word to it, as soon as the command prints that line; the same FILE may be
booted again.  The machine has Linux, systemd, and the Python of this environment's minor version.

In the machine, tasks are submitted without a pause.  What was acknowledged, and what was seen to be done, is told to the
outside in the moment; then comes the cut.  After the next boot every id that was told exists, what was done is done and is
not done again, both databases agree, and the work goes on to its end.  Without VM this file is what runs inside.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path

from kit.client import Client
from kit.waiting import until

TESTS = Path(__file__).resolve().parent
INSIDE = "/usr/local/lib/python{}.{}/dist-packages".format(*sys.version_info)
"""Where that Python looks in isolated mode, too, in which runners are started."""
ROOT = "/var/lib/polpod-test"
CUT = "@@CUT"


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--vm", help="the program that boots the machine")
    p.add_argument("--cuts", type=int, default=3, help="how often the plug is pulled")
    p.add_argument("--inside", choices=["work", "check"])
    p.add_argument("--until", type=int, default=20, help="finished tasks until the cut")
    options = p.parse_args()
    if options.inside == "work":
        return work(options.until)
    if options.inside == "check":
        return check()
    return outside(options.vm, options.cuts)


def outside(vm: str, cuts: int) -> int:
    """Cut, boot and check, as often as told, each time on the same disk."""
    acknowledged: set[str] = set()
    done: set[str] = set()
    before: Counter[str] = Counter()  # runs of each task at the last boot, when all of them were over
    with tempfile.TemporaryDirectory(prefix="powerloss-") as directory:
        disk = f"{directory}/disk"
        for number in range(1, cuts + 1):
            for line in _boot(vm, disk, "--cut-on", CUT, inside=("work", "--until", str(8 + 7 * number))):
                word, _, task_id = line.partition(" ")
                (acknowledged if word == "ACK" else done if word == "DONE" else set()).add(task_id)
            print(f"cut {number}: {len(acknowledged)} acknowledged, {len(done)} seen done", flush=True)
            found = json.loads(_boot(vm, disk, inside=("check",))[-1])
            tasks, runs = found["tasks"], Counter(run["task_id"] for run in found["runs"])
            assert acknowledged <= tasks.keys(), f"lost: {acknowledged - tasks.keys()}"
            assert {tasks[i] for i in done} == {"done"}
            again = {i for i in done if runs[i] != (before[i] or 1)}
            assert not again, f"what was done was done again: {again}"
            assert set(tasks.values()) == {"done"}, Counter(tasks.values())
            assert found["check"] == 0, found["said"]
            before = runs
            print(f"boot {number}: all {len(tasks)} tasks are there and done, {runs.total()} runs", flush=True)
    return 0


def _boot(vm: str, disk: str, *options: str, inside: tuple[str, ...]) -> list[str]:
    sources = {sysconfig.get_path("purelib"): INSIDE, TESTS: f"{INSIDE}/tests"}
    sources |= {TESTS.parent / name: f"{INSIDE}/{name}" for name in ("polpod", "polpoctl")}
    copied = [option for source, target in sources.items() for option in ("--ro", f"{source}:{target}")]
    command = ["python3", f"{INSIDE}/tests/powerloss.py"]
    ended = subprocess.run(
        [vm, "run", "--disk", disk, "--timeout", "900", *copied, *options, "--", *command, "--inside", *inside],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout.splitlines()


def work(finished: int) -> int:
    """Submit without a pause, telling of each answer; the cut comes after `finished` tasks were seen to be done."""
    _polpoctl("init")
    _polpoctl("config", "set", "settings.maxConcurrency", "4")
    _polpoctl("config", "set", "settings.reserve", "0")
    with _daemon(), Client(f"{ROOT}/.polpo/polpod.sock", timeout=300) as client:
        earlier = _done(client)
        told = set(earlier)
        while True:
            for _ in range(5):
                answer = client.call("task.submit", command=["true"], cwd="/", env={})
                print(f"ACK {answer['id']}", flush=True)
            for task_id in sorted(_done(client) - told, key=int):
                print(f"DONE {task_id}", flush=True)
                told.add(task_id)
            if len(told - earlier) >= finished:
                print(CUT, flush=True)


def check() -> int:
    """Let everything come to its end, and print what there is, as one line of JSON."""
    with _daemon() as daemon, Client(f"{ROOT}/.polpo/polpod.sock", timeout=300) as client:
        until(lambda: not _moving(client), "everything is over", 600)
        tasks = client.call("task.list", all=True, limit=1000)["tasks"]
        runs = client.call("run.list", limit=1000)["runs"]
        daemon.terminate()
        daemon.wait(120)
    said = subprocess.run(
        [sys.executable, "-m", "polpod", "--root", ROOT, "--maintenance", "check"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = {
        "tasks": {task["id"]: task["status"] for task in tasks},
        "runs": [{"task_id": run["task_id"]} for run in runs if run["reason"] != "never_started"],
        "check": said.returncode,
        "said": said.stdout + said.stderr,
    }
    print(json.dumps(found), flush=True)
    return 0


def _polpoctl(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "polpoctl", "--root", ROOT, *words], stdout=subprocess.DEVNULL, check=True)


def _done(client: Client) -> set[str]:
    finished = client.call("task.list", all=True, limit=1000, select={"status": ["done"]})["tasks"]
    return {task["id"] for task in finished}


def _moving(client: Client) -> bool:
    counts = client.call("daemon.status")["tasks"]
    return any(counts.get(status) for status in ("pending", "assigned", "in_progress", "review"))


def _daemon() -> subprocess.Popen[bytes]:
    daemon = subprocess.Popen([sys.executable, "-m", "polpod", "--root", ROOT], cwd="/")

    def answers() -> bool:
        try:
            with Client(f"{ROOT}/.polpo/polpod.sock") as client:
                return bool(client.call("daemon.health")["ok"])
        except (OSError, EOFError):
            return False

    until(answers, "the daemon answers", 300)
    return daemon


if __name__ == "__main__":
    sys.exit(main())
