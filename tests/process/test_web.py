"""The web endpoint in a real daemon: who is let in, with what rights, and what they cannot do (DESIGN §9, §10)."""

from __future__ import annotations

import json
import os
import random
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trio
from kit.client import Refused
from kit.host import Host
from kit.jobs import waits_for
from kit.ports import free_port
from kit.waiting import until
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from polpoctl.client import AsyncClient, Client, Failure, Unreachable
from polpod.errors import Unavailable
from polpod.model.events import Event
from polpod.model.organisation.people import ApiKey, HumanRole
from polpod.services.keys import SECRET_SIZE, Access, Keys, Role
from polpod.services.meter import Meter
from polpod.services.reload import Reload
from polpod.services.rpc.kept import Kept
from polpod.services.rpc.method import Right
from polpod.services.rpc.server import Shared, most_connections
from polpod.services.rpc.table import METHODS
from polpod.services.web.access import Door
from polpod.services.web.server import MOST, _Visit
from polpod.services.web.websocket import GOING_AWAY

ROLES = ("admin", "operator", "observer")


class Web:
    """A daemon with a web endpoint, and a key of each role."""

    def __init__(self, host: Host, **settings: Any) -> None:
        self.host = host
        self.port = free_port()
        self.host.configure(maxConcurrency=2, web={"listen": f"127.0.0.1:{self.port}"} | settings)
        host.start()
        host.call("user.add", username="ann")
        self.made = {role: host.call("key.add", user="ann", name=role, role=role) for role in ROLES}
        self.keys = {role: made["secret"] for role, made in self.made.items()}
        until(self.listens, "it listens")

    def listens(self, path: str = "/health") -> bool:
        try:
            return self.get(path)[0] == 200
        except OSError:
            return False

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as http:
            http.request(method, path, headers={n.replace("_", "-"): v for n, v in headers.items()})
            answer = http.getresponse()
            return answer.status, answer.read(), {n.lower(): v for n, v in answer.getheaders()}

    @asynccontextmanager
    async def open(self, role: str) -> AsyncIterator[Socket]:
        headers = [("Authorization", f"Bearer {self.keys[role]}")]
        async with open_websocket_url(f"ws://127.0.0.1:{self.port}/rpc", extra_headers=headers) as websocket:
            yield Socket(websocket)
        await websocket._stream.aclose()  # which trio-websocket leaves open where the server closed first

    def handshake(self, **headers: str) -> int:
        """The status with which a handshake is answered."""
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        offer = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec_WebSocket_Key": key,
            "Sec_WebSocket_Version": "13",
        }
        return self.get("/rpc", **offer, **headers)[0]

    def said(self, words: str) -> int:
        return self.host.log().count(words)


class Socket:
    def __init__(self, websocket: WebSocketConnection) -> None:
        self.websocket = websocket
        self.told: list[dict[str, Any]] = []
        self._id = 0

    async def call(self, method: str, **params: Any) -> Any:
        self._id += 1
        await self.send({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params})
        while True:
            message = json.loads(await self.websocket.get_message())
            if message.get("id") == self._id:
                return message["result"] if "result" in message else message["error"]["data"]["type"]
            self.told.append(message)

    async def closed(self) -> int:
        """The code with which it is closed."""
        with trio.fail_after(60):
            with suppress(ConnectionClosed):
                while True:
                    await self.websocket.get_message()
        return int(self.websocket.closed.code)

    async def send(self, message: Any) -> None:
        await self.websocket.send_message(json.dumps(message))


@pytest.fixture
def web(host: Host) -> Iterator[Web]:
    yield Web(host)
    assert "Traceback" not in host.log(), host.log()


