"""The socket's client against a scripted polpod: calls, many calls, errors, and calls that outlast a restart."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from kit.backlog import full
from kit.scripted import HANG_UP, Refusal, Scripted
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage

from polpoctl import exits
from polpoctl.client import Connection, ContactLost, Lasting, Unreachable
from polpoctl.exits import Failure
from polpoctl.follow import Log, content
from polpoctl.render import notice
from polpoctl.steps import take
from polpod.wire.jsonrpc import RemoteError


@pytest.fixture
def polpod() -> Iterator[Scripted]:
    with Scripted() as scripted:
        yield scripted


@pytest.fixture
def connection(polpod: Scripted) -> Iterator[Connection]:
    connection = Connection(polpod.path)
    yield connection
    connection.close()


@contextmanager
def saying(path: Path, data: bytes, after: int = 1) -> Iterator[Connection]:
    """A connection to somebody who says this, whatever is asked, once that many calls were made."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        connection = Connection(str(path))
        other, _ = listener.accept()

        def say() -> None:
            heard = b""
            while heard.count(b"\n") < after:
                heard += other.recv(65536)
            with suppress(BrokenPipeError, ConnectionResetError):  # the client has heard enough
                other.sendall(data)

        sender = threading.Thread(target=say)
        sender.start()
        try:
            yield connection
        finally:
            connection.close()
            sender.join()
            other.close()


def test_a_call_has_its_result_or_raises_its_error(polpod: Scripted, connection: Connection) -> None:
    polpod.answers = {"task.get": lambda params: {"got": params}, "task.why": Refusal("not_found", "no task 9")}
    assert connection.call("task.get", {"id": "ü"}) == {"got": {"id": "ü"}}
    with pytest.raises(RemoteError, match="no task 9") as error:
        connection.call("task.why", {"id": "9"})
    assert error.value.type == "not_found"


def test_many_calls_are_answered_in_order(polpod: Scripted, connection: Connection) -> None:
    polpod.answers = {"task.get": lambda p: Refusal("conflict", p["id"]) if p["id"] == "3" else p["id"]}
    answers = list(connection.call_many(("task.get", {"id": str(n)}) for n in range(100)))
    assert [str(answer) for answer in answers] == [str(n) for n in range(100)]
    assert [n for n, answer in enumerate(answers) if isinstance(answer, RemoteError)] == [3]


def test_answers_may_come_in_any_order(tmp_path: Path) -> None:
    answers = b"".join(b'{"jsonrpc":"2.0","id":%d,"result":"of %d"}\n' % (number, number) for number in (2, 1))
    with saying(tmp_path / "s", answers, after=2) as connection:
        assert [connection.ask("x", {}), connection.ask("x", {})] == [1, 2]
        assert [connection.answer(1), connection.answer(2)] == ["of 1", "of 2"]


def test_large_calls_and_large_answers_do_not_wait_for_each_other(polpod: Scripted, connection: Connection) -> None:
    """Each message is larger than the socket's buffers; a client that only wrote, or only read, would hang."""
    polpod.answers = {"echo": lambda params: params["text"]}
    texts = [chr(ord("a") + n) * 2_000_000 for n in range(6)]
    asked = [connection.ask("echo", {"text": text}) for text in texts]
    assert [connection.answer(number) for number in asked] == texts


def test_what_cannot_be_sent_is_said(connection: Connection) -> None:
    for params in ({"text": "x" * 5_000_000}, {"text": "\udce9"}, {"n": float("nan")}):
        with pytest.raises(Failure, match="cannot be sent"):
            connection.call("echo", params)


def test_a_connection_that_ends_is_contact_lost(polpod: Scripted, connection: Connection) -> None:
    polpod.answers = {"task.get": HANG_UP}
    with pytest.raises(ContactLost) as lost:
        connection.call("task.get")
    assert lost.value.code == exits.UNREACHABLE


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Somebody who may be connected to, and does nothing by himself."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        yield listener


def test_one_that_goes_while_a_call_is_sent_is_contact_lost(tmp_path: Path) -> None:
    """It has read all and closes: that is no error of the socket, but the end of it."""
    with listening(tmp_path / "s") as listener:
        with closing(Connection(str(tmp_path / "s"))) as connection:
            other, _ = listener.accept()
            connection.ask("x", {})
            other.recv(65536)
            other.close()
            with pytest.raises(ContactLost, match="closed the connection"):
                connection.ask("x", {})


def test_nothing_follows_what_was_sent_in_part(tmp_path: Path) -> None:
    """It would be read as the rest of that."""
    with listening(tmp_path / "s"), closing(Connection(str(tmp_path / "s"), patience=0.1)) as connection:
        with pytest.raises(ContactLost, match=r"no answer for 0\.1 s"):
            connection.call("x", {"text": "x" * 4_000_000})
        assert connection.ended()


