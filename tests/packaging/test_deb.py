"""The .deb as a file: what is in it, where, and what Debian's own checker says.  What it does: tests/systemd."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.package import CHECKOUT, build, built, field, need, unpacked
from kit.waiting import BOUND
from packaging.requirements import Requirement

import polpod
from polpoctl.commands.completion import script_for

TARGET = "/usr/bin/python3"
INSTALLED = {
    "system": "lib/systemd/system",
    "user": "usr/lib/systemd/user",
    "sysusers.d": "usr/lib/sysusers.d",
    "tmpfiles.d": "usr/lib/tmpfiles.d",
}
"""Where the parts of systemd/ belong."""
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/polpoctl",
    "zsh": "usr/share/zsh/vendor-completions/_polpoctl",
    "fish": "usr/share/fish/vendor_completions.d/polpoctl.fish",
}


@pytest.fixture(scope="module")
def package() -> Path:
    return built()


@pytest.fixture(scope="module")
def tree(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(package, tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def modules(tree: Path) -> Path:
    (found,) = tree.glob("usr/lib/polpo/lib/python3.*/site-packages")
    return found


def files(tree: Path) -> Iterator[Path]:
    return (path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())


def test_lintian_finds_nothing(package: Path) -> None:
    need("lintian")
    said = subprocess.run(["lintian", package], capture_output=True, text=True, check=False, timeout=4 * BOUND)
    assert (said.returncode, said.stdout) == (0, "")


def test_it_depends_on_the_python_that_its_modules_are_compiled_for(package: Path) -> None:
    version = subprocess.check_output([TARGET, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True)
    assert f"python{version.strip()}" in field(package, "Depends").split(", ")
    assert (
        field(package, "Architecture") == subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    )


def test_every_file_of_systemd_is_where_systemd_looks(tree: Path) -> None:
    here = [path for path in (CHECKOUT / "systemd").glob("*/*") if path.is_file()]
    for path in here:
        installed = tree / INSTALLED[path.parent.name] / path.name
        assert installed.read_bytes() == path.read_bytes()
    assert len(here) == sum(len(list((tree / place).glob("*"))) for place in INSTALLED.values())


def test_what_monitoring_needs_comes_along(tree: Path) -> None:
    for name in ("prometheus/polpod.rules.yml", "grafana/polpod.json"):
        assert (tree / "usr/share/polpod" / name).read_bytes() == (CHECKOUT / "packaging" / name).read_bytes()


@pytest.mark.parametrize("name", ["polpod", "polpoctl"])
def test_a_program_is_on_the_path_and_runs_its_own_python(name: str, tree: Path) -> None:
    assert os.readlink(tree / "usr/bin" / name) == f"../lib/polpo/bin/{name}"
    program = tree / "usr/lib/polpo/bin" / name
    assert program.stat().st_mode & 0o777 == 0o755
    assert program.read_text().startswith("#!/usr/lib/polpo/bin/python3 -I\n")
    interpreter = os.readlink(tree / "usr/lib/polpo/bin/python3")
    assert os.path.realpath(os.path.join("/usr/lib/polpo/bin", interpreter)) == os.path.realpath(TARGET)


@pytest.mark.parametrize(("module", "option"), [("polpod", "--version"), ("polpoctl", "--help")])
def test_a_program_needs_nothing_but_what_is_packaged(module: str, option: str, modules: Path, tmp_path: Path) -> None:
    script = f"import runpy, sys; sys.path.append({str(modules)!r}); sys.argv = [{module!r}, {option!r}]; "
    script += f"import polpod.daemon, polpoctl.commands.completion; runpy.run_module({module!r}, run_name='__main__')"
    ran = subprocess.run(
        [TARGET, "-I", "-S", "-B", "-c", script], env={}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"polpod {polpod.__version__}\n" if module == "polpod" else "usage: polpoctl")


def test_postgresql_is_reached_with_what_is_packaged_and_libpq(package: Path, modules: Path, tmp_path: Path) -> None:
    """psycopg in pure Python; libpq is what `apt install libpq5` brings, and whoever lacks it is told so."""
    need("psql")  # which depends on libpq5
    assert field(package, "Suggests") == "libpq5"
    script = f"import sys; sys.path.append({str(modules)!r}); "
    script += "from polpod.store.location import Postgres, open_sessions; from polpod.store.databases import TASKS; "
    without = "import ctypes.util; ctypes.util.find_library = lambda name: None; "
    attempt = "open_sessions(Postgres('postgresql:///x?host=/nowhere'), TASKS.schema)"
    for begin, said in (("", "/nowhere/x: connection is bad: "), (without, "apt install libpq5")):
        ran = subprocess.run(
            [TARGET, "-I", "-S", "-B", "-c", begin + script + attempt],
            env={}, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 1
        assert said in ran.stderr.splitlines()[-1]


def test_the_dependencies_are_those_of_the_lock(modules: Path) -> None:
    lock = {line for line in (CHECKOUT / "requirements-dev.lock").read_text().splitlines() if "==" in line}
    locked = {(name.lower().replace("-", "_"), version) for name, _, version in (line.partition("==") for line in lock)}
    found = {tuple(path.name.removesuffix(".dist-info").split("-")) for path in modules.glob("*.dist-info")}
    found = {(name.lower(), version) for name, version in found} - {("polpod", polpod.__version__)}
    assert found <= locked
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    direct = {Requirement(text).name.replace("-", "_") for text in project["dependencies"]}
    assert direct | {"psycopg", "rich"} <= {name for name, _ in found}
    assert not {"pytest", "hatchling", "psycopg_binary"} & {name for name, _ in found}


def test_all_code_is_compiled_for_where_it_will_be(modules: Path, tree: Path) -> None:
    tag = subprocess.check_output([TARGET, "-c", "import sys; print(sys.implementation.cache_tag)"], text=True).strip()
    sources = list(modules.rglob("*.py"))
    assert len(sources) > 200
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"
        assert compiled.is_file(), source
        assert f"/{source.relative_to(tree)}".encode() in compiled.read_bytes()


def test_nothing_tells_where_it_was_built(tree: Path) -> None:
    places = (str(CHECKOUT).encode(), b"build/deb.")
    assert [path for path in files(tree) if any(place in path.read_bytes() for place in places)] == []


@pytest.mark.parametrize("shell", COMPLETIONS)
def test_completion_is_where_the_shell_looks(shell: str, tree: Path) -> None:
    assert (tree / COMPLETIONS[shell]).read_text().split() == script_for(shell).split()


def test_the_manual_pages_are_there(tree: Path) -> None:
    pages = sorted(path.name for path in (tree / "usr/share/man").rglob("*.gz"))
    assert pages == ["polpo.json.5.gz", "polpoctl.1.gz", "polpod-rpc.7.gz", "polpod.8.gz"]


def test_everything_is_root_s_and_nobody_else_may_write(package: Path) -> None:
    listed = subprocess.check_output(["dpkg-deb", "--contents", package], text=True).splitlines()
    assert {line.split()[1] for line in listed} == {"root/root"}
    assert {line[:10] for line in listed} <= {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x", "lrwxrwxrwx"}


def test_the_same_sources_give_the_same_package(package: Path, tmp_path: Path) -> None:
    def made(package: Path, name: str) -> tuple[dict[str, str], str]:
        """The digest of each file, by which one that differs is found, and that of the package."""
        subprocess.run(["dpkg-deb", "--raw-extract", package, tmp_path / name], check=True)
        within = {str(path.relative_to(tmp_path / name)): digest(path) for path in files(tmp_path / name)}
        return within, digest(package)

    def digest(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    before = made(package, "before")
    after = made(build(), "after")
    assert before[0] == after[0]
    assert before[1] == after[1], "not one file differs, but how they are packed"


def test_a_suffix_makes_a_later_version_that_says_so(package: Path, tmp_path: Path) -> None:
    later = built("+1")
    version = field(later, "Version")
    assert version == f"{polpod.__version__}+1"
    assert subprocess.run(["dpkg", "--compare-versions", version, "gt", field(package, "Version")]).returncode == 0
    (source,) = unpacked(later, tmp_path).glob("usr/lib/polpo/lib/python3.*/site-packages/polpod/__init__.py")
    assert f'__version__ = "{version}"' in source.read_text()
