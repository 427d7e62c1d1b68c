"""Planted defects of the stores, each of which the conformance suite has to find: `make test-mutants`.

Each is one replacement in one file of a copy of the tree, and the test that must fail with it.  A test that passes all
the same, or whose text is not there any more, is a failure of this script: a guard that guards nothing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
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
POLPO_TASKS = "tests/conformance/test_polpo_tasks.py -k sqlite"
POLPO_MISSIONS = "tests/conformance/test_polpo_missions.py -k sqlite"
POLPO_RUNS = "tests/conformance/test_polpo_runs.py -k sqlite"
POLPO_SESSIONS = "tests/conformance/test_polpo_sessions.py -k sqlite"
POLPO_RECORDS = "tests/conformance/test_polpo_records.py -k sqlite"
POLPO_APPROVALS = "tests/conformance/test_polpo_approvals.py -k sqlite"
POLPO_MACHINE = "tests/conformance/test_polpo_machine.py -k sqlite"
SETTLING = "tests/unit/test_missions_settling.py -k"
POLPO_OPEN = "tests/process/test_taskstore_open.py"
POLPO_CONFIG = "tests/unit/test_config_store.py"

MEMORY = "tests/unit/test_store_gate.py -k one_session"
FILES = "tests/unit/test_files_store.py"
FAULTS = "tests/unit/test_files_faults.py"
NAMES = "tests/unit/test_files_layout.py"
KILLED = "tests/process/test_files_kill.py -k killed"
POWER = "tests/process/test_files_kill.py -k power"

QUARANTINE = "tests/unit/test_store_quarantine.py"

POSTGRES = "tests/process/test_postgres_store.py"
POSTGRES_FAULTS = "tests/process/test_postgres_faults.py"
CLIENT = "tests/unit/test_client_library.py"
COMPLETION = "tests/process/test_polpoctl_completion.py"
TOP_FEED = "tests/process/test_top_feed.py"
EXAMPLES = "tests/process/test_rpc_examples.py"
GENERATED = "tests/unit/test_generated.py"
USED_RUNS = "tests/process/test_used_runs.py"
USED_BOOKS = "tests/process/test_used_bookkeeping.py"
USED_RECORDS = "tests/process/test_used_records.py"
BOOKS = "tests/unit/test_bookkeeping.py"
PROTOCOL = "tests/process/test_rpc_protocol.py"
BACKENDS = "tests/process/test_backends.py"
MAINTENANCE = "tests/unit/test_maintenance.py"

MUTANTS = (
    Mutant("rollback", "polpod/store/group.py", "self.session.rows.end_part(undo=True)", "self.session.rows.end_part(undo=False)", "tests/unit/test_store_group.py"),
    Mutant("order", "polpod/store/table.py", "return (*order, *(c.asc() for c in table.key if c.name not in named))", "return order", ORGANISATION + "lists.py -k sqlite"),
    Mutant("bounds", "polpod/store/table.py", 'return Cmp(self.name, "<=", scalar(value))', 'return Cmp(self.name, "<", scalar(value))', ORGANISATION + "lists.py -k sqlite"),
    Mutant("instants", "polpod/store/table.py", "_encode(value.astimezone(UTC))", "_encode(value.replace(tzinfo=UTC))", f"{STORE} -k instants_of_any_zone"),
    Mutant("journal", "polpod/store/records.py", "        self._last[journal] += 1\n", "", f"{COPY} -k sqlite"),
    Mutant("copy", "polpod/store/copy.py", "for table in reversed(TABLES):", "for table in ():", COPY),
    Mutant("copy", 'polpod/store/copy.py', '_OWN = {(_MARK,), (_NOTE,)}', '_OWN = {(_MARK,)}', f"{COPY} -k own_affair"),
    Mutant("copy", 'polpod/store/copy.py', '    proven()\n', '', f"{COPY} -k own_affair"),
    Mutant("copy", 'polpod/store/restore.py', '        forget_copy(tx)  #', '        #', f"{COPY} -k restored_counts"),
    Mutant("copy", 'polpod/maintenance/copying.py', 'old.write(lambda tx: copies.note_copy(tx, where, datetime.now(UTC)))', 'None', "tests/process/test_backends.py -k copied_elsewhere"),
    Mutant("backup", 'polpod/store/backup.py', 'contents = carry(pair.path, partial, go_on)', 'contents: list[int] = []', "tests/faults/test_backup.py -k come_along"),
    Mutant("backup", 'polpod/store/export.py', 'CONFIG_NAME, CONTENT):', 'CONFIG_NAME):', "tests/faults/test_backup.py -k come_along"),
    Mutant("backup", 'polpod/store/content.py', ' if not os.path.lexists(os.path.join(there, name))', '', "tests/faults/test_backup.py -k backup_lacks"),
    Mutant("backup", 'polpod/store/content.py', '        if there == artifact.size_bytes or', '        if there is not None or', "tests/faults/test_backup.py -k backup_lacks"),
    Mutant("backup", 'polpod/store/content.py', '            continue  # it was removed just now', '            pass  # it was removed just now', "tests/unit/test_artifacts.py -k removed_just_now"),
    Mutant("backup", 'polpod/store/content.py', '            shutil.copyfileobj(file, copy)\n', '            pass\n', "tests/faults/test_backup.py -k another_file_system"),
    Mutant("backup", 'polpod/services/rpc/methods/store.py', '        instance.refuse_when_full()\n', '', "tests/faults/test_backup.py -k on_its_way"),
    Mutant("backup", 'polpod/store/content.py', '                undo.callback(os.unlink, os.path.join(there, name))\n', '', "tests/faults/test_backup.py -k takes_its_content"),
    Mutant("backup", 'polpod/store/replace.py', '    forget_half(state)\n', '', "tests/faults/test_backup.py -k half_put"),
    Mutant("backup", 'polpod/store/replace.py', '        carry(str(state), str(aside))  #', '        pass  #', "tests/faults/test_backup.py -k taken_back"),
    Mutant("backup", 'polpod/maintenance/stores.py', 'put_back = len(carry(directory, paths.path))', 'put_back = 0', "tests/faults/test_backup.py -k come_along"),
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
    Mutant("a2a", 'polpod/model/entity.py', 'if abs(value) > LARGEST:', 'if value > LARGEST + 1:', A2A_MODEL),
    Mutant("a2a", 'polpod/model/entity.py', '_UNSTORABLE.search(value)', '"\\0" in value', A2A_MODEL),
    Mutant("a2a", 'polpod/model/entity.py', 'return value.astimezone(UTC)', 'return value', A2A_MODEL),
    Mutant("a2a", 'polpod/model/entity.py', 'if depth > MAX_DEPTH:', 'if depth > 2 * MAX_DEPTH:', A2A_MODEL),
    Mutant("a2a", 'polpod/contracts/elkar/line.py', '            if not answered:\n', '            if False:\n', A2A_LINE),
    Mutant("a2a", 'polpod/contracts/elkar/line.py', 'params | {"once": {"client": self._client, "number": self._changes}}', 'params', A2A_LINE),
    Mutant("a2a", 'polpod/contracts/elkar/line.py', 'self._changes += 1', 'self._changes = 1', A2A_LINE),
    Mutant("a2a", 'polpod/contracts/elkar/line.py', 'if exc.type != UNAVAILABLE:', 'if True:', A2A_LINE),
    Mutant("a2a", 'polpod/contracts/elkar/line.py', 'if not self._reached:', 'if True:', A2A_LINE),
    Mutant("organisation", 'polpod/model/entity.py', 'return value.astimezone(UTC)', 'return value', ORGANISATION + "entities.py"),
    Mutant("organisation", 'polpod/model/entity.py', '        case float():\n            if not math.isfinite(value):', '        case float():\n            if math.isnan(value):', ORGANISATION + "entities.py"),
    Mutant("organisation", 'polpod/model/entity.py', 'if _UNSTORABLE.search(value):', 'if False:', ORGANISATION + "entities.py"),
    Mutant("organisation", 'polpod/model/entity.py', 'if depth > MAX_DEPTH:', 'if depth > 90 * MAX_DEPTH:', ORGANISATION + "entities.py"),
    Mutant("organisation", 'polpod/model/entity.py', 'if name not in self.hidden]', 'if True]', ORGANISATION + "people.py -k shown"),
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
    Mutant("organisation", 'polpod/contracts/persistence/work.py', '            (_may_be, status),\n', '', f"{ORGANISATION}work.py -k reads_few_others"),
    Mutant("organisation", 'polpod/contracts/persistence/work.py', 'AnyOf((tables.Tasks.other_status.eq(status), own))', 'tables.Tasks.other_status.eq(status)', f"{ORGANISATION}work.py -k reads_few_others"),
    Mutant("organisation", 'polpod/store/migrations/0006_other_status.sqlite.sql', ' AND json_valid(doc)', '', "tests/unit/test_store_sqlite.py -k of_before"),
    Mutant("organisation", 'polpod/contracts/persistence/work.py', '        _require_free(tx, task.id)\n', '', ORGANISATION + "work.py -k set_aside"),
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
    Mutant("organisation", 'polpod/contracts/persistence/content.py', 'total = self._total() - _size(path) + size', 'total = self._total() + size', ORGANISATION + "content.py -k total"),
    Mutant("organisation", 'polpod/contracts/persistence/content.py', '            fcntl.flock(fd, fcntl.LOCK_EX)\n', '', ORGANISATION + "content.py -k limit"),
    Mutant("organisation", 'polpod/contracts/persistence/content.py', 'partial = self._work / "partial"', 'partial = self._content / "partial"', ORGANISATION + "content.py -k killed"),
    Mutant("organisation", 'polpod/store/quarantine.py', '                    tx[other].delete_where(*other.with_key(other.key_of(row)))\n', '', "tests/unit/test_store_quarantine.py"),
    Mutant("organisation", 'polpod/store/changes.py', '        tx[organisation.CostRecords].delete_where(organisation.CostRecords.task_id.eq(task.id))\n', '', "tests/unit/test_operations.py -k costs"),
    Mutant("polpo", "polpod/store/queries.py", "return task if task is not None and task.owner == OWNER else None", "return task", POLPO_TASKS),
    Mutant("polpo-machine", "polpod/contracts/taskstore/state.py", "    _refuse_cycle(waits)\n", "", POLPO_MACHINE),
    Mutant("polpo-machine", "polpod/contracts/taskstore/state.py", "    for task_id, met in waits.items():\n        changes.depend(tx, task_id, met)\n", "", POLPO_MACHINE),
    Mutant("polpo-machine", "polpod/contracts/taskstore/tasks.py", "        changes.undo_done(tx, task.id, moved.updated_at)", "        pass", POLPO_MACHINE),
    Mutant("missions", "polpod/services/missions/settling.py", "    look_again(tx, barrier.execution_id)  #", "    #", f"{SETTLING} does_not_wait_behind"),
    Mutant("missions", "polpod/services/missions/settling.py", "if edge.over is not over:", "if True:", f"{SETTLING} what_it_missed_is_gone"),
    Mutant("missions", "polpod/services/missions/control.py", "and not look_again(tx, execution.id)", "and False", f"{SETTLING} tried_one_by_one"),
    Mutant("missions", "polpod/services/missions/control.py", "            operations.refuse_live(task)", "            pass", f"{SETTLING} old_execution_runs"),
    Mutant("missions", "polpod/store/changes.py", "if task.execution_id not in (None, other.execution_id):", "if False:", f"{SETTLING} outside_of_it"),
    Mutant("missions", "polpod/store/changes.py", "elif not on.met and on.on_id not in seen:", "elif False:", f"{SETTLING} through_a_barrier"),
    Mutant("polpo-machine", "polpod/store/changes.py", "if _reaches(tx, on_id, task.id, seen):", "if on_id == task.id:", POLPO_MACHINE),
    Mutant("polpo-machine", "polpod/contracts/taskstore/state.py", '.events if "status" in different else ()', ".events[:0]", POLPO_MACHINE),
    Mutant("polpo", "polpod/contracts/taskstore/tasks.py", "return tx[Tasks].find(Tasks.owner.eq(OWNER))", "return tx[Tasks].find(Tasks.owner.eq(OWNER), order_by=(Tasks.created_at.asc(),))", POLPO_TASKS),
    Mutant("polpo", "polpod/contracts/taskstore/tasks.py", 'if name != "status"} | {', "} | {", POLPO_TASKS),
    Mutant("polpo", "polpod/contracts/taskstore/tasks.py", 'values |= changes.rewire(tx, task, tuple(dict.fromkeys(values["depends_on"])))', "pass", POLPO_TASKS),
    Mutant("polpo", "polpod/contracts/taskstore/tasks.py", '    if not said.value("reason", reason, str).strip():', "    if False:", POLPO_TASKS),
    Mutant("polpo", "polpod/contracts/taskstore/tasks.py", "        changes.undo_done(tx, task.id, moved.updated_at)", "        pass", POLPO_TASKS),
    Mutant("polpo", "polpod/contracts/taskstore/tasks.py", 'return {"cancelled_by": None}', "return {}", POLPO_TASKS),
    Mutant("polpo", "polpod/contracts/taskstore/tasks.py", "> LARGEST_TASK:", "> 2 * LARGEST_TASK:", POLPO_TASKS),
    Mutant("polpo", "polpod/contracts/taskstore/tasks.py", "    for task in tasks:\n        if task.may_have_live_run:\n            raise live(task)\n", "", POLPO_TASKS),
    Mutant("polpo", "polpod/contracts/taskstore/tasks.py", "    task = required(tx, task_id)\n    if task.may_have_live_run:\n        raise live(task)\n", "    task = required(tx, task_id)\n", POLPO_TASKS),
    Mutant("polpo", "polpod/model/tasks.py", "return self.occupies and self.run_id is not None and self.run_id != self.applied_run", "return self.occupies and self.run_id is not None", POLPO_TASKS),
    Mutant("polpo", "polpod/contracts/taskstore/state.py", "if task.may_have_live_run and (", "if False and (", POLPO_TASKS),
    Mutant("polpo", "polpod/contracts/taskstore/state.py", "        tx[Dependencies].delete_where(Dependencies.task_id.eq(task.id))  # they would follow each task as it is put\n", "", POLPO_TASKS),
    Mutant("polpo", "polpod/contracts/taskstore/state.py", "        queries.note_client_id(tx, task.id)\n", "", POLPO_TASKS),
    Mutant("polpo", "polpod/contracts/taskstore/state.py", "    if task == there:\n        return\n", "", POLPO_TASKS),
    Mutant("polpo", "polpod/contracts/taskstore/state.py", "    changes.remove(tx, [task for task in there.values() if task.id not in wanted], said.now(), BY)\n", "", POLPO_TASKS),
    Mutant("polpo", "polpod/contracts/taskstore/state.py", "if on_id not in wanted and (on_id in there or on_id not in before):", "if False:", POLPO_TASKS),
    Mutant("polpo", "polpod/contracts/taskstore/said.py", "cleared = {name for name, given in values.items() if given is None or given is UNSET}", "cleared = {name for name, given in values.items() if given is None}", POLPO_TASKS),
    Mutant("polpo", "polpod/model/entity.py", "        case float():\n            if not math.isfinite(value):", "        case float():\n            if False:", POLPO_TASKS),
    Mutant("polpo", "polpod/model/entity.py", "if _UNSTORABLE.search(value):", "if False:", POLPO_TASKS),
    Mutant("polpo", "polpod/rules/tasks.py", "retries += (status, to) == (S.FAILED, S.PENDING)", "retries += to == S.PENDING", POLPO_TASKS),
    Mutant("polpo", "polpod/store/changes.py", "if waiting.met is met:", "if True:", POLPO_TASKS),
    Mutant("polpo", "polpod/store/changes.py", "if dependency.task_id not in going:", "if True:", POLPO_TASKS),
    Mutant("polpo", "polpod/contracts/taskstore/missions.py", "    require_free(tx, updated)\n", "", POLPO_MISSIONS),
    Mutant("polpo", "polpod/store/polpo.py", '    return f"mission-{max(taken, default=0) + 1}"', '    return f"mission-{len(taken) + 1}"', POLPO_MISSIONS),
    Mutant("polpo", "polpod/contracts/taskstore/missions.py", "if updated.status is not mission.status else {}", "if False else {}", POLPO_MISSIONS),
    Mutant("polpo", "polpod/contracts/taskstore/missions.py", '    _note(tx, mission, "mission:deleted", name=mission.name, status=mission.status)\n', "", POLPO_MISSIONS),
    Mutant("polpo", "polpod/store/polpo.py", "number = max([last, *(int(row.columns[column.name] or 0) for row in newest)]) + 1", "number = max([0, *(int(row.columns[column.name] or 0) for row in newest)]) + 1", POLPO_MISSIONS),
    Mutant("polpo", "polpod/contracts/taskstore/gates.py", "if g != group}", "if not g.startswith(group)}", POLPO_MISSIONS),
    Mutant("polpo", "polpod/contracts/taskstore/runs.py", "    elif known.over:\n        return known\n", "", POLPO_RUNS),
    Mutant("polpo", "polpod/contracts/taskstore/runs.py", "if run is not None and not run.over:", "if run is not None:", POLPO_RUNS),
    Mutant("polpo", "polpod/contracts/taskstore/runs.py", "newest = (RecordedRuns.started_at.desc(), RecordedRuns.seq.desc())", "newest = (RecordedRuns.started_at.desc(), RecordedRuns.seq.asc())", POLPO_RUNS),
    Mutant("polpo", "polpod/contracts/taskstore/runs.py", "session_id=seen.session_id or run.session_id", "session_id=run.session_id", POLPO_RUNS),
    Mutant("polpo", "polpod/contracts/taskstore/runs.py", '_KEPT = ("id", "task_id", "agent_name", "started_at", "config_path", "seq")', '_KEPT = ("id", "task_id", "agent_name", "started_at", "seq")', POLPO_RUNS),
    Mutant("polpo", "polpod/contracts/taskstore/sessions.py", "    _touch(tx, session, message_count=session.message_count + 1)\n", "    _touch(tx, session)\n", POLPO_SESSIONS),
    Mutant("polpo", "polpod/contracts/taskstore/sessions.py", "return found[::-1]", "return found", POLPO_SESSIONS),
    Mutant("polpo", "polpod/contracts/taskstore/sessions.py", " or message.session_id != session_id:", ":", POLPO_SESSIONS),
    Mutant("polpo", "polpod/contracts/taskstore/sessions.py", "updated_at=said.now(), touched=touched", "updated_at=said.now()", POLPO_SESSIONS),
    Mutant("polpo", "polpod/contracts/taskstore/sessions.py", "where = () if agent is UNSET else", "where = () if not agent else", POLPO_SESSIONS),
    Mutant("polpo", "polpod/store/polpo.py", 'refs = (Ref(session_id, ChatSessions, on_delete="cascade"),)', "refs = ()", POLPO_SESSIONS),
    Mutant("approvals", "polpod/store/approvals.py", "if task.status is TaskStatus.AWAITING_APPROVAL and task.approval_id is None:", "if False:", POLPO_APPROVALS),
    Mutant("approvals", "polpod/store/approvals.py", "goes_on = change.resolution is None and _waits(task)", "goes_on = True", POLPO_APPROVALS),
    Mutant("approvals", "polpod/store/changes.py", "for event in approvals.forget(tx, f\"task/{task.id}\", at, by):", "for event in ():", POLPO_APPROVALS),
    Mutant("approvals", "polpod/contracts/taskstore/approvals.py", "if known is not None and known.kind is not None:", "if False:", POLPO_APPROVALS),
    Mutant("approvals", "polpod/services/approvals.py", "late = structs.replace(request, timed_out_at=at)", "late = request", POLPO_APPROVALS),
    Mutant("polpo", "polpod/contracts/taskstore/memory.py", "    if times > 1:", "    if times > 9:", POLPO_RECORDS),
    Mutant("polpo", "polpod/contracts/taskstore/memory.py", 'before == "" or before.endswith("\\n")', 'before == ""', POLPO_RECORDS),
    Mutant("polpo", "polpod/contracts/taskstore/logs.py", "    start(tx, session_id)\n    session", "    session", POLPO_RECORDS),
    Mutant("polpo", "polpod/contracts/taskstore/logs.py", "entries=session.entries + 1", "entries=session.entries", POLPO_RECORDS),
    Mutant("polpo", "polpod/contracts/taskstore/notifications.py", "going = tx[SentNotifications].find(offset=said.number(keep))", "going = tx[SentNotifications].find(order_by=(SentNotifications.seq.asc(),), offset=max(0, keep))", POLPO_RECORDS),
    Mutant("polpo", "polpod/contracts/taskstore/approvals.py", "seq=known.seq, requested_at=", "seq=next_number(tx, Approvals, Approvals.seq), requested_at=", POLPO_RECORDS),
    Mutant("polpo", "polpod/contracts/taskstore/approvals.py", 'values.get("requested_at") or known.requested_at', "new.requested_at", POLPO_RECORDS),
    Mutant("polpo", "polpod/contracts/taskstore/awaited.py", "remove_task = awaits_write(tasks.remove_task)", "remove_task = awaits_write(tasks.add_task)", f"{POLPO_OPEN} -k faces"),
    Mutant("polpo", "polpod/taskstore.py", "    refuse_half(paths.path)\n", "", f"{POLPO_OPEN} -k half"),
    Mutant("polpo", "polpod/taskstore.py", "    open_store(Sqlite(paths.runs_db), RUNS).close()\n", "", f"{POLPO_OPEN} -k executed"),
    Mutant("polpo", "polpod/taskstore.py", "    for database in (paths.runs_db, paths.tasks_db):", "    for database in ():", f"{POLPO_OPEN} -k nobody_else"),
    Mutant("polpo", "polpod/store/blocking.py", "        with self._alone:\n            if self._closed:", "        if True:\n            if self._closed:", f"{POLPO_OPEN} -k threads"),
    Mutant("polpo", "polpod/store/blocking.py", "                    self._set_aside(bad)", "                    raise", f"{POLPO_OPEN} -k bad_row"),
    Mutant("polpo", "polpod/store/tables.py", "if task.not_before is not None or task.spec_id is None or not", "if task.not_before is not None or not", f"{POLPO_OPEN} -k executed"),
    Mutant("polpo", "polpod/services/recovery.py", "if not t.may_have_live_run or t.run_id not in", "if t.run_id not in", f"{POLPO_OPEN} -k slot"),
    Mutant("polpo", "polpod/services/recovery.py", "if task is not None and task.occupies:\n            changes.apply(tx, no_row", "if task is not None and task.status is TaskStatus.IN_PROGRESS:\n            changes.apply(tx, no_row", f"{POLPO_OPEN} -k slot"),
    Mutant("polpo", "polpod/rules/outcome.py", "applied_run=run.id or task.applied_run", "applied_run=run.id", "tests/unit/test_rules_outcome.py"),
    Mutant("polpo", "polpod/lock.py", "if held.take(fcntl.LOCK_SH):", "if False:", f"{POLPO_OPEN} -k keep_a_daemon"),
    Mutant("polpo", "polpod/config.py", "    return os.open(path, flags, 0o600)", "    return os.open(path, flags, 0o644)", POLPO_CONFIG),
    Mutant("polpo", "polpod/config.py", '.{threading.get_native_id()}"', '"', POLPO_CONFIG),
    Mutant("polpo", "polpod/config.py", "if key not in WITHOUT_EFFECT]\n    return config", "]\n    return config", POLPO_CONFIG),
    Mutant("polpo", "polpod/config.py", "allow_nan=False", "allow_nan=True", POLPO_CONFIG),
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
    Mutant("files", 'polpod/store/files/redo.py', '        except NOT_DECODED:\n', '        except OSError:\n', f"{FAULTS} -k nonsense"),
    Mutant("files", 'polpod/store/files/replay.py', '    if kinds != [column.kind for column in table.key]:', '    if False:', f"{FAULTS} -k nonsense"),
    Mutant("files", 'polpod/store/files/replay.py', '        pretty(change.doc)\n', '        pass\n', f"{FAULTS} -k nonsense"),
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
    Mutant("files", 'polpod/store/files/load.py', 'f"line {at}: {problem}"', 'problem', FILES),
    Mutant("files", 'polpod/store/files/opening.py', '    return bad + dangling(db, tables, rows)', '    return bad', FILES),
    Mutant("files", 'polpod/store/files/opening.py', '            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)', '            pass', FILES),
    Mutant("files", 'polpod/store/files/opening.py', '+ b"\\n", on_disk=True)', '+ b"\\n")', POWER),
    Mutant("files", 'polpod/store/quarantine.py', '    _take_along(tx, table, key, kept)\n', '', QUARANTINE),
    Mutant("files", 'polpod/store/quarantine.py', '                    _take_along(tx, other, other.key_of(row), kept)\n', '                    return\n', QUARANTINE),
    Mutant("files", 'polpod/store/files/opening.py', '    if there.format > FORMAT or there.schema', '    if there.schema', FILES),
    Mutant("postgres", 'polpod/store/postgres_session.py', 'if mark not in (self._mark, self._doubtful):', 'if False:', f"{POSTGRES_FAULTS} -k another_wrote"),
    Mutant("postgres", 'polpod/store/postgres_session.py', 'self._found = _events(db, after=self._last)', 'self._found = ()', f"{POSTGRES_FAULTS} -k nobody_knows_yet"),
    Mutant("postgres", 'polpod/store/postgres_session.py', '        self._found = ()  # whoever committed it has it\n', '', f"{POSTGRES_FAULTS} -k answer_is_lost"),
    Mutant("postgres", 'polpod/store/postgres_session.py', 'if self._mark != mark:', 'if False:', f"{POSTGRES_FAULTS} -k answer_is_lost"),
    Mutant("postgres", 'polpod/store/postgres_session.py', '            if not db.closed:  # the server says that it has not happened\n', '            if True:\n', f"{POSTGRES_FAULTS} -k answer_is_lost"),
    Mutant("postgres", 'polpod/store/postgres_session.py', 'self._doubtful = mark\n', 'pass\n', f"{POSTGRES_FAULTS} -k nobody_knows_yet"),
    Mutant("postgres", 'polpod/store/postgres_session.py', 'REPEATABLE READ READ ONLY', 'READ COMMITTED READ ONLY', f"{POSTGRES} -k one_state"),
    Mutant("postgres", 'polpod/store/postgres_session.py', '            lock(db, self._name)\n            mark', '            mark', f"{POSTGRES_FAULTS} -k lock_is_taken_again"),
    Mutant("postgres", 'polpod/store/group.py', '        except CommitInDoubt:\n            raise\n', '', f"{POSTGRES_FAULTS} -k another_wrote"),
    Mutant("postgres", 'polpod/store/postgres_schema.py', 'SELECT pg_terminate_backend(pid)', 'SELECT pid', f"{POSTGRES_FAULTS} -k never_comes"),
    Mutant("postgres", 'polpod/store/postgres_schema.py', 'coalesce(\n        (SELECT relnamespace', "coalesce('one',\n        (SELECT relnamespace", f"{POSTGRES} -k store_of_its_own"),
    Mutant("postgres", 'polpod/store/postgres_schema.py', 'steps = ["BEGIN", "SET', 'steps = ["SET', f"{POSTGRES} -k whole_or_not"),
    Mutant("postgres", 'polpod/store/postgres.py', '"SET statement_timeout = {};', '"SET statement_timeout = 0;', f"{POSTGRES} -k has_an_end"),
    Mutant("postgres", 'polpod/store/postgres.py', "set_config('synchronous_commit', 'on', false)", "set_config('synchronous_commit', 'off', false)", f"{POSTGRES} -k waits_for_the_disk"),
    Mutant("postgres", 'polpod/store/postgres.py', '%2F for a /"\n        ) from None', '%2F for a /"\n        )', f"{POSTGRES_FAULTS} -k no_address"),
    Mutant("postgres", 'polpod/store/postgres.py', '    "53100": DiskFull,\n', '', f"{POSTGRES} -k has_its_meaning"),
    Mutant("postgres", 'polpod/store/postgres.py', '(server.needs_password or server.used_password)', 'False', f"{POSTGRES_FAULTS} -k wrong_password"),
    Mutant("postgres", 'polpod/store/sql.py', '    ascending=" NULLS FIRST",', '    ascending="",', f"{STORE}::test_text_is_ordered_by_code_points_and_null_comes_before_every_value[postgres]"),
    Mutant("postgres", 'polpod/store/sql.py', '    text=\'TEXT COLLATE "C"\',', '    text="TEXT",', f"{STORE}::test_text_is_ordered_by_code_points_and_null_comes_before_every_value[postgres]"),
    Mutant("postgres", 'polpod/store/sql.py', 'for special in "\\\\%_":', 'for special in "":', f"{STORE}::test_globs_know_no_special_character_of_the_database[postgres]"),
    Mutant("postgres", 'polpod/store/sql.py', 'if any(order.column == c.name for c in table.key):', 'if False:', f"{POSTGRES} -k migrations_lead"),
    Mutant("postgres", 'polpod/store/table.py', 'if "\\0" in value:', 'if False:', f"{STORE} -k refused_by_all"),
    Mutant("used", 'polpod/services/rpc/own.py', '    if not run.live:\n        raise Conflict(f"run {run_id} is over: what', '    if False:\n        raise Conflict(f"run {run_id} is over: what', f"{USED_RUNS} -k test_a_run_that_is_over_is_spoken_for_by_nobody"),
    Mutant("used", 'polpod/services/rpc/own.py', '    if call.caller.run_id not in (None, run_id):', '    if False:', f"{USED_RUNS} -k test_inside_one_run_nobody_speaks_for_another"),
    Mutant("used", 'polpod/services/rpc/own.py', '        call.wrong_tokens += 1\n', '', f"{USED_RUNS} -k test_after_a_few_wrong_tokens_a_connection_ends"),
    Mutant("used", 'polpod/services/rpc/own.py', '    if call.wrong_tokens >= WRONG_TOKENS:', '    if False:', f"{USED_RUNS} -k test_the_members_of_a_batch_are_no_more_guesses"),
    Mutant("used", 'polpod/services/rpc/own.py', '    call.caller = of_run(call.caller, run_id)\n', '', f"{USED_RUNS} -k test_who_has_the_token_has_the_rights_of_the_run_and_no_others"),
    Mutant("used", 'polpod/services/reload.py', '            self._runs.append((descriptor, run_id))', '            pass', f"{USED_RUNS} -k test_a_reload_gives_no_rights_back"),
    Mutant("used", 'polpod/rules/progress.py', ' if tells else ()', '', f"{USED_RUNS} -k test_the_journal_has_progress_once_a_second_at_most"),
    Mutant("used", 'polpod/services/rpc/methods/run.py', '    call.desk.health.active(run.id)\n', '', f"{USED_RUNS} -k test_a_job_that_says_that_it_goes_on_is_not_stale"),
    Mutant("used", 'polpod/services/rpc/own.py', '    if run is not None and task_id not in (None, run.task_id):', '    if False:', f"{USED_RECORDS} -k test_a_checkpoint_belongs_to_its_task_alone"),
    Mutant("used", 'polpod/services/rpc/methods/checkpoint.py', 'newest.turn_number + 1 if newest is not None else 1', '1', f"{USED_RECORDS} -k test_a_job_that_was_killed_goes_on_where_it_was"),
    Mutant("used", 'polpod/services/rpc/methods/checkpoint.py', 'Checkpoints.turn.le(turn - KEPT)', 'Checkpoints.turn.le(0)', f"{USED_RECORDS} -k test_only_the_newest_checkpoints_are_kept_and_none_may_be_large"),
    Mutant("used", 'polpod/services/rpc/connection.py', ' and call.caller.run_id is None:', ':', f"{USED_RECORDS} -k test_a_job_saves_where_it_is_while_polpod_stops"),
    Mutant("used", 'polpod/services/artifacts.py', '            if upload.hash.hexdigest() != sha256:', '            if False:', f"{USED_RECORDS} -k test_an_artifact_is_whole_or_not_there"),
    Mutant("used", 'polpod/services/artifacts.py', '            await self.sweep()\n            if', '            if', f"{USED_RECORDS} -k test_artifacts_have_their_quota_and_removing_makes_room"),
    Mutant("used", 'polpod/services/artifacts.py', ' if OURS.fullmatch(name)]', ']', f"{USED_RECORDS} -k test_content_without_its_record_is_swept"),
    Mutant("used", 'polpod/services/artifacts.py', '        if upload is None or upload.by != by:', '        if upload is None:', f"{USED_RECORDS} -k test_an_artifact_is_nobody_else_s_business"),
    Mutant("used", 'polpod/services/collector.py', '            bookkeeping.finished(tx, after, run, at)\n', '', f"{USED_BOOKS} -k test_metrics_say_what_the_rows_of_the_runs_say"),
    Mutant("used", 'polpod/services/bookkeeping.py', '    if run.reason is not Reason.NEVER_STARTED and run.phase', '    if run.phase', f"{USED_BOOKS} -k test_what_never_started_is_not_measured"),
    Mutant("used", 'polpod/services/bookkeeping.py', '        tx[TaskMetrics].save(metric(', '        tx[TaskMetrics].add(metric(', f"{BOOKS} -k test_booking_the_same_run_again_changes_nothing"),
    Mutant("used", 'polpod/services/bookkeeping.py', ', TaskMetrics.id.lt(metric_id(run.id))', '', f"{BOOKS} -k test_booking_the_same_run_again_changes_nothing"),
    Mutant("used", 'polpod/services/bookkeeping.py', '    if run.heartbeat_at is not None:', '    if False:', f"{BOOKS} -k test_a_heartbeat_goes_with_its_run"),
    Mutant("used", 'polpod/services/launcher.py', '        bookkeeping.launched(tx, change.task, run, at)\n', '', f"{USED_BOOKS} -k test_an_agent_is_at_work_while_its_run_is_and_idle_otherwise"),
    Mutant("used", 'polpod/services/bookkeeping.py', '    if task is None or task.run_id is None:', '    if True:', f"{USED_BOOKS} -k test_an_agent_with_two_runs_is_at_work_until_both_are_over"),
    Mutant("used", 'polpod/store/changes.py', '        tx[organisation.TaskMetrics].delete_where(organisation.TaskMetrics.task_id.eq(task.id))\n', '', f"{USED_BOOKS} -k test_removing_a_task_takes_along_what_was_kept_of_it"),
    Mutant("used", 'polpod/services/audit.py', 'verdict="allow" if asked.allowed else "deny"', 'verdict="allow"', f"{USED_BOOKS} -k test_the_audit_knows_who_asked_for_what_and_what_was_refused"),
    Mutant("used", 'polpod/services/rpc/connection.py', '        if method.audited or isinstance(error, PermissionDenied):', '        if method.audited:', f"{USED_BOOKS} -k test_the_audit_is_listed_newest_last_and_for_the_owner_only"),
    Mutant("used", 'polpod/services/rpc/methods/workflow.py', '    _require_kept(fields,', '    False and _require_kept(fields,', f"{USED_RECORDS} -k not_lost"),
    Mutant("used", 'polpod/services/rpc/methods/key.py', 'key_hash=call.desk.keys.hashed(key, make=True)', 'key_hash=key', f"{USED_RECORDS} -k test_a_key_is_told_once_and_only_its_hash_is_kept"),
    Mutant("used", 'polpod/services/rpc/methods/key.py', ' if name not in key.hidden', '', f"{USED_RECORDS} -k test_a_key_is_told_once_and_only_its_hash_is_kept"),
    Mutant("used", 'polpod/rules/metrics.py', '        cost_usd=min(sum(cost.cost_usd for cost in costs), sys.float_info.max),', '        cost_usd=0.0,', f"{USED_RECORDS} -k test_costs_are_added_up_and_are_part_of_the_metrics"),
    Mutant("used", 'polpod/services/retention.py', '        for table, at in OF_THEIR_TIME:', '        for table, at in OF_THEIR_TIME[:1]:', f"{USED_BOOKS} -k test_what_agents_and_clients_did_long_ago_is_forgotten"),
    Mutant("used", 'polpod/services/rpc/directory.py', 'f"Add a {noun}.",\n            Right.OWNER', 'f"Add a {noun}.",\n            Right.MEMBER', f"{USED_RECORDS} -k test_the_owner_writes_and_members_read"),
    Mutant("client", "polpoctl/client.py", "        if self._connection.ended():\n", "        if False:\n", f"{CLIENT} -k finds_polpod_again"),
    Mutant("client", "polpoctl/client.py", "make = self._polpod.call if repeatable(method, params) else self._polpod.call_once", "make = self._polpod.call", f"{CLIENT} -k made_once"),
    Mutant("client", "polpoctl/nouns.py", ' or (method == _KEYED and params.get("idempotency_key") is not None)', "", f"{CLIENT} -k with_a_key"),
    Mutant("client", "polpoctl/follow.py", '        after = page["next"]\n', '        after = (after or 0) + len(page["events"])\n', f"{CLIENT} -k by_page"),
    Mutant("client", "polpoctl/follow.py", "            if complete and after:\n", "            if False:\n", f"{CLIENT} -k are_gone"),
    Mutant("client", "polpoctl/follow.py", 'Log(task_id, {"after": 0})', "Log(task_id)", f"{CLIENT} -k run_that_is_meant"),
    Mutant("client", "polpoctl/conversation.py", "        if asked in self.waiting:\n            self._forgotten.add(asked)\n", "", f"{CLIENT} -k given_up"),
    Mutant("client", "polpoctl/asynchronous.py", "                await self._read.wait()\n                continue\n", "                pass\n", f"{CLIENT} -k disturbs_none"),
    Mutant("client", "polpoctl/asynchronous.py", "return self._lost is not None or ended(", "return False and ended(", f"{CLIENT} -k needs_no_answer"),
    Mutant("client", "polpoctl/asynchronous.py", "MOST_GIVEN_UP = 12\n", "MOST_GIVEN_UP = 3200\n", "tests/process/test_client_page.py -k given_up"),
    Mutant("client", "polpoctl/client.py", "        except (OSError, EOFError) as exc:\n            self._transport.hang_up()", "        except OSError as exc:\n            self._transport.hang_up()", "tests/unit/test_polpoctl_client.py -k goes_while"),
    Mutant("client", "polpoctl/client.py", "            self._transport.hang_up()  #", "            #", "tests/unit/test_polpoctl_client.py -k sent_in_part"),
    Mutant("client", "polpoctl/top/feed.py", "queue.Queue(UNSEEN)", "queue.Queue()", f"{TOP_FEED} -k grows_faster"),
    Mutant("client", "polpoctl/top/feed.py", "            self._asked.get()\n            self._post(Told(NOT_DONE))\n", "            break\n", f"{TOP_FEED} -k when_it_is_back"),
    Mutant("client", "polpoctl/top/terminal.py", "        except (Gone, termios.error):", "        except Gone:", f"{TOP_FEED} -k is_gone"),
    Mutant("client", "polpoctl/top/terminal.py", "        if select.select([], [1], [], _STUCK)[1]:\n", "        if True:\n", f"{TOP_FEED} -k takes_nothing"),
    Mutant("client", "polpoctl/live.py", "        if value.isprintable():\n", "        if True:\n", f"{COMPLETION} -k shell_s_form"),
    Mutant("client", "polpoctl/live.py", "    threading.Timer(BOUND, os._exit, (0,)).start()\n", "", f"{COMPLETION} -k takes_its_time"),
    Mutant("client", "polpoctl/live.py", "    except (Failure, RemoteError, OSError):\n        return\n", "    except ZeroDivisionError:\n        return\n", f"{COMPLETION} -k whatever_polpod_does"),
    Mutant("client", "polpoctl/commands/completion.py", "printf -v quoted %q", "printf -v quoted %s", f"{COMPLETION} -k nothing_of_it_is_executed"),
    Mutant("client", "polpoctl/commands/schema.py", "    return f\"#/$defs/{name}\"\n", "    return value\n", "tests/unit/test_polpoctl_schema.py"),
    Mutant("client", "polpod/services/rpc/methods/task.py", '{"results": list[Entered]}', '{"result": list[Entered]}', EXAMPLES),
    Mutant("client", "polpod/services/rpc/methods/agent.py", '        "origin": "polpo.json" if', '        "odd": 1, "origin": "polpo.json" if', EXAMPLES),
    Mutant("client", "polpod/services/rpc/described.py", '        "examples": [_example', '        "example": [_example', GENERATED),
    Mutant("used", 'polpoctl/client.py', '        self._identify()\n', '', f"{USED_RUNS} -k test_polpoctl_has_the_rights_of_the_token_wherever_it_is"),
    Mutant("used", "polpod/services/artifacts.py", "        under_way = sum(upload.artifact.size_bytes for upload in self._uploads.values())", "        under_way = 0", f"{USED_RECORDS} -k test_announced_uploads_count_for_the_quota"),
    Mutant("used", "polpod/services/artifacts.py", "        if len(self._uploads) >= MOST_UPLOADS:", "        if False:", f"{USED_RECORDS} -k test_uploads_under_way_are_bounded"),
    Mutant("edges", "polpod/services/rpc/methods/cost.py", " >= MOST:", " > MOST:", f"{USED_RECORDS} -k test_a_task_has_so_many_costs_and_no_more"),
    Mutant("edges", "polpod/services/rpc/methods/workflow.py", "        if old.version != params.version:", "        if False:", f"{USED_RECORDS} -k test_a_workflow_is_changed_by_who_read_its_last_version"),
    Mutant("edges", "polpod/services/rpc/methods/workflow.py", "version=old.version + 1,", "version=old.version,", f"{USED_RECORDS} -k test_a_workflow_is_changed_by_who_read_its_last_version"),
    Mutant("edges", "polpod/services/rpc/methods/context.py", ", read=Right.OWNER", "", f"{USED_RECORDS} -k test_the_owner_writes_and_members_read"),
    Mutant("edges", "polpod/services/rpc/methods/preset.py", 'json_text("config_json", dict)', 'json_text("config_json")', f"{PROTOCOL} -k bad_params"),
    Mutant("edges", "polpod/services/rpc/refusal.py", "        error = error.__cause__", "        break", f"{PROTOCOL} -k bad_params"),
    Mutant("edges", "polpod/contracts/persistence/backend.py", "        return SQLitePersistenceBackend(config.sqlite)", "        pass", f"{ORGANISATION}backend.py -k by_its_own_name"),
    Mutant("edges", "polpod/services/rpc/methods/checkpoint.py", "        tx[Checkpoints].add(checkpoint)\n", "", f"{BACKENDS}::test_what_a_job_keeps_outlives_it_and_the_daemon[file]"),
    Mutant("edges", "polpod/config.py", '        document["settings"]["databaseUrl"] = without_password(url)\n', '        pass\n', f"{MAINTENANCE} -k stdin"),
    Mutant("edges", "polpod/maintenance/configuration.py", "secret and os.isatty(0)", "False", f"{MAINTENANCE} -k terminal"),
    Mutant("edges", "polpod/lock.py", "        except OSError as exc:\n            raise StartError(f\"{path}: {exc.strerror}\") from exc\n", "", f"{MAINTENANCE} -k without_rights"),
    Mutant("used", "polpod/services/rpc/methods/user.py", ", among=(Users.role.ne(HumanRole.SYSTEM),)", "", f"{USED_RECORDS} -k test_the_system_user_is_left_alone"),
    Mutant("used", "polpod/services/rpc/methods/daemon.py", '    if instance.config.settings.storage == "memory":', '    if False:', "tests/process/test_reload.py -k in_memory"),
    Mutant("watched", "polpod/runner/session.py", "        if not died:\n            return\n", "        return\n", "tests/faults/test_killing.py -k f36"),
    Mutant("watched", "polpod/runner/identity.py", " or self.threads > 1", "", "tests/process/test_runner_kill.py -k zombie"),
    Mutant("watched", "polpod/runner/containment.py", 'if p.state == "Z"]', 'if False]', "tests/process/test_runner_kill.py -k zombie"),
    Mutant("watched", "polpod/runner/containment.py", "        for path in paths:\n", "        for path in [self.path]:\n", "tests/faults/test_recovery.py -k deep"),
    Mutant("watched", "polpod/runner/usage.py", "samples = read(self._path)[1::2]", "samples = read(self._path)", "tests/unit/test_runner_usage.py"),
    Mutant("watched", "polpod/runner/usage.py", "            self._samples += 1\n", "            pass\n", "tests/unit/test_runner_usage.py"),
    Mutant("watched", "polpod/services/retention.py", "run.log_path + usage.SUFFIX, ", "", "tests/faults/test_retention.py -k of_too_many_runs"),
    Mutant("watched", "polpod/services/rpc/methods/run.py", "if run is not None and run.nonce == params.nonce:", "if run is not None:", "tests/unit/test_run_report.py"),
    Mutant("watched", "polpod/services/rpc/methods/follow.py", "    last = _last(tx, params.after)\n", "    last = queries.last_seq(tx)\n", "tests/process/test_subscriptions.py -k only_what_was_asked_for"),
    Mutant("watched", "polpod/services/keys.py", "if make and not os.path.exists(path):", "if not os.path.exists(path):", "tests/process/test_web.py -k lost_secret"),
    Mutant("watched", "polpod/services/logs.py", "if _next_hole(fd, start) - start >= len(data) and (data or start >= size):", "if _next_hole(fd, start) - start >= len(data):", "tests/unit/test_logs.py"),
    Mutant("watched", "polpod/services/logs.py", "max(offset, size)", "max(offset, os.fstat(fd).st_size)", "tests/unit/test_logs.py"),
    Mutant("watched", "polpod/services/rpc/methods/follow.py", "part.size, end", "part.next_offset, end", "tests/process/test_rpc_big.py -k long_log"),
    Mutant("watched", "polpoctl/follow.py", "            if self._offset >= until:\n                return\n", "", "tests/unit/test_polpoctl_client.py -k log_that_grows"),
    Mutant("watched", "polpod/runner/runner.py", 'if kill == "signalled" and', 'if kill is None and', "tests/process/test_runner_kill.py -k before_the_release_still"),
    Mutant("watched", "polpod/daemon.py", "zygote.give_up()", "pass", "tests/faults/test_no_zygote.py -k holds_up"),
    Mutant("watched", "polpod/services/condition.py", "answered and instance", "instance", "tests/unit/test_condition.py"),
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
        python = _environment(Path(directory))
        for number, mutant in enumerate(chosen, start=1):
            found = _found(mutant, Path(directory), python)
            survivors += found is not None
            print(f"{number}/{len(chosen)} {mutant.group}: {mutant.file}: {found or 'found'}", flush=True)
    print(f"{len(chosen) - survivors} passed, {survivors} failed")
    return 1 if survivors else 0


def _environment(tree: Path) -> Path:
    """The interpreter of an environment that has the tree, and then what is installed here.

    No PYTHONPATH: runners are isolated and would not heed it.
    """
    directory = tree / ".venv"
    venv.create(directory, symlinks=True)
    base = {"base": str(directory), "platbase": str(directory)}
    # No bytecode, whose time stamps would hide a quick change.
    then = f"import site, sys; sys.dont_write_bytecode = True; site.addsitedir({sysconfig.get_path('purelib')!r})"
    Path(sysconfig.get_path("purelib", "venv", base), "mutants.pth").write_text(f"{tree}\n{then}\n")
    return directory / "bin/python"


def _found(mutant: Mutant, tree: Path, python: Path) -> str | None:
    """None if the test fails with the mutant; else what is wrong."""
    path = tree / mutant.file
    text = path.read_text()
    if text.count(mutant.right) != 1:
        return f"its text is there {text.count(mutant.right)} times: {mutant.right!r}"
    path.write_text(text.replace(mutant.right, mutant.wrong))
    try:
        # A test that would go on for ever fails by its own bound, before ours.
        pytest = [str(python), "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout=200"]
        ended = subprocess.run([*pytest, *mutant.test.split()], cwd=tree, capture_output=True, text=True, timeout=BOUND)
    except subprocess.TimeoutExpired:
        return f"no answer from {mutant.test} within {BOUND:g} s"
    finally:
        path.write_text(text)
    if ended.returncode == 1:
        return None
    return f"NOT FOUND by {mutant.test} (pytest: {ended.returncode})\n{ended.stdout[-2000:]}"


if __name__ == "__main__":
    sys.exit(main())