def test_each_role_may_do_what_it_may_and_nothing_else(web: Web) -> None:
    held = web.host.submit("true", hold=True)
    allowed = {
        "task.list": ("admin", "operator", "observer"),
        "event.subscribe": ("admin", "operator", "observer"),
        "task.cancel": ("admin", "operator"),
        "task.submit": ("admin", "operator"),
        "queue.set": ("admin",),
        "key.add": ("admin",),
        "audit.list": ("admin",),
    }
    params: dict[str, dict[str, Any]] = {
        "task.cancel": {"select": {"ids": [held]}},
        "task.submit": {"command": ["true"], "cwd": "/", "env": {"TOKEN": "hidden"}},
        "queue.set": {"name": "default", "slots": 3},
        "key.add": {"user": "ann", "name": "another"},
    }

    async def main() -> None:
        for role in ROLES:
            async with web.open(role) as socket:
                for method, roles in allowed.items():
                    answer = await socket.call(method, **params.get(method, {}))
                    assert (answer != "permission_denied") == (role in roles), (role, method, answer)
        beyond = {
            "operator": [m.name for m in METHODS.values() if m.right is Right.OWNER],
            "observer": [m.name for m in METHODS.values() if m.changes],
        }
        for role, methods in beyond.items():
            async with web.open(role) as socket:
                for method in methods:
                    assert await socket.call(method) == "permission_denied", (role, method)

    trio.run(main)
    assert web.host.task(held)["status"] == "cancelled"
    assert [e["body"]["by"] for e in web.host.call("event.list", after=0, kinds=["key:added"])["events"]][
        -1
    ] == "user ann"
    assert web.host.call("key.get", id=web.made["observer"]["key"]["id"])["key"]["last_used_at"] is not None


def test_who_only_looks_is_not_shown_the_values_of_environments(web: Web) -> None:
    """Though they are the tasks of the user as whom all work of keys runs."""
    held = web.host.submit("true", hold=True, env={"TOKEN": "canary"})
    document = json.dumps({"tasks": [{"title": "t", "command": ["true"], "env": {"TOKEN": "canary"}}]})
    web.host.call("mission.create", name="m", document=document)

    async def main() -> None:
        for role in ROLES:
            async with web.open(role) as socket:
                assert "spec" in (await socket.call("task.get", id=held))["task"]
                shown = (
                    await socket.call("task.get", id=held, env=True),
                    await socket.call("mission.document", id="m"),
                )
                assert ["canary" in json.dumps(s) for s in shown] == [role != "observer"] * 2

    trio.run(main)


def test_without_a_right_key_nobody_is_let_in_and_nothing_is_told(web: Web) -> None:
    expired = web.host.call("key.add", user="ann", name="old", expires_at="2020-01-01T00:00:00Z")
    removed = web.host.call("key.add", user="ann", name="gone")
    web.host.call("key.remove", id=removed["key"]["id"])
    revoked = web.host.call("key.add", user="ann", name="revoked")
    web.host.call("key.revoke", id=revoked["key"]["id"])
    right = web.keys["admin"]
    bad = [right[:-1], right + "x", right.swapcase(), expired["secret"], removed["secret"], revoked["secret"]]

    for key in bad:
        assert web.handshake(Authorization=f"Bearer {key}") == 401
    assert web.handshake() == 401
    assert web.handshake(Sec_WebSocket_Protocol="polpod, polpod.key.wrong") == 401
    assert web.handshake(Authorization=f"Basic {right}") == 401
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{web.port}.evil.example"):
        assert web.handshake(Authorization=f"Bearer {right}", Origin=origin) == 403

    async def main() -> None:
        async with open_websocket_url(
            f"ws://127.0.0.1:{web.port}/rpc",
            subprotocols=("polpod", f"polpod.key.{right}"),
            extra_headers=[("Origin", f"http://127.0.0.1:{web.port}")],
        ) as websocket:
            assert websocket.subprotocol == "polpod"

    trio.run(main)
    assert web.get("http://evil.example/", Host=f"127.0.0.1:{web.port}")[0] == 421
    for name in ("evil.example", f"evil.example:{web.port}", "127.0.0.1", ""):  # DNS rebinding
        for path in ("/", "/health", "/session"):
            assert web.get(path, Host=name, Authorization=f"Bearer {right}")[0] == 421
    assert web.get("/session")[0] == 401
    status, _, headers = web.get("/session", Authorization="Bearer wrong")
    assert (status, headers["cache-control"]) == (401, "no-store")
    assert web.said("a wrong key from 127.0.0.1") == 8  # who shows none is no stranger at the door
    assert not any(key in web.host.log() for key in [*bad, *web.keys.values()])
    secret = Path(web.host.paths.key_secret)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    for file in Path(web.host.paths.path).iterdir():
        if file.is_file():
            content = file.read_bytes()
            assert not any(key.encode() in content for key in web.keys.values()), file


