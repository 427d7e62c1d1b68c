"""`polpoctl backup` without a daemon, and `polpoctl store check|restore|salvage`: the databases as files.

Rules:

1. `check` reads alone.  The others hold the state directory's lock, so no daemon runs or starts meanwhile; runners may.
2. Nothing is deleted and nothing overwritten: what is replaced lies aside, and says where (store/replace.py).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from polpod import remedies
from polpod.config import load, write
from polpod.errors import Conflict, NotFound, StartError, StoreError, Unavailable
from polpod.lock import holder, lock, require_own
from polpod.maintenance import survivors
from polpod.maintenance.place import require
from polpod.paths import STATE, StateDirectory
from polpod.storage import locate
from polpod.store import queries, replace
from polpod.store.backup import CONFIG_NAME, RUNS_NAME, TASKS_NAME, open_pair, told, write_backup
from polpod.store.check import Checked, damaged, lost_half
from polpod.store.check import check as check_databases
from polpod.store.content import CONTENT, carry, lacking
from polpod.store.databases import RUNS, TASKS
from polpod.store.export import export
from polpod.store.findings import Finding
from polpod.store.group import open_store
from polpod.store.location import Sqlite
from polpod.store.migrate import check as check_version
from polpod.store.organisation import Artifacts
from polpod.store.restore import Counters, adapt_runs, adapt_tasks, counters, live_runs, occupying
from polpod.store.salvage import Saved, add_unknown_runs, salvage_runs, salvage_tasks, tasks_at_work
from polpod.store.sqlite import open_reader, translated

_NAMES = (RUNS_NAME, TASKS_NAME)
"""In the order in which they are saved: what runs says something of tasks."""


def backup(paths: StateDirectory, target: str, as_json: bool) -> int:
    """Copy the databases of a state directory that has no daemon.  Raises StartError (75: it has one), RequestError."""
    require(paths)
    with locked(paths), as_files(paths) as directory, closing(open_pair(directory)) as pair:
        pair.pin()
        size = write_backup(pair, target)
    _say({"path": target, "bytes": size}, f"{target}: {size} bytes, without a daemon", as_json)
    return 0


def check(paths: StateDirectory, backup: str | None, as_json: bool) -> int:
    """Say what is wrong with the databases, or with those of a backup, and what to do next; 0 if nothing is."""
    if backup is not None:
        return _check_backup(backup, as_json)
    require(paths)
    if os.geteuid() != 0:
        require_own(paths.path)
    served = holder(paths) is not None
    with as_files(paths) as directory:
        checked = _with_contents(check_databases(directory, served=served), directory)
    if as_json:
        print(json.dumps(checked.as_json()))
    else:
        print("\n".join(_told(checked, paths)))
    return 0 if checked.good else 1


def _check_backup(directory: str, as_json: bool) -> int:
    _require_directory(directory)
    with tempfile.TemporaryDirectory() as scratch:
        _copy(directory, scratch)
        os.symlink(os.path.join(directory, CONTENT), os.path.join(scratch, CONTENT))
        checked = _with_contents(check_databases(scratch), scratch)
    if as_json:
        print(json.dumps(checked.as_json()).replace(scratch, directory))
    else:
        lines = _sentences(checked.findings) or [f"{directory} is in order: {counted(checked.rows)}"]
        print("\n".join(lines).replace(scratch, directory))
    return 0 if checked.good else 1


def _with_contents(checked: Checked, directory: str) -> Checked:
    """With the artifacts that lack their content, where the task store could be read."""
    if Artifacts.name not in checked.rows:
        return checked
    with closing(open_reader(os.path.join(directory, TASKS_NAME))) as db, translated(db.path):
        return msgspec.structs.replace(checked, findings=[*checked.findings, *lacking(db, directory)])


def check_schema(paths: StateDirectory) -> int:
    """0: this version can open the databases that are there.  Raises SchemaTooNew, StoreError."""
    for path, kind in ((paths.tasks_db, TASKS), (paths.runs_db, RUNS)):
        if os.path.exists(path):
            with closing(open_reader(path)) as db:
                check_version(db, path, kind.schema)
    return 0


def restore(paths: StateDirectory, directory: str, as_json: bool) -> int:
    """Put a backup in the place of what is there.  Raises StartError (75: a daemon runs), NotFound, StoreError."""
    _require_directory(directory)
    if os.path.basename(directory) == STATE and (pid := holder(StateDirectory(os.path.dirname(directory)))) is not None:
        raise Conflict(f"{directory} is at work (pid {pid}), and no backup: polpoctl backup makes one")
    with told(paths.path):
        os.makedirs(paths.path, mode=0o700, exist_ok=True)
    with locked(paths), _prepared(paths) as prepared, replace.runners_wait(paths.path):
        _copy(directory, prepared)
        config = os.path.join(prepared, CONFIG_NAME)
        if not os.path.exists(config) and not _in_sqlite(paths):
            shutil.copyfile(paths.config, config)
            os.chmod(config, 0o600)
        checked = check_databases(prepared)
        if not checked.good:
            for line in _sentences(checked.findings):
                print(f"polpod: {line.replace(prepared, directory)}", file=sys.stderr)
            raise StartError(f"{directory}: not restored, since it is not in order itself; nothing was changed")
        _keep_in_sqlite(config)
        were_live = live_runs(os.path.join(prepared, RUNS_NAME))
        living = {i: facts for i, nonce in were_live.items() if (facts := survivors.living(paths, i, nonce))}
        given = _given(paths)
        last_run = max([paths.last_run(), *(run_id for _, _, run_id in given)])
        known = survivors.known_runs(os.path.join(prepared, RUNS_NAME))
        accepted = occupying(os.path.join(prepared, TASKS_NAME))
        adapt_runs(os.path.join(prepared, RUNS_NAME), living, accepted, last_run)
        adapt_tasks(os.path.join(prepared, TASKS_NAME), [*given, ("0", 0, last_run)])
        put_back = len(carry(directory, paths.path))
        aside = replace.commit(paths.path, prepared)
        foreign = [run_id for run_id in survivors.directories(paths) if run_id not in known]
        lack = [finding.says for finding in _with_contents(checked, paths.path).findings if finding.file == CONTENT]
    said = [f"the content of {put_back} artifacts was put back", *lack] if put_back else lack
    _say(
        {
            "restored": directory, "aside": aside, "adopted": sorted(living), "foreign": foreign, "rows": checked.rows,
            "contents": put_back, "lacking": lack,
        },
        _restored(paths, directory, aside, checked, len(living), len(were_live) - len(living), foreign, said),
        as_json,
    )  # fmt: skip
    return 0


def salvage(paths: StateDirectory, as_json: bool) -> int:
    """Save what can be read of each damaged database; 0 if what comes out is in order.  Raises StartError, StoreError."""
    require(paths)
    with locked(paths):
        names = _NAMES if _in_sqlite(paths) else (RUNS_NAME,)
        bad = [name for name in names if damaged(os.path.join(paths.path, name))]
        if not bad and _in_sqlite(paths) and (half := lost_half(paths.path)) is not None:
            bad = [half]
        if not bad:
            with as_files(paths) as directory:
                checked = check_databases(directory)
            _say(
                {"salvaged": [], "ok": checked.good},
                "\n".join(["nothing to salvage", *_told(checked, paths)]),
                as_json,
            )
            return 0 if checked.good else 1
        with _prepared(paths) as prepared, replace.runners_wait(paths.path) if RUNS_NAME in bad else nullcontext():
            saved = [one for name in bad for one in _salvaged(paths, name, prepared)]
            if RUNS_NAME in bad:
                saved_tasks = os.path.join(prepared, TASKS_NAME)
                with as_files(paths) as directory:
                    state = saved_tasks if os.path.exists(saved_tasks) else os.path.join(directory, TASKS_NAME)
                    add_unknown_runs(state, os.path.join(prepared, RUNS_NAME), paths.log)
            aside = replace.commit(paths.path, prepared)
        with as_files(paths) as directory:
            checked = check_databases(directory)
    value = {"salvaged": msgspec.to_builtins(saved), "aside": aside, "check": checked.as_json()}
    _say(value, "\n".join([*_saved(saved, aside), *_told(checked, paths)]), as_json)
    return 0 if checked.good else 1


def _keep_in_sqlite(config: str) -> None:
    """A backup is SQLite's, whatever backend it was made of: the polpo.json that goes with it says so.  Raises StartError."""
    if os.path.exists(config) and load(config)[0].settings.storage != "sqlite":
        document = json.loads(Path(config).read_bytes())
        document["settings"]["storage"] = "sqlite"
        write(config, json.dumps(document, indent=2) + "\n")


