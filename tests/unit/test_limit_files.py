"""What a task may use at most: which files say so, and what keeps a host from it, in fabricated cgroups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit.samples import a_run, a_task

from polpod.runner.containment import Cgroup
from polpod.services.limits import lack_below, of

TOLD: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"memory_max": 2**30}, {"memory.max": "1073741824", "memory.swap.max": "0"}),
    ({"cpus": 1.5}, {"cpu.max": "150000 100000"}),
    ({"cpus": 0.01}, {"cpu.max": "1000 100000"}),
    ({"tasks_max": 9}, {"pids.max": "9"}),
    ({"nice": -3}, {"cpu.weight.nice": "-3"}),
]


def test_a_task_without_limits_tells_its_runner_nothing() -> None:
    assert of(a_task(), a_run(cgroup="/x")) == {}


@pytest.mark.parametrize(("values", "files"), TOLD, ids=lambda v: str(v))
def test_each_limit_is_a_file_of_the_run_s_cgroup(values: dict[str, Any], files: dict[str, str]) -> None:
    nice = {"own_nice": values["nice"]} if "nice" in values else {}
    assert of(a_task(**values), a_run(cgroup="/x")) == {"limits": files} | nice


def test_niceness_needs_no_cgroup_and_the_other_limits_are_told_without_one_too() -> None:
    assert of(a_task(nice=0), a_run()) == {"own_nice": 0}
    assert of(a_task(nice=0, tasks_max=1), a_run()) == {"own_nice": 0, "limits": {"pids.max": "1"}}


def test_what_is_written_where(tmp_path: Path) -> None:
    for name in ("memory.max", "cpu.max"):
        (tmp_path / name).touch()
    Cgroup(str(tmp_path)).limit("memory.max", "1048576")
    Cgroup(str(tmp_path)).limit("cpu.max", "50000 100000")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
        "memory.max": "1048576",
        "cpu.max": "50000 100000",
    }


def test_only_what_says_nothing_where_it_is_not_may_be_missing(tmp_path: Path) -> None:
    Cgroup(str(tmp_path)).limit("memory.swap.max", "0")
    Cgroup(str(tmp_path)).limit("cpu.weight.nice", "5")
    for name in ("memory.max", "cpu.max", "pids.max"):
        with pytest.raises(FileNotFoundError):
            Cgroup(str(tmp_path)).limit(name, "1")
    assert list(tmp_path.iterdir()) == []


class Tree:
    """A cgroup2 mount with `unit`, `unit/base` and what each passes on."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount
        (mount / "slice" / "unit" / "base").mkdir(parents=True)

    def has(self, path: str, controllers: str, passes_on: str, processes: str = "") -> None:
        directory = self.mount / path
        (directory / "cgroup.controllers").write_text(f"{controllers}\n")
        (directory / "cgroup.subtree_control").write_text(f"{passes_on}\n")
        (directory / "cgroup.procs").write_text(processes)

    def lack(self, controller: str) -> str | None:
        lack = lack_below(str(self.mount), str(self.mount / "slice" / "unit" / "base"), controller)
        return None if lack is None else str(lack).replace(str(self.mount), "/cg")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """All is delegated, down to the base."""
    made = Tree(tmp_path)
    for path in (".", "slice", "slice/unit", "slice/unit/base"):
        made.has(path, "cpu memory pids", "cpu memory pids")
    return made


@pytest.mark.parametrize("controller", ["cpu", "memory", "pids"])
def test_a_controller_that_the_base_passes_on_is_there(tree: Tree, controller: str) -> None:
    assert tree.lack(controller) is None


def test_a_name_that_another_s_begins_with_is_not_it(tree: Tree) -> None:
    tree.has("slice/unit/base", "cpuset pids", "cpuset pids")
    tree.has("slice/unit", "cpuset pids", "cpuset pids")
    assert tree.lack("pids") is None
    assert tree.lack("cpu") is not None


DELEGATE = "run polpod by its systemd units, or in a cgroup with Delegate=yes"


@pytest.mark.parametrize(
    ("path", "processes", "says"),
    [
        ("slice", "7\n", f"which /cg/slice does not pass on: {DELEGATE}"),
        (
            "slice/unit",
            "7\n",
            "which /cg/slice/unit cannot pass on, since processes are in it: "
            "start polpod in a cgroup named polpod below that, as DelegateSubgroup=polpod does",
        ),
        ("slice/unit", "", f"which polpod may not enable in /cg/slice/unit: {DELEGATE}"),
        ("slice/unit/base", "", f"which polpod may not enable in /cg/slice/unit/base: {DELEGATE}"),
    ],
)
def test_what_withholds_it_is_named(tree: Tree, path: str, processes: str, says: str) -> None:
    below = False
    for at in ("slice", "slice/unit", "slice/unit/base"):
        below = below or at == path
        tree.has(
            at, "cpu pids" if below and at != path else "cpu memory pids", "cpu pids" if below else "cpu memory pids"
        )
    tree.has(path, "cpu memory pids", "cpu pids", processes)
    assert tree.lack("memory") == f"needs the memory controller of cgroup2, {says}"


def test_a_controller_that_no_kernel_has_is_the_host_s_lack(tree: Tree) -> None:
    says = "which /cg has not: have it delegated to this container, or boot a kernel that has it"
    assert tree.lack("magic") == f"needs the magic controller of cgroup2, {says}"
