"""Mail, against an SMTP server on loopback: how it looks, and what goes wrong with it."""

from __future__ import annotations

import smtplib
import ssl
import threading
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import pytest
import trio
from kit.mailserver import MailServer
from kit.waiting import BOUND, until
from kit.webhook import CERTIFICATE

from polpod.model.events import Event
from polpod.model.notifying import Email, Rule
from polpod.rules.notifying import Notice
from polpod.services import mail
from polpod.services.delivery import NotDelivered

EVENT = Event(
    seq=7, at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), kind="task:timeout", subject="task/12", body={"a": 1}
)


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", CERTIFICATE)
    mail._trust.cache_clear()


def send(
    fields: dict[str, Any], *, text: str = "it took too long\nsee its log", title: str = "it took too long"
) -> None:
    email = msgspec.convert(fields, Email)
    notice = Notice(EVENT, Rule(id="slow", channels=("mail",), severity="warning"), "slow", title, text)

    async def bounded() -> None:
        with trio.fail_after(BOUND):
            await mail.send(email, notice, email.password, BOUND, trio.CapacityLimiter(1))

    trio.run(bounded)


@pytest.mark.parametrize("tls", ["none", "starttls", "tls"])
def test_a_mail_arrives_as_it_was_written(tls: str) -> None:
    with MailServer(tls, login=("me", "s3cret")) as server:
        send(server.fields(to=["me@host.example", "you@host.example"]))
        (got,) = server.mails
        assert (got["From"], got["To"]) == ("polpod@host.example", "me@host.example, you@host.example")
        assert got["Subject"] == "it took too long"
        assert got["Date"].datetime == EVENT.at
        assert got["Message-ID"].startswith("<7.slow.")
        assert got["Auto-Submitted"] == "auto-generated"
        about = "polpod: task:timeout of task/12, event 7, warning, by rule slow"
        assert got.get_content() == f"it took too long\nsee its log\n\n-- \n{about}\n"
        assert len(server.recipients) == 2
        assert any(b"AUTH" in line for line in server.clear) is (tls == "none")


def test_text_of_a_job_forges_no_header_and_no_second_mail() -> None:
    with MailServer() as server:
        send(server.fields(), title="a\r\nBcc: x@y.example\n\nü☃", text="a\r\n.\r\nMAIL FROM:<x@y>\r\n☃\n" + "l" * 5000)
        (got,) = server.mails
        assert (got["Subject"], got["Bcc"]) == ("a Bcc: x@y.example ü☃", None)
        lines = got.get_content().splitlines()
        assert lines[:4] == ["a", ".", "MAIL FROM:<x@y>", "☃"]
        assert len(server.recipients) == 1


def test_what_the_server_refuses_is_said() -> None:
    with MailServer(login=("me", "s3cret")) as server:
        with pytest.raises(smtplib.SMTPAuthenticationError, match="go away"):
            send(server.fields(password="wrong"))
        server.answer = b"451 later"
        with pytest.raises(smtplib.SMTPDataError, match="later"):
            send(server.fields())
        with pytest.raises(smtplib.SMTPRecipientsRefused, match="unknown"):
            send(server.fields(to=["nobody@host.example"]))
        server.answer = b"250 taken"
        with pytest.raises(NotDelivered, match="not for nobody@"):
            send(server.fields(to=["me@host.example", "nobody@host.example"]))


def test_a_password_is_not_sent_to_who_cannot_prove_who_he_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    mail._trust.cache_clear()
    for tls in ("starttls", "tls"):
        with MailServer(tls, login=("me", "s3cret")) as server:
            with pytest.raises(ssl.SSLCertVerificationError, match="CERTIFICATE_VERIFY_FAILED"):
                send(server.fields())
            assert not any(b"AUTH" in line for line in server.clear)


def test_starttls_that_is_not_offered_is_no_reason_to_go_on_without() -> None:
    with MailServer("none", login=("me", "s3cret")) as server:
        with pytest.raises(smtplib.SMTPNotSupportedError):
            send(server.fields(tls="starttls"))
        assert not any(b"AUTH" in line for line in server.clear)


@pytest.mark.parametrize("tls", ["none", "tls"])
def test_nothing_is_left_of_an_attempt_that_nobody_waits_for(tls: str) -> None:
    email = partial(msgspec.convert, type=Email)
    notice = Notice(EVENT, Rule(id="slow", channels=("mail",)), "slow", "t", "t")
    limiter = trio.CapacityLimiter(1)

    async def impatient(fields: dict[str, Any]) -> None:
        with trio.move_on_after(0.2) as scope:
            await mail.send(email(fields), notice, None, 60, limiter)
        assert scope.cancelled_caught
        with trio.fail_after(BOUND):
            async with limiter:  # its thread has ended
                pass

    with MailServer(tls, hangs=True) as server:
        before = threading.active_count()
        trio.run(impatient, server.fields())
        until(lambda: threading.active_count() <= before + 2, "no thread waits")
