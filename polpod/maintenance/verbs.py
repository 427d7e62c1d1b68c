"""The verbs of `polpod --maintenance`: their arguments, and who carries them out."""

from __future__ import annotations

import argparse
import os

from polpod.maintenance import configuration, copying, stores
from polpod.paths import StateDirectory


def main(root: str, socket: str, argv: list[str]) -> int:
    """Carry out one verb; returns the exit status.  Raises StartError, NotFound, StoreError, RequestError."""
    options = _parser().parse_args(argv)
    paths = StateDirectory(root)
    match options.verb:
        case "init":
            return configuration.init(os.path.abspath(options.directory or os.getcwd()), options.json)
        case "config":
            return _config(paths, options)
        case "backup":
            return stores.backup(paths, os.path.abspath(options.directory), options.json)
        case "check":
            backup = options.directory and os.path.abspath(options.directory)
            return stores.check(paths, backup, options.json)
        case "restore":
            return stores.restore(paths, os.path.abspath(options.directory), options.json)
        case "copy":
            return copying.copy(paths, options.to, options.json)
        case "salvage":
            return stores.salvage(paths, options.json)
        case _:
            from polpod.doctor import report  # it knows of much that the others do not need

            return report.main(paths, socket, options.json)


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="polpod --maintenance")
    p.add_argument("--json", action="store_true")
    verbs = p.add_subparsers(dest="verb", required=True)
    verbs.add_parser("init").add_argument("directory", nargs="?")
    settings = verbs.add_parser("config").add_subparsers(dest="action", required=True)
    settings.add_parser("show")
    settings.add_parser("check")
    settings.add_parser("get").add_argument("key")
    change = settings.add_parser("set")
    change.add_argument("key")
    change.add_argument("value")
    for verb in ("backup", "restore"):
        verbs.add_parser(verb).add_argument("directory")
    verbs.add_parser("copy").add_argument("--to", required=True)
    verbs.add_parser("check").add_argument("directory", nargs="?")
    for verb in ("salvage", "doctor"):
        verbs.add_parser(verb)
    return p


def _config(paths: StateDirectory, options: argparse.Namespace) -> int:
    match options.action:
        case "show":
            return configuration.show(paths.config)
        case "get":
            return configuration.get(paths.config, options.key, options.json)
        case "set":
            return configuration.set_(paths, options.key, options.value, options.json)
        case _:
            return configuration.check(paths.config, options.json)
