"""The kinds of checks, carried out for real, and what several reviewers agree on.  Polpo's §13.204, §13.205; W39."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.samples import a_task

from polpod.config import Config
from polpod.model.assessments import Assessment, decode
from polpod.model.expectations import DIMENSIONS, as_said, expectations_of, metrics_of
from polpod.model.submissions import Submission
from polpod.runner import checks, contract, scoring
from polpod.runner.command import carry_out
from polpod.runner.review import encoded, summary
from polpod.services.reviewing import checks_of, longest

SPEC: Any = {
    "version": 1,
    "run_id": 6,
    "task": {"id": "7", "description": "d"},
    "checks": [],
    "grace": 0.2,
    "result": "",
}


def find(log: Path, type: str, shell: str = "", **values: Any) -> dict[str, Any]:
    """What such a check finds; what its command wrote is in `log`."""
    check: Any = {"type": type, "label": shell, "confidence": "firm", "timeout": 20.0, "argv": ["/bin/sh", "-c", shell]}
    with log.open("ab") as file:
        return checks.find(check | {"name": "m", "threshold": 3.0} | values, SPEC, file.fileno())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.mark.parametrize(("shell", "passed", "says"), [
    ("true", True, "exit code 0"),
    ("exit 1", False, "exit code 1"),
    ("echo good; exit 7", False, "exit code 7"),
    ("kill -KILL $$", False, "SIGKILL"),
    ("kill -40 $$", False, "signal 40"),
    ("/there/is/none", False, "exit code 127"),
])  # fmt: skip
def test_a_test_passes_with_exit_code_0_and_with_no_other(log: Path, shell: str, passed: bool, says: str) -> None:
    """W39: a test that exits with another code does not pass."""
    for kind in ("test", "script"):
        found = find(log, kind, shell)
        assert (found["passed"], says in found["message"]) == (passed, True)


def test_what_cannot_be_carried_out_is_no_verdict(log: Path) -> None:
    assert find(log, "test", argv=["/there/is/none"])["passed"] is None
    assert find(log, "unreadable")["passed"] is None


@pytest.mark.parametrize(("shell", "passed", "value"), [
    ("echo 3", True, 3.0), ("echo 2.99", False, 2.99), ("echo ' 4e0 '", True, 4.0), ("echo nan", False, None),
    ("echo inf", False, None), ("echo many", False, None), (":", False, None), ("echo 9; exit 1", False, None),
    ("echo 5; echo noise >&2", True, 5.0),
])  # fmt: skip
def test_a_metric_is_a_number_that_a_successful_command_prints(
    log: Path, shell: str, passed: bool, value: float
) -> None:
    """§13.204: reached, below, no number; W39: its exit code counts."""
    found = find(log, "metric", shell)
    assert (found["passed"], found["value"]) == (passed, value)


def test_files_are_looked_for_where_the_task_works(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").touch()
    assert find(log, "file_exists", paths=["a", str(tmp_path)])["passed"]
    found = find(log, "file_exists", paths=["a", *"bcdefgh"])
    assert (found["passed"], found["message"]) == (False, "missing: b, c, d, e, f and 2 more")


@pytest.mark.parametrize("shell", [
    "trap '' TERM; while :; do sleep 0.05; done",
    "yes",
    "sleep 600",
    "setsid sleep 30",
])  # fmt: skip
def test_a_check_that_does_not_end_is_ended(log: Path, shell: str) -> None:
    """W39: it has its own time limit; F41, F42 within a run of checks."""
    began = time.monotonic()
    found = find(log, "test", shell, timeout=0.3)
    assert (found["passed"], "did not end" in found["message"]) == (False, True)
    assert time.monotonic() - began < 60
    assert len(found.get("output", "")) <= checks.KEPT


def test_what_a_check_leaves_behind_holds_up_nobody(log: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began = time.monotonic()
    assert find(log, "test", f"sleep 600 & echo $! > {pid}; exit 0")["passed"]
    assert time.monotonic() - began < 60
    stat = Path(f"/proc/{pid.read_text().strip()}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_all_that_a_check_writes_is_in_the_log_and_the_last_of_it_is_kept(log: Path) -> None:
    found = find(log, "test", "seq 1 5000; printf 'a\\000b\\377\\033[31m' >&2")
    assert log.read_bytes().startswith(b"1\n2\n")
    assert len(found["output"]) <= checks.KEPT
    assert found["output"].endswith("a b\ufffd [31m")
    json.dumps(found).encode()


def test_a_command_gets_its_stdin_whole_and_may_leave_it(tmp_path: Path) -> None:
    sink = os.open(tmp_path / "sink", os.O_RDWR | os.O_CREAT)
    told = b"x" * 300_000
    for argv, answer in ((["wc", "-c"], b"300000"), (["true"], b"")):
        ended = carry_out(argv, timeout=20, grace=1, keep=100, copy_to=sink, stdin=told)
        assert (ended.exit_code, ended.output.strip()) == (0, answer)
    os.close(sink)


# Reviews

TWO = [{"name": "a", "weight": 0.75}, {"name": "b", "weight": 0.25}]


def reviewed(log: Path, shell: str, **values: Any) -> dict[str, Any]:
    return find(log, "llm_review", shell, **{"dimensions": TWO, "reviewers": 3, "criteria": "good"} | values)


def test_a_reviewer_is_told_the_task_and_what_to_look_at(log: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    found = reviewed(log, f"""tee -a {asked} > /dev/null; echo >> {asked}; echo '{{"scores": {{"a": 4, "b": 2}}}}'""")
    assert (found["passed"], found["scores"], found["globalScore"]) == (True, {"a": 4.0, "b": 2.0}, 3.5)
    told = [json.loads(line) for line in asked.read_text().splitlines()]
    assert [one["reviewer"] for one in told] == [1, 2, 3]
    assert (told[0]["task"]["id"], told[0]["criteria"], told[0]["dimensions"], told[0]["threshold"]) == (
        *("7", "good"), *(TWO, 3.0),
    )  # fmt: skip


def test_below_the_threshold_it_does_not_pass(log: Path) -> None:
    assert not reviewed(log, """echo '{"scores": {"a": 2, "b": 4}}'""")["passed"]


@pytest.mark.parametrize("answer", [
    "", "no", "[]", "{}", '{"scores": 3}', '{"scores": {"a": 3}}', '{"scores": {"a": 3, "b": "4"}}',
    '{"scores": {"a": 3, "b": true}}', '{"scores": {"a": 3, "b": NaN}}', "[" * 100_000,
])  # fmt: skip
def test_an_answer_without_scores_is_none_and_no_answer_at_all_is_no_verdict(
    log: Path, tmp_path: Path, answer: str
) -> None:
    """§9.1: "all evaluators failed" is no verdict on the work."""
    (tmp_path / "answer").write_text(answer)
    found = reviewed(log, f"cat {tmp_path}/answer")
    assert found["passed"] is None
    assert all("error" in reviewer for reviewer in found["reviewers"])


def test_one_reviewer_that_fails_is_not_missed(log: Path, tmp_path: Path) -> None:
    once = tmp_path / "once"
    found = reviewed(log, f"""[ -e {once} ] || {{ touch {once}; exit 3; }}; echo '{{"scores": {{"a": 5, "b": 5}}}}'""")
    assert (found["passed"], found["message"]) == (True, "5.00 ≥ 3, by 2 of 3 reviewers")


@pytest.mark.parametrize(("scores", "agreed"), [
    ([4.0], 4.0), ([3.0, 4.0], 3.5), ([5.0, 5.0, 1.0], 5.0), ([1.0, 4.0, 5.0], 4.5), ([1.0, 5.0], 3.0), ([2.0, 3.0, 4.0], 3.0),
])  # fmt: skip
def test_outliers_are_left_out(scores: list[float], agreed: float) -> None:
    assert scoring.consensus(scores) == agreed


@given(st.lists(st.floats(1, 5), min_size=1, max_size=9))
def test_a_consensus_is_among_the_scores(scores: list[float]) -> None:
    assert min(scores) <= scoring.consensus(scores) <= max(scores)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_scores_are_between_1_and_5(value: float) -> None:
    """§13.205."""
    scores = scoring.scores_of(json.dumps({"scores": {"a": value}}).encode(), ["a"])
    assert 1 <= scores["a"] <= 5


def test_a_score_may_be_a_number_that_no_float_is() -> None:
    assert scoring.scores_of(b'{"scores": {"a": 1%s}}' % (b"0" * 400), ["a"]) == {"a": 5.0}


def test_the_usual_dimensions_weigh_1_together() -> None:
    """§13.205: four of them."""
    assert len(DIMENSIONS) == 4
    assert sum(d.weight for d in DIMENSIONS) == pytest.approx(1)


# Altogether


@pytest.mark.parametrize(("verdicts", "passed"), [
    ([], True), ([True, True], True), ([True, False], False), ([True, None], None), ([None, False], False),
])  # fmt: skip
def test_all_must_pass(verdicts: list[bool | None], passed: bool | None) -> None:
    """§13.204: all must pass, none is no failure, the time is kept."""
    found = [{"type": "test", "passed": v, "message": "m"} for v in verdicts]
    assessment = msgspec.convert(summary(SPEC, found), Assessment)
    assert (assessment.passed, assessment.run_id) == (passed, 6)
    assert assessment.timestamp


def test_what_is_written_down_is_never_more_than_is_believed() -> None:
    """A task with as many checks as it may have, each with all that is kept of it, gets a verdict."""
    most = {"passed": True, "message": "m", "output": "\N{GRINNING FACE}" * checks.KEPT}
    reviewer = {"reviewer": 1, "scores": {"a": 5.0}, "reasoning": "\N{GRINNING FACE}" * checks.REASONING}
    review = {"type": "llm_review", "passed": True, "message": "m", "reviewers": [reviewer] * 9}
    metric = {"name": "m", "value": 1.0, "threshold": 1.0, **most}
    for kind, outputs in (({"type": "test", **most}, [most["output"]] * 128), (review, [""] * 128)):
        data = encoded(summary(SPEC, [kind] * 64 + [metric] * 64))
        said = decode(data, SPEC["run_id"])
        assert (len(data) <= contract.ASSESSMENT_SIZE, said.passed) == (True, True)
        assert [one.output for one in (*said.checks, *said.metrics)] == outputs


def test_the_score_of_several_reviews_is_their_mean() -> None:
    reviews = [
        {"type": "llm_review", "passed": True, "message": "", "globalScore": n, "scores": {"a": n}} for n in (3.0, 5.0)
    ]
    said = summary(SPEC, reviews)
    assert (said["globalScore"], said["scores"]) == (4.0, {"a": 4.0})


# What may be asked for

EXPECTATIONS: list[tuple[Any, str]] = [
    ("x", ""), ({}, ""), ({"type": "magic"}, ".type"), ({"type": "test"}, ""), ({"type": "test", "command": " "}, ".command"),
    ({"type": "test", "command": "a\0"}, ".command"), ({"type": "test", "command": 7}, ".command"),
    ({"type": "test", "command": "x", "timeoutMs": 0}, ".timeoutMs"),
    ({"type": "test", "command": "x", "timeoutMs": -1}, ".timeoutMs"),
    ({"type": "test", "command": "x", "timeoutMs": 10**12}, ".timeoutMs"),
    ({"type": "test", "command": "x", "confidence": "sure"}, ".confidence"),
    ({"type": "test", "command": "x", "unknown": 1}, ""), ({"type": "file_exists", "paths": []}, ".paths"),
    ({"type": "file_exists", "paths": [""]}, ".paths[...]"), ({"type": "file_exists", "paths": ["a"] * 10_000}, ".paths"),
    ({"type": "script", "command": "#!/usr/bin/python3\nprint()"}, ""),
    ({"type": "llm_review", "threshold": 0}, ".threshold"), ({"type": "llm_review", "reviewers": 10_000}, ".reviewers"),
    ({"type": "llm_review", "dimensions": []}, ".dimensions"),
    ({"type": "llm_review", "dimensions": [{"name": "a", "weight": 0}]}, ""),
    ({"type": "llm_review", "dimensions": [{"name": "a", "weight": 1}] * 2}, ""),
    ({"type": "llm_review", "dimensions": [{"name": "a", "weight": 1, "rubric": {"6": ""}}]}, ".dimensions[0].rubric"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "where"), EXPECTATIONS)
def test_an_expectation_that_means_nothing_is_refused_with_its_path(said: Any, where: str) -> None:
    """§13.124 is overruled: it is not dropped."""
    good = {"type": "test", "command": "x"}
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert({"expectations": [good, said]}, Submission)
    assert "$.expectations[" in str(refused.value)
    assert where.split("[")[0] in str(refused.value)


@pytest.mark.parametrize("said", [
    {"name": "", "command": "x", "threshold": 1}, {"name": "m", "command": "x"},
    {"name": "m", "command": "x", "threshold": float("nan")}, {"name": "m", "command": "x", "threshold": float("inf")},
    {"name": "m", "command": "x", "threshold": "1"}, {"name": "m", "command": "x", "threshold": 1, "more": 1},
])  # fmt: skip
def test_a_metric_that_means_nothing_is_refused_with_its_path(said: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.metrics\["):
        msgspec.convert({"metrics": [said]}, Submission)


def test_too_many_are_refused() -> None:
    for name, one in (
        ("expectations", {"type": "test", "command": "x"}),
        ("metrics", {"name": "m", "command": "x", "threshold": 1}),
    ):
        with pytest.raises(msgspec.ValidationError, match=name):
            msgspec.convert({name: [one] * 10_000}, Submission)


def test_what_is_said_is_kept_as_it_was() -> None:
    """W39: confidence is not stripped on the way."""
    said = (
        {"type": "test", "command": "x", "confidence": "estimated", "timeoutMs": 5},
        {"type": "script", "command": "a\nb"},
        {"type": "file_exists", "paths": ["a"]},
        {
            "type": "llm_review",
            "criteria": "c",
            "threshold": 4.0,
            "dimensions": [{"name": "a", "weight": 1.0, "rubric": {"1": "bad"}}],
        },
    )
    assert json.loads(msgspec.json.encode(as_said(expectations_of(said)))) == list(said)
    metric = {"name": "m", "command": "x", "threshold": 1.5}
    assert as_said(metrics_of([metric])) == (metric,)


def test_what_a_program_left_there_that_means_nothing_is_no_verdict(log: Path) -> None:
    task = a_task(expectations=({"type": "magic"},), metrics=({"name": 7},))
    (check,) = checks_of(task, Config())
    assert (check["type"], find(log, **check)["passed"]) == ("unreadable", None)  # type: ignore[arg-type]
    (asks_nobody,) = checks_of(a_task(expectations=({"type": "llm_review"},)), Config())
    assert "reviewCommand" in find(log, **asks_nobody)["message"]  # type: ignore[arg-type]


def test_the_run_of_the_checks_outlasts_each_of_them() -> None:
    said = [
        {"type": "llm_review", "command": "x", "timeoutMs": 10_000},
        {"type": "file_exists", "paths": ["a"], "timeoutMs": 1000},
    ]
    assert longest(a_task(expectations=tuple(said), kill_grace=1.0), Config()) >= 3 * 11 + 2
