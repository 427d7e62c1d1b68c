"""Channels: one attempt to tell somebody, whatever the way; and the log of each channel.

Rules:

1. An attempt has a limit, and whatever goes wrong with it is said in words: it raises nothing.
2. Secrets are read from their files for each attempt, and are in no word that is said.
"""

from __future__ import annotations

import os
from contextlib import suppress

import trio

from polpod.model.notifying import Channel, Command, Email, Webhook
from polpod.rules.notifying import Notice
from polpod.runner import contract
from polpod.services import mail
from polpod.services.delivery import LOG_SIZE, NotDelivered, execute, post
from polpod.services.instance import Instance

LARGEST_SECRET = 65536

MOST_SAID = 1000
"""Characters of what went wrong: others say it, and it is in records, logs and events."""


class Line:
    """The way to one channel, with its log."""

    def __init__(self, instance: Instance, name: str, channel: Channel) -> None:
        self._instance, self._channel, self._name = instance, channel, name
        self._log = instance.paths.notification_log(name)
        self._threads = trio.CapacityLimiter(1)

    @property
    def kind(self) -> str:
        """What type of channel it is."""
        return str(self._channel.__struct_config__.tag)

    async def attempt(self, notice: Notice) -> str | None:
        """Tell of it; why it was not taken, or None."""
        seconds = self._channel.timeout / 1000
        secret: str | None = None
        try:
            with trio.fail_after(seconds):
                secret = await self._secret()
                await self._send(notice, secret, seconds)
        except trio.TooSlowError:
            return f"took longer than {seconds:g} s"
        except Exception as exc:  # noqa: BLE001 -- the boundary: whatever is wrong out there is tried again, and no defect here
            said = f"{type(exc).__name__}: {exc.__cause__ or exc}"  # what ended a TLS connection is a cause
            for form in _forms(secret):
                said = said.replace(form, "***")
            return said if len(said) <= MOST_SAID else f"{said[:MOST_SAID]}…"
        return None

    async def note(self, text: str) -> None:
        """A line of its log."""
        await trio.to_thread.run_sync(_note, self._log, text)

    async def _send(self, notice: Notice, secret: str | None, seconds: float) -> None:
        match self._channel:
            case Webhook(url=url):
                await post(url, notice, secret)
            case Email() as email:
                await mail.send(email, notice, secret, seconds, self._threads)
            case Command(command=command):
                output = await trio.to_thread.run_sync(_open, self._log)
                try:
                    await execute(command, notice, self._instance.socket, self._instance.paths.root, output)
                finally:
                    os.close(output)

    async def _secret(self) -> str | None:
        match self._channel:
            case Webhook(secret=secret, secret_file=path) | Email(password=secret, password_file=path):
                return secret if path is None else await trio.to_thread.run_sync(_read, self._instance.paths.root, path)
        return None


def _forms(secret: str | None) -> tuple[str, ...]:
    """How a message may have the secret: as it is, and as Python shows text and bytes that have it in them."""
    return () if secret is None else (secret, repr(secret)[1:-1], repr(secret.encode())[2:-1])


def _read(root: str, path: str) -> str:
    """The one line of the file.  Raises OSError, NotDelivered."""
    fd = os.open(os.path.join(root, path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not be waited for
    try:
        data = os.read(fd, LARGEST_SECRET)
    finally:
        os.close(fd)
    secret = data.decode(errors="replace").strip("\r\n")
    if not secret:
        raise NotDelivered(f"{path} is empty")
    return secret


def _note(path: str, text: str) -> None:
    with suppress(OSError):  # a full disk, no descriptor: what is told matters more than that it is noted
        fd = _open(path)
        try:
            os.write(fd, f"{contract.timestamp()} {text}\n".encode(errors="replace"))
        finally:
            os.close(fd)


def _open(path: str) -> int:
    """The log, to append to; nothing where there cannot be one.  Raises OSError where no descriptor is free."""
    with suppress(OSError):
        with suppress(FileNotFoundError):
            if (size := os.stat(path).st_size) > LOG_SIZE:
                os.truncate(path, min(size, 2 * LOG_SIZE))  # a command printed more until it was ended
                os.replace(path, f"{path}.1")
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