def test_who_tries_keys_is_told_to_wait_and_logged_once_and_right_keys_go_on(web: Web) -> None:
    statuses = [web.get("/session", Authorization=f"Bearer guess-{n}")[0] for n in range(15)]
    assert statuses == [401] * 10 + [429] * 5
    assert web.said("a wrong key from") == 10
    assert web.said("too many wrong keys from 127.0.0.1") == 1
    status, body, _ = web.get("/session", Authorization=f"Bearer {web.keys['observer']}")
    assert (status, json.loads(body)) == (200, {"user": "ann", "role": "observer"})


def test_a_key_that_is_revoked_ends_what_it_opened(web: Web) -> None:
    async def main() -> None:
        async with web.open("observer") as seen, web.open("operator") as other:
            assert "tasks" in await seen.call("task.list")
            web.host.call("key.revoke", id=web.made["observer"]["key"]["id"])
            assert await seen.closed() == 4403
            assert "tasks" in await other.call("task.list")
            web.host.call("user.remove", id=web.made["operator"]["key"]["user_id"])
            with trio.fail_after(30):
                assert await other.closed() == 4403

    trio.run(main)


@pytest.mark.parametrize("harm", ["directory", "empty"])
def test_without_its_secret_no_key_is_taken_for_right_and_it_is_said_why(host: Host, harm: str) -> None:
    secret = Path(host.paths.key_secret)
    secret.parent.mkdir(mode=0o700, exist_ok=True)
    if harm == "directory":
        secret.mkdir()
    else:
        secret.touch(0o600)
    port = free_port()
    host.configure(web={"listen": f"127.0.0.1:{port}"})
    host.start()
    host.call("user.add", username="ann")
    with pytest.raises(Refused, match=r"key\.secret"):
        host.call("key.add", user="ann", name="laptop")
    until(lambda: "the web endpoint listens" in host.log(), "it listens")
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as http:
        http.request("GET", "/session", headers={"Authorization": "Bearer polpo_x"})
        answer = http.getresponse()
        assert (answer.status, b"key.secret" in answer.read()) == (503, True)


def test_keys_are_good_again_once_a_lost_secret_is_put_back(web: Web) -> None:
    secret, right = Path(web.host.paths.key_secret), {"Authorization": f"Bearer {web.keys['observer']}"}
    kept = secret.read_bytes()
    secret.unlink()
    web.host.kill()
    web.host.start()
    until(web.listens, "it listens again")
    status, body, _ = web.get("/session", **right)
    assert (status, b"key.secret is missing" in body) == (503, True)
    secret.write_bytes(kept)
    assert web.get("/session", **right)[0] == 200


def test_what_is_said_on_the_socket_can_be_said_here_too(web: Web) -> None:
    go = web.host.root / "go"

    async def main() -> None:
        async with web.open("operator") as socket:
            await socket.call("event.subscribe", after=0)
            task_id = (await socket.call("task.submit", command=["sh", "-c", f"echo on; {waits_for(go)}"], cwd="/"))[
                "id"
            ]
            await socket.call("task.logs", id=task_id, follow=True)
            with trio.fail_after(30):
                while not any(m["method"] == "task.logged" and m["params"]["data"] for m in socket.told):
                    socket.told.append(json.loads(await socket.websocket.get_message()))
            go.touch()
            answer = await socket.call("task.wait", ids=[task_id], timeout=30)
            assert answer["finished"] is True
            await socket.send([{"jsonrpc": "2.0", "id": n, "method": "daemon.health"} for n in range(3)])
            while True:
                message = json.loads(await socket.websocket.get_message())
                if isinstance(message, list):
                    assert [m["id"] for m in message] == [0, 1, 2]
                    break
            await socket.websocket.send_message('{"jsonrpc": "2.0",\n "id": "lines",\n\n "method": "daemon.health"}')
            while json.loads(await socket.websocket.get_message()).get("id") != "lines":
                pass
            await socket.websocket.send_message("no JSON")
            while json.loads(await socket.websocket.get_message()).get("error", {}).get("code") != -32700:
                pass
            await socket.websocket.send_message("x" * (4 * 2**20 + 1))  # a frame that is too long
            assert await socket.closed() == 1009

    trio.run(main)


