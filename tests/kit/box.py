"""A machine with a real systemd, for a test: namespaces, an overlay over this host's files, and a cgroup tree of its own.

Rules:

1. Nothing of the host starts in it, but journal, message bus, users and temporary files; nothing in it changes the host.
2. polpod is installed as for a user: the units of `systemd/`, /usr/bin/polpod and /usr/bin/polpoctl, which lead to an
   environment in /opt/polpo.  That has the sources and the packages of the running tests, and their interpreter, which
   the machine has at the same path: overlays, whose parent directories everybody may enter there (in the machine only),
   since user polpo may not enter /root.
3. Its disk lives until it is closed: over `reboot`, and over `cut`, which takes the power away.
4. When it is closed, or the tests are killed, no process, mount or cgroup is left.  Only the kernel is the host's.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path

from kit.processes import alive
from kit.waiting import BOUND, until
from polpod.runner.containment import own_cgroup

SCRIPT = Path(__file__).with_name("box.sh")
CHECKOUT = Path(__file__).parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
NEEDED = {"unshare": "util-linux", "nsenter": "util-linux", "setpriv": "util-linux", "dbus-daemon": "dbus"}

STARTED = {
    "sysinit.target": ["systemd-journald.service", "systemd-journal-flush.service"],
    "sockets.target": ["systemd-journald.socket", "systemd-journald-dev-log.socket", "dbus.socket"],
}
"""What the targets of a boot pull in, of all that is installed on the host."""

INSTALLED = {
    "system": "usr/lib/systemd/system",
    "user": "usr/lib/systemd/user",
    "sysusers.d": "usr/lib/sysusers.d",
    "tmpfiles.d": "usr/lib/tmpfiles.d",
}
"""Where the package installs the parts of `systemd/`."""

PREFIX = Path("/opt/polpo")
PYTHON = PREFIX / "bin/python"
PACKAGES = PREFIX / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
TESTS = PREFIX / "tests"
"""Where these tests are, for what they run in the machine."""

LAYERS = {CHECKOUT / "tests": TESTS, Path(sysconfig.get_path("purelib")): PACKAGES}
if not Path(sys.base_prefix).is_relative_to("/usr"):
    LAYERS[Path(sys.base_prefix)] = Path(sys.base_prefix)

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


class Box:
    """Boots when it is made."""

    def __init__(self) -> None:
        assert not (missing := _missing()), f"a machine for tests needs {missing}: apt install {missing}"
        cgroups = own_cgroup()
        assert cgroups is not None, "a machine for tests needs cgroup2, mounted anywhere"
        self.directory = Path(tempfile.mkdtemp(prefix="polpod-box-"))
        self.cgroup = Path(cgroups[0], self.directory.name)
        self.power: subprocess.Popen[bytes] | None = None
        self.pid = 0
        try:
            (self.directory / "disk").mkdir()
            (self.directory / "layers").write_text("".join(f"{here} {there}\n" for here, there in LAYERS.items()))
            self._lay_out(self.directory / "files")
            self.cgroup.mkdir()
            self._switch_on()
            self._booted()
        except BaseException:
            self.close()
            raise

    def _switch_on(self) -> None:
        command = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "sh", SCRIPT, "power"]
        with (self.directory / "console").open("wb") as console:
            self.power = subprocess.Popen(
                [*command, SCRIPT, self.directory, self.cgroup],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )

    def _lay_out(self, files: Path) -> None:
        system = files / "etc/systemd/system"
        for target, units in STARTED.items():
            for unit in units:
                link = system / f"{target}.wants" / unit
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(f"/lib/systemd/system/{unit}")
        (files / "var/log/journal").mkdir(parents=True)  # so that it is kept over boots
        for part in (CHECKOUT / "systemd").iterdir():
            shutil.copytree(part, files / INSTALLED[part.name])
        prefix = files / PREFIX.relative_to("/")
        (prefix / "bin").mkdir(parents=True)
        (files / "usr/bin").mkdir(parents=True)
        base = Path(sys.base_prefix, "bin")
        (prefix / "pyvenv.cfg").write_text(f"home = {base}\n")
        (prefix / "bin/python").symlink_to(base / "python{}.{}".format(*sys.version_info))
        for name in ("polpod", "polpoctl"):
            shutil.copytree(CHECKOUT / name, files / PACKAGES.relative_to("/") / name)
            script = prefix / "bin" / name
            script.write_text(f"#!{PYTHON}\nimport sys\n\nfrom {name}.__main__ import main\n\nsys.exit(main())\n")
            script.chmod(0o755)
            (files / "usr/bin" / name).symlink_to(PREFIX / "bin" / name)

    def _booted(self) -> None:
        """Wait for process 1 of a boot that is not the last one, and for the end of that boot."""

        def begun() -> bool:
            self._has_power()
            with suppress(FileNotFoundError):
                pid = int((self.directory / "pid").read_text())
                if pid != self.pid:
                    self.pid = pid
                    return True
            return False

        try:
            until(begun, "the machine starts process 1")
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.console()}") from None
        until(self._up, "the machine has booted")

    def _has_power(self) -> None:
        assert self.power is not None
        assert self.power.poll() is None, f"the machine ended:\n{self.console()}"

    def _up(self) -> bool:
        self._has_power()
        state = self.run("systemctl", "is-system-running").stdout.strip()
        assert state != "degraded", f"a unit failed:\n{self.journal()}"
        return state == "running"

    def run(
        self, *argv: str | Path, user: str | None = None, input: str = "", bound: float = 2 * BOUND
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine to its end, as root or as `user`.

        Raises subprocess.TimeoutExpired after `bound` seconds.
        """
        become = (
            () if user is None else ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "env", "HOME=/")
        )
        enter = [
            "nsenter",
            f"--target={self.pid}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--cgroup",
            "--root",
            "--wd",
        ]
        return subprocess.run(
            [*enter, "--", *become, *argv],
            input=input,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
            timeout=bound,
        )

    def do(self, *argv: str | Path, user: str | None = None, input: str = "", bound: float = 2 * BOUND) -> str:
        """As `run`, of a command that succeeds: what it printed."""
        ended = self.run(*argv, user=user, input=input, bound=bound)
        assert ended.returncode == 0, f"{argv} ended with {ended.returncode}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def path(self, path: str) -> Path:
        """A path of the machine, as seen from here for as long as this boot lasts."""
        return Path(f"/proc/{self.pid}/root{path}")

    def put(self, path: str, text: str) -> None:
        """Write a file of the machine."""
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(text)

    def controllers(self) -> list[str]:
        """The controllers of cgroup2 that this machine has."""
        return self.path("/sys/fs/cgroup/cgroup.controllers").read_text().split()

    def journal(self) -> str:
        """The journal of all boots, with all that was said until now; empty while the machine is down."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--no-pager", "--output=short-monotonic").stdout

    def console(self) -> str:
        """What was said before there was a journal."""
        return (self.directory / "console").read_text(errors="replace")

    def reboot(self) -> None:
        """Shut down in order, and boot again."""
        self.run("systemctl", "reboot")  # which may be ended by what it asks for
        self._booted()

    def cut(self) -> None:
        """Take the power away, and boot again; what was written is there, also what was not synced."""
        os.kill(self.pid, signal.SIGKILL)
        self._booted()

    def close(self) -> None:
        if self.power is not None:
            self.power.kill()
            self.power.wait()
            until(lambda: not self.pid or not alive(self.pid), "process 1 is gone, and with it all others")
        clear(self.directory, self.cgroup)

    def __enter__(self) -> Box:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def clear(directory: Path, cgroup: Path) -> None:
    """Remove what a machine without power leaves."""
    until(lambda: _removed(cgroup), f"nothing of {cgroup} is left")
    shutil.rmtree(directory)


def _removed(cgroup: Path) -> bool:
    for group, _, _ in os.walk(cgroup, topdown=False):
        with suppress(OSError):  # somebody in it is about to end
            os.rmdir(group)
    return not cgroup.exists()


def _missing() -> str:
    """The Debian packages that a machine needs and this host lacks."""
    packages = {package for command, package in NEEDED.items() if shutil.which(command) is None}
    if not SYSTEMD.exists():
        packages.add("systemd")
    return " ".join(sorted(packages))
