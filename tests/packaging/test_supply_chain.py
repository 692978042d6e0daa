"""The deployed packages are those that pyproject.toml requires, pinned, and have a bill of materials."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions, requires

import grimp
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from sluice.package import build
from tools import audit, licences
from tools.audit import REQUIRED, Advisories, read_advisories
from tools.licences import Package
from tools.sbom import sbom

pytestmark = pytest.mark.check

ROOT = pathlib.Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}


type Pins = dict[str, Requirement]


def pinned(name: str) -> Pins:
    """Requirements of a lock file by name; each is pinned to a version, with hashes."""
    text = (ROOT / name).read_text()
    requirements: dict[str, Requirement] = {}
    for entry in re.split(r"\n(?=\S)", text):
        if entry.startswith("#"):
            continue
        requirement = Requirement(entry.partition("\\")[0])
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
        requirements[canonicalize_name(requirement.name)] = requirement
    return requirements


def version(requirement: Requirement) -> Version:
    return Version(str(requirement.specifier).removeprefix("=="))


DEPLOYED = pinned("requirements.txt")
LOCAL = pinned("requirements-local.txt")
DEVELOPED = pinned("requirements-dev.txt")
CHECKOV = pinned("requirements-checkov.txt")
MUTATION = pinned("requirements-mutation.txt")
FRAMES = pinned("requirements-frames.txt")
PLAIN = pinned("benchmarks/plain/requirements.txt")


def test_each_dependency_is_pinned_to_an_allowed_version() -> None:
    extras = PROJECT["optional-dependencies"]
    asked = [
        (DEPLOYED, PROJECT["dependencies"]),
        (LOCAL, [*PROJECT["dependencies"], *extras["local"]]),
        (DEVELOPED, [*extras["local"], *extras["dev"]]),
        (CHECKOV, PYPROJECT["dependency-groups"]["checkov"]),
        (MUTATION, PYPROJECT["dependency-groups"]["mutation"]),
        (FRAMES, PYPROJECT["dependency-groups"]["frames"]),
        (PLAIN, PYPROJECT["dependency-groups"]["plain"]),
    ]
    for lock, dependencies in asked:
        for dependency in map(Requirement, dependencies):
            if dependency.name != "sluice":
                assert dependency.specifier.contains(version(lock[canonicalize_name(dependency.name)])), dependency


def test_nothing_else_is_deployed() -> None:
    needed: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in PROJECT["dependencies"]]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({**LINUX, "extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in needed:
                needed.add((name, wanted))
                waiting += [(Requirement(text), wanted) for text in requires(name) or ()]
    here = {
        name
        for name, requirement in DEPLOYED.items()
        if requirement.marker is None or requirement.marker.evaluate(LINUX)
    }
    assert here == {name for name, _ in needed}


def test_comparison_function_has_the_deployed_versions() -> None:
    shared = PLAIN.keys() & DEPLOYED.keys()
    assert len(shared) > 20
    assert {name: version(PLAIN[name]) for name in shared} == {name: version(DEPLOYED[name]) for name in shared}


@pytest.mark.parametrize(("lock", "larger"), [(DEPLOYED, LOCAL), (LOCAL, DEVELOPED)], ids=["demo", "tests"])
def test_larger_environment_has_the_same_versions(lock: Pins, larger: Pins) -> None:
    """The demo runs on the deployed versions, and tests add packages to the demo's environment."""
    assert {name: version(requirement) for name, requirement in lock.items()} == {
        name: version(larger[name]) for name in lock
    }


def test_command_imports_only_what_the_demo_installs() -> None:
    """The packages that commands, the local stack and the functions import are in requirements-local.txt.

    Only pytest imports sluice/pytest_plugin.py.
    """
    names = packages_distributions()
    graph = grimp.build_graph("functions", "sluice", include_external_packages=True)
    imported = {module for module in graph.modules if graph.is_module_squashed(module)} & names.keys()
    assert len(imported) > 10
    missing = {module for module in imported if not {canonicalize_name(name) for name in names[module]} & LOCAL.keys()}
    assert missing == {"pytest"}
    assert graph.find_modules_that_directly_import("pytest") == {"sluice.pytest_plugin"}


