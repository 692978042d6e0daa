"""The pipeline's options: its sources, its batches, and the settings of the functions."""

import argparse
import csv
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions, TestOptions
from msgspec import Meta

from functions.files.id_fields import IdField
from functions.files.sources import is_remote
from functions.settings import InvalidSettings, Settings

OF_A_REQUEST = frozenset(
    {
        "flush_interval",
        "linger_ms",
        "max_in_flight",
        "max_in_flight_bytes",
        "subscription",
        "ip_hash_key",
        "google_cloud_project",
    }
)
"""Settings that are no options: Dataflow admits what it can process, `--input_subscription` is its subscription, a
secret is fetched and not shown, and the project is Beam's own option."""

WRITERS: Sequence[str] = ("insert_all", "storage_write")
"""Values of `--writer`, the default first."""

DEFAULT_LINGER = 1.0
"""Seconds that an event of a subscription waits for others: a bundle may have only a few messages."""

DEFAULT_SHARDS = 8

_Linger = Annotated[float, Meta(ge=0, le=60)]
_Shards = Annotated[int, Meta(ge=1, le=1_000)]
_Version = Annotated[int, Meta(ge=1)]
_Writer = Literal["insert_all", "storage_write"]
SUBSCRIPTION = "projects/PROJECT/subscriptions/NAME"
KEY_VERSION = "projects/PROJECT/secrets/NAME/versions/VERSION"

_HELP = """\
The pipeline of Sluice's functions on Apache Beam: from a Pub/Sub subscription, or from files, to archive and tables.

  python -m dataflow.main --runner=FnApiRunner --input_files='events.ndjson,gs://BUCKET/PREFIX' --archive_bucket=BUCKET
  python -m dataflow.main --runner=DataflowRunner --project=PROJECT --region=REGION --temp_location=gs://BUCKET/tmp \\
    --input_subscription=projects/PROJECT/subscriptions/NAME --archive_bucket=BUCKET
"""

_OF_BEAM = """\
Beam's own options are allowed, too. --runner is required: DataflowRunner for a subscription, FnApiRunner for files on
this machine. With --dry_run=true nothing is written: all events are processed on this machine, or no job is created on
Dataflow. Others: https://cloud.google.com/dataflow/docs/reference/pipeline-options#python
"""


class SluiceOptions(PipelineOptions):
    """Options beside Beam's own."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        source = parser.add_argument_group("source, one of")
        source.add_argument(
            "--input_subscription",
            type=_name(SUBSCRIPTION),
            metavar="NAME",
            help=SUBSCRIPTION,
        )
        source.add_argument(
            "--input_files",
            metavar="FILES",
            help="files, folders, globs and gs://BUCKET/PREFIX, separated by commas; one with a comma in double quotes."
            " They are NDJSON of events or of the archive, compressed with gzip or not",
        )
        files = parser.add_argument_group("events of files that are in no envelope of the archive")
        files.add_argument(
            "--schema_version", type=_value(_Version), metavar="N", help="their contract; default: that of the type"
        )
        files.add_argument(
            "--id_fields",
            metavar="PATHS",
            help="fields with their ids, separated by commas: $.order_id; default: a digest of the content",
        )
        batches = parser.add_argument_group("events of a subscription")
        batches.add_argument(
            "--id_label",
            metavar="ATTRIBUTE",
            help="attribute by which Dataflow drops duplicates, whatever their content; default: by message only",
        )
        batches.add_argument(
            "--linger",
            type=_value(_Linger),
            metavar="SECONDS",
            help=f"maximum seconds that an event waits for others, across bundles: 0 to 60, default {DEFAULT_LINGER:g}",
        )
        batches.add_argument(
            "--shards",
            type=_value(_Shards),
            metavar="N",
            help=f"batches that fill and are written concurrently: 1 for each 1 000 events/s, default {DEFAULT_SHARDS}",
        )
        rows = parser.add_argument_group("rows")
        rows.add_argument(
            "--writer",
            type=_value(_Writer),
            metavar="API",
            help=f"API that writes rows, default {WRITERS[0]}: insert_all drops duplicates within a minute,"
            " storage_write costs a fifth",
        )
        settings = parser.add_argument_group("settings, also as variables of the environment in upper case")
        settings.add_argument(
            "--ip_hash_key_secret",
            type=_name(KEY_VERSION),
            metavar="NAME",
            help=f"{KEY_VERSION}, with the key of --ip_policy=hash",
        )
        schema = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
        for field in msgspec.structs.fields(Settings):
            if field.name not in OF_A_REQUEST:
                settings.add_argument(
                    f"--{field.name}",
                    type=_value(field.type),
                    metavar="VALUE",
                    help=_explained(schema[field.encode_name]),
                )


def _value(annotation: Any) -> Callable[[str], Any]:
    """Return a parser of an option's value, whose error names the rule; an empty value is as no option."""
    allowed = _allowed(msgspec.json.schema(annotation))

    def read(text: str) -> Any:
        if not text:
            return None
        try:
            value = msgspec.convert(text, annotation, strict=False)
        except msgspec.ValidationError as error:
            rule = f"it must be {allowed}" if allowed else str(error)
            raise argparse.ArgumentTypeError(f"{text!r} is wrong: {rule}") from error
        return value

    return read


