"""The configuration in `terraform/`, parsed: blocks as dictionaries, expressions as their text."""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import hcl2
from hcl2.utils import SerializationOptions

from tests.support.terraform import FOLDER

type Block = Mapping[str, Any]

_OPTIONS = SerializationOptions(with_comments=False, explicit_blocks=False, strip_string_quotes=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Configuration:
    """The blocks of a module.

    Attributes:
        resources: Resources by address, without the key of an instance: `google_pubsub_topic.events`.
        variables: Variables by name.
        outputs: Outputs by name.
        providers: Configurations of providers by name.
        local_values: Local values by name.
        settings: The blocks `terraform`.
    """

    resources: Mapping[str, Block]
    variables: Mapping[str, Block]
    outputs: Mapping[str, Block]
    providers: Mapping[str, Block]
    local_values: Mapping[str, Any]
    settings: tuple[Block, ...]

    def defaults(self, variable: str) -> dict[str, str]:
        """Return the defaults of the fields of a variable that is an object, as they are written."""
        written = re.findall(r'(\w+) = optional\(\w+, "?([^"(),]+)"?\)', self.variables[variable]["type"])
        return dict(written)


@functools.cache
def configuration(folder: pathlib.Path = FOLDER) -> Configuration:
    """Parse the module in a folder."""
    files = [hcl2.loads(file.read_text(), serialization_options=_OPTIONS) for file in sorted(folder.glob("*.tf"))]

    def named(kind: str) -> Iterator[tuple[str, Any]]:
        for file in files:
            for block in file.get(kind, []):
                yield from block.items()

    resources = {f"{kind}.{name}": body for kind, by_name in named("resource") for name, body in by_name.items()}
    return Configuration(
        resources,
        dict(named("variable")),
        dict(named("output")),
        dict(named("provider")),
        dict(named("locals")),
        tuple(block for file in files for block in file.get("terraform", [])),
    )
