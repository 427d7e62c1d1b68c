"""The envelope, by the examples of the specification (§7) and its edges, and the limits of values (DESIGN §9)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polpod import errors as application
from polpod.wire import errors, jsonrpc
from polpod.wire.jsonrpc import Call, NotAResponse, Received, RemoteError, parse, receive, response, unacceptable


def answered(received: Received) -> Any:
    """What goes back when every call has the result "ok"."""
    responses = []
    for item in received.items:
        if not isinstance(item, Call):
            responses.append(item)
        elif not item.notification:
            responses.append(jsonrpc.result(item.id, "ok"))
    return received.answer(responses)


def call(**members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "task.get"} | members


def codes(answer: Any) -> Any:
    """The answer with each error response as (id, code)."""
    if isinstance(answer, list):
        return [codes(one) for one in answer]
    return (answer["id"], answer["error"]["code"]) if answer and "error" in answer else answer


def nested(depth: int) -> Any:
    value: Any = "bottom"
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


def test_a_call_keeps_its_parts() -> None:
    (item,) = parse(call(params={"id": "5"}, id=7)).items
    assert isinstance(item, Call)
    assert (item.method, item.params, item.id, item.notification) == ("task.get", {"id": "5"}, 7, False)


@pytest.mark.parametrize("id", ["a", 1, -2, 1.5, None, "", 0])
def test_every_kind_of_id_comes_back(id: Any) -> None:
    assert answered(parse(call(id=id))) == {"jsonrpc": "2.0", "result": "ok", "id": id}


def test_params_may_be_absent_but_nothing_else_in_their_place() -> None:
    (item,) = parse(call(id=1)).items
    assert isinstance(item, Call)
    assert item.params == {}
    assert codes(answered(parse(call(id=1, params=["5"])))) == (1, errors.INVALID_PARAMS)
    for wrong in (None, 5, "bar", True):
        assert codes(answered(parse(call(id=1, params=wrong)))) == (1, errors.INVALID_REQUEST)


def test_a_notification_is_never_answered() -> None:
    assert answered(parse(call())) is None
    assert answered(parse(call(params=[1]))) is None
    assert answered(parse(call(params={"title": "\0"}))) is None
    assert answered(parse([call(), call()])) is None


@pytest.mark.parametrize(
    ("value", "id"),
    [
        (call(method=1, params="bar"), None),
        (call(method=1, id=5), 5),
        ({"method": "task.get", "id": 5}, 5),
        (call(jsonrpc="1.0", id=5), 5),
        (call(id=True), None),
        (call(id=[1]), None),
        (call(id={}), None),
        ({"foo": "boo"}, None),
        ("a string", None),
        (1, None),
        (None, None),
        ([], None),
    ],
)
def test_what_is_no_request_is_answered_so_with_its_id_where_it_has_one(value: Any, id: Any) -> None:
    assert codes(answered(parse(value))) == (id, errors.INVALID_REQUEST)


def test_a_batch_is_answered_in_its_order_each_member_for_itself() -> None:
    batch = [call(id="1"), call(), {"foo": "boo"}, call(id=2, params=[]), 3, call(id="9")]
    ok = {"jsonrpc": "2.0", "result": "ok"}
    assert codes(answered(parse(batch))) == [
        ok | {"id": "1"},
        (None, errors.INVALID_REQUEST),
        (2, errors.INVALID_PARAMS),
        (None, errors.INVALID_REQUEST),
        ok | {"id": "9"},
    ]
    assert codes(answered(parse([1]))) == [(None, errors.INVALID_REQUEST)]


@pytest.mark.parametrize("frame", [b"", b"{", b'{"jsonrpc": "2.0", "method"', b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_a_parse_error(frame: bytes) -> None:
    assert codes(answered(receive(frame, json.loads))) == (None, errors.PARSE_ERROR)


def test_nesting_is_counted_from_the_outermost() -> None:
    assert unacceptable(nested(jsonrpc.MAX_DEPTH)) is None
    found = unacceptable(nested(jsonrpc.MAX_DEPTH + 1))
    assert found is not None
    assert "deep" in found[1]
    # The request and its params are two levels; a batch is one more.
    assert isinstance(parse(call(id=1, params={"x": nested(62)})).items[0], Call)
    assert codes(answered(parse(call(id=1, params={"x": nested(63)})))) == (1, errors.INVALID_PARAMS)
    assert codes(answered(parse([call(id=1, params={"x": nested(62)})]))) == [(1, errors.INVALID_PARAMS)]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": {"b": ["", "x\0y"]}}, "$.a.b[1]"),
        ({"a": 2**53 + 1}, "$.a"),
        ([-(2**53) - 1], "$[0]"),
        ([2.0**60], "$[0]"),
        ([float("nan")], "$[0]"),
        ([float("-inf")], "$[0]"),
        ({"a\0": 1}, "$"),
        ("\0", "$"),
    ],
)
def test_what_is_beyond_the_limits_is_found_with_its_path(value: Any, path: str) -> None:
    found = unacceptable(value)
    assert found is not None
    assert found[0] == path


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_characters="\0")),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_characters="\0")), inner),
        max_leaves=20,
    )
)
def test_what_is_within_the_limits_is_left_alone(value: Any) -> None:
    assert unacceptable(value) is None


def test_a_bad_value_in_params_is_told_with_the_path_from_the_params_on() -> None:
    answer = answered(parse(call(id=3, params={"tasks": [{"title": "a\0"}]})))
    assert codes(answer) == (3, errors.INVALID_PARAMS)
    assert answer["error"]["data"] == {"type": "invalid", "path": "$.tasks[0].title"}
    assert codes(answered(parse(call(id="\0")))) == ("\0", errors.INVALID_REQUEST)


def test_a_response_is_its_result_or_its_error() -> None:
    assert response(jsonrpc.result(4, {"a": 1})) == (4, {"a": 1})
    assert response(jsonrpc.result(4, None)) == (4, None)
    id, error = response(jsonrpc.error(5, errors.APPLICATION_ERROR, "gone", {"type": "not_found"}))
    assert (id, type(error), str(error), error.type) == (5, RemoteError, "gone", "not_found")
    assert RemoteError(1, "x").type is None
    assert RemoteError(1, "x", {"type": 5}).type is None


@pytest.mark.parametrize(
    "value", [[], 1, {}, {"id": 1}, {"id": [], "result": 1}, {"id": 1, "error": {}}, {"id": 1, "error": {"code": "x"}}]
)
def test_what_is_no_response_is_refused(value: Any) -> None:
    with pytest.raises(NotAResponse):
        response(value)


def test_the_words_of_the_wire_are_those_of_the_errors() -> None:
    """W41."""
    kinds = {kind.kind for kind in (application.RequestError, *application.RequestError.__subclasses__())}
    assert kinds == set(errors.WORDS)
