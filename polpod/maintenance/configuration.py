"""polpo.json without a daemon: make it, show it, check it, change one setting (`polpoctl init`, `polpoctl config`)."""

from __future__ import annotations

import json
import os
import shlex
import sys
from typing import Any

from polpod import config
from polpod.errors import NotFound, StartError
from polpod.lock import require_own
from polpod.paths import StateDirectory

_AT_START = {("storage",), ("databaseUrl",)}
"""Settings for which a running polpod refuses to be reloaded."""


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
        raise StartError(f"{exc.filename or paths.path}: {exc.strerror}") from exc
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
    """Print one setting.  Raises StartError, NotFound."""
    loaded, _ = config.load(path)
    value: Any = config.shown(loaded)["settings"] | {"databaseUrl": loaded.settings.database_url}
    for part in key.removeprefix("settings.").split("."):
        if not isinstance(value, dict) or part not in value:
            raise NotFound(f"{path}: there is no setting {key}")
        value = value[part]
    print(value if isinstance(value, str) and not as_json else json.dumps(value))
    return 0


def set_(path: str, key: str, value: str, as_json: bool) -> int:
    """Change one setting in the file, which is replaced in one step and only if what comes out is good.

    Raises StartError, NotFound.
    """
    if os.path.exists(os.path.dirname(path)):
        require_own(os.path.dirname(path))
    document = config.read(path)[0] or {}
    inner = document.setdefault("settings", {})
    *outer, last = key.removeprefix("settings.").split(".")
    for part in outer:
        inner = inner.setdefault(part, {})
        if not isinstance(inner, dict):
            raise NotFound(f"{path}: there is no setting {key}")
    inner[last] = _value(value)
    changed, unknown = config.text_of(document, path)
    if f"$.settings.{'.'.join((*outer, last))}" in unknown:
        raise NotFound(f"{path}: there is no setting {key}")
    try:
        config.write(path, changed)
    except OSError as exc:
        raise StartError(f"{path}: {exc.strerror}") from exc
    when = "starts" if (*outer, last) in _AT_START else "starts or is reloaded"
    said = f"{key} is now {json.dumps(inner[last])}; it takes effect when polpod {when}"
    print(json.dumps({"key": key, "value": inner[last]}) if as_json else said)
    return 0


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _warn(path: str, unknown: list[str]) -> None:
    for key in unknown:
        print(f"{path}: {key} means nothing to this version", file=sys.stderr)
