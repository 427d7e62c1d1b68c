"""What to do next about a state directory: the exact commands, for messages of the daemon, of checks and of the doctor."""

from __future__ import annotations

import shlex

from polpod.errors import CommitInDoubt, Damaged, SchemaTooNew, StoreError


def command(root: str, *words: str) -> str:
    """`polpoctl --root ROOT WORDS…` as a shell takes it; a word in capitals is for the reader to fill in."""
    return shlex.join(["polpoctl", "--root", root, *words])


def check(root: str) -> str:
    return command(root, "store", "check")


def restore(root: str) -> str:
    return command(root, "store", "restore", "BACKUP")


def salvage(root: str) -> str:
    return command(root, "store", "salvage")


def advice(error: Exception, root: str) -> list[str]:
    """What whoever meets this error can do, a line each; nothing for errors that say it themselves (F53, F59)."""
    match error:
        case SchemaTooNew():
            return [
                "nothing was changed; install the polpod that wrote it, or go back to a backup:",
                f"  {check(root)}      says what is there",
                f"  {restore(root)}   puts a backup in place, and keeps what is there now",
            ]
        case Damaged() | CommitInDoubt():
            return [
                "before it is started again:",
                f"  {check(root)}            says what is damaged",
                f"  {restore(root)}   puts a backup in place, and keeps what is there now",
                f"  {salvage(root)}          without a backup: saves what can still be read, and keeps the damaged file",
            ]
        case StoreError():
            return [f"{check(root)} says what is wrong"]
    return []
