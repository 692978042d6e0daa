"""`make audit`: known vulnerabilities of the deployed packages, and risky code of the project.

Exit code 1 where there is either. Where the advisory service cannot be asked nothing is proven: that is said, and is
exit code 0, or 1 where the variable SLUICE_AUDIT_REQUIRED is set, as in CI with a network.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

ROOT = pathlib.Path(__file__).parent.parent

REQUIRED = "SLUICE_AUDIT_REQUIRED"

_PIP_AUDIT = ("pip_audit", "--require-hashes", "--disable-pip", "--format=json", "--progress-spinner=off")
_BANDIT = (
    "bandit",
    "--quiet",
    "--configfile=pyproject.toml",
    "--recursive",
    "main.py",
    "dataflow",
    "functions",
    "sluice",
    "tools",
)

_console = Console(stderr=True, soft_wrap=True, highlight=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Advisories:
    """Report of the advisory service on the packages.

    Attributes:
        asked: Number of packages that it knows.
        vulnerable: A line for each advisory: package, advisory and the versions that fix it.
        unproven: Reasons why there is no report on a package, or on any.
    """

    asked: int
    vulnerable: Sequence[str] = ()
    unproven: Sequence[str] = ()


def read_advisories(report: bytes, complaint: str) -> Advisories:
    """Read pip-audit's report; its exit code is the same for a vulnerability and an outage.

    A service that does not know a package, as a mirror without advisories, is no proof either, though pip-audit then
    says that no vulnerabilities are known.

    Args:
        report: Standard output of pip-audit.
        complaint: Standard error of pip-audit, used if there is no report.
    """
    try:
        dependencies: list[dict[str, Any]] = msgspec.json.decode(report)["dependencies"]
    except (msgspec.DecodeError, LookupError, TypeError):
        last = complaint.strip().splitlines()[-1:] or ["pip-audit gave no report"]
        return Advisories(0, unproven=last)
    skipped = [str(package["skip_reason"]) for package in dependencies if "skip_reason" in package]
    vulnerable = [
        f"{package['name']} {package['version']}: {advisory['id']},"
        f" fixed in {', '.join(advisory['fix_versions']) or 'none'}"
        for package in dependencies
        for advisory in package.get("vulns", ())
    ]
    return Advisories(len(dependencies) - len(skipped), vulnerable, skipped)


def audit(requirements: pathlib.Path, *, required: bool) -> bool:
    """Run both checks, print the findings, and return whether they pass.

    Args:
        requirements: The pinned packages.
        required: Whether it is a failure that the advisory service was not asked.
    """
    secure = _run(*_BANDIT).returncode == 0
    asked = _run(*_PIP_AUDIT, f"--requirement={requirements}", capture=True)
    advisories = read_advisories(asked.stdout, asked.stderr.decode(errors="replace"))
    for line in advisories.vulnerable:
        _console.print(Text(line, "bold red"))
    if advisories.unproven:
        whom = f"of {len(advisories.unproven)} packages" if advisories.asked else "of any package"
        why = "the advisory service was not reached, or does not know them"
        _console.print(Text.assemble(("Nothing is proven", "bold yellow"), f" {whom}: {why}: {advisories.unproven[0]}"))
        _console.print(f"With {REQUIRED}=1 that is a failure.")
    _console.print(f"{advisories.asked} packages asked for, {len(advisories.vulnerable)} known vulnerabilities.")
    return secure and not advisories.vulnerable and not (required and advisories.unproven)


def _run(*module: str, capture: bool = False) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", *module]
    return subprocess.run(command, cwd=ROOT, capture_output=capture, check=False)  # noqa: S603 - the commands above


if __name__ == "__main__":
    sys.exit(not audit(ROOT / "requirements.txt", required=bool(os.environ.get(REQUIRED))))
