"""The files of a project that the check compares: as they are on disk, and as they were in a commit."""

import dataclasses
import pathlib
import shutil
import subprocess
from collections.abc import Mapping
from typing import Self

ROOT = pathlib.Path(__file__).parents[2]

CONTRACTS = "jsonschemas"
SQL = "sql"
TABLES = f"{SQL}/schema"
VIEWS = f"{SQL}/views"
VIEWS_OF_TABLES = f"{VIEWS}/each"
POLICY_TAGS = "policy_tags.json"

_FILES = ((CONTRACTS, ".json"), (TABLES, ".sql"), (VIEWS, ".sql"), (VIEWS_OF_TABLES, ".sql"), (SQL, POLICY_TAGS))
"""Folder and suffix of the files of each attribute of a project."""


class NoBase(Exception):
    """Raised when the commit does not exist or git is missing; has the message of git."""


@dataclasses.dataclass(frozen=True, slots=True)
class ContractFiles:
    """Contracts, tables and views.

    Attributes:
        contracts: The text of each `jsonschemas/*.json` by the file's name.
        tables: The text of each `sql/schema/*.sql` by the file's name.
        views: The text of each `sql/views/*.sql` by the file's name.
        views_of_tables: The text of each `sql/views/each/*.sql` by the file's name.
        policy_tags: The text of `sql/policy_tags.json` by the file's name.
    """

    contracts: Mapping[str, str]
    tables: Mapping[str, str]
    views: Mapping[str, str]
    views_of_tables: Mapping[str, str]
    policy_tags: Mapping[str, str]

    @classmethod
    def on_disk(cls, root: pathlib.Path = ROOT) -> Self:
        """Return the files as they are now."""
        return cls(
            *(
                {file.name: file.read_text(encoding="utf-8") for file in sorted((root / folder).glob(f"*{suffix}"))}
                for folder, suffix in _FILES
            )
        )

    @classmethod
    def at(cls, commit: str, root: pathlib.Path = ROOT) -> Self:
        """Return the files as they were in a commit.

        Args:
            commit: Any name of a commit in git: `HEAD`, `origin/main`, `v1.2.0`.
            root: The project's folder, at any place in its git checkout.

        Raises:
            NoBase: The commit does not exist.
        """
        digest = _git(root, "rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}").strip()

        return cls(*(_files(root, digest, folder, suffix) for folder, suffix in _FILES))


def _files(root: pathlib.Path, commit: str, folder: str, suffix: str) -> dict[str, str]:
    paths = _git(root, "ls-tree", "-z", "--name-only", commit, f"{folder}/").split("\0")
    return {
        pathlib.PurePosixPath(path).name: _git(root, "show", f"{commit}:./{path}")
        for path in paths
        if path.endswith(suffix)
    }


def _git(root: pathlib.Path, *arguments: str) -> str:
    program = shutil.which("git")
    if program is None:
        raise NoBase("git is not installed")
    done = subprocess.run(  # noqa: S603 - git from PATH, no shell; a commit's name is never an option
        [program, *arguments], cwd=root, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise NoBase(done.stderr.strip())
    return done.stdout
