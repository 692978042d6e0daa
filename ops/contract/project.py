"""The files of a project that the check compares: as they are on disk, and as they were in a commit."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Self

ROOT = pathlib.Path(__file__).parents[2]

CONTRACTS = "jsonschemas"
TABLES = "sql/schema"
_POLICY_TAGS = "sql", "policy_tags.json"


class NoBase(Exception):
    """There is no such commit, or no git to ask; says what git says."""


@dataclasses.dataclass(frozen=True, slots=True)
class Project:
    """Contracts and tables.

    Attributes:
        contracts: The text of each `jsonschemas/*.json` by the file's name.
        tables: The text of each `sql/schema/*.sql` by the file's name.
        policy_tags: The columns that are protected, as `TABLE.COLUMN`, by the kind of their tag.
    """

    contracts: Mapping[str, str]
    tables: Mapping[str, str]
    policy_tags: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    @classmethod
    def on_disk(cls, root: pathlib.Path = ROOT) -> Self:
        """The files as they are now."""
        return cls(
            {file.name: file.read_text(encoding="utf-8") for file in sorted((root / CONTRACTS).glob("*.json"))},
            {file.name: file.read_text(encoding="utf-8") for file in sorted((root / TABLES).glob("*.sql"))},
            json.loads(root.joinpath(*_POLICY_TAGS).read_text(encoding="utf-8")),
        )

    @classmethod
    def at(cls, commit: str, root: pathlib.Path = ROOT) -> Self:
        """The files as they were in a commit.

        Args:
            commit: Anything that git takes for one: `HEAD`, `origin/main`, `v1.2.0`.
            root: The project's folder, at any place in its git checkout.

        Raises:
            NoBase: There is no such commit.
        """
        digest = _git(root, "rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}").strip()
        folder, file = _POLICY_TAGS
        return cls(
            _files(root, digest, CONTRACTS, ".json"),
            _files(root, digest, TABLES, ".sql"),
            json.loads(_files(root, digest, folder, file).get(file, "{}")),
        )


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