def _salvaged(paths: StateDirectory, name: str, prepared: str) -> list[Saved]:
    """Into `prepared`, from a copy of the file and its WAL, so that the originals are left alone."""
    with tempfile.TemporaryDirectory(prefix=replace.SCRATCH, dir=paths.path) as scratch:
        _copy(paths.path, scratch)
        copy = os.path.join(scratch, name)
        Path(copy).touch()  # of a file that is gone, nothing is saved
        target = os.path.join(prepared, name)
        if name == RUNS_NAME:
            given = counters(paths.tasks_db) or ("", 0, 0)
            return salvage_runs(copy, target, survivors.rows(paths), max(paths.last_run(), given[2]))
        saved_runs = os.path.join(prepared, RUNS_NAME)
        runs = saved_runs if os.path.exists(saved_runs) else paths.runs_db
        return salvage_tasks(copy, target, tasks_at_work(runs), datetime.now(UTC))


def _copy(source: str, target: str) -> None:
    """The databases with their WALs, and polpo.json: as files, so that nothing is written beside the originals."""
    for name in (*(f"{name}{companion}" for name in _NAMES for companion in ("", "-wal")), CONFIG_NAME):
        if os.path.exists(os.path.join(source, name)):
            shutil.copyfile(os.path.join(source, name), os.path.join(target, name))
            os.chmod(os.path.join(target, name), 0o600)


