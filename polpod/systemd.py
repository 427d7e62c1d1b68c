"""What polpod and systemd say to each other: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).

Rules:

1. What systemd left in the environment is meant for this process alone: `take` removes it, so that neither the zygote nor
   a job, nor a command of `settings.notifications`, inherits it.
2. Nothing here blocks: what systemd does not take now is said together with whatever is said next.
3. Where systemd did not start us, all of this says nothing, and the daemon is the same.
"""

from __future__ import annotations

import logging
import os
import time

import sdnotify

from polpod.errors import StartError

VARIABLES = (
    *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"),
    *("LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES"),
)

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START."""

SOCKET_NAME = "polpod"
"""FileDescriptorName= in polpod.socket."""

log = logging.getLogger(__name__)


class Systemd:
    """Use `take`."""

    def __init__(self, environment: dict[str, str], notifier: sdnotify.SystemdNotifier | None) -> None:
        self.environment = environment
        """What `take` took: this process needs it again when it executes another version of itself in place.

        It holds until the process ends, since its pid stays.  A listening socket that came from systemd keeps its
        descriptor, and needs to be made inheritable again.
        """
        self.hears = notifier is not None
        self._notifier = notifier
        self._unsaid: dict[str, str] = {}

    @property
    def watchdog(self) -> float | None:
        """Seconds within which `pet` must be called, again and again; None: nobody waits for it."""
        usec = self.environment.get("WATCHDOG_USEC")
        if not self.hears or usec is None or self.environment.get("WATCHDOG_PID") != str(os.getpid()):
            return None
        return int(usec) / 1e6

    def listening(self, first: int = FIRST_DESCRIPTOR) -> int | None:
        """The descriptor of the socket that systemd listens on for us; from here on no child inherits it.

        It is the one that is named SOCKET_NAME, or the only one.  Raises StartError where it cannot be told from others.
        """
        if self.environment.get("LISTEN_PID") != str(os.getpid()):
            return None
        given = range(first, first + int(self.environment["LISTEN_FDS"]))
        for descriptor in given:
            os.set_inheritable(descriptor, False)
        names = self.environment.get("LISTEN_FDNAMES", "").split(":")
        ours = [d for d, name in zip(given, names, strict=False) if name == SOCKET_NAME] if len(given) > 1 else [*given]
        if len(ours) != 1:
            raise StartError(
                f"systemd passed {len(given)} sockets, of which {len(ours)} have FileDescriptorName={SOCKET_NAME}: "
                "there must be one",
                exit_code=2,
            )
        return ours[0]

    def ready(self) -> None:
        """Start, or a reload, is over."""
        self._say(READY="1")

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it, whatever came of it.  With Type=notify-reload systemd needs the time, too."""
        self._say(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))

    def stopping(self) -> None:
        self._say(STOPPING="1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._say(STATUS=text)

    def extend(self, seconds: float) -> None:
        """Lengthen the time for the start, the reload or the stop that goes on, to at least so much from now."""
        self._say(EXTEND_TIMEOUT_USEC=str(int(seconds * 1e6)))

    def pet(self) -> None:
        """Calm the watchdog."""
        self._say(WATCHDOG="1")

    def _say(self, **assignments: str) -> None:
        if self._notifier is None:
            return
        self._unsaid |= assignments
        text = "\n".join(f"{name}={' '.join(value.split())}" for name, value in self._unsaid.items())
        try:
            self._notifier.notify(
                text.encode(errors="replace").decode("latin-1")
            )  # it encodes as Latin-1; systemd reads UTF-8
        except OSError:  # rule 2: its queue is full, or systemd is being replaced (daemon-reexec)
            return
        self._unsaid.clear()


def take() -> Systemd:
    """What systemd left for this process, which is removed from `os.environ`; before anything else is started."""
    notifier = None
    if "NOTIFY_SOCKET" in os.environ:
        try:
            notifier = sdnotify.SystemdNotifier(debug=True)  # else it hides what could not be said
            notifier.socket.setblocking(False)
        except OSError as exc:
            log.warning("systemd cannot be notified: %s: %s", os.environ["NOTIFY_SOCKET"], exc.strerror)
    return Systemd({name: os.environ.pop(name) for name in VARIABLES if name in os.environ}, notifier)
