"""`polpod`: the daemon in the foreground, and `--maintenance VERB` for what polpoctl does without one."""

from __future__ import annotations

import argparse
import errno
import faulthandler
import os
import sys
from importlib import import_module

from polpod import __version__, journald
from polpod.errors import AnothersDirectory, DiskFull, NotFound, PolpodError, StartError, Unavailable
from polpod.paths import StateDirectory, daemon_root, daemon_socket
from polpod.remedies import advice

NOT_ALLOWED = 6
TRY_AGAIN = 75
INTERRUPTED = 130
"""What polpoctl exits with, too (DESIGN §10)."""
STDERR = 2
LEVELS = ("debug", "info", "warning", "error")


def parser() -> argparse.ArgumentParser:
    """The command line of polpod(8)."""
    p = argparse.ArgumentParser(
        prog="polpod",
        description="Run long jobs and do not lose them: the daemon, in the foreground.",
        epilog="Exit status: 0 clean, 1 failure, 2 usage or configuration, 75 another daemon has the state directory.",
    )
    p.add_argument(
        "--root", metavar="DIR", help="state lives in DIR/.polpo (else $POLPO_ROOT, nearest .polpo, per user)"
    )
    p.add_argument("--socket", metavar="PATH", help="listen here (else $POLPO_SOCKET, else DIR/.polpo/polpod.sock)")
    p.add_argument("--zygote-socket", metavar="PATH", help="where systemd starts the processes that runs come from")
    p.add_argument("--zygote", action="store_true", help=argparse.SUPPRESS)
    p.add_argument(
        "--log-level", metavar="LEVEL", choices=LEVELS, help=f"{', '.join(LEVELS)} (else as polpo.json says: info)"
    )
    p.add_argument("--check-config", action="store_true", help="read polpo.json, say what is wrong with it, and exit")
    p.add_argument(
        "--check-schema", action="store_true", help="say whether this version can open the databases, and exit"
    )
    p.add_argument("--maintenance", nargs=argparse.REMAINDER, metavar="VERB", help=argparse.SUPPRESS)
    p.add_argument("--version", action="version", version=f"polpod {__version__}")
    return p


def main() -> int:
    """Returns the exit status."""
    _open_standard_streams()
    options = parser().parse_args()
    if options.zygote:
        os.execv(sys.executable, [sys.executable, "-I", "-m", "polpod.runner.zygote", "--unit"])
    os.umask(0o077)  # where others are let into the state directory, for the socket, its files stay ours (F84)
    faulthandler.enable()  # the watchdog ends a daemon that hangs with SIGABRT: then the log says where each thread was
    journald.begin(options.log_level or "info")
    root = daemon_root(options.root, os.environ, os.getcwd())
    socket = daemon_socket(options.socket, os.environ, root)
    try:
        if options.maintenance is not None:
            from polpod.maintenance import verbs

            return verbs.main(root, socket, options.maintenance)
        if options.check_config:
            from polpod.maintenance import verbs

            if (status := verbs.main(root, socket, ["config", "check"])) or not options.check_schema:
                return status
        if options.check_schema:
            from polpod.maintenance import stores

            import_module("polpod.daemon")  # what a start needs is there, too
            return stores.check_schema(StateDirectory(root))
        return _serve(root, socket, options.zygote_socket, options.log_level is None)
    except StartError as exc:
        journald.complain(str(exc))
        return exc.exit_code if options.maintenance is None else _as_polpoctl(exc)
    except PolpodError as exc:
        journald.complain(str(exc))
        for line in advice(exc, root):
            journald.complain(line)
        if options.maintenance is not None and isinstance(exc, DiskFull | Unavailable):
            return TRY_AGAIN
        return 3 if isinstance(exc, NotFound) else 1
    except KeyboardInterrupt:
        return INTERRUPTED


def _as_polpoctl(exc: StartError) -> int:
    """What polpoctl exits with for what may not be done, or not now (DESIGN §10)."""
    match exc, exc.__cause__:
        case (AnothersDirectory(), _) | (_, PermissionError()):
            return NOT_ALLOWED
        case _, OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return TRY_AGAIN
    return exc.exit_code


def _open_standard_streams() -> None:
    """Where whoever started us closed them, the next files that are opened would be taken for them."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stderr = sys.stderr or os.fdopen(STDERR, "w", closefd=False)


def _serve(root: str, socket: str, zygote_socket: str | None, log_as_configured: bool) -> int:
    import trio

    from polpod import daemon, systemd

    manager = systemd.take()
    try:
        handover = trio.run(daemon.main, daemon.Options(root, socket, zygote_socket, log_as_configured), manager)
    except BaseExceptionGroup as group:  # not `except*`, which would raise a group again
        if (error := _first(group)) is None:
            raise
        raise error from group
    if handover is not None:
        handover.execute(manager.environment)
    return 0


def _first(group: BaseExceptionGroup[BaseException]) -> PolpodError | None:
    """The error of ours that ended the services; None where there is none, and so a defect."""
    for found in group.exceptions:
        error = _first(found) if isinstance(found, BaseExceptionGroup) else found
        if isinstance(error, PolpodError):
            return error
    return None


if __name__ == "__main__":
    sys.exit(main())
