"""The verbs of `polpod --maintenance`: their arguments, and who carries them out."""

from __future__ import annotations

import argparse
import os

from polpod.maintenance import configuration, stores
from polpod.paths import StateDirectory


def main(root: str, socket: str, argv: list[str]) -> int:
    """Carry out one verb; returns the exit status.  Raises StartError, NotFound, StoreError, RequestError."""
    options = _parser().parse_args(argv)
    paths = StateDirectory(root)
    match options.verb:
        case "init":
            return configuration.init(os.path.abspath(options.directory or os.getcwd()))
        case "config":
            return _config(paths.config, options)
        case "backup":
            return stores.backup(paths, os.path.abspath(options.directory), json_wanted=options.json)
        case "check":
            return stores.check(paths, json_wanted=options.json)
        case "restore":
            return stores.restore(paths, os.path.abspath(options.directory), json_wanted=options.json)
        case "salvage":
            return stores.salvage(paths, json_wanted=options.json)
        case _:
            from polpod.doctor import report

            return report.main(paths, socket, json_wanted=options.json)


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="polpod --maintenance")
    verbs = p.add_subparsers(dest="verb", required=True)
    verbs.add_parser("init").add_argument("directory", nargs="?")
    settings = verbs.add_parser("config").add_subparsers(dest="action", required=True)
    settings.add_parser("show").add_argument("--json", action="store_true")
    settings.add_parser("check")
    settings.add_parser("get").add_argument("key")
    change = settings.add_parser("set")
    change.add_argument("key")
    change.add_argument("value")
    for verb, takes_directory in (
        ("backup", True),
        ("check", False),
        ("restore", True),
        ("salvage", False),
        ("doctor", False),
    ):
        made = verbs.add_parser(verb)
        made.add_argument("--json", action="store_true")
        if takes_directory:
            made.add_argument("directory")
    return p


def _config(path: str, options: argparse.Namespace) -> int:
    match options.action:
        case "show":
            return configuration.show(path)
        case "get":
            return configuration.get(path, options.key)
        case "set":
            return configuration.set_(path, options.key, options.value)
        case _:
            return configuration.check(path)
