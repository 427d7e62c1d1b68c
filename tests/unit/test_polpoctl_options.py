"""What the command line says, as it goes on the wire: the parsers, submissions, selectors, exit codes."""

from __future__ import annotations

import argparse
from contextlib import chdir
from pathlib import Path

import pytest

from polpoctl import exits, parsers, selection, submission
from polpoctl.catalog import COMMANDS
from polpoctl.exits import Failure
from polpod.wire import errors
from polpod.wire.jsonrpc import RemoteError


def submit(*argv: str) -> argparse.Namespace:
    return parsers.parser("submit").parse_args(argv)


def test_every_command_has_a_file_and_every_file_a_command() -> None:
    files = {path.stem for path in Path(parsers.__file__).with_name("commands").glob("*.py")} - {"__init__"}
    assert files == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_common_options_and_explains_itself(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parsers.parser(name).parse_args(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(
        option in text for option in ("--root", "--socket", "--json", "--color", COMMANDS[name][:20].capitalize())
    )
    assert max(map(len, text.splitlines())) <= 80


def test_one_parser_has_all_commands_for_completion() -> None:
    text = parsers.whole().format_help()
    assert all(name in text for name in COMMANDS)


def test_a_submission_says_what_was_given_and_nothing_else(tmp_path: Path) -> None:
    with chdir(tmp_path):
        said = submission.params(submit("make", "-j4", "--title", "no option"))
    assert said.pop("env")
    assert said.pop("umask") in range(0o1000)
    assert said == {"command": ["make", "-j4", "--title", "no option"], "cwd": str(tmp_path)}


def test_every_option_has_its_field() -> None:
    said = submission.params(
        submit(
            *(
                "--title",
                "T",
                "--description",
                "D",
                "--project",
                "P",
                "--queue",
                "Q",
                "--agent",
                "A",
                "--priority",
                "-3",
            ),
            *("--after", "1", "2", "--after", "3", "--retries", "2", "--retry-delay", "1m", "--timeout", "1h"),
            *(
                "--stale-after",
                "5m",
                "--cwd",
                "/srv",
                "--env",
                "A=b=c",
                "--clean-env",
                "--label",
                "k=v",
                "--label",
                "l=",
            ),
            *("--deadline", "2030-02-01T18:00:00+01:00"),
            *("--not-before", "2030-01-31T18:00:00Z", "--hold", "--needs-approval", "--idempotency-key", "K"),
            *("--memory", "1.5G", "--cpus", "0.5", "--tasks", "100", "--nice", "-5"),
            *(
                "--expect",
                "test:make check",
                "--expect",
                "file:a.out",
                "--expect",
                "review:is it good",
                "--expect",
                '{"type": "script", "x": 1}',
            ),
        )
    )
    env, umask = said.pop("env"), said.pop("umask")
    assert (set(env) - {"A"} <= set(submission.CLEAN), env["A"], type(umask)) == (True, "b=c", int)
    assert said == {
        "title": "T", "description": "D", "project": "P", "queue": "Q", "agent": "A", "priority": -3,
        "depends_on": ["1", "2", "3"], "max_retries": 2, "retry_delay": 60, "max_duration": 3600, "stale_threshold": 300,
        "cwd": "/srv", "labels": {"k": "v", "l": ""}, "not_before": "2030-01-31T18:00:00.000000Z", "hold": True,
        "needs_approval": True, "idempotency_key": "K", "deadline": "2030-02-01T17:00:00.000000Z",
        "memory_max": 3 * 2**29, "cpus": 0.5, "tasks_max": 100, "nice": -5,
        "expectations": [
            {"type": "test", "command": "make check"},
            {"type": "file_exists", "paths": ["a.out"]},
            {"type": "llm_review", "criteria": "is it good"},
            {"type": "script", "x": 1},
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    "argv",
    [
        ("--env", "novalue"),
        ("--env", "=x"),
        ("--timeout", "soon"),
        ("--retries", "-1"),
        ("--expect", "magic:x"),
        ("--expect", "test:"),
        ("--expect", "script:/there/is/none"),
        ("--expect", "{"),
        ("--priority", "high"),
        ("--titl", "abbreviated"),
        ("--nonsense",),
        ("--memory", "much"),
        ("--cpus", "0"),
        ("--cpus", "nan"),
        ("--tasks", "0"),
        ("--nice", "1.5"),
    ],
)
def test_a_wrong_option_is_a_usage_error_that_says_where_to_look(argv: tuple[str, ...]) -> None:
    with pytest.raises(Failure, match="submit --help") as failure:
        submit(*argv)
    assert failure.value.code == exits.USAGE


def test_a_selector_says_what_was_given() -> None:
    argv = ["5", "7-9", "--queue", "q", "--label", "k=v", "--status", "failed", "--status", "done", "--project", "p"]
    assert selection.selector(parsers.parser("cancel").parse_args(argv)) == {
        "ids": ["5", "7-9"],
        "queue": "q",
        "labels": {"k": "v"},
        "status": ["failed", "done"],
        "project": "p",
    }
    nothing = parsers.parser("cancel").parse_args([])
    assert selection.selector(nothing) == {}
    with pytest.raises(Failure):
        selection.required(nothing)


def test_every_word_of_the_wire_has_an_exit_code() -> None:
    assert set(exits.BY_WORD) == set(errors.WORDS)


@pytest.mark.parametrize(
    ("code", "word", "expected"),
    [
        (errors.APPLICATION_ERROR, "not_found", 3),
        (errors.APPLICATION_ERROR, "permission_denied", 6),
        (errors.APPLICATION_ERROR, "disk_full", 75),
        (errors.APPLICATION_ERROR, "unavailable", 75),
        (errors.APPLICATION_ERROR, "conflict", 1),
        (errors.APPLICATION_ERROR, "a word of a later release", 1),
        (errors.INVALID_PARAMS, "invalid", 2),
        (errors.METHOD_NOT_FOUND, None, 2),
        (errors.INTERNAL_ERROR, None, 1),
    ],
)
def test_an_error_has_its_exit_code(code: int, word: str | None, expected: int) -> None:
    error = RemoteError(code, "no", {"type": word} if word else None)
    assert exits.of_error(error) == expected
    assert exits.of_errors([error], 1) == expected
    assert exits.of_errors([error], 2) == exits.FAILED


def test_several_ids_have_the_worst_code() -> None:
    assert exits.worst([0, 1, 0]) == 1
    assert exits.worst([1, 5, 0]) == 5
    assert exits.worst([]) == 0
    assert exits.of_errors([], 3) == 0
