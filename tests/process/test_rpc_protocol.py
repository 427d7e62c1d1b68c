"""The protocol on the real socket: envelope, batches, errors, frames and the limits of each (DESIGN §9).

One daemon serves the whole module: no test may need another, and none may make it write a traceback.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from kit.client import Client, Refused
from kit.host import Host, recovered

MIB = 2**20
FRAME = 4 * MIB
HELD = {"shell": "true", "hold": True, "cwd": "/", "env": {}}

TASK = "1"
"""The first one, which is there for all tests."""

# What some methods take, but for what a test makes wrong.
COST = {"task_id": TASK, "usd": 0, "provider": "p", "model": "m"}
NODES = [{"id": "s", "type": "start", "label": "s"}, {"id": "e", "type": "end", "label": "e"}]
WORKFLOW = {"id": "w", "name": "w", "nodes": NODES}
SELF = {"id": "a", "source_node_id": "s", "target_node_id": "s"}
SAYS = {"role": "user", "parts": [{"type": "text", "text": "a"}]}
A2A = {"id": "a", "message": SAYS}
NUL = {"type": "text", "text": "\0"}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Host]:
    with recovered() as host:
        with host.client() as client:
            assert client.call("task.submit", **HELD)["id"] == TASK
        yield host


@pytest.fixture
def client(daemon: Host) -> Iterator[Client]:
    with daemon.client() as client:
        yield client


def line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def request(id: object, method: str, params: object | None = None) -> dict[str, Any]:
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": id, "method": method}
    return message if params is None else message | {"params": params}


def notification(method: str, **params: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params}


def exchange(client: Client, message: bytes) -> Any:
    """The answer to a message, which is the next thing that comes."""
    client.send_raw(message)
    return client.receive()


def code(answer: Any) -> int:
    found: int = answer["error"]["code"]
    return found


def still_answers(client: Client) -> bool:
    return bool(client.call("daemon.status")["state"] == "running")


# Batches and notifications


def test_a_mixed_batch_is_answered_in_its_order_without_its_notifications(client: Client) -> None:
    batch = [
        request("a", "task.submit", HELD),
        notification("task.submit", **HELD),
        1,
        request("b", "no.such"),
        request("c", "task.get", {"id": "none"}),
        {"jsonrpc": "2.0", "id": "d"},
        request(None, "daemon.health"),
    ]
    answers = exchange(client, line(batch))
    assert [a["id"] for a in answers] == ["a", None, "b", "c", "d", None]
    assert [a.get("error", {}).get("code") for a in answers] == [None, -32600, -32601, -32000, -32600, None]
    assert answers[0]["result"]["created"] is True
    assert still_answers(client)


def test_an_empty_batch_is_one_error_and_not_a_list(client: Client) -> None:
    answer = exchange(client, b"[]\n")
    assert (code(answer), answer["id"]) == (-32600, None)


def test_notifications_are_carried_out_and_never_answered(client: Client) -> None:
    before = int(client.call("task.submit", **HELD)["id"])
    for message in (
        notification("task.submit", **HELD),
        [notification("task.submit", **HELD), notification("no.such"), notification("task.submit", nonsense=1)],
        notification("task.get", id="none"),
        notification("task.submit", command=[]),
        {"jsonrpc": "2.0", "method": "task.list", "params": [1]},
    ):
        client.send_raw(line(message))
    # Had any of them been answered, its answer would come first.
    after = client.call("task.submit", **HELD)
    assert int(after["id"]) == before + 3


def test_an_answer_has_the_id_of_its_request_whatever_kind_it_is_of(client: Client) -> None:
    for id in ("x", 7, 1.5, -3, "", 2**53, None):
        assert exchange(client, line(request(id, "daemon.health")))["id"] == id
    for bad in ([1], {"a": 1}, True):
        answer = exchange(client, line(request(bad, "daemon.health")))
        assert (code(answer), answer["id"]) == (-32600, None)


# Errors


@pytest.mark.parametrize(
    "message",
    [
        1,
        "text",
        None,
        {},
        {"jsonrpc": "1.0", "id": 1, "method": "daemon.health"},
        {"id": 1, "method": "daemon.health"},
        {"jsonrpc": "2.0", "id": 1, "method": 5},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "method": "daemon.health", "params": "text"},
        {"jsonrpc": "2.0", "id": 1, "method": "daemon.health", "params": None},
    ],
)
def test_what_is_no_request_is_an_invalid_request(client: Client, message: object) -> None:
    assert code(exchange(client, line(message))) == -32600
    assert still_answers(client)


@pytest.mark.parametrize(
    "text", [b"{", b"nonsense", b"{'a': 1}", b"[1,]", b'{"a":1}{"a":1}', b"\xff\xfe", b'"\xc3"', b"NaN"]
)
def test_what_is_no_json_is_a_parse_error_and_the_next_line_is_read(client: Client, text: bytes) -> None:
    answer = exchange(client, text + b"\n")
    assert (code(answer), answer["id"]) == (-32700, None)
    assert still_answers(client)


@pytest.mark.parametrize(
    ("method", "params", "path"),
    [
        ("task.submit", {"shell": "true", "colour": "red"}, "$.colour"),
        ("task.submit", {"command": "true"}, "$.command"),
        ("task.submit", {"command": ["true", 5]}, "$.command[1]"),
        ("task.submit", {"command": []}, "$.command"),
        ("task.submit", {"command": [""]}, "$.command[0]"),
        ("task.submit", {"shell": ""}, "$.shell"),
        ("task.submit", {}, "$.command"),
        ("task.submit", {"shell": "true", "command": ["true"]}, "$.shell"),
        ("task.submit", {"shell": "true", "cwd": "here"}, "$.cwd"),
        ("task.submit", {"shell": "true", "stdin": "here"}, "$.stdin"),
        ("task.submit", {"shell": "true", "env": {"A": 1}}, "$.env[...]"),
        ("task.submit", {"shell": "true", "env": {"A=B": "1"}}, "$.env"),
        ("task.submit", {"shell": "true", "priority": "high"}, "$.priority"),
        ("task.submit", {"shell": "true", "priority": 2**40}, "$.priority"),
        ("task.submit", {"shell": "true", "max_retries": -1}, "$.max_retries"),
        ("task.submit", {"shell": "true", "max_retries": 1.5}, "$.max_retries"),
        ("task.submit", {"shell": "true", "queue": ""}, "$.queue"),
        ("task.submit", {"shell": "true", "agent": "nobody"}, "$.agent"),
        ("task.submit", {"shell": "true", "umask": 0o1000}, "$.umask"),
        ("task.submit", {"shell": "true", "not_before": "tomorrow"}, "$.not_before"),
        ("task.submit", {"shell": "true", "not_before": "2030-01-01T00:00:00"}, "$.not_before"),
        ("task.submit", {"shell": "true", "deadline": "2030-01-01T00:00:00"}, "$.deadline"),
        ("task.submit", {"shell": "true", "labels": {"": "x"}}, "$.labels"),
        ("task.submit", {"shell": "true", "depends_on": "1"}, "$.depends_on"),
        ("task.submit", {"shell": "true", "hold": 1}, "$.hold"),
        ("task.submit", {"shell": "true", "idempotency_key": ""}, "$.idempotency_key"),
        ("task.get", {}, "$.id"),
        ("task.get", {"id": 5}, "$.id"),
        ("task.list", {"limit": 0}, "$.limit"),
        ("task.list", {"limit": 1001}, "$.limit"),
        ("task.list", {"after": "x"}, "$.after"),
        ("task.list", {"select": {"state": "done"}}, "$.select.state"),
        ("task.list", {"select": {"status": ["finished"]}}, "$.select.status"),
        ("task.cancel", {}, "$.select"),
        ("task.cancel", {"select": {}}, "$.select"),
        ("task.cancel", {"select": {"ids": ["1-999999999"]}}, "$.select.ids"),
        ("task.wait", {"ids": []}, "$.ids"),
        ("task.wait", {"ids": ["1"], "timeout": 31}, "$.timeout"),
        ("task.logs", {"id": "1", "limit": MIB + 1}, "$.limit"),
        ("task.logs", {"id": "1", "offset": -1}, "$.offset"),
        ("task.submit_many", {"tasks": [HELD] * 1001}, "$.tasks"),
        ("task.submit_many", {"tasks": ["x"]}, "$.tasks[0]"),
        ("queue.set", {"name": "q", "slots": -1}, "$.slots"),
        ("event.list", {"limit": 5000}, "$.limit"),
        ("daemon.status", {"verbose": True}, "$.verbose"),
        # What an entity refuses.
        ("cost.add", COST | {"provider": "a\0"}, "$.provider"),
        ("cost.add", COST | {"usd": 0.5}, "$.usd"),
        ("message.send", {"channel": "c", "text": "a\0"}, "$.text"),
        ("message.send", {"channel": " ", "text": "a"}, "$.channel"),
        ("artifact.begin", {"task_id": TASK, "path": "a\0", "size": 1}, "$.path"),
        ("artifact.begin", {"task_id": TASK, "path": "a", "size": 2**53 + 1}, "$.size"),
        ("user.add", {"username": " "}, "$.username"),
        ("user.add", {"username": "ann", "role": "system"}, "$.role"),
        ("project.add", {"id": "p", "deadline": "soon"}, "$.deadline"),
        ("project.add", {"id": "p", "team": ["a", "a"]}, "$.team"),
        ("preset.add", {"name": "p", "config_json": "[]"}, "$.config_json"),
        ("workflow.add", {"definition": {"id": "w"}}, "$.definition.name"),
        ("workflow.add", {"definition": WORKFLOW | {"nodes": []}}, "$.definition.nodes"),
        ("workflow.add", {"definition": WORKFLOW | {"nodes": [{"id": "s"}]}}, "$.definition.nodes[0].type"),
        ("workflow.add", {"definition": WORKFLOW | {"edges": [SELF]}}, "$.definition.edges[0].target_node_id"),
        ("a2a.upsert", {"params": A2A | {"sessionId": "a\0"}}, "$.params.sessionId"),
        ("a2a.upsert", {"params": A2A | {"message": SAYS | {"parts": [NUL]}}}, "$.params.message.parts[0].text"),
    ],
)  # fmt: skip
def test_bad_params_are_refused_with_the_path_of_the_bad_field(
    client: Client, method: str, params: dict[str, Any], path: str
) -> None:
    with pytest.raises(Refused) as refused:
        client.call(method, **params)
    assert (refused.value.code, refused.value.word) == (-32602, "invalid")
    assert refused.value.data["path"] == path
    assert str(refused.value)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("task.get", {"id": "987654"}),
        ("task.why", {"id": "987654"}),
        ("task.logs", {"id": "987654"}),
        ("task.wait", {"ids": ["987654"]}),
        ("task.update", {"id": "987654", "title": "x"}),
        ("task.list", {"select": {"ids": ["987654"]}}),
        ("task.submit", HELD | {"depends_on": ["987654"]}),
        ("run.get", {"id": 987654}),
        ("run.get", {"id": 2**53}),
        ("run.get", {"id": -1}),
    ],
)
def test_ids_that_do_not_exist_are_not_found(client: Client, method: str, params: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=str(params.get("id", "987654"))) as refused:
        client.call(method, **params)
    assert (refused.value.code, refused.value.word) == (-32000, "not_found")


def test_a_command_about_ids_that_do_not_exist_says_so_of_each_and_does_the_rest(client: Client) -> None:
    """§13.131."""
    # Delayed as well, so that its release does not start it: what runs cannot be removed.
    real = client.call("task.submit", **HELD, not_before="2999-01-01T00:00:00Z")["id"]
    for verb in ("hold", "release", "retry", "cancel", "remove"):
        results = client.call(f"task.{verb}", select={"ids": ["987654", real, "x", "987000-987002"]})["results"]
        errors = {r["id"]: r.get("error") or {} for r in results}
        assert errors["987654"]["data"]["type"] == errors["x"]["data"]["type"] == "not_found", verb
        assert set(errors) == {real, "987654", "x"}, verb
    with pytest.raises(Refused, match="there is no task"):
        client.call("task.get", id=real)


def test_unknown_methods_and_positional_params_have_their_own_errors(client: Client) -> None:
    for name in ("", "task", "task.submit ", "TASK.SUBMIT", "rpc.nothing", "__init__", "x" * 100_000):
        answer = exchange(client, line(request(1, name)))
        assert (code(answer), answer["id"]) == (-32601, 1)
        assert len(answer["error"]["message"]) < 300
    answer = exchange(client, line(request(1, "task.get", ["1"])))
    assert (code(answer), answer["id"]) == (-32602, 1)


def test_a_message_quotes_only_the_beginning_of_what_was_wrong(client: Client) -> None:
    """An error is for a person, and must not carry megabytes of what somebody sent."""
    for params in ({"x" * MIB: 1}, {"shell": "true", "agent": "a" * 200}, {"shell": "true", "cwd": "/" + "d" * MIB}):
        with pytest.raises(Refused) as refused:
            client.call("task.submit", **params)
        assert len(str(refused.value)) < 3000


# Values


def nested(depth: int) -> Any:
    """Lists within each other, `depth` of them."""
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_depth_64_is_taken_and_65_is_refused(client: Client) -> None:
    # The envelope, params, tasks and their object are four of them.
    def submit(depth: int) -> Any:
        return client.call("task.submit_many", tasks=[{"deep": nested(depth)}])

    assert "deep" in submit(60)["results"][0]["error"]["message"]  # looked at, and found to be no field
    with pytest.raises(Refused, match="nested") as refused:
        submit(61)
    assert refused.value.code == -32602
    assert refused.value.data["path"].startswith("$.tasks[0].deep")
    answer = exchange(client, b"[" * 100_000 + b"\n")
    assert code(answer) == -32700
    answer = exchange(client, b"[" * 100_000 + b"]" * 100_000 + b"\n")
    assert code(answer) == -32700
    assert code(exchange(client, line([nested(70)]))[0]) == -32600
    assert still_answers(client)


@pytest.mark.parametrize(
    "number", ["9007199254740993", "-9007199254740993", "1e300", "18446744073709551616", "1" * 400, "1" * 5000]
)
def test_numbers_beyond_2_to_the_53_are_refused(client: Client, number: str) -> None:
    answer = exchange(client, b'{"jsonrpc":"2.0","id":1,"method":"run.get","params":{"id":%s}}\n' % number.encode())
    assert code(answer) in (-32602, -32700)
    answer = exchange(client, b'{"jsonrpc":"2.0","id":%s,"method":"daemon.health"}\n' % number.encode())
    assert code(answer) in (-32600, -32700)
    assert still_answers(client)


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ({"command": ["echo", "a\0b"]}, "$.command[1]"),
        ({"shell": "\0"}, "$.shell"),
        ({"shell": "true", "cwd": "/\0"}, "$.cwd"),
        ({"shell": "true", "title": "\0"}, "$.title"),
        ({"shell": "true", "env": {"A": "\0"}}, "$.env.A"),
        ({"shell": "true", "env": {"\0": "x"}}, "$.env"),
        ({"shell": "true", "labels": {"a": "\0"}}, "$.labels.a"),
    ],
)
def test_nul_characters_are_refused_where_they_are(client: Client, params: dict[str, Any], path: str) -> None:
    with pytest.raises(Refused, match="NUL") as refused:
        client.call("task.submit", **params)
    assert (refused.value.code, refused.value.data["path"]) == (-32602, path)


def test_raw_nul_bytes_and_lone_surrogates_are_parse_errors(client: Client) -> None:
    for text in (b"\0\n", b'{"jsonrpc":"2.0","id":1,"method":"daemon.health"}\0\n', b'"\\ud800"\n'):
        assert code(exchange(client, text)) == -32700


def test_text_beyond_ascii_comes_back_as_it_was(client: Client) -> None:
    title = "Grüße \U0001f680 \u2028 \x1b[31m \x7f é"
    task_id = client.call("task.submit", **HELD, title=title)["id"]
    assert client.call("task.get", id=task_id)["task"]["title"] == title


# Frames


def test_a_message_may_come_in_pieces_and_several_in_one(client: Client) -> None:
    one = line(request(1, "daemon.health"))
    for byte in range(len(one)):
        client.send_raw(one[byte : byte + 1])
    assert client.receive()["id"] == 1
    client.send_raw(one[:10])
    client.send_raw(one[10:] + line(request(2, "daemon.health")) + one[:-1])
    assert [client.receive()["id"], client.receive()["id"]] == [1, 2]
    client.send_raw(b"\n\r\n  \n" + one[:-1] + b"\r\n")
    assert [client.receive()["id"], client.receive()["id"]] == [1, 1]


def test_a_frame_of_4_mib_is_taken_and_one_byte_more_loses_the_connection(daemon: Host, client: Client) -> None:
    biggest = line(request(1, "task.submit", HELD))[:-1].ljust(FRAME) + b"\n"
    assert exchange(client, biggest)["result"]["created"]
    with daemon.client() as other:
        with suppress(BrokenPipeError, ConnectionResetError):
            other.send_raw(line(request("first", "daemon.health")) + biggest[:-1] + b" \n")
        assert other.receive()["id"] == "first"
        answer = other.receive()
        assert (code(answer), answer["id"], answer["error"]["data"]["type"]) == (-32700, None, "too_large")
        with pytest.raises((ConnectionResetError, EOFError)):
            other.receive()
    assert still_answers(client)


def test_a_task_that_no_answer_could_show_is_too_large(client: Client) -> None:
    for fields in (
        {"description": "d" * 2**18},
        {"env": {"A": "a" * 2**21}},
        {"labels": {f"{n}": "x" * 99 for n in range(3000)}},
    ):
        with pytest.raises(Refused, match="at most") as refused:
            client.call("task.submit", **HELD | fields)
        assert refused.value.word == "too_large"
    task_id = client.call(
        "task.submit", **HELD | {"env": {"A": "a" * (2**21 - 100)}}, description="d" * (2**18 - 1000)
    )["id"]
    with pytest.raises(Refused) as refused:
        client.call("task.update", id=task_id, description="d" * 2**18)
    assert refused.value.word == "too_large"
    assert len(client.call("task.get", id=task_id, env=True)["task"]["spec"]["env"]["A"]) == 2**21 - 100


def test_an_answer_over_4_mib_is_an_error_of_its_request_alone(client: Client) -> None:
    env = {"A": "a" * (2 * MIB - 1000)}
    big = [client.call("task.submit", **HELD | {"env": env})["id"] for _ in range(3)]
    calls = [request(i, "task.get", {"id": i, "env": True}) for i in big]
    answers = exchange(client, line([*calls, request("h", "daemon.health")]))
    assert [a["id"] for a in answers] == [*big, "h"]
    assert answers[0]["result"]["task"]["id"] == big[0]
    assert [a["error"]["data"]["type"] for a in answers[1:3]] == ["too_large"] * 2
    assert {a["error"]["code"] for a in answers[1:3]} == {-32000}
    assert answers[3]["result"]["checks"]["accepting"]


def test_an_id_too_long_to_be_answered_with_costs_only_its_connection(daemon: Host, client: Client) -> None:
    with daemon.client() as other:
        message = line(request("i" * (FRAME - 60), "no.such"))
        assert len(message) <= FRAME + 1
        answer = exchange(other, message)
        assert (code(answer), answer["id"]) in ((-32600, None), (-32000, None))
    assert still_answers(client)


def test_a_batch_has_at_most_1000_members(client: Client) -> None:
    answers = exchange(client, line([request(i, "no.such") for i in range(1000)]))
    assert [a["id"] for a in answers] == list(range(1000))
    answer = exchange(client, line([request(i, "no.such") for i in range(1001)]))
    assert (code(answer), answer["error"]["data"]["type"]) == (-32600, "too_large")
    assert still_answers(client)


def test_a_client_that_ends_its_side_still_gets_its_answers(daemon: Host) -> None:
    with daemon.client() as client:
        task_id = client.call("task.submit", **HELD)["id"]
        client.send_raw(line(request(1, "task.wait", {"ids": [task_id], "timeout": 0.2})))
        client.send_raw(line(request(2, "daemon.health")) + b'{"jsonrpc": "2.0", "id": 3, "method": "daemon.health"')
        client.shutdown_write()
        assert sorted([client.receive()["id"], client.receive()["id"]]) == [1, 2]
        with pytest.raises(EOFError):
            client.receive()


def test_every_method_of_the_table_is_in_the_openrpc_document(client: Client) -> None:
    document = client.call("rpc.discover")
    assert document["openrpc"].startswith("1.")
    names = {m["name"] for m in document["methods"]}
    assert {"task.submit", "rpc.discover", "daemon.shutdown"} <= names
    for name in names - {"daemon.shutdown"}:
        answer = exchange(client, line(request(1, name, {"nonsense": 1})))
        assert answer["error"]["code"] == -32602, name