def _given(paths: StateDirectory) -> list[Counters]:
    """What the task store that is there has given, if it can say."""
    location = locate(load(paths.config)[0], paths, os.environ)
    if isinstance(location, Sqlite):
        given = counters(paths.tasks_db)
        return [] if given is None else [given]
    try:
        with closing(open_store(location, TASKS)) as store:
            return [store.write(queries.counters)]
    except (StoreError, Unavailable):
        return []


def _in_sqlite(paths: StateDirectory) -> bool:
    return load(paths.config)[0].settings.storage == "sqlite"


@contextmanager
def as_files(paths: StateDirectory) -> Iterator[str]:
    """A directory in which both databases are SQLite's files: the state directory itself, or, where the task store is in
    another backend, one with a copy of it.

    Raises StartError, StoreError, Unavailable (a daemon has the files), DiskFull.
    """
    location = locate(load(paths.config)[0], paths, os.environ)
    if isinstance(location, Sqlite):
        yield paths.path
        return
    with tempfile.TemporaryDirectory(prefix=replace.SCRATCH, dir=paths.path) as scratch:
        with closing(open_store(location, TASKS)) as store:
            export(store, store.session.where, paths.path, scratch)
        yield scratch


def _require_directory(directory: str) -> None:
    """Raises NotFound."""
    if not os.path.isdir(directory):
        raise NotFound(f"there is no directory {directory}")