@pytest.mark.parametrize(("lock", "what"), [(LOCAL, "local stack"), (DEVELOPED, "checks")], ids=["demo", "tests"])
def test_installation_announces_its_size(lock: Pins, what: str) -> None:
    text = (ROOT / "tools" / "environment.sh").read_text()
    announced = re.search(rf'{what}".*\n +size="(\d+) packages, \d+ MB to download, (\d+) MB on disk', text)
    assert announced is not None
    here = [name for name, requirement in lock.items() if not requirement.marker or requirement.marker.evaluate(LINUX)]
    assert len(here) == int(announced[1])
    files = [file.locate() for name in here for file in distribution(name).files or ()]
    megabytes = sum(pathlib.Path(file).stat().st_size for file in files if pathlib.Path(file).exists()) / 1e6
    assert megabytes == pytest.approx(int(announced[2]), rel=0.15)


@pytest.mark.parametrize(
    "name",
    [*(file.name for file in ROOT.glob("requirements*.txt")), "benchmarks/plain/requirements.txt"],
)
def test_no_lock_file_names_where_the_packages_came_from(name: str) -> None:
    assert re.findall(r"https?://|file:|--(?:extra-)?index|--find-links|--trusted", (ROOT / name).read_text()) == []


def test_every_deployed_package_has_an_allowed_licence() -> None:
    packages = licences.deployed()
    assert {package.name for package in packages} == {
        requirement.name
        for requirement in DEPLOYED.values()
        if requirement.marker is None or requirement.marker.evaluate(LINUX)
    }
    assert [package for package in packages if not package.allowed] == []


def test_bill_of_materials_lists_the_deployed_packages(tmp_path: pathlib.Path) -> None:
    package = build(tmp_path / "sluice.zip")
    text = sbom(package)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    components = {component["name"]: component for component in bom["components"]}
    assert {component["purl"] for component in components.values()} == {
        f"pkg:pypi/{name}@{version(requirement)}" for name, requirement in DEPLOYED.items()
    }
    assert all(component["licenses"] for component in components.values())
    application = bom["metadata"]["component"]
    assert (application["name"], application["hashes"]) == ("sluice", [{"alg": "SHA-256", "content": package.digest}])
    needed = {dependency["ref"]: dependency.get("dependsOn", []) for dependency in bom["dependencies"]}
    asked = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert {re.split("[/@]", ref)[1] for ref in needed[application["bom-ref"]]} == asked


@pytest.mark.parametrize("licence", ["GPL-3.0-only", "AGPL-3.0-or-later", "LGPL-2.1-only", "SSPL-1.0", "unknown"])
def test_restrictive_licence_is_rejected(licence: str) -> None:
    assert not Package("package", [licence]).allowed
    assert Package("package", [licence, "MIT"]).allowed


REPORT = {
    "dependencies": [
        {"name": "good", "version": "1", "vulns": []},
        {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3", "4"]}]},
        {"name": "worse", "version": "5", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]},
        {"name": "private", "skip_reason": "private (6) is not known"},
    ]
}


def test_advisories_are_separated_from_unproven_packages() -> None:
    assert read_advisories(json.dumps(REPORT).encode(), "") == Advisories(
        3,
        ["bad 2: PYSEC-1, fixed in 3, 4", "worse 5: PYSEC-2, fixed in none"],
        ["private (6) is not known"],
    )
    assert read_advisories(b"", "Traceback\nConnectionError: refused\n") == Advisories(
        0, unproven=["ConnectionError: refused"]
    )
    assert read_advisories(b"[]", "").unproven == ["pip-audit gave no report"]


@pytest.mark.parametrize(("required", "status"), [("", 0), ("1", 1)])
def test_audit_checks_own_code_without_the_advisory_service(required: str, status: int) -> None:
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "", "no_proxy": "", "https_proxy": "http://127.0.0.1:1"}
    done = subprocess.run(
        [sys.executable, "-m", "tools.audit"],
        cwd=ROOT,
        env={**os.environ, **nowhere, REQUIRED: required},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Nothing is proven of any package" in done.stderr


def test_risky_code_fails_the_audit(tmp_path: pathlib.Path) -> None:
    (tmp_path / "risky.py").write_text("import marshal, sys\nmarshal.loads(sys.stdin.buffer.read())\n")
    options = [option for option in audit._BANDIT if option.startswith(("--quiet", "--config"))]
    done = subprocess.run(
        [sys.executable, "-m", "bandit", *options, str(tmp_path / "risky.py")],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr


def test_ci_runs_make_check_and_that_runs_every_test() -> None:
    assert (ROOT / ".ci" / "run").read_text().endswith(" make check\n")
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r'^test: .*\n\t@\$\(PYTEST\) -m "not check"\n', makefile, re.MULTILINE)
    assert re.search(r"^check: .*\btest (\S+ )*##.*\n\t@\$\(PYTEST\) -m check\n", makefile, re.MULTILINE)