def test_files_are_sent_with_what_keeps_them_safe_and_nothing_beside_them(web: Web) -> None:
    status, _, headers = web.get("/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert web.get("/", method="HEAD")[1] == b""
    for path in ("/../server.py", "/static/../../server.py", "/%2e%2e/server.py", "//etc/passwd.txt", "/.hidden.js"):
        assert web.get(path)[0] == 404, path
    assert web.get("/tasks/12")[0] == 404  # below another address the page would not find its scripts
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "CONNECT"):
        assert web.get("/", method=method)[0] in (400, 405), method
    assert web.get("/rpc")[0] == 426
    assert web.get("/metrics")[0] == 401
    status, text, headers = web.get("/metrics", Authorization=f"Bearer {web.keys['observer']}")
    assert (status, text.endswith(b"# EOF\n")) == (200, True)
    assert headers["content-type"].startswith("application/openmetrics-text")


def upgrade(web: Web, role: str) -> bytes:
    return (
        f"GET /rpc HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {web.keys[role]}\r\n\r\n"
    ).encode()


def test_handshakes_of_every_kind_of_nonsense_harm_nobody(web: Web) -> None:
    rng = random.Random(7)
    right = upgrade(web, "admin")
    mended = [
        right.replace(b"13", b"99"),
        right.replace(b"Upgrade\r\n", b"close\r\n"),
        right.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"?"),
        right.replace(b"HTTP/1.1", b"HTTP/1.0"),
        right.replace(b"GET", b"POST"),
        right[:-2] + b"Content-Length: 5\r\n\r\nhello",
        b"\x16\x03\x01" + bytes(200),
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"\r\n" * 1000,
        right + b"\xff" * 1000,
    ]
    for _ in range(60):
        data = bytearray(right)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        mended.append(bytes(data[: rng.randrange(1, len(data) + 1)]))
    for data in mended:
        with closing(socket.create_connection(("127.0.0.1", web.port), timeout=30)) as stranger:
            with suppress(OSError):  # it may close before we have said everything
                stranger.sendall(data)
                stranger.shutdown(socket.SHUT_WR)
                while stranger.recv(65536):
                    pass
    until(lambda: web.get("/health")[0] == 200, "it is well")
    assert "defect" not in web.host.log(), web.host.log()


def test_who_speaks_while_its_connection_is_closed_is_no_defect(web: Web) -> None:
    with closing(socket.create_connection(("127.0.0.1", web.port), timeout=30)) as client:
        client.sendall(upgrade(web, "observer"))
        assert client.recv(65536).split()[1] == b"101"
        web.host.call("key.revoke", id=web.made["observer"]["key"]["id"])
        assert client.recv(65536)[:4] == b"\x88\x02" + (4403).to_bytes(2, "big")
        client.sendall(b"\x89\x80\0\0\0\0")  # a ping
        while client.recv(65536):
            pass
    assert web.host.stop() == 0  # whatever it has to say of that is said
    assert "defect" not in web.host.log(), web.host.log()


class Knowing:
    """Keys, whose one each is."""

    async def find(self, key: str) -> Access:
        return Access("key-1", "user-1", "ann", Role.ADMIN)

    async def until_over(self, access: Access) -> None:
        await trio.sleep_forever()


HEAD = (
    "GET /rpc HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: {version}\r\nAuthorization: Bearer x\r\n\r\n"
)


def test_who_is_gone_before_its_handshake_is_answered_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    """As when a page is loaded anew while it connects."""

    class Slow(Knowing):
        async def find(self, key: str) -> Access:
            await found.wait()
            return await super().find(key)

    keys: Any = Slow()
    found = trio.Event()

    async def main() -> None:
        near, far = memory_stream_pair()
        async with trio.open_nursery() as nursery:
            visit = _Visit(keys, Door(keys, frozenset({"here"})), Shared(), keys)
            nursery.start_soon(visit.receive, near)
            await far.send_all(HEAD.format(version=13).encode())
            await wait_all_tasks_blocked()
            await far.aclose()
            found.set()

    trio.run(main)
    assert not caplog.records


