"""`polpoctl store copy --to BACKEND`: everything of the task store into another backend, with no daemon at work."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from datetime import UTC, datetime

import msgspec

from polpod.config import load
from polpod.errors import Conflict, InvalidRequest
from polpod.maintenance.place import require
from polpod.maintenance.stores import counted, locked
from polpod.paths import StateDirectory
from polpod.remedies import command
from polpod.storage import locate
from polpod.store import copy as copies
from polpod.store.databases import TASKS
from polpod.store.group import open_store

_LASTING = ("sqlite", "file", "postgres")


def copy(paths: StateDirectory, to: str, as_json: bool) -> int:
    """Copy, prove it row by row, and say how to go on with the copy; what was there stays, and knows where it went.

    Where the store is in `to` already, and went elsewhere, it counts again from then on.
    Raises StartError (75: a daemon runs), InvalidRequest, Conflict, StoreError, DiskFull, Unavailable.
    """
    require(paths)
    config, _ = load(paths.config)
    storage = config.settings.storage
    if to not in _LASTING:
        raise InvalidRequest(f"--to {to}: one of {', '.join(_LASTING)}")
    changed = msgspec.structs.replace(config, settings=msgspec.structs.replace(config.settings, storage=to))
    source, target = locate(config, paths, os.environ), locate(changed, paths, os.environ)
    with locked(paths), closing(open_store(source, TASKS)) as old:
        if source == target:
            return _counts_again(old, to, as_json)
        with closing(open_store(target, TASKS)) as new:
            where = new.session.where
            rows = copies.copy(
                old,
                old.session.where,
                new,
                _told,
                proven=lambda: old.write(lambda tx: copies.note_copy(tx, where, datetime.now(UTC))),
            )
    if as_json:
        print(json.dumps({"from": storage, "to": to, "rows": rows}))
        return 0
    print(f"{where} holds what is in {storage}, compared row by row: {counted(rows)}")
    print(f"next: {command(paths.root, 'config', 'set', 'storage', to)}")
    return 0


def _counts_again(store: copies.Store, storage: str, as_json: bool) -> int:
    where = store.session.where
    went = store.write(copies.copied_to)
    if went is None:
        raise Conflict(f"the task store is in {storage} already")
    store.write(copies.forget_copy)
    print(json.dumps({"from": storage, "to": storage}) if as_json else f"{where} counts again; it was copied to {went}")
    return 0


def _told(table: str, rows: int) -> None:
    if rows:
        print(f"{rows} {table}", file=sys.stderr)
