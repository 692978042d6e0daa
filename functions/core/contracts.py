"""Contracts: the rules that an event must pass to become a row, by type and version."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Self

import jsonschema_rs

from functions.core import json_path
from functions.core.dead_letters import MAX_ERRORS, EventRejected, KnownNames, Stage, Violation
from functions.core.rows import Extras, RowConverter
from functions.events import Columns, EventType, event_types
from functions.source_files import InvalidFile, parse_json, reading

FOLDER = pathlib.Path(__file__).parents[2] / "jsonschemas"

_ALL_ERRORS_UP_TO_BYTES = 16 * 2**10

_MAX_VALUES = 20
"""Maximum number of allowed values that a message lists."""

_MAX_BRANCH_ERRORS = 3
"""Maximum number of errors of each branch of a choice in a message; an array of wrong items has no end of them."""

_MAX_INSTANCE = 100
"""Maximum number of characters of a wrong value in a message: what is allowed follows it."""

_MASK = "\0"
"""Stands for the wrong value in the validator's own messages."""

FILE_NAME = re.compile(r"(?P<event_type>\w+)\.v(?P<version>[1-9]\d*)\.json")
"""Pattern of a contract's file name in `FOLDER`."""

DEFAULT = "x-default-version"
"""Keyword of a contract with which its version, and not the newest of its type, is that of events that name none."""


def default_version(schemas: Mapping[int, Mapping[str, Any]]) -> int:
    """Return the version of events without the attribute `schema_version`.

    Args:
        schemas: The contracts of an event type by version; at least one.

    Raises:
        ValueError: Several contracts have the keyword `DEFAULT`, or it is not true.
    """
    pinned = [version for version, schema in sorted(schemas.items()) if DEFAULT in schema]
    if any(schemas[version][DEFAULT] is not True for version in pinned):
        raise ValueError(f"`{DEFAULT}` is true, or the contract does not have it")
    if len(pinned) > 1:
        raise ValueError(f"versions {', '.join(map(str, pinned))} have `{DEFAULT}`; one version of a type may have it")
    return pinned[0] if pinned else max(schemas)


@dataclasses.dataclass(frozen=True, slots=True)
class Contract:
    """One version of an event type's JSON Schema (2020-12, formats asserted)."""

    name: str
    version: int
    event_type: EventType
    field_names: frozenset[str]
    _validator: jsonschema_rs.Draft202012Validator
    _shape: RowConverter

    def validate(self, event: dict[str, Any], payload_bytes: int) -> tuple[Columns, Extras]:
        """Validate an event, and convert it to its columns and the fields that the contract does not know.

        Args:
            event: The result of `decode`; becomes the columns.
            payload_bytes: Size of its payload.

        Raises:
            EventRejected: Stage `contract`, with the path of each violation; of a long event only the first.
        """
        if not self._validator.is_valid(event):
            raise EventRejected(Stage.CONTRACT, self._violations(event, payload_bytes))
        return self._shape.columns(event)

    def _violations(self, event: dict[str, Any], payload_bytes: int) -> list[Violation]:
        """Return the violations. The validator collects all errors before the first: 400 000 take 2 s and 700 MB."""
        if payload_bytes <= _ALL_ERRORS_UP_TO_BYTES:
            return [_violation(error) for error in self._validator.iter_errors(event)][:MAX_ERRORS]
        try:
            self._validator.validate(event)
        except jsonschema_rs.ValidationError as error:
            return [_violation(error)]
        raise AssertionError(f"{self.name} version {self.version} is valid and invalid")


def _read(file: pathlib.Path) -> tuple[dict[str, Any], jsonschema_rs.Draft202012Validator, RowConverter]:
    """Return the schema of a contract, its validator, and the converter of its events.

    Raises:
        InvalidFile: The file is no contract; says where and why.
    """
    with reading(f"jsonschemas/{file.name}"):
        schema = parse_json(file.read_text(encoding="utf-8"))
        try:
            validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True, mask=_MASK)
        except jsonschema_rs.ValidationError as error:
            violation = _violation(error)
            raise ValueError(f"{violation.path} is not JSON Schema: {violation.message}") from error
        if not isinstance(schema, dict) or "properties" not in schema:
            raise ValueError('a contract has "properties"')
        return schema, validator, RowConverter(schema)


