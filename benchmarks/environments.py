"""An environment for each implementation, of exactly its own packages.

The development environment has more, which the clients import where they find it.
"""

import dataclasses
import hashlib
import pathlib
import subprocess
import sys

from sluice.package import ROOT

UV = pathlib.Path(sys.executable).with_name("uv")


@dataclasses.dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment of pinned packages.

    Attributes:
        name: Purpose of the environment.
        requirements: The pinned packages.
        compiled: Whether their bytecode lies beside them, as in an image of Cloud Functions.
    """

    name: str
    requirements: pathlib.Path
    compiled: bool = True

    @property
    def folder(self) -> pathlib.Path:
        """Folder of the environment."""
        return ROOT / ".venv" / f"bench-{self.name}{'' if self.compiled else '-source'}"

    @property
    def python(self) -> pathlib.Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def make(self) -> None:
        """Make it, if it is not there as the requirements want it.

        Raises:
            subprocess.CalledProcessError: uv could not.
        """
        digest = hashlib.sha256(self.requirements.read_bytes()).hexdigest()
        mark = self.folder / "ready"
        if mark.exists() and mark.read_text() == digest:
            return
        _uv("venv", "--clear", "--python", sys.executable, str(self.folder))
        install = ["pip", "install", "--python", str(self.python), "--require-hashes", "-r", str(self.requirements)]
        _uv(*install, *(["--compile-bytecode"] if self.compiled else []))
        mark.write_text(digest)


def _uv(*arguments: str) -> None:
    subprocess.run([UV, "--quiet", *arguments], check=True)  # noqa: S603 - the project's own commands


DEPLOYED = ROOT / "requirements.txt"
PLAIN = pathlib.Path(__file__).parent / "plain" / "requirements.txt"
