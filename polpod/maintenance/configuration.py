"""polpo.json without a daemon: make it, show it, check it, change one setting (`polpoctl init`, `polpoctl config`)."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import sys
from typing import Any

from polpod import config
from polpod.errors import NotFound, StartError
from polpod.lock import require_own
from polpod.maintenance.place import require
from polpod.paths import StateDirectory

_AT_START = {("storage",), ("databaseUrl",)}
"""Settings for which a running polpod refuses to be reloaded."""

_WITH_PASSWORD = ("databaseUrl",)

FROM_STDIN = "-"
"""The value for which stdin is read."""


def init(directory: str, as_json: bool) -> int:
    """Make `.polpo` with a polpo.json in `directory`.  Raises StartError."""
    paths = StateDirectory(directory)
    try:
        os.makedirs(paths.path, mode=0o700, exist_ok=True)
        if os.path.lexists(paths.config):
            print(f"{paths.config} is there already", file=sys.stderr)
            if as_json:
                print(json.dumps({"path": paths.path, "made": False}))
            return 0
        config.write(paths.config, config.DEFAULT_TEXT)
    except OSError as exc:
        where = paths.path if isinstance(exc, NotADirectoryError) or not os.path.exists(paths.path) else paths.config
        raise StartError(f"{where}: {exc.strerror}") from exc
    said = f"made {paths.path}; start the daemon with: {shlex.join(['polpoctl', '--root', directory, 'start'])}"
    print(json.dumps({"path": paths.path, "made": True}) if as_json else said)
    return 0


def show(path: str) -> int:
    """Print the configuration in force, with the defaults that the file does not mention, but no password.

    Raises StartError.
    """
    loaded, unknown = config.load(path)
    _warn(path, unknown)
    print(json.dumps(config.shown(loaded), indent=2))
    return 0


def check(path: str, as_json: bool) -> int:
    """Say whether the file is good.  Raises StartError if it is not."""
    document, unknown = config.read(path)
    _warn(path, unknown)
    idle = config.without_effect(document or {})
    for key in idle if not as_json else ():
        print(f"{path}: {key} has no effect in polpod", file=sys.stderr)
    said = {"path": path, "good": True, "unknown": unknown, "without_effect": idle}
    print(json.dumps(said) if as_json else f"{path}: good")
    return 0


def get(path: str, key: str, as_json: bool) -> int:
    """Print one setting, but no password.  Raises StartError, NotFound."""
    loaded, _ = config.load(path)
    value: Any = config.shown(loaded)["settings"]
    for part in key.removeprefix("settings.").split("."):
        if not isinstance(value, dict) or part not in value:
            raise NotFound(f"{path}: there is no setting {key}")
        value = value[part]
    print(value if isinstance(value, str) and not as_json else json.dumps(value))
    return 0


def set_(paths: StateDirectory, key: str, value: str, as_json: bool) -> int:
    """Change one setting in the file, which is replaced in one step and only if what comes out is good.

    The value `-` is read from stdin, since everybody on the host can read a command line.  Raises StartError, NotFound.
    """
    require(paths)
    require_own(paths.path)
    path = paths.config
    document = config.read(path)[0] or {}
    inner = document.setdefault("settings", {})
    *outer, last = key.removeprefix("settings.").split(".")
    for part in outer:
        inner = inner.setdefault(part, {})
        if not isinstance(inner, dict):
            raise NotFound(f"{path}: there is no setting {key}")
    secret = (*outer, last) == _WITH_PASSWORD
    if value == FROM_STDIN:
        value = _read(key, secret)
    elif secret and config.without_password(value) != value:
        print(
            f"everybody on this host can read the password from the command line: polpoctl config set {key} - asks for it",
            file=sys.stderr,
        )
    inner[last] = _value(value)
    changed, unknown = config.text_of(document, path)
    if f"$.settings.{'.'.join((*outer, last))}" in unknown:
        raise NotFound(f"{path}: there is no setting {key}")
    try:
        config.write(path, changed)
    except OSError as exc:
        raise StartError(f"{path}: {exc.strerror}") from exc
    when = "starts" if (*outer, last) in _AT_START else "starts or is reloaded"
    shown = config.without_password(inner[last]) if secret and inner[last] else inner[last]
    said = f"{key} is now {json.dumps(shown)}; it takes effect when polpod {when}"
    print(json.dumps({"key": key, "value": shown}) if as_json else said)
    return 0


def _read(key: str, secret: bool) -> str:
    try:
        if secret and os.isatty(0):
            return getpass.getpass(f"{key}: ")
        with open(0, encoding="utf-8", closefd=False) as stdin:
            return stdin.read().removesuffix("\n")
    except (UnicodeDecodeError, EOFError) as exc:
        raise StartError(f"stdin: {str(exc) or 'it ended'}") from exc


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _warn(path: str, unknown: list[str]) -> None:
    for key in unknown:
        print(f"{path}: {key} means nothing to this version", file=sys.stderr)
