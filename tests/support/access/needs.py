"""Permissions that a command needs, from `commands.yaml`."""

import fnmatch
import pathlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

FOLDER = pathlib.Path(__file__).parent


class Need(NamedTuple):
    """A permission on a resource."""

    permission: str
    resource: str


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file as it is; its head explains each part."""

    abilities: Mapping[str, Mapping[str, Sequence[str] | str]]
    commands: Mapping[str, Sequence[str]]
    rejected: Mapping[str, Sequence[str]]
    resources: Mapping[str, Sequence[str]]

    def entry(self, command: Sequence[str]) -> str | None:
        """Return the entry of a command: of those that match, the one with the most words."""
        matching = (entry for entry in self.commands if _matches(shlex.split(entry), command))
        return max(matching, key=lambda entry: len(entry.split()), default=None)

    def needs(self, entry: str) -> Iterator[Need]:
        """Yield what the commands of an entry need."""
        for ability in self.commands[entry]:
            for resource, permissions in self.abilities[ability].items():
                if resource != "source":
                    yield from (Need(permission, resource) for permission in permissions)


def table() -> Table:
    """Read the file."""
    return msgspec.yaml.decode((FOLDER / "commands.yaml").read_bytes(), type=Table)


def predefined_roles() -> dict[str, list[str]]:
    """Return the permissions of Google's roles, as far as a command needs them."""
    return msgspec.yaml.decode((FOLDER / "predefined_roles.yaml").read_bytes(), type=dict[str, list[str]])


def _matches(entry: Sequence[str], command: Sequence[str]) -> bool:
    words = [word for word in command if not word.startswith("-")]
    options = {word.partition("=")[0] for word in command if word.startswith("-")}
    asked = [word for word in entry if not word.startswith("-")]
    return (
        len(words) >= len(asked)
        and all(fnmatch.fnmatchcase(word, pattern) for word, pattern in zip(words, asked, strict=False))
        and {word for word in entry if word.startswith("-")} <= options
    )
