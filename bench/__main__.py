"""`make bench`, or `python -m bench [SUBJECT…] [--output FILE]`: measure, print a table, write JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import latency, memory, missions, recovery, start, stored, stores, submit, throughput, web
from bench.figures import Figure, table
from bench.peers import absent
from polpod import __version__

SUBJECTS: dict[str, Callable[[], Iterator[Figure]]] = {
    "submit": submit.run,
    "throughput": throughput.run,
    "latency": latency.run,
    "start": start.run,
    "stored": stored.run,
    "memory": memory.run,
    "recovery": recovery.run,
    "stores": stores.run,
    "missions": missions.run,
    "web": web.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure polpod beside what else is installed."
    )
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"default: all of {', '.join(SUBJECTS)}")
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"), help="default: %(default)s")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # daemons are stopped on the way out
    if unknown := [s for s in given.subjects if s not in SUBJECTS]:
        parser.error(f"no such subject: {', '.join(unknown)} (there are: {', '.join(SUBJECTS)})")

    facts = machine()
    print("\n".join(f"{key}: {value}" for key, value in facts.items()), flush=True)
    if missing := absent():
        print(f"not installed, so not compared: {', '.join(missing)}", flush=True)
    results = {}
    failed = []
    for name in given.subjects or SUBJECTS:
        try:
            figures = list(SUBJECTS[name]())
        except Exception:  # noqa: BLE001 - the other subjects took long enough to be worth having
            traceback.print_exc()
            failed.append(name)
            continue
        print(table(name, figures), flush=True)
        results[name] = [figure.as_json() for figure in figures]
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps({**facts, "failed": failed, "results": results}, indent=2) + "\n")
    print(f"\nwritten: {given.output}")
    if failed:
        print(f"not measured, because something broke: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def machine() -> dict[str, Any]:
    """Where and with what this was measured."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory_kib = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", "-m", "bench", *sys.argv[1:]]),
        "polpod": f"{__version__} ({commit.stdout.strip() or 'no commit'})",
        "python": f"{platform.python_version()} ({sys.executable})",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": f"{os.cpu_count()} × {cpu[1] if cpu else platform.processor()}",
        "memory_gib": round(int(memory_kib[1]) / 2**20, 1) if memory_kib else None,
    }


if __name__ == "__main__":
    sys.exit(main())
