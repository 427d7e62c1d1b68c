"""The zygote: forks runners on request, with all their modules imported (DESIGN §3).

`python -I -m polpod.runner.zygote FD`, where FD is one end of a SOCK_SEQPACKET pair; or, with `--unit`, started by systemd
for a connection to polpo-zygote.socket, which is its standard input.  All messages are JSON.  It begins with
`{"pid", "nice_from"}`, the latter being the lowest niceness that its jobs may have.  A request is `{"run_id", "directory"}`
with the read end of the go pipe by SCM_RIGHTS; its reply is `{"run_id", "pid", "start_ticks"}` with the runner's pidfd, or
`{"run_id", "error", "errno"}`.

Rules:

1. One thread, no state, no database: all that a fork copies is code.
2. The runner is a grandchild, so that it is nobody's to reap here; its pidfd is opened by its parent, which has not
   reaped it, so that the pid in the reply cannot have passed to another.
3. It ends when the daemon's end of the socket closes; runners do not notice.
4. As a unit it ends after the last run that began in it: until then the unit, whose cgroup holds them, is alive, and what
   becomes of the daemon's own unit is nothing to them (DESIGN §12).
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, NoReturn

from polpod import crash
from polpod.runner import containment, identity, job, runner, syscalls, watch

LARGEST_REQUEST = 16384


def main(fd: int) -> None:
    """Serve requests from the socket `fd` until its other end closes."""
    _settle(fd)
    with socket.socket(fileno=fd) as daemon:
        _answer(daemon, {"pid": os.getpid(), "nice_from": job.lowest_nice()})
        while True:
            try:
                data, passed, _, _ = socket.recv_fds(daemon, LARGEST_REQUEST, 1, socket.MSG_CMSG_CLOEXEC)
            except ConnectionResetError:  # it died with an answer of ours unread
                return
            if not data:
                return
            crash.point("zygote.request")
            request = json.loads(data)
            _serve(daemon, request["run_id"], request["directory"], passed[0])
            os.close(passed[0])


def serve_as_unit() -> None:
    """Serve the connection on standard input, and outlive every run that came of it."""
    syscalls.become_subreaper()
    with suppress(OSError):  # then controllers cannot be enabled for the runs, which is said where a limit is asked for
        containment.enter_leaf()
    main(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3))
    with suppress(ChildProcessError):
        os.wait()  # returns when nobody is left: SIGCHLD is ignored


def _settle(fd: int) -> None:
    os.set_inheritable(fd, False)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    os.chdir("/")
    watch.settle_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps those between us and the runners
    syscalls.set_name("polpod-zygote")
    identity.boot_id()  # read once for all
    # Nothing here makes cycles, and a collection would touch, and so copy, every page that runners share.
    gc.disable()
    gc.freeze()


def _serve(daemon: socket.socket, run_id: int, directory: str, go: int) -> None:
    """Fork the process that forks the runner, answers, and ends."""
    try:
        if os.fork() > 0:
            return
    except OSError as exc:
        _answer(daemon, _refusal(run_id, exc))
        return
    try:
        _fork_runner(daemon, run_id, directory, go)
    finally:  # whatever happens, a child never goes on as a second zygote
        os._exit(1)


def _fork_runner(daemon: socket.socket, run_id: int, directory: str, go: int) -> NoReturn:
    # A runner that ends at once must stay unreaped until we have its pidfd.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        pid = os.fork()
    except OSError as exc:
        _answer(daemon, _refusal(run_id, exc))
        os._exit(0)
    if pid == 0:
        _become_runner(daemon, directory, go)
    pidfd = os.pidfd_open(pid)
    _answer(daemon, {"run_id": run_id, "pid": pid, "start_ticks": identity.start_ticks(pid)}, pidfd)
    os._exit(0)


def _become_runner(daemon: socket.socket, directory: str, go: int) -> NoReturn:
    os.setsid()
    daemon.detach()
    syscalls.close_all_but(go)
    os.dup2(0, 2)  # a runner has no terminal and no daemon to write to (F23)
    runner.main(directory, go)


def _answer(daemon: socket.socket, reply: dict[str, Any], *descriptors: int) -> None:
    try:
        socket.send_fds(daemon, [json.dumps(reply).encode()], descriptors)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the daemon is gone; its runner sees end of file instead of `go`


def _refusal(run_id: int, exc: OSError) -> dict[str, Any]:
    return {"run_id": run_id, "error": f"no process for a runner: {exc.strerror}", "errno": exc.errno}


if __name__ == "__main__":
    if sys.argv[1:] == ["--unit"]:
        serve_as_unit()
    else:
        main(int(sys.argv[1]))
