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
ORGANISATION = "tests/conformance/test_organisation_"
A2A = "tests/conformance/test_a2a_tasks.py -k sqlite"
A2A_KEPT = "tests/conformance/test_a2a_kept.py -k sqlite"
A2A_MODEL = "tests/unit/test_model_a2a.py"
A2A_LINE = "tests/process/test_a2a_line.py"

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
    Mutant("organisation", 'polpod/model/organisation/entity.py', 'return value.astimezone(UTC)', 'return value', ORGANISATION + "entities.py"),
    Mutant("organisation", 'polpod/model/organisation/entity.py', 'if not math.isfinite(value):', 'if math.isnan(value):', ORGANISATION + "entities.py"),
    Mutant("organisation", 'polpod/model/organisation/entity.py', 'if _UNSTORABLE.search(value):', 'if False:', ORGANISATION + "entities.py"),
    Mutant("organisation", 'polpod/model/organisation/entity.py', 'if depth > MAX_DEPTH:', 'if depth > 90 * MAX_DEPTH:', ORGANISATION + "entities.py"),
    Mutant("organisation", 'polpod/model/organisation/entity.py', 'if name not in self.hidden]', 'if True]', ORGANISATION + "people.py -k shown"),
    Mutant("organisation", 'polpod/model/organisation/work.py', '    _S.CREATED: (_S.ASSIGNED,),', '    _S.CREATED: (_S.ASSIGNED, _S.CANCELLED),', ORGANISATION + "entities.py -k edges"),
    Mutant("organisation", 'polpod/model/organisation/security.py', '\\A[0-9a-f]{64}\\Z', '^[0-9a-f]{64}$', ORGANISATION + "entities.py -k refused"),
    Mutant("organisation", 'polpod/contracts/persistence/errors.py', '(AlreadyExists, DuplicateRecordError), ', '(AlreadyExists, QueryError), ', ORGANISATION + "records.py -k given_once"),
    Mutant("organisation", 'polpod/contracts/persistence/backend.py', 'set_aside=None, ', '', ORGANISATION + "records.py -k decode"),
    Mutant("organisation", 'polpod/contracts/persistence/backend.py', 'doubt_is_told=True', 'doubt_is_told=False', ORGANISATION + "races.py -k anew"),
    Mutant("organisation", 'polpod/contracts/persistence/backend.py', 'if self._gate is None or self._gate.broken.is_set():', 'if self._gate is None:', ORGANISATION + "races.py -k anew"),
    Mutant("organisation", 'polpod/contracts/persistence/backend.py', '            if self._gate is not None:\n                return\n', '', ORGANISATION + "backend.py -k connect"),
    Mutant("organisation", 'polpod/contracts/persistence/backend.py', '            for table in _TABLES:\n', '            for table in ():\n', ORGANISATION + "backend.py -k missing"),
    Mutant("organisation", 'polpod/contracts/persistence/backend.py', 'if (directory := state_directory_of(self._location)) is not None:', 'if False:', ORGANISATION + "backend.py -k state_directory"),
    Mutant("organisation", 'polpod/contracts/persistence/config.py', 'for kind in (PurePosixPath, PureWindowsPath)', 'for kind in (PurePosixPath,)', ORGANISATION + "backend.py -k refused"),
    Mutant("organisation", 'polpod/contracts/persistence/work.py', '        _require_theirs(old)\n        tx[tables.Tasks].save', '        tx[tables.Tasks].save', ORGANISATION + "work.py -k not_written"),
    Mutant("organisation", 'polpod/contracts/persistence/work.py', '        queries.note_client_id(tx, task.id)\n', '', ORGANISATION + "work.py -k daemon"),
    Mutant("organisation", 'polpod/contracts/persistence/work.py', 'None if assigned_to == STAND_IN else assigned_to', 'assigned_to', ORGANISATION + "work.py -k seen_and_filtered"),
    Mutant("organisation", 'polpod/rules/organisation.py', 'STAND_IN if agent is None and status in work.ASSIGNEE_NEEDED else agent', 'agent', ORGANISATION + "work.py -k seen"),
    Mutant("organisation", 'polpod/store/organisation.py', 'lambda u: u.role if u.role is HumanRole.CEO else None', 'lambda u: None', ORGANISATION + "people.py -k ceo"),
    Mutant("organisation", 'polpod/store/organisation.py', 'refs = (Ref(user_id, Users, on_delete="cascade"),)', 'refs = ()', "tests/unit/test_store_sqlite.py -k declared"),
    Mutant("organisation", 'polpod/store/organisation.py', 'order = (turn.desc(), created_at.desc())', 'order = (turn.desc(),)', ORGANISATION + "lists.py -k latest"),
    Mutant("organisation", 'polpod/contracts/persistence/repository.py', '{name: getattr(old, name) for name in fields}', '{}', ORGANISATION + "people.py -k birth"),
    Mutant("organisation", 'polpod/contracts/persistence/people.py', 'return await self._find(_HUMAN)', 'return await self._find()', ORGANISATION + "people.py -k humans"),
    Mutant("organisation", 'polpod/contracts/persistence/people.py', '        if user_id == SYSTEM_USER:\n', '        if False:\n', ORGANISATION + "people.py -k system"),
    Mutant("organisation", 'polpod/contracts/persistence/runtime.py', 'stored.Heartbeats.last_at.lt', 'stored.Heartbeats.last_at.le', ORGANISATION + "lists.py -k stale"),
    Mutant("organisation", 'polpod/contracts/persistence/security.py', '(of.timestamp.le, until)', '(of.timestamp.lt, until)', ORGANISATION + "lists.py -k audit"),
    Mutant("organisation", 'polpod/contracts/persistence/security.py', 'if since is not None and until is not None and until < since:', 'if False:', ORGANISATION + "lists.py -k cross"),
    Mutant("organisation", 'polpod/contracts/persistence/messages.py', '        require_positive(limit)\n', '', ORGANISATION + "lists.py -k limit"),
    Mutant("organisation", 'polpod/contracts/persistence/settings.py', 'if expected_updated_at is not None and expected_updated_at != found:', 'if expected_updated_at and expected_updated_at != found:', ORGANISATION + "settings.py -k compare"),
    Mutant("organisation", 'polpod/contracts/persistence/workflows.py', 'if (old := tx[stored.WorkflowDefinitions].get(definition.id)) is not None:', 'if (old := tx[stored.WorkflowDefinitions].get(definition.id)) and definition.version > 1:', ORGANISATION + "workflows.py -k follow"),
    Mutant("organisation", 'polpod/contracts/persistence/workflows.py', 'await self.list_by_status(WorkflowExecutionStatus.RUNNING)', 'await self._find()', ORGANISATION + "workflows.py -k running"),
    Mutant("organisation", 'polpod/contracts/persistence/content.py', 'total = self._total() - _size(path) + len(content)', 'total = self._total() + len(content)', ORGANISATION + "content.py -k total"),
    Mutant("organisation", 'polpod/contracts/persistence/content.py', '            fcntl.flock(fd, fcntl.LOCK_EX)\n', '', ORGANISATION + "content.py -k limit"),
    Mutant("organisation", 'polpod/contracts/persistence/content.py', 'partial = self._work / "partial"', 'partial = self._content / "partial"', ORGANISATION + "content.py -k killed"),
    Mutant("organisation", 'polpod/store/quarantine.py', '                    tx[other].delete_where(*other.with_key(other.key_of(row)))\n', '', "tests/unit/test_store_quarantine.py"),
    Mutant("organisation", 'polpod/store/changes.py', '    if queries.is_recorded(tx, task.id):\n', '    if False:\n', "tests/unit/test_operations.py -k costs"),
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