def test_what_is_kept_of_messages_that_are_not_whole_is_bounded_for_all_together() -> None:
    """As on the socket: else one key would do to have four megabytes of each of five hundred."""
    desk: Any = SimpleNamespace(instance=SimpleNamespace(meter=Meter()), keys=Knowing(), reload=Reload([]))
    size = 2**17
    begun = b"\x01\xff" + size.to_bytes(8, "big") + bytes(4) + b"x" * size  # a frame, which is not the last

    async def main() -> None:
        shared = Shared(kept=Kept(3 * size + 2**16))
        fars = []
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                near, far = memory_stream_pair()
                visit = _Visit(desk, Door(desk.keys, frozenset({"here"})), shared, desk)
                nursery.start_soon(visit.receive, near)
                await far.send_all(HEAD.format(version=13).encode())
                assert (await far.receive_some()).split()[1] == b"101"
                await far.send_all(begun)
                await wait_all_tasks_blocked()
                fars.append(far)
            assert await fars[0].receive_some() == b"\x88\x02" + GOING_AWAY.to_bytes(2, "big")
            for far in fars[1:]:
                await far.send_all(b"\x89\x80\0\0\0\0")  # a ping
                assert await far.receive_some() == b"\x8a\0"
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_who_answers_a_close_does_not_hold_up_the_end() -> None:
    """Of a generation: a reload with a page open somewhere took a second longer, for all."""
    desk: Any = SimpleNamespace(instance=SimpleNamespace(meter=Meter()), keys=Knowing(), reload=Reload([]))
    closing_frame = GOING_AWAY.to_bytes(2, "big")

    async def main() -> None:
        near, far = memory_stream_pair()
        stop = trio.CancelScope()

        async def visit() -> None:
            with stop:
                await _Visit(desk, Door(desk.keys, frozenset({"here"})), Shared(), desk).receive(near)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(visit)
            await far.send_all(HEAD.format(version=13).encode())
            assert (await far.receive_some()).split()[1] == b"101"
            await wait_all_tasks_blocked()
            began = trio.current_time()
            stop.cancel()
            assert await far.receive_some() == b"\x88\x02" + closing_frame
            await far.send_all(b"\x88\x82\0\0\0\0" + closing_frame)
        assert trio.current_time() == began

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_handshake_that_is_refused_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """The client stays, and nothing more comes from either side."""
    knowing: Any = Knowing()

    async def main() -> None:
        near, far = memory_stream_pair()
        nobody: Any = None
        async with trio.open_nursery() as nursery:
            visit = _Visit(nobody, Door(knowing, frozenset({"here"})), Shared(), nobody)
            nursery.start_soon(visit.receive, near)
            await far.send_all(HEAD.format(version=8).encode())
            assert (await far.receive_some()).split()[1] == b"426"

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert not caplog.records


def test_a_key_is_known_while_the_store_is_away_unless_anything_happened_to_one(tmp_path: Path) -> None:
    """Else the alert of a keyed scrape would be that polpod does not answer."""
    (tmp_path / "key.secret").write_bytes(bytes(SECRET_SIZE))
    at = datetime.now(UTC)
    key = ApiKey(
        id="key-1", key_hash="x", name="n", role=HumanRole.OBSERVER, user_id="user-1", created_at=at, last_used_at=at
    )
    away = False
    forget: list[Any] = []

    async def read(body: object) -> tuple[ApiKey, str]:
        if away:
            raise Unavailable("away")
        return key, "ann"

    instance: Any = SimpleNamespace(
        paths=SimpleNamespace(key_secret=str(tmp_path / "key.secret")),
        tasks=SimpleNamespace(read=read, subscribe=forget.append),
    )

    async def main() -> None:
        nonlocal away
        keys = Keys(instance)
        found = await keys.find("right")
        away = True
        assert await keys.find("right") == found
        with pytest.raises(Unavailable):
            await keys.find("another")
        forget[0]((Event(at=at, kind="key:revoked", subject="key/key-2", body={}),))
        with pytest.raises(Unavailable):
            await keys.find("right")

    trio.run(main)


def test_what_a_key_opened_outlives_a_store_that_cannot_be_asked() -> None:
    answers: list[Any] = [None, Unavailable("away"), Unavailable("away")]
    asked: list[float] = []

    async def read(body: object) -> Any:
        asked.append(trio.current_time() - began)
        answer = answers.pop()
        if answer is not None:
            raise answer
        return None

    class Bell:
        async def wait(self, until: float) -> None:
            await trio.sleep_until(until)

    instance: Any = SimpleNamespace(
        journal=SimpleNamespace(listening=lambda subjects: nullcontext(Bell())),
        tasks=SimpleNamespace(read=read, subscribe=lambda callback: None),
    )
    began = 0.0

    async def main() -> None:
        nonlocal began
        began = trio.current_time()
        await Keys(instance).until_over(Access("key-1", "user-1", "ann", Role.OBSERVER))

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert asked == pytest.approx([0, 5, 10])


