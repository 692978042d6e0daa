"""The licences of the deployed packages, as docs/licences.md lists them."""

import dataclasses
import pathlib
import re
from collections.abc import Sequence
from importlib.metadata import Distribution, distribution

from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).parent.parent
FILE = ROOT / "docs" / "licences.md"
MARK = "| package | licence |"

PERMISSIVE = frozenset({"Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PSF-2.0"})
FILE_COPYLEFT = frozenset({"MPL-2.0"})
"""Licences of single files, without conditions on what is deployed with the unchanged files."""

_DEPLOYED_ON = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.13.0",
    "python_version": "3.13",
    "sys_platform": "linux",
}

_SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "The MIT License (MIT)": "MIT",
}
"""SPDX identifiers of licences by the names that packages give them in free text, and in the licence's file."""


@dataclasses.dataclass(frozen=True, slots=True)
class Package:
    """A deployed package.

    Attributes:
        name: Name as in requirements.txt.
        licences: SPDX identifiers; its user chooses one. `BSD` where the package does not say which.
    """

    name: str
    licences: Sequence[str]

    @property
    def allowed(self) -> bool:
        """Whether one of them asks nothing of our own code."""
        return any(licence in PERMISSIVE | FILE_COPYLEFT for licence in self.licences)


def deployed(requirements: pathlib.Path = ROOT / "requirements.txt") -> list[Package]:
    """Return the packages of requirements.txt that are installed where the functions run.

    Raises:
        importlib.metadata.PackageNotFoundError: One is not installed here: run `make`.
    """
    lines = re.findall(r"^[A-Za-z0-9][^\\\n]*", requirements.read_text(encoding="utf-8"), re.MULTILINE)
    wanted = [Requirement(line) for line in lines]
    return [
        Package(requirement.name, _licences(distribution(requirement.name)))
        for requirement in wanted
        if requirement.marker is None or requirement.marker.evaluate(_DEPLOYED_ON)
    ]


def _licences(package: Distribution) -> list[str]:
    """Return the SPDX expression if there is one, else the classifiers, the free text, or the titles of the files."""
    fields: dict[str, list[str]] = {
        name: list(package.metadata.get_all(name) or ())
        for name in ("License-Expression", "Classifier", "License", "License-File")
    }
    if fields["License-Expression"]:
        return fields["License-Expression"][0].split(" OR ")
    classified = [
        licence.rpartition(" :: ")[2] for licence in fields["Classifier"] if licence.startswith("License :: ")
    ]
    titles = [(package.read_text(f"licenses/{file}") or "").partition("\n")[0] for file in fields["License-File"]]
    named = (
        [licence for licence in classified if licence != "OSI Approved"] or fields["License"] or titles or ["unknown"]
    )
    return sorted({_SPDX.get(licence, licence) for licence in named})


def page() -> str:
    """Return the page of the documentation with its table up to date."""
    head, _, _ = FILE.read_text(encoding="utf-8").partition(MARK)
    rows = [f"| {package.name} | {' or '.join(package.licences)} |" for package in deployed()]
    return "\n".join([f"{head}{MARK}", "|---|---|", *rows]) + "\n"
