"""Another version of the package takes the place of the one that runs, with fifty jobs at work."""

from __future__ import annotations

import pytest
from kit.box import PACKAGES
from kit.fault import fault
from kit.service import MEMBER, UNIT, Crowd, Service
from kit.waiting import until

NUMBER = 50
LATER = "99.0.0"
MIGRATION = '    "ALTER TABLE runs ADD COLUMN of_a_later_release INTEGER;",\n'
PACKAGE = PACKAGES / "polpod"


def upgrade(service: Service) -> None:
    """Install a later release: this one with another version, a later contract, and a table that has got a column."""

    def replace(path: str, old: str, new: str) -> None:
        file = service.box.path(str(PACKAGE / path))
        text = file.read_text()
        assert text.count(old) == 1, f"{path}: {old}"
        file.unlink()  # as dpkg does: who has the old one open keeps it
        file.write_text(text.replace(old, new))

    version = service.box.do("polpod", "--version").split()[1]
    replace("__init__.py", f'"{version}"', f'"{LATER}"')
    replace("runner/contract.py", "VERSION: Final = 1\n", "VERSION: Final = 2\n")
    replace("runner/contract.py", ')\n"""Scripts that lead', f'{MIGRATION})\n"""Scripts that lead')


@pytest.mark.parametrize("verb", ["reload", "restart"])
@fault(
    30,
    "an old runner meets a newer daemon: the package was upgraded while jobs ran",
    promise="What runs is seen, shown, cancelled and recorded by the new daemon, and what starts is of the new version.",
    injected="a package with another version, a later contract and a migration of runs.db, then a reload or a restart",
    seen_failing="recovery that ends the live runs of an earlier daemon instead of adopting them",
)
def test_f30_a_newer_daemon_takes_over_old_runners(service: Service, verb: str) -> None:
    service.configure(maxConcurrency=60, onShutdown="keep")
    service.start()
    crowd = Crowd(service, NUMBER)
    (doomed,) = service.submit(1, "sleep 1000")
    until(
        lambda: (runs := service.runs().get(doomed)) and runs[-1]["status"] == "running", "the one to be cancelled runs"
    )
    upgrade(service)
    service.systemctl(verb, UNIT)
    service.healthy()
    assert service.status()["version"] == LATER
    crowd.unharmed()
    one = crowd.ids[0]
    assert service.box.do("polpoctl", "logs", one, user=MEMBER) == f"start {one} {service.runs()[one][0]['id']}\n"
    service.box.do("polpoctl", "cancel", "--wait", doomed, user=MEMBER)
    assert service.runs()[doomed][-1]["reason"] == "cancelled"
    assert service.box.do("polpoctl", "run", "--", "echo", "new", user=MEMBER) == "new\n"
    crowd.finish()
    service.configure(maxConcurrency=60)
    service.systemctl("restart", UNIT)
    service.systemctl("stop", UNIT)
    service.settled()


@fault(
    31,
    "an upgrade takes the package's files away under living runners and the daemon",
    promise="Runners need nothing of them any more: each ends its job, records the result, and leaves. Work goes on when "
    "the package is back.",
    injected="the package is removed, the daemon killed, fifty jobs end; then the package comes back",
    seen_failing="a runner that imports what writes its result only when it writes it",
)
def test_f31_runners_need_nothing_of_a_package_that_is_gone(service: Service) -> None:
    service.start()
    crowd = Crowd(service, NUMBER)
    aside = "/opt/polpo/aside"
    service.box.do("cp", "-rp", PACKAGE, aside)
    service.box.do("rm", "-r", PACKAGE)
    killed = service.kill("KILL")
    service.release()
    until(lambda: crowd.processes() == [], "every runner has ended")
    service.box.do("mv", aside, PACKAGE)
    service.came_back(killed)
    crowd.finish()
    service.systemctl("stop", UNIT)
    service.settled()
