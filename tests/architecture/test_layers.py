"""The architecture's rules, checked on the source text of every module (DESIGN §4).

Rule 1: LAYERS says what each part may import; the longest name that fits a module is its part.  Imports count wherever
they stand: within functions and under TYPE_CHECKING too.  Rule 2: no import cycles.  Rule 3: a package's `__init__.py`
imports nothing.  Rule 4: no file over 400 lines.  Rule 5: a class is a noun of the domain.

Each checker takes the root of a tree and returns its complaints; it is tried on planted violations below.
"""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("polpod", "polpoctl")
MOST_LINES = 400
VAGUE = re.compile(r"(Manager|Helper|Base|Util|Utils|Impl|Handler)$")
NAMED_BY_OTHERS = {"TaskManagerStore"}
"""Elkar's name for its store."""

LAYERS: dict[str, set[str]] = {
    "polpod": set(),
    "polpod.paths": set(),
    "polpod.errors": set(),
    "polpod.crash": set(),
    "polpod.durable": set(),
    "polpod.journald": set(),
    "polpod.wire": {"polpod.wire"},
    "polpod.model": {"polpod.model", "msgspec"},
    "polpod.rules": {"polpod.rules", "polpod.model", "polpod.errors", "msgspec"},
    "polpod.rules.cron": {"cronsim"},
    "polpod.store": {"polpod.durable", "polpod.store", "polpod.model", "polpod.errors", "polpod.crash", "msgspec"},
    "polpod.contracts": {
        *("polpod.contracts", "polpod.store", "polpod.model", "polpod.rules", "polpod.errors", "polpod.durable"),
        *("anyio", "msgspec"),
    },
    "polpod.contracts.persistence": {
        *("polpod.contracts", "polpod.store", "polpod.model", "polpod.rules", "polpod.errors", "polpod.durable"),
        *("polpod.paths", "polpod.lock", "anyio", "msgspec"),
    },
    "polpod.persistence": {"polpod.contracts", "polpod.model"},
    "polpod.store.gate": {"polpod.store", "polpod.model", "polpod.errors", "polpod.crash", "anyio"},
    **{
        f"polpod.store.{module}": {"polpod.store", "polpod.model", "polpod.errors", "msgspec", "psycopg"}
        for module in ("postgres", "postgres_schema", "postgres_session")
    },
    "polpod.store.agreement": {"polpod.store", "polpod.model", "polpod.errors", "polpod.runner.contract", "msgspec"},
    "polpod.store.restore": {"polpod.store", "polpod.model", "polpod.errors", "polpod.runner.contract", "msgspec"},
    "polpod.store.runs": {"polpod.store", "polpod.model", "polpod.errors", "polpod.runner.contract", "msgspec"},
    "polpod.contracts.elkar": {
        *("polpod.contracts.elkar", "polpod.rules", "polpod.model", "polpod.wire", "polpod.paths", "polpod.errors"),
        *("anyio", "msgspec", "elkar", "pydantic"),
    },
    "polpod.contrib": {"polpod.contracts"},
    "polpod.runner": {"polpod.runner", "polpod.paths", "polpod.crash"},
    "polpod.config": {"polpod.durable", "polpod.model", "polpod.paths", "polpod.errors", "msgspec"},
    "polpod.storage": {"polpod.config", "polpod.paths", "polpod.errors", "polpod.store"},
    "polpod.taskstore": {
        *("polpod.contracts", "polpod.store", "polpod.config", "polpod.storage", "polpod.paths", "polpod.lock"),
        *("polpod.model", "polpod.filesystem", "polpod.errors", "anyio"),
    },
    "polpod.systemd": {"polpod.errors", "sdnotify"},
    "polpod.lock": {"polpod.paths", "polpod.errors"},
    "polpod.remedies": {"polpod.errors"},
    "polpod.filesystem": {"polpod.errors"},
    "polpod.maintenance": {
        *("polpod.maintenance", "polpod.doctor", "polpod.config", "polpod.store", "polpod.model", "polpod.paths"),
        *(
            "polpod.errors",
            "polpod.lock",
            "polpod.remedies",
            "polpod.storage",
            "polpod.runner.directory",
            "polpod.runner.contract",
            "msgspec",
        ),
    },
    "polpod.doctor": {
        *("polpod.doctor", "polpod.config", "polpod.store", "polpod.paths", "polpod.errors", "polpod.lock", "polpod"),
        *(
            "polpod.remedies",
            "polpod.filesystem",
            "polpod.storage",
            "polpod.wire",
            "polpod.runner.directory",
            "polpod.runner.containment",
        ),
        "msgspec",
    },
    "polpod.services": {
        *("polpod.services", "polpod.rules", "polpod.store", "polpod.wire", "polpod.model", "polpod.config"),
        *("polpod.paths", "polpod.errors", "polpod.crash", "polpod.lock", "polpod"),
        *("polpod.runner.contract", "polpod.runner.identity", "polpod.runner.directory", "polpod.runner.containment"),
        *("polpod.runner.session", "polpod.runner.usage", "trio", "anyio", "msgspec", "orjson", "psutil"),
    },
    "polpod.services.exposition": {
        *("polpod", "polpod.services", "polpod.store", "polpod.model", "polpod.errors", "trio", "prometheus_client"),
    },
    "polpod.services.keys": {
        *("polpod.services", "polpod.store", "polpod.model", "polpod.errors", "polpod.durable"),
        *("trio", "msgspec"),
    },
    "polpod.services.web": {
        *("polpod.services", "polpod.wire", "polpod.model", "polpod.errors"),
        *("trio", "trio_websocket", "wsproto", "h11", "msgspec", "orjson"),
    },
    "polpod.services.artifacts": {
        *("polpod.contracts.persistence.content", "polpod.contracts.persistence.errors"),
        *(
            "polpod.store",
            "polpod.model",
            "polpod.config",
            "polpod.paths",
            "polpod.errors",
            "polpod.crash",
            "trio",
            "msgspec",
        ),
    },
    "polpod.daemon": {"polpod", "polpod.*", "trio", "orjson", "msgspec"},
    "polpod.__main__": {"polpod", "polpod.*", "trio"},
    "polpoctl": {"polpoctl", "polpod", "polpod.wire", "polpod.paths", "shtab", "rich"},
    "polpoctl.websocket": {"polpoctl", "polpod.wire", "wsproto"},
    "polpoctl.asynchronous": {"polpoctl", "polpod.wire", "anyio"},
}
"""Part → what it may import beyond the standard library.  A package's name allows what is in it; `polpod` alone is the
package's own `__init__.py` (the version); `polpod.*` is everything."""


