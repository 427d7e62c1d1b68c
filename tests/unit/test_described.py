"""Types that several threads convert to are known to msgspec before they do."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polpod

SCRIPT = """
import sys, threading
from enum import Enum
import msgspec
from polpod.model.described import described

sys.setswitchinterval(1e-6)
THREADS = 4

def a_type(number):
    fields = [(f"e{n}", Enum(f"E{number}_{n}", [(w, w) for w in "abcdef"]) | None, None) for n in range(12)]
    return msgspec.defstruct(f"S{number}", fields)

def use(kind, together):
    together.wait()
    for _ in range(5):
        msgspec.convert({"e0": "a", "e11": "f"}, kind)

for number in range(200):
    kind, together = KNOWN(a_type(number)), threading.Barrier(THREADS)
    threads = [threading.Thread(target=use, args=(kind, together)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""
SHARED = ("store", "contracts", "rules", "model", "services")
"""What worker threads carry out, above all in transactions."""
LOOP = "services/rpc"
"""What the thread of the event loop carries out alone."""
UNION = {"Expectations": "Test", "Metrics": "Metric"}
"""Types that are made of several, and one of these."""


def test_threads_that_use_a_type_for_the_first_time_together_are_no_danger() -> None:
    """Without it, a daemon that was asked for its state while it recovered died of it, once in a thousand starts."""
    script = SCRIPT.replace("KNOWN", "described")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_transactions_convert_to_is_described() -> None:
    root = Path(polpod.__file__).parent
    paths = [path for part in SHARED for path in (root / part).rglob("*.py") if LOOP not in str(path)]
    wanted = {UNION.get(kind, kind) for path in paths for kind in converted_to(path)}
    made = {name for path in (root / "model").rglob("*.py") for name in decorated(path)}
    assert {"Run", "Task", "MissionDocument"} <= wanted
    # Kinds that are none of one name: of entities, which are described as they are made; of what one thread alone reads,
    # Elkar's stores and a daemon that opens its files; of configurations of nodes, which are converted in the loop.
    assert wanted - made <= {"kind", "StoredTask", "Version", "_fields_of(type(self))", "cls"}


def converted_to(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) not in ("msgspec.convert", "msgspec.json.decode"):
            continue
        named = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        kind = ast.unparse(node.args[1]) if ast.unparse(node.func) == "msgspec.convert" else named.get("type", "object")
        if "[" not in kind and kind != "object":
            yield kind.rpartition(".")[2]


def decorated(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef) and any(ast.unparse(d) == "described" for d in node.decorator_list):
            yield node.name
