"""The alert rules and the dashboard: they name metrics and labels that polpod has, and fire where they should."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit.package import CHECKOUT, need

from polpoctl.catalog import COMMANDS
from polpod.services.exposition import METRICS

RULES = CHECKOUT / "packaging/prometheus/polpod.rules.yml"
DASHBOARD = CHECKOUT / "packaging/grafana/polpod.json"
CASES = Path(__file__).with_name("polpod.rules.test.yml")
LABELS = {metric.name: {*metric.labels, "instance", "job"} for metric in METRICS}
OF_A_PROCESS = {
    *["process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "process_max_fds"],
    "process_start_time_seconds",
}
SCRAPED = {"up"} | OF_A_PROCESS
"""What the library and Prometheus itself add."""
WORDS = {
    *["sum", "min", "max", "count", "by", "and", "or", "unless", "on", "rate", "increase", "changes", "topk", "time"],
    "histogram_quantile",
}
SELECTED = re.compile(r"([a-z_]+)(?:\{([^}]*)\})?")


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def queries() -> Iterator[str]:
    """Every expression of the dashboard, as Grafana would ask it."""
    board = json.loads(DASHBOARD.read_text())
    told = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    told += [annotation["expr"] for annotation in board["annotations"]["list"]]
    assert len(told) > 30
    for text in told:
        yield text.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$queue", ".*")


def asked(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics that it names, each with the labels that it selects by."""
    plain = re.sub(r"\b(by|on) \([^)]*\)", "", expression)
    for name, selection in SELECTED.findall(re.sub(r"\[[^]]*\]", "", plain)):
        if name not in WORDS:
            base = re.sub(r"_(bucket|count|sum)$", "", name)
            yield (base if base in LABELS else name), set(re.findall(r"(\w+)\s*[=!]", selection)) - {"le"}


def test_they_name_metrics_and_labels_that_there_are() -> None:
    known = LABELS.keys() | SCRAPED
    expressions = [*(rule["expr"] for rule in rules()), *queries()]
    named = [(name, labels) for expression in expressions for name, labels in asked(expression)]
    assert {name for name, _ in named} - known == set()
    assert [(name, labels) for name, labels in named if not labels <= LABELS.get(name, {"instance", "job"})] == []


def test_every_check_of_the_daemon_s_health_has_an_alert() -> None:
    told = {check for rule in rules() for check in re.findall(r'check="(\w+)"', rule["expr"])}
    assert told == {
        "store",
        "disk",
        "launcher",
        "wal",
    }  # stuck has a metric; the others are how a daemon starts and stops


def test_every_alert_says_why_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "reason", "remedy"}
        assert "$labels.instance" in rule["annotations"]["summary"]
        named = re.findall(r"polpoctl (\w+)", rule["annotations"]["remedy"])
        assert set(named) - set(COMMANDS) == set()


def test_every_alert_is_tried() -> None:
    tried = [case["name"] for case in yaml.safe_load(CASES.read_text())["tests"]]
    assert sorted(tried) == sorted(rule["alert"] for rule in rules())


def test_no_two_panels_lie_on_each_other() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    cells = [
        (x, y)
        for p in panels
        for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
        for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({p["id"] for p in panels}) == len(panels)


def promtool(*words: str | Path) -> None:
    said = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 0, said.stdout + said.stderr


def test_prometheus_takes_the_rules_and_they_fire_where_they_should() -> None:
    need("promtool")
    promtool("check", "rules", RULES)
    promtool("test", "rules", CASES)


def test_prometheus_understands_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    need("promtool")
    recorded = [{"record": f"q{n}", "expr": query} for n, query in enumerate(queries())]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    promtool("check", "rules", tmp_path / "queries.yml")


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("sum by (a) (rate(x_total{b=~\"c\"}[5m])) > 0", [("x_total", {"b"})]),
        ("a and on (b) c == 0 unless d{e!=\"f\", g=\"h\"}", [("a", set()), ("c", set()), ("d", {"e", "g"})]),
        ("histogram_quantile(0.9, polpod_rpc_duration_seconds_bucket)", [("polpod_rpc_duration_seconds", set())]),
    ],
)  # fmt: skip
def test_what_an_expression_names_is_found(expression: str, names: list[tuple[str, set[str]]]) -> None:
    assert list(asked(expression)) == names
