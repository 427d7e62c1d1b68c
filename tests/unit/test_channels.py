"""One attempt to tell somebody who does not behave: what is said of it, and what it may cost."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio
from kit.mailserver import MailServer

from polpod.model.events import Event
from polpod.model.notifying import Channel, Rule
from polpod.paths import StateDirectory
from polpod.rules.notifying import Notice
from polpod.services import delivery
from polpod.services.channels import MOST_SAID, Line
from polpod.services.instance import Instance
from polpod.services.mail import MOST_READ

EVENT = Event(seq=7, at=datetime(2026, 1, 2, tzinfo=UTC), kind="task:created", subject="task/12", body={})
NOTICE = Notice(EVENT, Rule(id="all", channels=("it",)), "all", "title", "text")


class Attempts:
    """Attempts to tell one channel, of a daemon that has its state in the directory."""

    def __init__(self, root: Path) -> None:
        self.paths = StateDirectory(str(root))
        Path(self.paths.notification_log("it")).parent.mkdir(parents=True)
        self.socket = "unused"

    def attempt(self, **says: Any) -> str | None:
        channel: Channel = msgspec.convert({"timeout": 20_000, **says}, Channel)  # type: ignore[arg-type]
        line = Line(cast(Instance, self), "it", channel)
        return trio.run(line.attempt, NOTICE)

    def log(self, suffix: str = "") -> Path:
        return Path(self.paths.notification_log("it") + suffix)


@pytest.fixture
def attempts(tmp_path: Path) -> Attempts:
    return Attempts(tmp_path)


def test_a_server_that_talks_without_end_is_not_listened_to(attempts: Attempts) -> None:
    """Nor is it kept in memory, and what is said of it is short enough for a record."""
    with MailServer() as server:
        server.answer = b"\r\n".join([b"554-" + b"x" * 500] * 1000)
        said = attempts.attempt(type="email", **server.fields())
        assert said == f"NotDelivered: the server says more than {MOST_READ} bytes"
        server.answer = b"\r\n".join([b"554-" + b"x" * 500] * 50 + [b"554 no"])
        said = attempts.attempt(type="email", **server.fields())
        assert said is not None
        assert (said.startswith("SMTPDataError: (554, b'x"), len(said)) == (True, MOST_SAID + 1)


@pytest.mark.parametrize("password", ["s3cret", "s'3\"cr\\et"])
def test_a_password_that_a_server_repeats_is_not_said(attempts: Attempts, password: str) -> None:
    with MailServer(login=("me", "another")) as server:
        said = attempts.attempt(type="email", **server.fields(password=password))
    assert said is not None
    assert ("your ***" in said, "cr" in said.partition("your")[2]) == (True, False)


def test_a_command_that_prints_without_end_is_ended(attempts: Attempts) -> None:
    said = attempts.attempt(type="command", command=["yes"])
    assert said == f"NotDelivered: printed more than {delivery.LOG_SIZE} bytes"
    assert attempts.attempt(type="command", command=["echo", "better"]) is None
    assert attempts.log().read_text() == "better\n"
    assert delivery.LOG_SIZE < attempts.log(".1").stat().st_size <= 2 * delivery.LOG_SIZE


def test_a_command_may_print_much(attempts: Attempts) -> None:
    assert attempts.attempt(type="command", command=["head", "-c", "1000000", "/dev/zero"]) is None
    assert attempts.log().stat().st_size == 1_000_000
