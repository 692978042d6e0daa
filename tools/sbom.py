"""`make sbom`: the software bill of materials of the package, as CycloneDX.

It lists the packages of requirements.txt, which the build of the functions installs, with their licences and what each
needs. Their hashes are in requirements.txt, which is in the package.
"""

import pathlib
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import requires, version

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sluice.package import ROOT, Package, build
from tools import licences

PACKAGE = ROOT / "dist" / "sluice.zip"
FILE = ROOT / "dist" / "sluice.cdx.json"


def sbom(package: Package) -> str:
    """Return the bill of materials of a package that was built from this project, as JSON.

    Raises:
        importlib.metadata.PackageNotFoundError: A package of requirements.txt is not installed here: run `make`.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    licence = LicenseFactory().make_from_string
    application = Component(
        name=project["name"],
        version=project["version"],
        type=ComponentType.APPLICATION,
        bom_ref=PACKAGE.name,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=package.digest)],
        licenses=[licence(project["license"])],
    )
    components: dict[str, Component] = {}
    for deployed in licences.deployed():
        name = canonicalize_name(deployed.name)
        purl = PackageURL("pypi", name=name, version=version(name))
        components[name] = Component(
            name=deployed.name,
            version=purl.version,
            purl=purl,
            bom_ref=str(purl),
            licenses=[licence(" OR ".join(deployed.licences))],
        )
    bom = Bom(components=components.values())
    bom.metadata.component = application

    def register(component: Component, requirements: Iterable[str]) -> None:
        names = {canonicalize_name(Requirement(requirement).name) for requirement in requirements}
        bom.register_dependency(component, [components[name] for name in sorted(names & components.keys())])

    register(application, project["dependencies"])
    for component in components.values():
        register(component, requires(component.name) or ())
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def main(file: pathlib.Path = FILE) -> None:
    """Build the package and write its bill of materials beside it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(sbom(build(PACKAGE)), encoding="utf-8")
    print(file, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