def test_who_finds_no_room_costs_no_descriptor(web: Web) -> None:
    descriptors = Path(f"/proc/{web.host.call('daemon.status')['pid']}/fd")
    before = len(list(descriptors.iterdir()))
    most = max(8, min(MOST, most_connections() // 4))
    with ExitStack() as crowd:
        for _ in range(most + 80):
            crowd.enter_context(closing(socket.create_connection(("127.0.0.1", web.port), timeout=30)))
        until(lambda: len(list(descriptors.iterdir())) >= before + most - 9, "all that there is room for are connected")
        assert web.host.finished(web.host.submit("true"))["status"] == "done"
        assert len(list(descriptors.iterdir())) < before + most + 60


def test_clients_that_never_read_slow_nobody(web: Web) -> None:
    async def main() -> None:
        async with AsyncExitStack() as deaf:
            for _ in range(10):
                socket = await deaf.enter_async_context(web.open("observer"))
                await socket.send({"jsonrpc": "2.0", "method": "event.subscribe", "params": {"after": 0}})
                for n in range(20):
                    await socket.send({"jsonrpc": "2.0", "id": n, "method": "rpc.discover", "params": {}})
            async with web.open("operator") as socket:
                with trio.fail_after(60):
                    for _ in range(50):
                        await socket.call("task.submit", command=["true"], cwd="/", hold=True)

    trio.run(main)


def test_it_is_told_when_polpod_reloads_and_comes_again(web: Web) -> None:
    async def main() -> None:
        async with web.open("observer") as socket:
            number = (await socket.call("event.subscribe", after=0))["subscription"]
            assert number == 1
            await trio.to_thread.run_sync(lambda: web.host.call("daemon.reload"))
            assert await socket.closed() in (1006, 1012)

    trio.run(main)
    until(web.listens, "it listens again")


def test_what_was_begun_is_answered_before_polpod_reloads(web: Web) -> None:
    async def main() -> None:
        async with web.open("admin") as socket:
            submit = {"method": "task.submit", "params": {"command": ["true"], "cwd": "/", "hold": True}}
            calls = [{"method": "daemon.reload"}, *[submit] * 3]
            await socket.send([{"jsonrpc": "2.0", "id": n} | call for n, call in enumerate(calls)])
            answers = json.loads(await socket.websocket.get_message())
            assert [answer["result"].get("id") for answer in answers[1:]] == [str(n) for n in range(1, 4)]
            assert await socket.closed() == 1012

    trio.run(main)
    until(web.listens, "it listens again")


def test_a_place_that_is_taken_keeps_nobody_from_work(host: Host) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        host.configure(web={"listen": f"127.0.0.1:{port}"})
        host.start()
        assert host.finished(host.submit("true"))["status"] == "done"
        until(lambda: f"nobody listens on 127.0.0.1:{port}" in host.log(), "it says so")


def test_a_place_that_cannot_be_keeps_nobody_from_work(host: Host) -> None:
    host.configure(web={"listen": "a..b:7575"})
    host.start()
    assert host.finished(host.submit("true"))["status"] == "done"
    until(lambda: "nobody listens on a..b:7575" in host.log(), "it says so")


def test_nobody_is_asked_for_the_passphrase_of_a_key(host: Host) -> None:
    """Which would hold up everything for as long as nobody answers."""
    key, certificate = host.root / "key.pem", host.root / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-passout", "pass:x"]
    subprocess.run([*words, "-subj", "/CN=x", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    host.configure(web={"listen": f"127.0.0.1:{free_port()}", "certificate": str(certificate), "key": "key.pem"})
    host.start()
    until(lambda: f"{certificate} with {key}: " in host.log(), "it says which files")
    assert "pass phrase" not in host.log()


def test_a_unix_socket_for_a_proxy(host: Host) -> None:
    path = host.root / "web.sock"
    host.configure(web={"listen": f"unix:{path}", "hosts": ["polpo.example.org"]})
    host.start()
    until(path.exists, "it listens")
    for name, status in (("polpo.example.org", b"200"), ("other.example.org", b"421")):
        with closing(socket.socket(socket.AF_UNIX)) as proxy:
            proxy.connect(str(path))
            proxy.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            assert proxy.recv(65536).split()[1] == status
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660


def test_tls_with_given_files(host: Host) -> None:
    key, certificate = host.root / "key.pem", host.root / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*words, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    port = free_port()
    host.configure(web={"listen": f"127.0.0.1:{port}", "certificate": str(certificate), "key": str(key)})
    host.start()
    tls = ssl.create_default_context(cafile=str(certificate))

    def answers() -> bytes | None:
        try:
            with (
                closing(socket.create_connection(("127.0.0.1", port), timeout=30)) as plain,
                closing(tls.wrap_socket(plain, server_hostname="localhost")) as stream,
            ):
                stream.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
                return stream.recv(65536)
        except ConnectionRefusedError:
            return None

    answer = until(answers, "it listens")
    assert answer.split()[1] == b"200"
    assert b"Strict-Transport-Security" in answer


def test_settings_that_mean_nothing_are_refused_with_their_place(host: Host) -> None:
    for web in (
        {"listen": "7575"},
        {"listen": "127.0.0.1:70000"},
        {"listen": "unix:relative"},
        {"listen": "127.0.0.1:1", "key": "x"},
        {},
    ):
        host.configure(web=web)
        said = host.command("--root", str(host.root), "--check-config")
        assert said.returncode == 2, said
        assert "web" in said.stderr


def test_metrics_are_for_those_who_have_a_key(web: Web) -> None:
    """Or for everybody, where polpo.json says so."""
    assert web.get("/metrics")[0] == 401
    status, text, headers = web.get("/metrics", Authorization=f"Bearer {web.keys['observer']}")
    assert (status, text.endswith(b"# EOF\n")) == (200, True)
    assert headers["content-type"].startswith("application/openmetrics-text")
    until(lambda: (health := json.loads(web.get("/health")[1])) and health["ok"] and health["ready"], "it is well")
    web.host.configure(web={"listen": f"127.0.0.1:{web.port}", "openMetrics": True})
    web.host.call("daemon.reload")
    until(lambda: web.listens("/metrics"), "metrics are shown to everybody")


def test_polpoctl_reloads_it_from_afar(web: Web) -> None:
    """Though the connection ends with the generation that it is of."""
    key = web.host.root / "admin.key"
    key.write_text(web.keys["admin"])
    key.chmod(0o600)
    there = ["--url", f"ws://127.0.0.1:{web.port}", "--key-file", str(key)]
    argv = [sys.executable, "-m", "polpoctl", "reload", *there]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (said.returncode, said.stderr) == (0, ""), said
    assert said.stdout.startswith("polpod reloaded")


def test_a_key_that_expires_ends_what_polpoctl_follows(web: Web) -> None:
    """It does not come again with it, which would be ten wrong keys before long."""
    soon = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    made = web.host.call("key.add", user="ann", name="brief", expires_at=soon)
    key = web.host.root / "brief.key"
    key.write_text(made["secret"])
    key.chmod(0o600)
    argv = [
        sys.executable,
        "-m",
        "polpoctl",
        "events",
        "-f",
        "--url",
        f"ws://127.0.0.1:{web.port}",
        "--key-file",
        str(key),
    ]
    followed = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert (followed.returncode, "the key is not accepted" in followed.stderr) == (6, True), followed.stderr


def test_the_client_library_speaks_to_it_from_afar(web: Web) -> None:
    key = web.host.root / "key"
    key.write_text(web.keys["operator"])
    key.chmod(0o600)
    there = {"url": f"ws://127.0.0.1:{web.port}", "key_file": str(key)}
    with Client(**there) as client:
        task_id = client.task.submit(command=["echo", "afar"], cwd="/")["id"]
        assert [ended["outcome"] for ended in client.wait(task_id)] == ["done"]
        assert b"".join(client.logs(task_id)) == b"afar\n"

    async def many() -> None:
        async with AsyncClient(**there) as client:
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(partial(client.call, "task.get", id=task_id))
            assert b"".join([part async for part in client.logs(task_id)]) == b"afar\n"
            made = await client.task.submit(command=["true"], cwd="/", hold=True, description="x" * 100_000)
            assert len((await client.task.get(id=made["id"]))["task"]["description"]) == 100_000
            with pytest.raises(Failure, match="cannot be sent"):
                await client.task.submit(command=["true"], description="x" * 5_000_000)

    async def held(client: AsyncClient) -> str:
        made = await client.task.submit(command=["true"], cwd="/", hold=True)
        return str(made["id"])

    async def revoked() -> None:
        async with AsyncClient(**there) as client:
            waited = await held(client)
            await anyio.to_thread.run_sync(partial(web.host.call, "key.revoke", id=web.made["operator"]["key"]["id"]))
            with pytest.raises(Failure, match="not accepted") as refused:
                await client.wait(waited)
            assert refused.value.code == 6
        with pytest.raises(Failure, match="not accepted"):
            async with AsyncClient(**there):
                pass
        with pytest.raises(Unreachable):
            async with AsyncClient(url="ws://127.0.0.1:1", key_file=str(key)):
                pass

    for backend in ("trio", "asyncio"):
        anyio.run(many, backend=backend)
    anyio.run(revoked, backend="trio")


def test_polpoctl_speaks_to_it_from_afar(web: Web) -> None:
    key = web.host.root / "key"
    key.write_text(web.keys["operator"] + "\n")
    key.chmod(0o600)
    url = f"ws://127.0.0.1:{web.port}"

    def polpoctl(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "polpoctl", *words]
        return subprocess.run(argv, capture_output=True, text=True, env=os.environ | env, timeout=60)

    there = {"POLPO_URL": url, "POLPO_KEY_FILE": str(key)}
    ran = polpoctl("run", "--url", url, "--key-file", str(key), "--cwd", "/", "--", "sh", "-c", "echo afar; exit 3")
    assert (ran.returncode, ran.stdout) == (3, "afar\n")
    assert polpoctl("logs", "1", **there).stdout == "afar\n"
    assert polpoctl("logs", "1", **there | {"POLPO_URL": url.replace("ws", "WS")}).stdout == "afar\n"
    lines = "".join(
        json.dumps({"command": ["true"], "cwd": "/", "title": "x" * 500, "hold": True}) + "\n" for _ in range(300)
    )
    argv = [sys.executable, "-m", "polpoctl", "submit", "--batch", "-"]
    many = subprocess.run(argv, input=lines, capture_output=True, text=True, env=os.environ | there, timeout=60)
    assert (many.returncode, len(many.stdout.splitlines())) == (0, 300)
    assert len(json.loads(polpoctl("list", "--json", **there).stdout)) == 301
    for option, env in ((f" --url {url} --key-file {key}", {}), ("", there)):  # what is completed is that polpod's, too
        asked = polpoctl("completion", "bash", "--values", "queue", f"--line=polpoctl{option} pause ", **env)
        assert asked.stdout == "default\n", asked
    assert polpoctl("key", "list", **there).returncode == 0
    assert polpoctl("key", "add", "ann", "x", **there).returncode == 6
    for words, env, code, said in (
        (("list", "--url", url), {}, 2, "key"),
        (("list", "--url", "ftp://x"), {}, 2, "not a URL"),
        (("list", "--url", "ws://127.0.0.1:1"), {"POLPO_KEY_FILE": str(key)}, 4, "no polpod answers"),
        (("list", "--url", "ws://[::1"), {"POLPO_KEY_FILE": str(key)}, 2, "not a URL"),
        (("list", "--url", "ws://a..b"), {"POLPO_KEY_FILE": str(key)}, 2, "not a URL"),
        (("list", "--url", f"{url}/a b"), {"POLPO_KEY_FILE": str(key)}, 2, "not a URL"),
        (("store", "check", "--url", url), {"POLPO_KEY_FILE": str(key)}, 2, "own host"),
    ):
        failed = polpoctl(*words, **env)
        assert (failed.returncode, said in failed.stderr) == (code, True), failed
        assert "Traceback" not in failed.stderr
        assert "to start one" not in failed.stderr
    key.write_text("polpo_wrong")
    assert polpoctl("list", **there).returncode == 6
    for content in ("", "polpo_wrong\nanother\n"):
        key.write_text(content)
        failed = polpoctl("list", **there)
        assert (failed.returncode, failed.stderr) == (2, f"polpoctl: {key}: not a key\n")
    key.chmod(0o644)
    assert "chmod 600" in polpoctl("list", **there).stderr
