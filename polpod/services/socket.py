"""The listening socket in the file system: made so that it never replaces what is alive or foreign (F8, F9).

One that systemd listens on is systemd's: it is neither made anew nor removed here, and who may connect is what its
SocketMode= and SocketGroup= say.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass

from polpod.errors import OTHER_DAEMON, StartError
from polpod.paths import SUN_PATH_MAX
from polpod.wire import frames, jsonrpc
from polpod.wire.errors import APPLICATION_ERROR, UNAVAILABLE

BACKLOG = 512


@dataclass(slots=True)
class ListeningSocket:
    socket: socket.socket
    path: str
    inode: int
    systemds: bool = False

    def in_place(self) -> bool:
        """Whether the path still leads to us: somebody may have cleaned up (F61)."""
        try:
            return os.lstat(self.path).st_ino == self.inode
        except OSError:
            return False

    def renew(self) -> None:
        """Listen at the path anew.  Raises StartError while that cannot be; then all is as before."""
        if self.systemds:
            raise StartError(f"{self.path} was removed; only systemd can listen there anew: restart polpod.socket")
        fresh = listen(self.path)
        self.socket.close()
        self.socket, self.inode = fresh.socket, fresh.inode

    def turn_away(self, why: str) -> None:
        """Tell all who wait why nobody will answer: as long as anybody waits, systemd would start us again at once."""
        message = jsonrpc.error(None, APPLICATION_ERROR, f"polpod does not start: {why}", {"type": UNAVAILABLE})
        self.socket.setblocking(False)
        with suppress(BlockingIOError):  # nobody is left
            while True:
                client, _ = self.socket.accept()
                with client, suppress(OSError):  # it did not wait
                    client.send(frames.encode(json.dumps(message).encode()))

    def close(self) -> None:
        """Stop listening; what lies at the path goes only if it is ours."""
        if not self.systemds and self.in_place():
            os.unlink(self.path)
        self.socket.close()


def listen(path: str) -> ListeningSocket:
    """Bind and listen; a socket that nobody listens on any more is replaced in one step.

    Raises StartError for a path that is too long or not UTF-8, that somebody answers on, or that is not a socket.
    """
    require_utf8(path, "--socket")
    if (size := len(os.fsencode(path))) > SUN_PATH_MAX:
        raise StartError(
            f"{path}: {size} bytes are too long for the path of a Unix socket (at most {SUN_PATH_MAX}); "
            "give a shorter one with --socket",
            exit_code=2,
        )
    _refuse_what_lives(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Bound under another name and moved: at no time is there a socket at the path that does not answer.
    temporary = os.path.join(os.path.dirname(path), f".{os.getpid()}")
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if os.path.lexists(temporary):
            os.unlink(temporary)
        listener.bind(temporary)
        os.chmod(temporary, 0o600)
        inode = os.lstat(temporary).st_ino
        listener.listen(BACKLOG)
        os.rename(temporary, path)
    except OSError as exc:
        listener.close()
        raise StartError(f"{path}: cannot listen: {exc.strerror}") from exc
    return ListeningSocket(listener, path, inode)


def adopt(descriptor: int) -> ListeningSocket:
    """The socket that systemd listens on for us.  Raises StartError for what is no listening Unix stream socket at a path."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise StartError(f"descriptor {descriptor} from systemd is no socket", exit_code=2)
    listener = socket.socket(fileno=descriptor)
    path = listener.getsockname() if listener.family == socket.AF_UNIX else ""
    listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not (listens and listener.type == socket.SOCK_STREAM and isinstance(path, str) and path.startswith("/")):
        listener.close()
        raise StartError("the socket from systemd is not one of ListenStream=/a/path", exit_code=2)
    return ListeningSocket(listener, path, _inode(path), systemds=True)


def _inode(path: str) -> int:
    try:
        return os.lstat(path).st_ino
    except OSError:  # removed already, as `in_place` will say
        return -1


def require_utf8(path: str, option: str) -> None:
    """Raises StartError for a path that neither a database nor a message could hold."""
    try:
        path.encode()
    except UnicodeEncodeError as exc:
        raise StartError(f"{os.fsencode(path)!r}: not UTF-8; give another path with {option}", exit_code=2) from exc


def _refuse_what_lives(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as exc:
        raise StartError(f"{path}: {exc.strerror}") from exc
    if not stat.S_ISSOCK(mode):
        raise StartError(f"{path}: there is something that is not a socket; move it away, or use --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as exc:
            raise StartError(f"{path}: {exc.strerror or exc}; does another daemon listen there?", OTHER_DAEMON) from exc
    raise StartError(f"{path}: another daemon answers on this socket", OTHER_DAEMON)
