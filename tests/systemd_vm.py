"""The tests of `tests/systemd` that need controllers of cgroup2, in a machine that has them: `make test-systemd-vm VM=…`.

`VM` names a program that boots a virtual machine and runs a command in it as root, as tests/powerloss.py says:

    VM run --timeout SECONDS --ro SRC:DST … -- COMMAND…

The machine has Linux with cgroup2 and its controllers, systemd, dbus, and the Python of this environment's minor version.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PARTS = ("polpod", "polpoctl", "systemd", "tests", "pyproject.toml")
INSIDE = "/srv/polpod"
PACKAGES = "/usr/local/lib/python{}.{}/dist-packages".format(*sys.version_info)
"""Where that Python has what is installed beside the distribution's."""


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--vm", required=True, help="the program that boots the machine")
    options = p.parse_args()
    copied = {sysconfig.get_path("purelib"): PACKAGES} | {CHECKOUT / part: f"{INSIDE}/{part}" for part in PARTS}
    tests = (
        f"cd {INSIDE} && PYTHONPATH={INSIDE} POLPOD_TEST_SLOW=20 python3 -m pytest -p no:cacheprovider -m controllers"
    )
    return subprocess.run(
        [
            *(options.vm, "run", "--timeout", "1800"),
            *(option for here, there in copied.items() for option in ("--ro", f"{here}:{there}")),
            *("--", "sh", "-c", f"{tests} --timeout=1200 tests/systemd"),
        ],
        stdin=subprocess.DEVNULL,
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
