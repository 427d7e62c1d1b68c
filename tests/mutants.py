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
A2A = "tests/conformance/test_a2a_tasks.py -k sqlite"
A2A_KEPT = "tests/conformance/test_a2a_kept.py -k sqlite"
A2A_MODEL = "tests/unit/test_model_a2a.py"
A2A_LINE = "tests/process/test_a2a_line.py"

MEMORY = "tests/unit/test_store_gate.py -k one_session"
FILES = "tests/unit/test_files_store.py"
FAULTS = "tests/unit/test_files_faults.py"
NAMES = "tests/unit/test_files_layout.py"
KILLED = "tests/process/test_files_kill.py -k killed"
POWER = "tests/process/test_files_kill.py -k power"

QUARANTINE = "tests/unit/test_store_quarantine.py"

MUTANTS = (
    Mutant("rollback", "polpod/store/group.py", "self.session.rows.end_part(undo=True)", "self.session.rows.end_part(undo=False)", STORE),
    Mutant("order", "polpod/store/table.py", "return (*order, *(c.asc() for c in table.key if c.name not in named))", "return order", STORE),
    Mutant("bounds", "polpod/store/table.py", 'return Cmp(self.name, "<=", scalar(value))', 'return Cmp(self.name, "<", scalar(value))', STORE),
    Mutant("instants", "polpod/store/table.py", "value.astimezone(UTC).replace(tzinfo=None)", "value.replace(tzinfo=None)", STORE),
    Mutant("journal", "polpod/store/records.py", "if undo is None:", "if undo is None:", STORE),
    Mutant("copy", "polpod/store/copy.py", "for table in reversed(TABLES):", "for table in ():", COPY),
    Mutant("copy", "polpod/store/copy.py", "skip = of_value + (skip if value == last else 0)", "skip = of_value", COPY),
    Mutant("a2a", 'polpod/rules/a2a.py', 'status=TaskStatus(state=TaskState.SUBMITTED, timestamp=now)', 'status=TaskStatus(state=TaskState.WORKING, timestamp=now)', A2A),
    Mutant("a2a", 'polpod/rules/a2a.py', 'push_notification=params.push_notification,\n', 'push_notification=None,\n', A2A),
    Mutant("a2a", 'polpod/rules/a2a.py', '(known.task.metadata or {}) | params.metadata', 'params.metadata', A2A),
    Mutant("a2a", 'polpod/rules/a2a.py', 'params.push_notification or known.push_notification', 'params.push_notification', A2A),
    Mutant("a2a", 'polpod/rules/a2a.py', 'if known.caller_id != caller_id:', 'if None not in (caller_id, known.caller_id) and known.caller_id != caller_id:', A2A),
    Mutant("a2a", 'polpod/rules/a2a.py', 'if known is None or caller_id not in (None, known.caller_id):', 'if known is None or caller_id != known.caller_id:', A2A),
    Mutant("a2a", 'polpod/rules/a2a.py', 'history=history[len(history) - history_length :]', 'history=history[-history_length:]', A2A),
    Mutant("a2a", 'polpod/rules/a2a.py', 'if changes.caller_id is not None and known.caller_id not in (None, changes.caller_id):', 'if False:', A2A),
    Mutant("a2a", 'polpod/rules/a2a.py', 'return new if message is None or message in new else (message, *new)', 'return new if message is None else (message, *new)', A2A),
    Mutant("a2a", 'polpod/rules/a2a.py', 'metadata=known.task.metadata if changes.metadata is None else changes.metadata', 'metadata=known.task.metadata if not changes.metadata else changes.metadata', A2A),
    Mutant("a2a", 'polpod/rules/a2a.py', 'if begun.last_chunk:', 'if begun.last_chunk and more.last_chunk:', A2A),
    Mutant("a2a", 'polpod/rules/a2a.py', 'return replace(begun, parts=', 'return replace(more, parts=', A2A),
    Mutant("a2a", 'polpod/rules/a2a.py', 'caller_id=known.caller_id if changes.caller_id is None else changes.caller_id', 'caller_id=changes.caller_id', A2A),
    Mutant("a2a", 'polpod/rules/a2a.py', 'changes.push_notification or known.push_notification', 'changes.push_notification', A2A),
    Mutant("a2a", 'polpod/rules/a2a.py', '> LARGEST:', '> 2 * LARGEST:', A2A),
    Mutant("a2a", 'polpod/services/a2a.py', 'kept.calls.get(once.client, 0) >= once.number', 'kept.calls.get(once.client, 0) > once.number', A2A_KEPT),
    Mutant("a2a", 'polpod/services/a2a.py', 'if kept is not None and not _concerns(kept, by):', 'if False:', A2A_KEPT),
    Mutant("a2a", 'polpod/services/a2a.py', 'return kept.created_by == by.uid', 'return True', A2A_KEPT),
    Mutant("a2a", 'polpod/services/a2a.py', 'own = A2ATasks.created_run.is_set(), A2ATasks.created_run.eq(by.run_id)', 'own = (A2ATasks.created_run.is_set(),)', A2A_KEPT),
    Mutant("a2a", 'polpod/services/a2a.py', '[-CLIENTS:]', '[:CLIENTS]', A2A_KEPT),
    Mutant("a2a", 'polpod/services/a2a.py', 'if client != once.client]', 'if True]', A2A_KEPT),
    Mutant("a2a", 'polpod/store/a2a.py', 'A2ATasks.seq.lt(before)', 'A2ATasks.seq.le(before)', A2A_KEPT),
    Mutant("a2a", 'polpod/model/a2a.py', 'if not -MOST <= value <= MOST:', 'if abs(value) > MOST:', A2A_MODEL),
    Mutant("a2a", 'polpod/model/a2a.py', 'value.encode()', 'pass', A2A_MODEL),
    Mutant("a2a", 'polpod/model/a2a.py', 'known.astimezone(UTC) if', 'known if', A2A_MODEL),
    Mutant("a2a", 'polpod/model/a2a.py', 'if depth > DEEPEST:', 'if depth > 2 * DEEPEST:', A2A_MODEL),
    Mutant("a2a", 'polpod/contracts/elkar/line.py', '            if not answered:\n', '            if False:\n', A2A_LINE),
    Mutant("a2a", 'polpod/contracts/elkar/line.py', 'params | {"once": {"client": self._client, "number": self._changes}}', 'params', A2A_LINE),
    Mutant("a2a", 'polpod/contracts/elkar/line.py', 'self._changes += 1', 'self._changes = 1', A2A_LINE),
    Mutant("a2a", 'polpod/contracts/elkar/line.py', 'if exc.word != UNAVAILABLE:', 'if True:', A2A_LINE),
    Mutant("a2a", 'polpod/contracts/elkar/line.py', 'if not self._reached:', 'if True:', A2A_LINE),
    Mutant("files", 'polpod/store/memory.py', '        self._only_read(True)\n', '        pass\n', MEMORY),
    Mutant("files", 'polpod/store/memory.py', '        self._only_read(False)\n', '        pass\n', MEMORY),
    Mutant("files", 'polpod/store/files/changes.py', '(("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD"))', '(("INSERT", "NEW"), ("UPDATE", "NEW"))', FILES),
    Mutant("files", 'polpod/store/files/changes.py', 'self._db.execute("DELETE FROM changed")', 'pass', FILES),
    Mutant("files", 'polpod/store/files/layout.py', 'return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted', 'return quoted', NAMES),
    Mutant("files", 'polpod/store/files/layout.py', '%.{hashlib.sha256(name.encode()).hexdigest()}', '%.{len(name)}', NAMES),
    Mutant("files", 'polpod/store/files/layout.py', '",".join(_quoted(str(part)) for part in self.key)', '",".join(str(part) for part in self.key)', NAMES),
    Mutant("files", 'polpod/store/files/redo.py', '            os.ftruncate(self._fd, self.size)\n', '            pass\n', FAULTS),
    Mutant("files", 'polpod/store/files/redo.py', '            write(self._fd, line)\n            os.fdatasync(self._fd)', '            write(self._fd, line)', POWER),
    Mutant("files", 'polpod/store/files/redo.py', '        if line[:_SUM] != _sum(line[_SUM:]):', '        if False:', FAULTS),
    Mutant("files", 'polpod/store/files/redo.py', '            *lines, _ = file.read().split(b"\\n")', '            lines = [*filter(None, file.read().split(b"\\n"))]', KILLED),
    Mutant("files", 'polpod/store/files/replay.py', '    sync_files(directory, changed)\n', '', POWER),
    Mutant("files", 'polpod/store/files/replay.py', '        elif (line is rest or b"\\0" in line or not line) and', '        elif', FAULTS),
    Mutant("files", 'polpod/store/files/replay.py', '            _mend_segment(place, path, documents)', '            pass', KILLED),
    Mutant("files", 'polpod/store/files/replay.py', 'for _, line in entries), on_disk=True)', 'for _, line in entries))', POWER),
    Mutant("files", 'polpod/store/files/session.py', '            self._tree.sync()\n', '', POWER),
    Mutant("files", 'polpod/store/files/session.py', '            self._redo.append([self._change(table, key) for table, key in changed])', '            pass', KILLED),
    Mutant("files", 'polpod/store/files/session.py', '        if not self._late:', '        if True:', FAULTS),
    Mutant("files", 'polpod/store/files/session.py', 'full or self._redo.size > LOG_MAX or', 'full or', FILES),
    Mutant("files", 'polpod/store/files/session.py', 'or self._tree.unsynced > FILES_MAX', '', FILES),
    Mutant("files", 'polpod/store/files/tree.py', 'lines(entries)), on_disk=True)', 'lines(entries)))', POWER),
    Mutant("files", 'polpod/store/files/tree.py', '                self.note_whole(place)', '                pass', FAULTS),
    Mutant("files", 'polpod/store/files/tree.py', '        end = self._ends.pop(place, None)', '        end = self._ends.get(place)', FAULTS),
    Mutant("files", 'polpod/store/files/tree.py', 'if end is not None and changed > end:', 'if end is not None:', FILES),
    Mutant("files", 'polpod/store/files/tree.py', '            os.unlink(partial)', '            pass', FAULTS),
    Mutant("files", 'polpod/store/files/tree.py', '    partial = os.path.join(os.path.dirname(path), PARTIAL)', '    partial = path', KILLED),
    Mutant("files", 'polpod/store/files/load.py', '    elif (named := Place(table, table.key_of(row)).name) != name:', '    elif (named := name) != name:', FILES),
    Mutant("files", 'polpod/store/files/load.py', '        if found.st_size > largest:', '        if False:', FILES),
    Mutant("files", 'polpod/store/files/load.py', 'and seq not in taken', '', FILES),
    Mutant("files", 'polpod/store/files/opening.py', '    return bad + dangling(db, tables, rows)', '    return bad', FILES),
    Mutant("files", 'polpod/store/files/opening.py', '            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)', '            pass', FILES),
    Mutant("files", 'polpod/store/files/opening.py', '+ b"\\n", on_disk=True)', '+ b"\\n")', POWER),
    Mutant("files", 'polpod/store/quarantine.py', '    _take_along(tx, table, key, kept)\n', '', QUARANTINE),
    Mutant("files", 'polpod/store/quarantine.py', '                    _take_along(tx, other, other.key_of(row), kept)\n', '                    return\n', QUARANTINE),
    Mutant("files", 'polpod/store/files/opening.py', '    if there.format > FORMAT or there.schema', '    if there.schema', FILES),
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