def regex(form: str) -> str:
    """Return the regular expression of a form, whose placeholders are in capitals."""
    return re.sub(r"[A-Z]+", "[^/]+", form)


def _name(form: str) -> Callable[[str], str | None]:
    """Return a parser of a resource's name of a form, whose placeholders are in capitals."""
    pattern = re.compile(regex(form))

    def read(text: str) -> str | None:
        if text and not pattern.fullmatch(text):
            raise argparse.ArgumentTypeError(f"{text!r} is not of the form {form}")
        return text or None

    return read


def _allowed(schema: Mapping[str, Any]) -> str:
    """Return the values that a JSON schema allows; empty if it neither lists nor bounds them."""
    words = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most"}
    options = schema.get("anyOf", [schema])
    choices = [" or ".join(option["enum"]) for option in options if "enum" in option]
    bounds = [f"{word} {option[name]:g}" for option in options for name, word in words.items() if name in option]
    return " and ".join([*choices, *bounds])


def _explained(schema: Mapping[str, Any]) -> str:
    """Return the help of a setting, from its JSON schema."""
    text = " ".join(option["description"] for option in schema.get("anyOf", [schema]) if "description" in option)
    allowed = f" Allowed: {given}." if (given := _allowed(schema)) else ""
    default = "" if schema.get("default") is None else f" Default: {schema['default']}."
    return (text + allowed + default).replace("`", "").replace("%", "%%")


