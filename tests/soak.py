"""The long profile of kit/machine.py: new examples for as long as told, `make soak SECONDS=3600 SEED=1`.

Prints a line for each seed; ends with status 1 at the first that fails, with what happened.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from kit.machine import Daemon

LONG = settings(
    max_examples=3,
    stateful_step_count=50,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--seconds", type=float, default=3600)
    p.add_argument("--seed", type=int, default=random.randrange(2**31))
    options = p.parse_args()
    began, number = time.monotonic(), options.seed
    while time.monotonic() - began < options.seconds:
        print(f"seed {number} at {time.monotonic() - began:.0f} s", flush=True)
        try:
            run_state_machine_as_test(seed(number)(type("Daemon", (Daemon,), {})), settings=LONG)
        except Exception:  # noqa: BLE001 -- whatever it is, it is what we look for
            traceback.print_exc(file=sys.stdout)
            print(f"seed {number} failed")
            return 1
        number += 1
    print(f"{number - options.seed} seeds from {options.seed} on, {time.monotonic() - began:.0f} s: all passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