@contextmanager
def afar(
    path: Path, answer: Callable[[socket.socket, WSConnection], object], patience: float = 60
) -> Iterator[Connection]:
    """A connection by WebSocket to somebody who, once a call was made, does that."""
    path.write_text("polpo_x")
    path.chmod(0o600)

    def serve() -> None:
        other, _ = listener.accept()
        server = WSConnection(ConnectionType.SERVER)
        with other, suppress(OSError):  # the client has had enough
            while data := other.recv(65536):
                server.receive_data(data)
                for said in server.events():
                    if isinstance(said, Request):
                        other.sendall(server.send(AcceptConnection()))
                    elif isinstance(said, TextMessage):
                        answer(other, server)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        connection = Connection(f"ws://127.0.0.1:{listener.getsockname()[1]}", patience=patience, key_file=str(path))
        try:
            yield connection
        finally:
            connection.close()
            thread.join()


def test_one_that_answers_and_closes_is_asked_no_more(tmp_path: Path) -> None:
    def answer(other: socket.socket, server: WSConnection) -> None:
        said = server.send(TextMessage('{"jsonrpc":"2.0","id":1,"result":7}'))
        other.sendall(said + server.send(CloseConnection(1012)))

    with afar(tmp_path / "key", answer) as connection:
        assert connection.call("x") == 7
        with pytest.raises(ContactLost, match="closed the connection"):
            connection.call("x")


def test_pings_are_no_answer(tmp_path: Path) -> None:
    def answer(other: socket.socket, server: WSConnection) -> None:
        while True:
            other.sendall(server.send(Ping()))
            time.sleep(0.01)

    with afar(tmp_path / "key", answer, patience=5) as connection:
        with pytest.raises(ContactLost, match="no answer for 5 s"):
            connection.call("x")


def test_one_that_accepts_nobody_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with full(path), pytest.raises(Unreachable, match=r"no answer for 0\.1 s"):
        Connection(path, patience=0.1)


@pytest.mark.parametrize("garbage", [b"hello\n", b"{}\n", b'{"jsonrpc":"2.0","id":99,"result":1}\n', b"x" * 5_000_000])
def test_one_that_speaks_otherwise_is_told_so(tmp_path: Path, garbage: bytes) -> None:
    with saying(tmp_path / "s", garbage) as connection:
        with pytest.raises(Failure, match="does not speak") as failure:
            connection.call("task.get")
    assert failure.value.code == exits.UNREACHABLE


def test_an_error_about_no_call_in_particular_is_raised(tmp_path: Path) -> None:
    error = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"too long"}}\n'
    with saying(tmp_path / "s", error) as connection, pytest.raises(RemoteError, match="too long"):
        connection.call("task.get")


def test_nobody_there_names_the_socket_those_tried_and_the_way_out(tmp_path: Path) -> None:
    path = f"{tmp_path}/a b/.polpo/polpod.sock"
    with pytest.raises(Unreachable) as failure:
        Connection(path)
    assert failure.value.code == exits.UNREACHABLE
    assert path in str(failure.value)
    assert f"polpoctl start --root '{tmp_path}/a b'" in str(failure.value)
    with pytest.raises(Unreachable, match=r"tried: .*/one, .*/two\n.*: polpoctl start$"):
        Connection(f"{tmp_path}/one", [f"{tmp_path}/one", f"{tmp_path}/two"])


def test_a_path_too_long_for_a_socket_is_a_usage_error() -> None:
    with pytest.raises(Failure, match="107 bytes") as failure:
        Connection("/" + "x" * 107)
    assert failure.value.code == exits.USAGE


def test_a_lasting_call_is_made_again_after_a_restart(polpod: Scripted, capsys: pytest.CaptureFixture[str]) -> None:
    polpod.answers = {"task.wait": HANG_UP}
    daemon = Lasting(Connection(polpod.path))
    found: list[Any] = []
    caller = threading.Thread(target=lambda: found.append(daemon.call("task.wait", {"ids": ["5"]})))
    caller.start()
    polpod.called("task.wait")
    polpod.stop()
    polpod.answers = {"task.wait": [Refusal("unavailable", "recovering"), {"finished": True}]}
    polpod.start()
    caller.join(30)
    assert found == [{"finished": True}]
    assert {str(params) for _, params in polpod.calls} == {"{'ids': ['5']}"}
    said = capsys.readouterr().err
    assert "contact lost, waiting for polpod" in said
    assert "contact again" in said
    daemon.close()


def test_a_lasting_call_gives_up_at_its_bound(polpod: Scripted) -> None:
    daemon = Lasting(Connection(polpod.path), patience=0.3)
    polpod.stop()
    with pytest.raises(ContactLost, match="did not come back") as lost:
        daemon.call("task.wait", {})
    assert lost.value.code == exits.UNREACHABLE
    daemon.close()