@contextmanager
def locked(paths: StateDirectory) -> Iterator[None]:
    """No daemon runs or starts meanwhile.  Raises StartError (75: one does)."""
    held = lock(paths)
    try:
        replace.finish(paths.path)
        with told(paths.path):
            yield
    finally:
        held.close()


@contextmanager
def _prepared(paths: StateDirectory) -> Iterator[str]:
    """A directory beside the databases for what is to take their place; gone in the end, unless it was put in place."""
    prepared = tempfile.mkdtemp(prefix=replace.PREPARED, dir=paths.path)
    try:
        yield prepared
    finally:
        shutil.rmtree(prepared, ignore_errors=True)


def _say(value: object, text: str, as_json: bool) -> None:
    print(json.dumps(value) if as_json else text)


def counted(rows: Mapping[str, int]) -> str:
    """What there is in the tables, in words; those without a row are left out."""
    return ", ".join(f"{number} {name}" for name, number in rows.items() if number) or "nothing"


def _told(checked: Checked, paths: StateDirectory) -> list[str]:
    if not checked.findings:
        return [f"{paths.path} is in order: {counted(checked.rows)}"]
    lines = _sentences(checked.findings)
    if checked.rows:
        lines.append(f"read: {counted(checked.rows)}")
    return [*lines, *_next(checked.findings, paths.root)]


def _sentences(findings: list[Finding]) -> list[str]:
    return [f"{finding.level}: {finding.says}" for finding in findings]


def _next(findings: list[Finding], root: str) -> list[str]:
    """The exact commands, each once, in the order in which they make sense."""
    wanted = {finding.remedy for finding in findings}
    useless = [f.task_id for f in findings if f.remedy == "remove" and f.task_id]
    lines = [f"next: {remedies.command(root, 'remove', *useless)}"] if useless else []
    if wanted & {"repair", "restore", "upgrade"}:
        lines.append(f"next: {remedies.command(root, 'stop')}, if a daemon runs there; then")
        if "upgrade" in wanted:
            lines.append("next: install the polpod that wrote it, or")
        lines.append(f"next: {remedies.restore(root)}, with the directory of a backup")
    if "repair" in wanted:
        lines.append(f"next: {remedies.salvage(root)}, if there is none: it saves what can be read, and keeps the rest")
    if "restart" in wanted:
        lines.append(f"next: {remedies.command(root, 'stop')} and {remedies.command(root, 'start')}")
    if wanted == {"start"}:
        lines.append(f"next: {remedies.command(root, 'start')}")
    return lines


def _restored(
    paths: StateDirectory,
    directory: str,
    aside: str,
    checked: Checked,
    adopted: int,
    lost: int,
    foreign: list[int],
    contents: list[str],
) -> str:
    lines = [
        f"{paths.path} is now as {directory} was: {counted(checked.rows)}",
    ]
    if os.path.exists(os.path.join(aside, TASKS_NAME)):
        back = remedies.command(paths.root, "store", "restore", aside)
        lines.append(f"what was there is in {aside}; to take it back: {back}")
    if adopted:
        lines.append(f"{adopted} runs of the backup live here still; the daemon will adopt them")
    if lost:
        lines.append(
            f"{lost} runs were live in the backup and are not here: they count as lost, and nothing is signalled"
        )
    if foreign:
        lines.append(f"runs that the backup does not know are left alone: {', '.join(map(str, foreign))}")
    return "\n".join([*lines, *contents, f"next: {remedies.command(paths.root, 'start')}"])


def _saved(saved: list[Saved], aside: str) -> list[str]:
    lines = []
    for one in saved:
        lost = f"{'' if one.sure else 'at least '}{len(one.lost)} lost"
        some = f" ({', '.join(one.lost[:20])}{', …' if len(one.lost) > 20 else ''})" if one.lost else ""
        adopted = f", {one.adopted} taken from run directories" if one.adopted else ""
        lines.append(f"{one.table}: {one.kept} kept, {lost}{some}{adopted}")
    return [*lines, f"the damaged files are in {aside}"]
