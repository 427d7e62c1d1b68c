"""polpo.json as people leave it: what is wrong is named with its path, and the file is never touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kit.host import Host
from kit.starting import WITHOUT_OVERRIDE, polpod
from kit.waiting import until


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "polpo.json"),
        ("{", "polpo.json"),
        ("nonsense", "polpo.json"),
        ("[]", "object"),
        ("[" * 100_000, "polpo.json"),
        ('{"settings": []}', "$.settings"),
        ('{"settings": {"maxConcurrency": "four"}}', "$.settings.maxConcurrency"),
        ('{"settings": {"maxConcurrency": 0}}', "$.settings.maxConcurrency"),
        ('{"settings": {"killGrace": -1}}', "$.settings.killGrace"),
        ('{"settings": {"killGrace": 1.5}}', "$.settings.killGrace"),
        ('{"settings": {"storage": "paper"}}', "$.settings.storage"),
        ('{"settings": {"onShutdown": "explode"}}', "$.settings.onShutdown"),
        ('{"settings": {"logLimit": 5}}', "$.settings.logLimit"),
        ('{"settings": {"queues": {"q": {"slots": "x"}}}}', "$.settings.queues"),
        ('{"agents": [{"command": ["x"]}]}', "$.agents[0]"),
        ('{"agents": [{"name": ""}]}', "$.agents[0].name"),
        ('{"agents": [{"name": "a"}, {"name": "a"}]}', "$.agents"),
        ('{"agents": [{"name": "a", "maxConcurrency": 0}]}', "$.agents[0].maxConcurrency"),
        ('{"project": 5}', "$.project"),
    ],
)  # fmt: skip
def test_a_configuration_that_means_nothing_stops_the_start_with_status_2(host: Host, text: str, said: str) -> None:
    path = Path(host.paths.config)
    path.write_text(text)
    for options in ([], ["--check-config"]):
        status, output = polpod("--root", str(host.root), *options)
        assert status == 2, output
        assert host.paths.config in output
        assert said in output
        assert "Traceback" not in output
    assert path.read_text() == text
    assert not Path(host.socket).exists()


def test_a_configuration_that_is_no_text_stops_the_start_with_status_2(host: Host) -> None:
    for data in (b"\xff\xfe\0{", b"\0" * 100, b'{"project": "\xff"}'):
        Path(host.paths.config).write_bytes(data)
        for options in ([], ["--check-config"]):
            status, output = polpod("--root", str(host.root), *options)
            assert (status, "Traceback" in output) == (2, False), output
            assert host.paths.config in output


def test_a_configuration_that_cannot_be_read_stops_the_start(host: Host) -> None:
    path = Path(host.paths.config)
    path.chmod(0)
    for options in ([], ["--check-config"]):
        status, output = polpod("--root", str(host.root), *options, under=WITHOUT_OVERRIDE)
        assert (status, "Traceback" in output) == (1, False), output
        assert f"{path}: Permission denied" in output
    path.unlink()
    path.mkdir()
    for options in ([], ["--check-config"]):
        status, output = polpod("--root", str(host.root), *options)
        assert (status, "Traceback" in output) == (1, False), output
        assert f"{path}: Is a directory" in output


def test_keys_that_mean_nothing_here_are_named_and_kept(host: Host) -> None:
    """A file of another version does not stop the daemon, and a slip of the pen is not passed over in silence."""
    text = json.dumps(
        {"settings": {"maxConcurency": 3, "queues": {"q": {"slot": 1}}, "reserve": 0}, "colour": 1, "teams": []}
    )
    Path(host.paths.config).write_text(text)
    unknown = ("$.settings.maxConcurency", "$.colour")
    status, output = polpod("--root", str(host.root), "--check-config")
    assert status == 0
    assert all(key in output for key in (*unknown, "$.teams has no effect"))
    host.start()
    assert "$.teams" not in host.log()
    assert all(key in host.log() for key in unknown)
    until(lambda: host.call("daemon.health")["ok"], "all is well")
    assert Path(host.paths.config).read_text() == text


def test_a_good_configuration_is_called_good(host: Host) -> None:
    host.configure(maxConcurrency=3)
    assert polpod("--root", str(host.root), "--check-config") == (0, f"{host.paths.config}: good\n")
    Path(host.paths.config).unlink()
    assert polpod("--root", str(host.root), "--check-config")[0] == 0
    assert not Path(host.paths.config).exists()


@pytest.mark.parametrize(("level", "told"), [("quiet", False), ("normal", True), ("verbose", True)])
def test_polpo_json_says_how_much_is_told(host: Host, level: str, told: bool) -> None:
    """`logLevel`: quiet leaves out what is not a warning."""
    host.configure(logLevel=level)
    host.start()
    assert host.stop() == 0
    assert ("INFO" in host.log()) is told


@pytest.mark.parametrize("arguments", [["--colour"], ["--log-level", "loud"], ["extra"], ["--root"]])
def test_a_command_line_that_means_nothing_ends_with_status_2(host: Host, arguments: list[str]) -> None:
    status, output = polpod("--root", str(host.root), *arguments)
    assert status == 2
    assert "usage:" in output
