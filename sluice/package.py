"""The package: the files to deploy, as a zip with the same bytes on every machine."""

import dataclasses
import hashlib
import pathlib
import zipfile

ROOT = pathlib.Path(__file__).parent.parent

FILES = (
    "main.py",
    "requirements.txt",
    "functions/**/*.py",
    "jsonschemas/*.json",
    "sql/policy_tags.json",
    "sql/schema/*.sql",
    "sql/external/*.sql",
    "sql/views/**/*.sql",
)
"""Patterns of the files that the functions import and read. `.gcloudignore` lets through the same."""

_TIME = (1980, 1, 1, 0, 0, 0)
"""Earliest time that a zip can hold."""

_MODE = 0o100644 << 16
_UNIX = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Package:
    """A package that was built.

    Attributes:
        file: The zip.
        names: Names of its files, sorted.
        size: Bytes of the zip.
        digest: SHA-256 of the zip, in hex: the same files, the same digest.
    """

    file: pathlib.Path
    names: tuple[str, ...]
    size: int
    digest: str


def deployed_files(root: pathlib.Path = ROOT) -> list[str]:
    """Return the paths of the deployed files, relative to the project, sorted.

    Raises:
        FileNotFoundError: A pattern of `FILES` matches nothing, so the folder is not a project of Sluice.
    """
    names: set[str] = set()
    for pattern in FILES:
        matches = {file.relative_to(root).as_posix() for file in root.glob(pattern) if file.is_file()}
        if not matches:
            raise FileNotFoundError(f"{root}: no {pattern}")
        names |= matches
    return sorted(names)


def build(file: pathlib.Path, root: pathlib.Path = ROOT) -> Package:
    """Write the zip. A previous one is replaced when the new one is complete.

    It does not depend on the machine: names are sorted, times and modes are fixed, and files are stored uncompressed,
    since the output of a compressor differs between its versions.

    Args:
        file: File to write.
        root: The project's folder.

    Raises:
        OSError: A file cannot be read, or the zip not be written.
    """
    names = deployed_files(root)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = _UNIX
            entry.external_attr = _MODE
            archive.writestr(entry, (root / name).read_bytes())
    data = unfinished.read_bytes()
    unfinished.replace(file)
    return Package(file, tuple(names), len(data), hashlib.sha256(data).hexdigest())


def unpack(folder: pathlib.Path, root: pathlib.Path = ROOT) -> None:
    """Build the zip and unpack it, as the platform does before it builds the function.

    Args:
        folder: Folder for the files; the zip is written beside it.
        root: The project's folder.
    """
    with zipfile.ZipFile(build(folder.with_name(f"{folder.name}.zip"), root).file) as archive:
        archive.extractall(folder)