class Import(NamedTuple):
    line: int
    target: str


def modules(root: Path) -> dict[str, Path]:
    """Every module below `root`, by its dotted name."""
    found = {}
    for path in sorted(p for package in PACKAGES for p in (root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[Import]:
    """What a module imports, as module names; a relative import as its dots.  Literal dynamic imports count."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (Import(node.lineno, n.name) for n in names)
            case ast.ImportFrom(level=level, module=module) if level:
                yield Import(node.lineno, "." * level + (module or ""))
            case ast.ImportFrom(module=str(module), names=names):
                for n in names:
                    inner = f"{module}.{n.name}"
                    yield Import(node.lineno, inner if inner in known else module)
            case ast.Call(
                func=ast.Name(id=called) | ast.Attribute(attr=called), args=[ast.Constant(value=str(name)), *_]
            ):
                if called in ("import_module", "__import__"):
                    yield Import(node.lineno, name)


def part(module: str) -> str | None:
    fits = [p for p in LAYERS if module == p or (p != "polpod" and module.startswith(p + "."))]
    return max(fits, key=len, default=None)


def allowed(target: str, may: set[str]) -> bool:
    if target.split(".")[0] in sys.stdlib_module_names:
        return True
    if target == "polpod" or "polpod.*" in may:
        return target in may or target.startswith("polpod.") or target.split(".")[0] in may
    return any(target == m or target.startswith(m + ".") for m in may - {"polpod"})


def wrong_imports(root: Path) -> list[str]:
    known = modules(root)
    complaints = []
    for module, path in known.items():
        layer = part(module)
        if layer is None:
            complaints.append(f"{module}: belongs to no part of LAYERS")
            continue
        complaints += [
            f"{module}:{line}: {layer} may not import {target}"
            for line, target in imports(path, known)
            if not allowed(target, LAYERS[layer])
        ]
    return complaints


def cycles(root: Path) -> list[str]:
    known = modules(root)
    graph = {m: {i.target for i in imports(p, known) if i.target in known} for m, p in known.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as exc:
        return ["cycle: " + " ← ".join(exc.args[1])]
    return []


def busy_packages(root: Path) -> list[str]:
    known = modules(root)
    return [
        f"{module}:{found.line}: a package imports {found.target}"
        for module, path in known.items()
        if path.name == "__init__.py"
        for found in imports(path, known)
    ]


def long_files(root: Path) -> list[str]:
    lines = {m: len(p.read_text().splitlines()) for m, p in modules(root).items()}
    return [f"{module}: {n} lines" for module, n in lines.items() if n > MOST_LINES]


def vague_classes(root: Path) -> list[str]:
    return [
        f"{module}:{node.lineno}: class {node.name}"
        for module, path in modules(root).items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and VAGUE.search(node.name) and node.name not in NAMED_BY_OTHERS
    ]


Checker = Callable[[Path], list[str]]
CHECKERS: tuple[Checker, ...] = (wrong_imports, cycles, busy_packages, long_files, vague_classes)


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_tree_keeps_the_rule(checker: Checker) -> None:
    assert len(modules(ROOT)) > 20
    assert checker(ROOT) == []


FUTURE = "from __future__ import annotations\n"
SOUND = {
    "polpod/__init__.py": '"""The daemon."""\n__version__ = "0"\n',
    "polpod/paths.py": "import os\n",
    "polpod/model/__init__.py": "",
    "polpod/model/tasks.py": "import msgspec\n",
    "polpod/rules/__init__.py": "",
    "polpod/rules/tasks.py": FUTURE + "from polpod.model import tasks\n",
    "polpod/store/__init__.py": "",
    "polpod/store/gate.py": "import anyio.to_thread\n",
    "polpod/store/runs.py": "from polpod.runner import contract\n",
    "polpod/runner/__init__.py": "",
    "polpod/runner/contract.py": "import sqlite3\n",
    "polpod/runner/main.py": "from polpod.runner.contract import CLAIM\nfrom polpod import paths\n",
    "polpod/services/__init__.py": "",
    "polpod/services/launcher.py": "import trio\nfrom polpod.runner import contract\nfrom polpod.rules import tasks\n",
    "polpod/daemon.py": "import trio\nfrom polpod.services import launcher\n",
    "polpoctl/__init__.py": "",
    "polpoctl/list.py": "from polpod import __version__, paths\n",
}


def tree(root: Path, **planted: str) -> Path:
    """A small sound tree with some files replaced or added; `__` in a name stands for `/`."""
    for name, text in (SOUND | {n.replace("__", "/") + ".py": t for n, t in planted.items()}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_sound_tree_has_no_complaint(checker: Checker, tmp_path: Path) -> None:
    assert checker(tree(tmp_path)) == []


@pytest.mark.parametrize(
    ("where", "text", "complaint"),
    [
        ("polpod__model__tasks", "import trio\n", "polpod.model.tasks:1: polpod.model may not import trio"),
        ("polpod__rules__tasks", "from polpod.store import gate\n", "polpod.rules may not import polpod.store.gate"),
        ("polpod__paths", "import msgspec\n", "polpod.paths may not import msgspec"),
        ("polpod__store__tables", "import anyio\n", "polpod.store may not import anyio"),
        ("polpod__store__tables", "import polpod.runner.contract\n", "may not import polpod.runner.contract"),
        ("polpod__store__runs", "from polpod.runner import main\n", "may not import polpod.runner.main"),
        ("polpod__runner__main", "import psutil\n", "polpod.runner may not import psutil"),
        ("polpod__runner__main", "from polpod.model.tasks import Task\n", "may not import polpod.model.tasks"),
        ("polpod__services__launcher", "from polpod.runner import main\n", "may not import polpod.runner.main"),
        ("polpod__services__launcher", "from polpod import daemon\n", "may not import polpod.daemon"),
        ("polpoctl__list", "import polpod.model.tasks\n", "polpoctl may not import polpod.model.tasks"),
        ("polpoctl__list", "import orjson\n", "polpoctl may not import orjson"),
        ("polpoctl__list", "def f():\n    import trio\n", "polpoctl.list:2: polpoctl may not import trio"),
        ("polpoctl__list", "if TYPE_CHECKING:\n    import polpod.errors\n", "may not import polpod.errors"),
        ("polpoctl__list", "importlib.import_module('polpod.daemon')\n", "may not import polpod.daemon"),
        ("polpoctl__list", "from . import x\n", "polpoctl may not import ."),
        ("polpod__stray", "", "polpod.stray: belongs to no part of LAYERS"),
    ],
)
def test_a_wrong_import_is_found(where: str, text: str, complaint: str, tmp_path: Path) -> None:
    complaints = wrong_imports(tree(tmp_path, **{where: text}))
    assert len(complaints) == 1
    assert complaint in complaints[0]


@pytest.mark.parametrize("late", ["import polpod.rules.b\n", "def f():\n    from polpod.rules import b\n"])
def test_a_cycle_is_found(late: str, tmp_path: Path) -> None:
    found = cycles(tree(tmp_path, polpod__rules__a=late, polpod__rules__b="from polpod.rules import a\n"))
    assert len(found) == 1
    assert "polpod.rules.a" in found[0]
    assert "polpod.rules.b" in found[0]


def test_a_package_that_imports_is_found(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "polpod/model/__init__.py").write_text("from polpod.model.tasks import Task\n")
    assert busy_packages(tmp_path) == ["polpod.model:1: a package imports polpod.model.tasks"]


def test_a_long_file_is_found(tmp_path: Path) -> None:
    assert long_files(tree(tmp_path, polpod__paths="x = 1\n" * MOST_LINES)) == []
    assert long_files(tree(tmp_path, polpod__paths="x = 1\n" * (MOST_LINES + 1))) == ["polpod.paths: 401 lines"]


@pytest.mark.parametrize("name", ["TaskManager", "Helper", "StoreBase", "PathUtil", "GateImpl", "RequestHandler"])
def test_a_vague_class_is_found(name: str, tmp_path: Path) -> None:
    text = f"class Outer:\n    class {name}:\n        pass\n\n\nclass TaskManagerStore:\n    pass\n"
    assert vague_classes(tree(tmp_path, polpod__paths=text)) == [f"polpod.paths:2: class {name}"]