def test_an_error_is_not_asked_again(polpod: Scripted) -> None:
    polpod.answers = {"task.wait": Refusal("not_found")}
    daemon = Lasting(Connection(polpod.path))
    with pytest.raises(RemoteError):
        daemon.call("task.wait", {})
    assert len(polpod.calls) == 1
    daemon.close()


class Runs:
    """Logs of a task's runs, answered in parts of `step` bytes, with contact lost before some answers.

    `over`: all of them are over before anybody asks; else each begins when the one before was read to its end.
    """

    def __init__(self, *logs: bytes, step: int = 3, lose: int = 0, over: bool = False) -> None:
        self.logs = logs
        self.step = step
        self.lose = lose
        self.read = len(logs) if over else 0
        """How many runs are over."""
        self.asked = 0

    def task_logs(self, params: dict[str, Any]) -> Any:
        self.asked += 1
        if self.lose and self.asked % self.lose == 0:
            return HANG_UP
        newest = min(self.read + 1, len(self.logs))
        run = params.get("run", params.get("after", newest - 1) + 1)
        offset = params.get("offset", 0)
        log = self.logs[run - 1] if run <= newest else b""
        data = log[offset:][: min(self.step, params["limit"])]
        if not data and run == newest:
            self.read = max(self.read, run)
        return {
            "run_id": run if run <= newest else None,
            "offset": offset,
            "data": base64.b64encode(data).decode(),
            "next_offset": offset + len(data),
            "end": not data,
        }

    def task_wait(self, params: dict[str, Any]) -> Any:
        return {"finished": self.read >= len(self.logs), "tasks": []}


def read(daemon: Lasting, steps: Any, seen: bytearray) -> None:
    for part in take(steps, daemon.call, notice):
        seen.extend(content(part))


@pytest.mark.parametrize("lose", [0, 2, 3, 5])
@pytest.mark.parametrize("over", [False, True])
def test_a_followed_log_has_every_byte_of_every_run_once(polpod: Scripted, lose: int, over: bool) -> None:
    logs = Runs(b"first attempt\n\xff\x00", b"", b"third \r\n", lose=lose, over=over)
    polpod.answers = {"task.logs": logs.task_logs, "task.wait": logs.task_wait}
    daemon = Lasting(Connection(polpod.path))
    seen = bytearray()
    read(daemon, Log("5", {"after": 0}).follow(), seen)
    assert bytes(seen) == b"".join(logs.logs)
    daemon.close()


def test_a_named_run_is_followed_to_its_own_end(polpod: Scripted) -> None:
    logs = Runs(b"first", b"second")
    polpod.answers = {"task.logs": logs.task_logs, "task.wait": logs.task_wait}
    daemon = Lasting(Connection(polpod.path))
    seen = bytearray()
    read(daemon, Log("5", {"run": 1}).follow(), seen)
    assert bytes(seen) == b"first"
    daemon.close()


def test_following_ends_for_a_task_that_can_never_start(polpod: Scripted) -> None:
    nothing = {"run_id": None, "offset": 0, "data": "", "next_offset": 0, "end": False}
    polpod.answers = {"task.logs": nothing, "task.wait": {"finished": True, "tasks": []}}
    daemon = Lasting(Connection(polpod.path))
    assert list(take(Log("5").follow(), daemon.call, notice)) == []
    daemon.close()


def test_the_last_lines_are_asked_for_once_and_then_what_follows(polpod: Scripted) -> None:
    parts = [
        {"run_id": 7, "offset": 90, "data": "YWI=", "next_offset": 92, "end": False},
        {"run_id": 7, "offset": 92, "data": "", "next_offset": 92, "end": False},
    ]
    polpod.answers = {"task.logs": parts}
    daemon = Lasting(Connection(polpod.path))
    seen = bytearray()
    read(daemon, Log("5", tail=10).present(), seen)
    first, second = (params for _, params in polpod.calls)
    assert (first["tail"], "offset" in first, "run" in first) == (10, False, False)
    assert ("tail" in second, second["offset"], second["run"]) == (False, 92, 7)
    assert bytes(seen) == b"ab"
    daemon.close()


def test_what_there_is_of_a_log_that_grows_is_what_there_was_when_it_was_asked_for(polpod: Scripted) -> None:
    def grown(params: dict[str, Any]) -> dict[str, Any]:
        offset = params.get("offset", 0)
        data = "YWI=" if len(polpod.calls) < 9 else ""  # who reads for ever is found out soon
        part = {"run_id": 7, "offset": offset, "data": data, "next_offset": offset + 2, "end": False}
        return part | {"size": offset + 5}  # when nothing was read yet, 5

    polpod.answers = {"task.logs": grown}
    daemon = Lasting(Connection(polpod.path))
    seen = bytearray()
    read(daemon, Log("5").present(), seen)
    assert bytes(seen) == b"ababab"
    daemon.close()