def help_text() -> str:
    """Return the text of `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m dataflow.main",
        usage="%(prog)s --runner=RUNNER (--input_subscription=... | --input_files=...) --archive_bucket=... [options]",
        description=_HELP,
        epilog=_OF_BEAM,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    SluiceOptions._add_argparse_args(parser)
    return parser.format_help()


def parse(arguments: Sequence[str]) -> PipelineOptions:
    """Return the options of Beam and of Sluice. Beam itself would ignore an unknown option, such as a typing error.

    Raises:
        InvalidSettings: An option is unknown, or its value is not allowed; names the option.
    """

    def check(parser: argparse.ArgumentParser) -> None:
        """Check the arguments by the parser of all options."""
        parser.error = _fail  # type: ignore[method-assign]
        _, unknown = parser.parse_known_args(list(arguments))
        if unknown:
            names = [name for action in parser._actions for name in action.option_strings]
            name = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(name, names, n=1)
            _fail(f"{name} is unknown{f'; do you mean {near[0]}?' if near else ', see --help'}")

    options = PipelineOptions(list(arguments))
    options.get_all_options(add_extra_args_fn=check)
    return options


def _fail(message: str) -> NoReturn:
    raise InvalidSettings(f"options: {message.removeprefix('argument ')}")


def variables(options: PipelineOptions, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings as variables, without any secret. Options override the environment.

    Raises:
        InvalidSettings: A setting is missing or wrong; names the variable.
    """
    own = options.view_as(SluiceOptions)
    given = own.get_all_options(drop_default=True)
    project = options.view_as(GoogleCloudOptions).project
    names = {field.name: field.encode_name for field in msgspec.structs.fields(Settings)}
    variables_by_name = {name: environment[name] for name in names.values() if name in environment}
    variables_by_name |= {names[name]: str(value) for name, value in given.items() if name in names}
    if project:
        variables_by_name["GOOGLE_CLOUD_PROJECT"] = project
    variables_by_name.setdefault("CODE_VERSION", "dataflow")
    if not variables_by_name.get("ARCHIVE_BUCKET"):
        raise InvalidSettings("options: --archive_bucket is missing, and so is the variable ARCHIVE_BUCKET")
    settings = Settings.from_environment(variables_by_name)
    is_here = not is_on_dataflow(options)
    if settings.ip_policy == "hash" and not (own.ip_hash_key_secret or (settings.ip_hash_key and is_here)):
        raise InvalidSettings(
            "options: --ip_policy=hash needs --ip_hash_key_secret, or on this machine the variable IP_HASH_KEY"
        )
    variables_by_name.pop("IP_HASH_KEY", None)
    return variables_by_name


def check_source(options: PipelineOptions) -> None:
    """Check that there is one source, and that the runner can read it.

    Raises:
        InvalidSettings: There are none or two, or the runner cannot read it.
    """
    own, runner = options.view_as(SluiceOptions), options.view_as(StandardOptions).runner
    if bool(own.input_subscription) == bool(own.input_files):
        raise InvalidSettings("options: give one of --input_subscription and --input_files")
    if not runner:  # Beam's own default downloads another runner.
        raise InvalidSettings(
            "options: --runner is missing; DataflowRunner runs the pipeline on Dataflow, FnApiRunner on this machine"
        )
    if own.input_subscription and runner.rpartition(".")[2] == "FnApiRunner":
        raise InvalidSettings(
            "options: FnApiRunner cannot read --input_subscription: it would end without an event; use DataflowRunner"
        )
    local = [name for name in input_files(own) if not is_remote(name)]
    if local and is_on_dataflow(options):
        raise InvalidSettings(
            f"options: --input_files: {local[0]} is on this machine, and workers of Dataflow cannot read it;"
            " copy it to gs://BUCKET/..."
        )


def is_on_dataflow(options: PipelineOptions) -> bool:
    """Return whether the workers are those of Dataflow, which have neither files nor variables of this machine."""
    return str(options.view_as(StandardOptions).runner).rpartition(".")[2] == "DataflowRunner"


def input_files(options: SluiceOptions) -> list[str]:
    """Return the names in `--input_files`."""
    return split_list(options.input_files)


def id_fields(options: SluiceOptions) -> list[str]:
    """Return the paths in `--id_fields`.

    Raises:
        InvalidSettings: One of them is no path of a field.
    """
    paths = split_list(options.id_fields)
    try:
        for path in paths:
            IdField.parse(path)
    except ValueError as error:
        raise InvalidSettings(f"options: --id_fields: {error}") from error
    return paths


def split_list(text: str | None) -> list[str]:
    """Return the values of a list, separated by commas; one with a comma is in double quotes, as in CSV."""
    return [value for line in csv.reader([text or ""]) for value in line if value]


def is_dry_run(options: PipelineOptions) -> bool:
    """Return whether nothing is written, by Beam's own option `--dry_run`."""
    return str(options.view_as(TestOptions).dry_run).lower() not in {"false", "0", "no", ""}
