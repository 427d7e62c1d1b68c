"""Planted defects of the stores, each of which the conformance suite has to find: `make test-mutants`.

Each is one replacement in one file of a copy of the tree, and the test that must fail with it.  A test that passes all
the same, or whose text is not there any more, is a failure of this script: a guard that guards nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BOUND = 300.0
"""Seconds for one of them."""


@dataclass(frozen=True, slots=True)
class Mutant:
    group: str
    """What kind of behaviour it breaks."""
    file: str
    right: str
    wrong: str
    test: str
    """As pytest takes it: a file, and perhaps `::` or `-k` words."""


STORE = "tests/conformance/test_store_conformance.py"
COPY = "tests/conformance/test_store_copy.py"

MUTANTS = (
    Mutant("rollback", "polpod/store/group.py", "self.session.rows.end_part(undo=True)", "self.session.rows.end_part(undo=False)", STORE),
    Mutant("order", "polpod/store/table.py", "return (*order, *(c.asc() for c in table.key if c.name not in named))", "return order", STORE),
    Mutant("bounds", "polpod/store/table.py", 'return Cmp(self.name, "<=", scalar(value))', 'return Cmp(self.name, "<", scalar(value))', STORE),
    Mutant("instants", "polpod/store/table.py", "value.astimezone(UTC).replace(tzinfo=None)", "value.replace(tzinfo=None)", STORE),
    Mutant("journal", "polpod/store/records.py", "if undo is None:", "if undo is None:", STORE),
    Mutant("copy", "polpod/store/copy.py", "for table in reversed(TABLES):", "for table in ():", COPY),
    Mutant("copy", "polpod/store/copy.py", "skip = of_value + (skip if value == last else 0)", "skip = of_value", COPY),
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Plant defects in the stores, and see the tests find them.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="default: all")
    groups = parser.parse_args().groups
    chosen = [m for m in MUTANTS if not groups or m.group in groups]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="polpod-mutants-") as directory:
        for name in ("polpod", "polpoctl", "tests", "docs", "systemd", "packaging"):
            shutil.copytree(ROOT / name, Path(directory, name), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", directory)
        for number, mutant in enumerate(chosen, start=1):
            found = _found(mutant, Path(directory))
            survivors += found is not None
            print(f"{number}/{len(chosen)} {mutant.group}: {mutant.file}: {found or 'found'}", flush=True)
    print(f"{len(chosen) - survivors} passed, {survivors} failed")
    return 1 if survivors else 0


def _found(mutant: Mutant, tree: Path) -> str | None:
    """None if the test fails with the mutant; else what is wrong."""
    path = tree / mutant.file
    text = path.read_text()
    if text.count(mutant.right) != 1:
        return f"its text is there {text.count(mutant.right)} times: {mutant.right!r}"
    path.write_text(text.replace(mutant.right, mutant.wrong))
    try:
        # PYTHONPATH goes before what is installed; no bytecode, whose time stamps would hide a quick change.
        environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.test.split()]
        ended = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=BOUND)
    finally:
        path.write_text(text)
    if ended.returncode == 1:
        return None
    return f"NOT FOUND by {mutant.test} (pytest: {ended.returncode})\n{ended.stdout[-2000:]}"


if __name__ == "__main__":
    sys.exit(main())
