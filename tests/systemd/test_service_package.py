"""The package itself, on a machine: installed, upgraded with fifty jobs at work, removed."""

from __future__ import annotations

from pathlib import Path

from kit.box import Box
from kit.package import built, field
from kit.service import STATE, Crowd, Service

NUMBER = 50


def brought(box: Box, package: Path) -> str:
    """Where the package lies on the machine."""
    path = f"/root/{package.name}"
    box.path(path).write_bytes(package.read_bytes())
    return path


def test_an_upgrade_touches_no_job(box: Box) -> None:
    first = built()
    earlier, now = brought(box, first), field(first, "Version")
    second = built("+1")
    later, then = brought(box, second), field(second, "Version")
    box.do("rm", "-f", "/usr/sbin/policy-rc.d")  # this host may forbid packages to start services
    box.do("dpkg", "--install", earlier)
    service = Service(box, maxConcurrency=60)
    service.systemctl("reload", "polpod")
    assert service.status()["version"] == now
    crowd = Crowd(service, NUMBER)
    pid = service.pid()
    box.do("dpkg", "--install", later)
    assert (service.pid(), service.status()["version"]) == (pid, then)
    crowd.unharmed()
    crowd.finish()
    box.do("dpkg", "--remove", "polpod")
    assert service.pid() == 0
    assert service.groups() == []
    assert box.path(f"{STATE}/state.db").exists()
    box.do("dpkg", "--purge", "polpod")
    assert not box.path("/var/lib/polpo").exists()


def test_a_purge_where_the_state_has_a_disk_of_its_own(box: Box) -> None:
    box.do("mkdir", "/var/lib/polpo")
    box.do("mount", "-t", "tmpfs", "tmpfs", "/var/lib/polpo")
    box.do("dpkg", "--install", brought(box, built()))
    box.do("dpkg", "--purge", "polpod")
    assert list(box.path("/var/lib/polpo").iterdir()) == []
