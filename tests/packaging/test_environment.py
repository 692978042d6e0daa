"""`make` finds Python 3.13 wherever it is, and says how to get it where it is not."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "tools" / "environment.sh"

RECORD = '#!/bin/sh\necho "$0 $*" >> "{log}"\n'
MAKE_VENV = """mkdir -p .venv/bin
cat > .venv/bin/python <<'END'
#!/bin/sh
echo "venv python $*" >> "{log}"
END
chmod +x .venv/bin/python
"""
MAKE_VENV_OF_UV = f'[ "$1" = venv ] || exit 0\n{MAKE_VENV}'
OLD = '#!/bin/sh\ncase "$1" in -c) exit 1 ;; esac\nexit 9\n'


@pytest.fixture
def project(tmp_path: pathlib.Path) -> pathlib.Path:
    """A project with the script, and an empty PATH folder `bin` but for the shell's own tools."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(SCRIPT, tmp_path / "tools")
    for tool in ("sh", "mkdir", "cat", "chmod", "touch", "dirname", "rm"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or tool)
    return tmp_path


def install(project: pathlib.Path, name: str, script: str) -> None:
    """Put a program into PATH."""
    program = project / "bin" / name
    program.write_text(script.format(log=project / "log"))
    program.chmod(0o755)


def run(project: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = ["sh", str(project / "tools" / "environment.sh"), *arguments]
    path = {"PATH": str(project / "bin")}
    return subprocess.run(script, env=path, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["python3.13", "python3", "uv"])
def test_python_is_located_under_each_of_its_names(project: pathlib.Path, name: str) -> None:
    install(project, name, RECORD + (MAKE_VENV_OF_UV if name == "uv" else MAKE_VENV))
    if name != "python3":
        install(project, "python3", OLD)
    done = run(project)
    assert done.returncode == 0, done.stderr
    log = (project / "log").read_text()
    assert ("--python 3.13 .venv" if name == "uv" else "-m venv --clear .venv") in log
    assert ("uv pip install --quiet" if name == "uv" else "venv python -m pip install --quiet") in log
    assert "--require-hashes -r requirements-dev.txt" in log
    assert (project / ".venv" / "ready").exists()


def test_demo_installs_its_own_packages_and_says_their_size(project: pathlib.Path) -> None:
    install(project, "python3", RECORD + MAKE_VENV)
    done = run(project, "local")
    assert done.returncode == 0, done.stderr
    assert re.search(r"local stack need into .venv: \d+ packages, \d+ MB to download, \d+ MB on disk", done.stderr)
    assert "--require-hashes -r requirements-local.txt" in (project / "log").read_text()
    assert (project / ".venv" / "local-ready").exists()
    assert not (project / ".venv" / "ready").exists()


def test_uv_adds_packages_to_an_environment_of_pip(project: pathlib.Path) -> None:
    install(project, "python3", RECORD + MAKE_VENV)
    assert run(project, "local").returncode == 0
    install(project, "uv", RECORD)
    assert run(project).returncode == 0
    log = (project / "log").read_text()
    assert log.count("-m venv") == 1
    assert re.search(r"uv pip install --quiet --python .venv/bin/python .* -r requirements-dev.txt", log)


def test_without_python_3_13_it_says_how_to_get_it(project: pathlib.Path) -> None:
    install(project, "python3", OLD)
    done = run(project)
    assert done.returncode == 1
    assert "needs Python 3.13" in done.stderr
    assert "docs.astral.sh/uv" in done.stderr


def test_the_tests_run_on_that_python() -> None:
    assert sys.version_info[:2] == (3, 13)
