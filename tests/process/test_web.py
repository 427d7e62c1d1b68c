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
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from kit.client import Refused
from kit.host import Host
from kit.jobs import waits_for
from kit.ports import free_port
from kit.waiting import until
from trio.testing import MockClock, memory_stream_pair
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from polpod.errors import Unavailable
from polpod.services.keys import Access, Keys, Role
from polpod.services.rpc.method import Right
from polpod.services.rpc.server import Shared, most_connections
from polpod.services.rpc.table import METHODS
from polpod.services.web.access import Door
from polpod.services.web.server import MOST, _Visit

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


def test_handshakes_of_every_kind_of_nonsense_harm_nobody(web: Web) -> None:
    rng = random.Random(7)
    right = (
        f"GET /rpc HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {web.keys['admin']}\r\n\r\n"
    ).encode()
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
            stranger.sendall(data)
            stranger.shutdown(socket.SHUT_WR)
            try:
                while stranger.recv(65536):
                    pass
            except ConnectionResetError:
                pass
    assert web.get("/health")[0] == 200
    assert "defect" not in web.host.log(), web.host.log()


def test_a_handshake_that_is_refused_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """The client stays, and nothing more comes from either side."""

    class Knowing:
        async def find(self, key: str) -> Access:
            return Access("key-1", "user-1", "ann", Role.ADMIN)

    knowing: Any = Knowing()
    head = (
        "GET /rpc HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 8\r\nAuthorization: Bearer x\r\n\r\n"
    )

    async def main() -> None:
        near, far = memory_stream_pair()
        nobody: Any = None
        async with trio.open_nursery() as nursery:
            visit = _Visit(nobody, Door(knowing, frozenset({"here"})), Shared(), nobody)
            nursery.start_soon(visit.receive, near)
            await far.send_all(head.encode())
            assert (await far.receive_some()).split()[1] == b"426"

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert not caplog.records


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
        journal=SimpleNamespace(listening=lambda subjects: nullcontext(Bell())), tasks=SimpleNamespace(read=read)
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


def test_a_place_that_is_taken_keeps_nobody_from_work(host: Host) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        host.configure(web={"listen": f"127.0.0.1:{port}"})
        host.start()
        assert host.finished(host.submit("true"))["status"] == "done"
        until(lambda: f"nobody listens on 127.0.0.1:{port}" in host.log(), "it says so")


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
    health = json.loads(web.get("/health")[1])
    assert (health["ok"], health["ready"]) == (True, True)
    web.host.configure(web={"listen": f"127.0.0.1:{web.port}", "openMetrics": True})
    web.host.call("daemon.reload")
    until(lambda: web.listens("/metrics"), "metrics are shown to everybody")


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
