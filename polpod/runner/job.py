"""From fork to exec: how a process of the runner becomes the job (DESIGN §6, job environment).

Rules:

1. The job is forked before its run is claimed, and blocked on a pipe until `release`; end of file there, by a claim
   that failed or by the runner's death, ends it without exec.
2. Nothing of the runner reaches it: descriptors, signal dispositions and mask, database, lock.
3. What fails on the way is told in words on a second pipe, which exec closes, and exits as shells do: 127 where there
   is no such program, 126 where it cannot be executed.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
from typing import NamedTuple, NoReturn

from polpod.runner import contract, small_files, syscalls, watch

NOT_FOUND = 127
NOT_EXECUTABLE = 126
LONGEST_COMPLAINT = 1000

HINTS = {
    errno.ENOENT: "no such program in the job's PATH, or the interpreter in its first line is missing",
    errno.EACCES: "is it executable, and may polpod's user enter its directory?",
    errno.ENOEXEC: "not a program: is the line '#!/bin/sh' at its top missing?",
    errno.E2BIG: "an argument of more than 128 KiB, or arguments and environment too long together: "
    "give long texts by stdin or in a file",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.ETXTBSY: "somebody is still writing the program",
}

NICE_HINTS = dict.fromkeys(
    (errno.EACCES, errno.EPERM),
    "below what it inherits that needs root, CAP_SYS_NICE, or LimitNICE= in the unit that runs are in",
)


class Job(NamedTuple):
    """The forked main process; both descriptors are the runner's."""

    pid: int
    release: int
    complaints: int


def lowest_nice() -> int:
    """The lowest niceness that a job of ours may have: by trying, since capabilities count differently in a container."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    except PermissionError:
        soft, _ = resource.getrlimit(resource.RLIMIT_NICE)
        return -20 if soft == resource.RLIM_INFINITY else min(own, max(-20, 20 - soft))
    os.setpriority(os.PRIO_PROCESS, 0, own)
    return -20


def environment(spec: contract.RunSpec) -> dict[bytes, bytes]:
    """The job's environment: as submitted, and what tells it which run it is (never the nonce)."""
    own = {
        "POLPO_SOCKET": spec["socket"],
        "POLPO_TASK_ID": spec["task_id"],
        "POLPO_RUN_ID": str(spec["run_id"]),
        "POLPO_RUN_MARK": contract.run_mark(spec["nonce"]),
        "POLPO_ATTEMPT": str(spec["attempt"]),
        "POLPO_TOKEN": spec["token"],
    }
    return {_bytes(k): _bytes(v) for k, v in (spec["env"] | own).items()}


def open_log(path: str) -> int:
    """The log, for the job to append to.  Raises OSError, also for what is no regular file: a FIFO would block us."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    os.set_blocking(fd, True)
    return fd


def fork_blocked(spec: contract.RunSpec, log: int, *, dies_with_runner: bool) -> Job:
    """Fork the main process, which waits for `release`.  Raises OSError (EAGAIN, ENOMEM, EMFILE)."""
    runner = os.getpid()
    told, release = os.pipe2(os.O_CLOEXEC)
    complaints, complain = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become(spec, log, told, complain, runner if dies_with_runner else None)
    os.setpgid(pid, pid)  # here, before the release: so that the ladder always finds the group
    os.close(told)
    os.close(complain)
    return Job(pid, release, complaints)


def release(job: Job) -> None:
    """Let the job execute its program."""
    try:
        os.write(job.release, b"!")
    except BrokenPipeError:
        pass  # it has complained and is gone
    os.close(job.release)


def withhold(job: Job) -> None:
    """Have the job end without executing anything."""
    os.close(job.release)


def complaint(job: Job) -> str:
    """Once the main process ended: why nothing was executed; empty if something was."""
    text = os.read(job.complaints, 4 * LONGEST_COMPLAINT).decode(errors="replace")
    os.close(job.complaints)
    return text


def _become(spec: contract.RunSpec, log: int, told: int, complain: int, runner: int | None) -> NoReturn:
    step, exit_code = "descriptors", NOT_EXECUTABLE
    hints: dict[int, str] = {}
    try:
        syscalls.close_all_but(log, told, complain)
        watch.restore_signals()
        if runner is not None:
            syscalls.die_with_parent(signal.SIGKILL)
        step = f"stdin {spec['stdin']}"
        _set_up_descriptors(spec, log)
        step = "resource limits"
        _set_limits(spec)
        step = f"working directory {spec['cwd']}"
        os.chdir(_bytes(spec["cwd"]))
        os.umask(spec["umask"])
        if (nice := spec.get("own_nice")) is not None:
            step, hints = f"nice {nice}", NICE_HINTS
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        if os.read(told, 1) and runner in (None, os.getppid()):
            step, hints = f"program {spec['argv'][0]}", HINTS
            _execute([_bytes(a) for a in spec["argv"]], environment(spec))
    except (OSError, ValueError) as exc:
        os.write(complain, f"{step}: {_explain(exc, hints)}".encode(errors="replace")[:LONGEST_COMPLAINT])
        if hints is HINTS and isinstance(exc, FileNotFoundError):
            exit_code = NOT_FOUND
    finally:  # whatever happens, a child never goes on as a second runner
        os._exit(exit_code)


def _set_up_descriptors(spec: contract.RunSpec, log: int) -> None:
    stdin = os.open(_bytes(spec["stdin"] or os.devnull), os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(stdin, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _set_limits(spec: contract.RunSpec) -> None:
    for name, (soft, hard) in spec["rlimits"].items():
        resource.setrlimit(getattr(resource, name), (soft, hard))
    try:
        os.setpriority(os.PRIO_PROCESS, 0, spec["nice"])
        small_files.write("/proc/self/oom_score_adj", b"%d" % spec["oom_score_adj"])
    except OSError:
        pass  # an unprivileged user cannot go back below what it inherited, and /proc may be read-only


def _execute(argv: list[bytes], env: dict[bytes, bytes]) -> None:
    """execvp(3) by the PATH of the job's own environment, without its second try by /bin/sh."""
    if b"/" in argv[0]:
        os.execve(argv[0], argv, env)
    refused: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for directory in env.get(b"PATH", os.defpath.encode()).split(b":"):
        try:
            os.execve(os.path.join(directory, argv[0]), argv, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as exc:
            refused = exc
    raise refused


def _explain(exc: OSError | ValueError, hints: dict[int, str]) -> str:
    if not isinstance(exc, OSError) or exc.errno is None:
        return str(exc)
    text = f"{errno.errorcode.get(exc.errno, exc.errno)}, {exc.strerror}"
    return f"{text} ({hints[exc.errno]})" if exc.errno in hints else text


def _bytes(text: str) -> bytes:
    """As it was submitted, whatever the locale of this process."""
    return text.encode("utf-8", "surrogateescape")