def _field_names(schema: Any) -> Iterator[str]:  # noqa: ANN401 - any part of a schema
    """Yield the names of all properties, nested ones too."""
    if isinstance(schema, dict):
        properties = schema.get("properties")
        yield from properties if isinstance(properties, dict) else ()
        for inner in schema.values():
            yield from _field_names(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _field_names(inner)


def _violation(error: jsonschema_rs.ValidationError) -> Violation:
    path = json_path.from_root(error.instance_path)
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
        path = json_path.member(path, error.kind.property)
    return Violation(path, error.kind.name, _message(error))


def _message(error: jsonschema_rs.ValidationError) -> str:
    """Return what is wrong and what is allowed: the values of an enumeration, the rules of each branch of a choice."""
    match error.kind:
        case jsonschema_rs.ValidationErrorKind.Enum(options=options):
            more = f" or {len(options) - _MAX_VALUES} others" if len(options) > _MAX_VALUES else ""
            return f"{_shown(error.instance)} is not one of {', '.join(map(_shown, options[:_MAX_VALUES]))}{more}"
        case (
            jsonschema_rs.ValidationErrorKind.AnyOf(context=branches)
            | jsonschema_rs.ValidationErrorKind.OneOfNotValid(context=branches)
        ):
            return "; and ".join(" and ".join(map(_message, branch[:_MAX_BRANCH_ERRORS])) for branch in branches)
    return error.message.replace(_MASK, _shown(error.instance), error.message.startswith(_MASK))


def _shown(value: Any) -> str:  # noqa: ANN401 - any JSON value
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return text if len(text) <= _MAX_INSTANCE else text[: _MAX_INSTANCE - 1] + "…"


class Contracts:
    """All contracts of a folder.

    Args:
        contracts: By event type and version; at least one version each.
        defaults: Version of events that name none, by event type; the newest of the others.
    """

    def __init__(
        self, contracts: Mapping[str, Mapping[int, Contract]], defaults: Mapping[str, int] | None = None
    ) -> None:
        fields = (contract.field_names for versions in contracts.values() for contract in versions.values())
        self.names = KnownNames(frozenset(contracts), frozenset().union(*fields))
        defaults = defaults or {}
        self._default = {name: versions[defaults.get(name, max(versions))] for name, versions in contracts.items()}
        self._contracts = {
            name: {str(version): versions[version] for version in sorted(versions)}
            for name, versions in contracts.items()
        }

    @classmethod
    def load(cls, folder: pathlib.Path = FOLDER) -> Self:
        """Read `TYPE.vN.json` for each event type.

        Raises:
            InvalidFile: A file is no contract, or its name is wrong; a type has a handler but no contract, or the
                reverse; or its default version is not clear.
        """
        handlers = event_types()
        contracts: dict[str, dict[int, Contract]] = {name: {} for name in handlers}
        schemas: dict[str, dict[int, Any]] = {name: {} for name in handlers}
        for file in sorted(folder.glob("*.json")):
            matched = FILE_NAME.fullmatch(file.name)
            if matched is None:
                raise InvalidFile(f"jsonschemas/{file.name}: a contract's file name is TYPE.vN.json")
            name, version = matched["event_type"], int(matched["version"])
            if name not in handlers:
                raise InvalidFile(f"jsonschemas/{file.name}: functions/events/{name}.py is missing")
            schema, validator, converter = _read(file)
            schemas[name][version] = schema
            contracts[name][version] = Contract(
                name, version, handlers[name], frozenset(_field_names(schema)), validator, converter
            )
        defaults = {}
        for name, versions in schemas.items():
            if not versions:
                raise InvalidFile(f"functions/events/{name}.py: jsonschemas/{name}.v1.json is missing")
            try:
                defaults[name] = default_version(versions)
            except ValueError as error:
                raise InvalidFile(f"jsonschemas/{name}.v*.json: {error}") from error
        return cls(contracts, defaults)

    @property
    def event_types(self) -> Collection[str]:
        """Names of all event types."""
        return self._contracts.keys()

    def choose(self, event: dict[str, Any], attributes: Mapping[str, str]) -> Contract:
        """Return the contract of an event: the version in the attribute `schema_version`, or the default of its type.

        Raises:
            EventRejected: Stage `contract`, with the types or versions that exist.
        """
        name = event.get("event_type")
        version = attributes.get("schema_version")
        try:
            return self._default[name] if version is None else self._contracts[name][version]  # type: ignore[index]
        except (KeyError, TypeError):
            raise EventRejected(Stage.CONTRACT, [self._unknown(event, version)]) from None

    def _unknown(self, event: dict[str, Any], version: str | None) -> Violation:
        types = ", ".join(self._contracts)
        if "event_type" not in event:
            return Violation("$.event_type", "required", f"event_type is missing; there are {types}")
        name = event["event_type"]
        if not isinstance(name, str):
            return Violation("$.event_type", "type", f"event_type is a string, one of {types}")
        if name not in self._contracts:
            return Violation("$.event_type", "enum", f'"{name}" is no event type; there are {types}')
        versions = ", ".join(self._contracts[name])
        message = f'"{version}" is no version of {name}; there is {versions}'
        return Violation("attributes.schema_version", "enum", message)
