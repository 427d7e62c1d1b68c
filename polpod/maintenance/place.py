"""Whether there is a state directory at all, for verbs that do not make one."""

from __future__ import annotations

import os

from polpod.errors import NotFound, StartError
from polpod.paths import StateDirectory


def require(paths: StateDirectory) -> None:
    """Raises NotFound where there is no state directory, StartError where nobody lets us see whether there is."""
    try:
        os.stat(os.path.join(paths.path, ""))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(
            f"there is no {paths.path}; where is the state directory? polpoctl --root DIR …; polpoctl init makes one"
        ) from None
    except OSError as exc:
        raise StartError(f"{paths.path}: {exc.strerror}") from exc
