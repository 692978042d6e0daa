"""Metadata of the Flex Template: the parameters of a job, as Dataflow checks them before it starts anything.

`python -m tools.flex_template` prints dataflow/metadata.json. It needs Apache Beam: `.venv/beam/bin/python`.
"""

import argparse
import sys
from typing import Any

import msgspec

from dataflow.options import KEY_VERSION, SUBSCRIPTION, WRITERS, SluiceOptions, regex
from functions.settings import Settings

_WHOLE = r"[0-9]+"
_NUMBER = r"[0-9]+(\.[0-9]+)?"

REGEXES = {
    "id_fields": r"\S+",
    "id_label": r"\S*",
    "input_files": r".+",
    "input_subscription": regex(SUBSCRIPTION),
    "ip_hash_key_secret": regex(KEY_VERSION),
    "linger": _NUMBER,
    "schema_version": _WHOLE,
    "shards": _WHOLE,
    "writer": f"({'|'.join(WRITERS)})",
}
"""Patterns of the values of options that are not settings."""


def metadata() -> dict[str, Any]:
    """Return the metadata, with a parameter for each option of the pipeline.

    Raises:
        KeyError: An option that is no setting is missing in `REGEXES`.
    """
    parser = argparse.ArgumentParser(add_help=False)
    SluiceOptions._add_argparse_args(parser)
    return {
        "name": "Sluice",
        "description": "Events from Pub/Sub, or from files, into BigQuery and Cloud Storage",
        "streaming": True,
        "parameters": [_parameter(action) for action in parser._actions],
    }


def _parameter(action: argparse.Action) -> dict[str, Any]:
    setting = _settings().get(action.dest)
    is_optional = setting is None or "default" in setting
    text = setting["description"] if setting else str(action.help)
    default = setting.get("default") if setting else action.default
    return {
        "name": action.dest,
        "label": action.dest.replace("_", " "),
        "helpText": text if default is None else f"{text.removesuffix('.')}. Default: {default}.",
        "isOptional": is_optional,
        "regexes": [f"^{_regex(action, setting)}$"],
    }


def _settings() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each setting, of those that may be unset without the null."""
    schemas = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    names = {field.encode_name: field.name for field in msgspec.structs.fields(Settings)}
    settings = {}
    for name, schema in schemas.items():
        [given] = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
        settings[names[name]] = {**schema, **given}
    return settings


def _regex(action: argparse.Action, setting: dict[str, Any] | None) -> str:
    if setting is None:
        return REGEXES[action.dest]
    if choices := setting.get("enum"):
        return f"({'|'.join(choices)})"
    match setting["type"]:
        case "integer":
            return _WHOLE
        case "number":
            return _NUMBER
        case _:
            pattern: str = setting.get("pattern", r"\S+")
            return pattern.removeprefix("^").removesuffix("$")


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(metadata()), indent=2) + b"\n")
